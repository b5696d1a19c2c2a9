import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { PeerEndpoint, SessionKey } from '../../ts/contract/engine.js';
import type { Candidate, CandidateSource } from '../../ts/core/path/candidate.js';
import { OPEN_POLICY } from '../../ts/core/path/path-policy.js';
import { RelayBar } from '../../ts/core/path/relay-bar.js';
import { RuledWays } from '../../ts/core/path/ruled-ways.js';
import { PathAgent } from '../../ts/core/path/path-agent.js';
import type { Member } from '../../ts/core/members/member-table.js';
import { PeerTable } from '../../ts/core/runtime/peer-table.js';
import { Turn } from '../../ts/core/runtime/turn.js';

const MEMBER: SessionKey = 'aa'.repeat(32);

class ScriptedSource implements CandidateSource {
  standing: Candidate[] = [];
  readonly attempts: number[] = [];
  readonly closed: Candidate[] = [];
  readonly carriedBy: Candidate[] = [];
  seeking = false;
  able = true;
  candidates(): readonly Candidate[] {
    return this.standing;
  }
  candidateAt(_member: SessionKey, endpoint: PeerEndpoint): Candidate | undefined {
    return this.standing.find(
      (candidate) =>
        'leg' in endpoint && 'leg' in candidate.endpoint && candidate.endpoint.leg === endpoint.leg,
    );
  }
  seek(_member: Member, attempt: number): boolean {
    this.attempts.push(attempt);
    this.seeking = this.able;
    return this.able;
  }
  isSeeking(): boolean {
    return this.seeking;
  }
  carried(candidate: Candidate): void {
    this.carriedBy.push(candidate);
  }
  relayLost(): void {
    this.seeking = false;
  }
  close(candidate: Candidate): void {
    this.closed.push(candidate);
    this.standing = this.standing.filter((other) => other !== candidate);
  }
  closeAll(): void {
    this.seeking = false;
    this.standing = [];
  }
}

/** An agent with one member and one source, in a time of its own. */
class Bench {
  now = 0;
  /** What the engine was told. */
  readonly done: string[] = [];
  readonly source = new ScriptedSource();
  readonly agent: PathAgent;
  constructor() {
    const peers = new PeerTable();
    const members = {
      bySessionKey: (key: string) => (key === MEMBER ? ({} as Member) : undefined),
    };
    const rules = new RuledWays(OPEN_POLICY, { members, interfaces: () => [], relayOf: () => undefined });
    const bar = new RelayBar({
      rules,
      peers,
      isDirect: () => false,
      way: (member) => this.agent.active(member),
      isSought: (member) => this.agent.isSought(member),
      lifted: () => undefined,
    });
    this.agent = new PathAgent({ peers, members, rules, bar, uplinks: () => [], reached: () => undefined });
    this.agent.addSource(this.source);
    this.turn((turn) =>
      peers.setMember(MEMBER, { presharedKey: new Uint8Array(32), routes: new Map() }, turn),
    );
    this.done.length = 0;
  }
  turn(run: (turn: Turn) => void): void {
    const turn = new Turn({ now: this.now, wallClock: 0, random: (length) => new Uint8Array(length) });
    run(turn);
    for (const effect of turn.effects)
      if (effect.type === 'set-peer') {
        const { endpoint } = effect.peer;
        this.done.push(
          endpoint === undefined ? 'nowhere' : 'leg' in endpoint ? `leg ${endpoint.leg}` : 'address',
        );
      } else this.done.push(effect.type);
  }
  /** Lets time pass, timer by timer. */
  pass(ms: number): void {
    const until = this.now + ms;
    for (let at = this.agent.deadline(); at !== undefined && at <= until; at = this.agent.deadline()) {
      this.now = at;
      this.turn((turn) => this.agent.handleTimeout(turn));
    }
    this.now = until;
  }
  stand(leg: number): Candidate {
    const candidate: Candidate = { kind: 'circuit', member: MEMBER, endpoint: { leg }, relay: 'relay' };
    this.source.standing.push(candidate);
    return candidate;
  }
  need(): void {
    this.turn((turn) => this.agent.pathNeeded(MEMBER, turn));
  }
  found(leg: number): Candidate {
    this.source.seeking = false;
    const candidate = this.stand(leg);
    this.turn((turn) => this.agent.found(candidate, turn));
    return candidate;
  }
  lose(candidate: Candidate, refused: boolean): void {
    this.source.standing = this.source.standing.filter((other) => other !== candidate);
    this.turn((turn) => this.agent.lost(candidate, refused, turn));
  }
  session(endpoint: PeerEndpoint): void {
    this.turn((turn) => this.agent.sessionUp(MEMBER, endpoint, turn));
  }
}

describe('path agent', () => {
  test('seeks a way when one is needed, uses it, and asks for a session until there is one', () => {
    const bench = new Bench();
    bench.need();
    bench.need(); // one search at a time
    assert.deepEqual(bench.source.attempts, [0]);
    const way = bench.found(1);
    bench.pass(1000);
    assert.deepEqual(bench.done, ['leg 1', 'handshake', 'handshake', 'handshake']);
    bench.session(way.endpoint);
    bench.pass(60_000);
    assert.equal(bench.done.length, 4);
    assert.deepEqual(bench.agent.path(MEMBER), { kind: 'relay', relay: 'relay', refused: undefined });
    assert.deepEqual(bench.source.carriedBy, [way]);
  });

  test('seeks again after doubling waits, each time something else, and gives up after a minute', () => {
    const bench = new Bench();
    bench.source.able = false;
    bench.need();
    bench.pass(3749); // 250, 500, 1000, 2000 ms
    assert.deepEqual(bench.source.attempts, [0, 1, 2, 3]);
    bench.pass(1);
    assert.deepEqual(bench.source.attempts, [0, 1, 2, 3, 4]);
    bench.pass(120_000);
    assert.equal(bench.source.attempts.length, 5 + Math.ceil((60_000 - 3750) / 4000) - 1);
    assert.equal(bench.agent.deadline(), undefined);
    assert.deepEqual(bench.done, ['remove-peer', 'nowhere']);
  });

  test('goes on with the newest of the ways that stand when the one in use is lost', () => {
    const bench = new Bench();
    const used = bench.found(3);
    bench.session(used.endpoint);
    bench.stand(1);
    bench.stand(2);
    bench.done.length = 0;
    bench.lose(used, false);
    assert.deepEqual(bench.done, ['leg 2']);
    assert.deepEqual(bench.source.attempts, []);
  });

  test('makes before it breaks: what a new way replaces is closed after it is in use', () => {
    const bench = new Bench();
    const before = bench.found(1);
    bench.session(before.endpoint);
    bench.turn((turn) => assert.equal(bench.agent.doubtful(before, turn), true));
    assert.deepEqual(bench.source.closed, []);
    bench.found(2);
    assert.deepEqual(bench.source.closed, [before]);
  });

  test('tries the next when a way is refused before it carried a session, not when it lapses after', () => {
    const bench = new Bench();
    bench.need();
    bench.lose(bench.found(1), true);
    assert.deepEqual(bench.source.attempts, [0, 1]);
    const way = bench.found(2);
    bench.session(way.endpoint);
    bench.lose(way, true);
    assert.deepEqual(bench.source.attempts, [0, 1]);
  });

  test("does not leave a way that works for one the member offers; the member's first packet does", () => {
    const bench = new Bench();
    const used = bench.found(1);
    bench.session(used.endpoint);
    bench.done.length = 0;
    const offered = bench.stand(2);
    bench.turn((turn) => bench.agent.offered(offered, turn));
    assert.deepEqual(bench.done, []);
    assert.ok(bench.agent.isActive(used));
    bench.turn((turn) => bench.agent.sessionMoved(MEMBER, offered.endpoint, turn));
    assert.ok(bench.agent.isActive(offered));
  });

  test('an address the packets come from is a way, and a leg nobody has is none', () => {
    const bench = new Bench();
    bench.session({ address: { ip: new Uint8Array(16), port: 1 } });
    assert.deepEqual(bench.agent.path(MEMBER), { kind: 'direct', relay: undefined, refused: undefined });
    bench.turn((turn) => bench.agent.sessionMoved(MEMBER, { leg: 99 }, turn));
    assert.deepEqual(bench.agent.path(MEMBER), { kind: 'none', relay: undefined, refused: undefined });
    assert.deepEqual(bench.source.attempts, [0]);
  });

  test('says why there is no way while one is sought, and calls a reason news once', () => {
    const bench = new Bench();
    bench.need();
    const tell = (): boolean => {
      let news = false;
      bench.source.seeking = false;
      bench.turn((turn) => (news = bench.agent.notFound(MEMBER, 'capacity', turn)));
      return news;
    };
    assert.equal(tell(), true);
    bench.pass(250);
    assert.equal(tell(), false);
    assert.equal(bench.agent.path(MEMBER).refused, 'capacity');
    bench.found(1);
    assert.equal(bench.agent.path(MEMBER).refused, undefined);
  });

  test('a way over which no session comes up carries nothing: another is sought, eight times at most', () => {
    const bench = new Bench();
    bench.need();
    for (let attempt = 0; attempt < 8; attempt++) {
      assert.equal(bench.source.attempts.length, attempt + 1);
      bench.found(attempt + 1);
      bench.pass(10_000);
    }
    assert.equal(bench.source.attempts.length, 8);
    assert.equal(bench.agent.deadline(), undefined);
    bench.session({ leg: 8 });
    bench.need();
    assert.equal(bench.source.attempts.at(-1), 0);
  });

  test('a way in use that may carry nothing any more has to show it, and is replaced when it does not', () => {
    const bench = new Bench();
    const way = bench.found(1);
    bench.session(way.endpoint);
    bench.turn((turn) => bench.agent.unproven(way, turn));
    bench.session(way.endpoint);
    bench.pass(60_000);
    assert.deepEqual(bench.source.attempts, []);
    bench.turn((turn) => bench.agent.unproven(way, turn));
    bench.pass(60_000);
    assert.deepEqual(bench.source.attempts, [0]);
    assert.deepEqual(bench.source.closed, []);
  });
});
