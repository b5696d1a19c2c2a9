import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { toHex } from '../../ts/wire/bytes.js';
import type { AddressTenure } from '../../ts/core/protocol/address-tenure.js';
import { decodeControlFrame } from '../../ts/core/protocol/control-frame.js';
import { decodeMessage, type ControlMessage, type Envelope } from '../../ts/core/protocol/control-message.js';
import { Directory } from '../../ts/core/relay/directory.js';
import type { PeerShaping } from '../../ts/contract/shaping-control.js';
import type { Effect } from '../../ts/core/runtime/effect.js';
import type { Turn } from '../../ts/core/runtime/turn.js';
import { memberBounds, MemberTable } from '../../ts/core/members/member-table.js';
import { NO_SHAPING, type ShapingPolicy } from '../../ts/core/members/shaping-policy.js';
import { MeshNode } from '../../ts/core/node/mesh-node.js';
import type { MeshNodeConfig } from '../../ts/core/node/node-config.js';
import { blindedNetworkId, overlayAddresses, type Network } from '../../ts/core/protocol/network.js';
import { OwnRecord } from '../../ts/core/members/own-record.js';
import { NatBehaviour, signPeerRecord, type PeerRecord } from '../../ts/core/protocol/peer-record.js';
import { PeerTable } from '../../ts/core/runtime/peer-table.js';
import type { RelayLimits } from '../../ts/core/relay/relay-limits.js';
import type { QuotaClass, RelayPolicy } from '../../ts/core/relay/relay-policy.js';
import { NO_QUOTA } from '../../ts/core/relay/relay-rules.js';
import { AnswerTable, REQUEST_BOUNDS, RequestTable } from '../../ts/core/runtime/request-table.js';
import { TimerQueue } from '../../ts/core/runtime/timer-queue.js';
import { nodePrimitives } from '../../ts/engine/node-primitives.js';
import { address, bytes, keys, recordFields, turn, WALL_CLOCK, type Keys } from './fixtures.js';

const PEER = 'aa'.repeat(32);

function sent(effects: readonly Effect[]): Envelope[] {
  return effects.flatMap((effect) => {
    if (effect.type !== 'send-control') return [];
    const frame = decodeControlFrame(effect.payload);
    const envelope = frame && decodeMessage(frame.body);
    assert.ok(envelope);
    return [envelope];
  });
}

describe('a request', () => {
  const circuit = new Uint8Array(16);

  it('is repeated after 250 ms, doubling to 4 s, eight times in all, and then settled with nothing', () => {
    const table = new RequestTable();
    const outcomes: unknown[] = [];
    const begin = turn(0);
    table.send(PEER, { type: 'circuit-refresh', circuit }, begin, (answer) => outcomes.push(answer));
    const times = [0];
    const first = sent(begin.effects)[0];
    for (let at = table.deadline(); at !== undefined; at = table.deadline()) {
      const later = turn(at);
      table.handleTimeout(later);
      const [repeated] = sent(later.effects);
      if (repeated === undefined) continue;
      assert.deepEqual(repeated, first, 'the same number, the same bytes');
      times.push(at);
    }
    assert.deepEqual(times, [0, 250, 750, 1750, 3750, 7750, 11_750, 15_750]);
    assert.deepEqual(outcomes, [undefined]);
  });

  it('is settled once, by its own answer or a refusal, from the peer it went to', () => {
    const table = new RequestTable();
    const outcomes: (string | undefined)[] = [];
    const begin = turn(0);
    table.send(PEER, { type: 'circuit-refresh', circuit }, begin, (answer) => outcomes.push(answer?.type));
    const request = sent(begin.effects)[0]?.request ?? 0;
    assert.notEqual(request, 0);
    const answer: ControlMessage = { type: 'circuit-refreshed', circuit, lifetime: 60 };
    table.handleAnswer('bb'.repeat(32), request, answer, turn());
    table.handleAnswer(PEER, request + 1, answer, turn());
    table.handleAnswer(PEER, request, { type: 'circuit-closed', circuit }, turn());
    assert.deepEqual(outcomes, []);
    table.handleAnswer(PEER, request, answer, turn());
    table.handleAnswer(PEER, request, answer, turn());
    assert.deepEqual(outcomes, ['circuit-refreshed']);
    assert.equal(table.deadline(), undefined);
  });

  it('beyond the share of a peer is settled with nothing at once, and others are asked all the same', () => {
    const table = new RequestTable();
    const outcomes: unknown[] = [];
    const send = (peer: string): void =>
      table.send(peer, { type: 'circuit-refresh', circuit }, turn(0), (answer) => outcomes.push(answer));
    for (let index = 0; index < REQUEST_BOUNDS.shares.peer; index++) send(PEER);
    assert.deepEqual(outcomes, []);
    send(PEER);
    assert.deepEqual(outcomes, [undefined]);
    send('bb'.repeat(32));
    assert.equal(outcomes.length, 1);
  });

  it('to a peer that was given up is never settled', () => {
    const table = new RequestTable();
    table.send(PEER, { type: 'circuit-refresh', circuit }, turn(0), () => assert.fail('settled'));
    table.cancel(PEER);
    table.handleTimeout(turn(1e6));
    assert.equal(table.deadline(), undefined);
  });

  it('repeated by its sender is carried out once and answered as often as it comes', () => {
    const table = new AnswerTable(() => 2);
    const answer: ControlMessage = {
      type: 'circuit-accept',
      circuit,
      leg: { id: 1, key: bytes(16), epoch: 0 },
    };
    const at = turn();
    assert.equal(table.begin(PEER, 5, at), true);
    assert.equal(table.begin(PEER, 5, at), false, 'being carried out');
    assert.deepEqual(sent(at.effects), []);
    table.answer(PEER, 5, answer, at);
    assert.equal(table.begin(PEER, 5, at), false);
    assert.deepEqual(sent(at.effects), [
      { request: 5, message: answer },
      { request: 5, message: answer },
    ]);
    for (let request = 6; request < 100; request++) table.begin(PEER, request, at);
    assert.equal(table.begin(PEER, 5, at), true, 'the memory is bounded');
    for (const other of ['b', 'c']) assert.equal(table.begin(other, 5, at), true);
    assert.equal(table.begin('c', 5, at), false);
    assert.equal(table.begin(PEER, 5, at), true, 'of so many peers');
  });
});

describe('a timer queue', () => {
  it('gives keys in the order of their latest deadlines, each once', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(20), fc.nat(1000), fc.boolean())), (operations) => {
        const queue = new TimerQueue<number>();
        const model = new Map<number, number>();
        for (const [key, at, set] of operations)
          if (set) {
            queue.set(key, at);
            model.set(key, at);
          } else {
            queue.clear(key);
            model.delete(key);
          }
        assert.equal(queue.next(), model.size === 0 ? undefined : Math.min(...model.values()));
        const times: number[] = [];
        for (let key = queue.takeDue(1000); key !== undefined; key = queue.takeDue(1000)) {
          times.push(model.get(key) ?? NaN);
          model.delete(key);
        }
        assert.equal(model.size, 0);
        assert.deepEqual(
          times,
          times.toSorted((a, b) => a - b),
        );
      }),
    );
  });

  it('keeps what is not due yet', () => {
    const queue = new TimerQueue<string>();
    queue.set('later', 10);
    assert.equal(queue.takeDue(9), undefined);
    assert.equal(queue.takeDue(10), 'later');
    assert.equal(queue.next(), undefined);
  });
});

function signed(self: Keys, changed: Parameters<typeof recordFields>[1]): PeerRecord {
  return signPeerRecord(nodePrimitives, self.identitySeed, recordFields(self, changed));
}

describe('a directory', () => {
  const people = Array.from({ length: 12 }, keys);

  it('read page by page from any version gives the newest record of everybody who changed since', () => {
    const history = fc.array(fc.tuple(fc.nat(people.length - 1), fc.boolean()), { maxLength: 60 });
    fc.assert(
      fc.property(history, fc.nat(60), (changes, readAfter) => {
        const directory = new Directory();
        const model = new Map<string, Uint8Array>();
        // A reader that read everything at `readAfter` and again at the end.
        const seen = new Map<string, string>();
        let version = 0;
        const read = (): void => {
          for (let more = true; more;) {
            const page = directory.page('net', version, 'nobody', 700);
            assert.ok(page.records.reduce((size, record) => size + record.length + 3, 0) <= 700);
            for (const record of page.records) seen.set(ownerOf.get(toHex(record)) ?? '', toHex(record));
            ({ version, more } = page);
          }
        };
        const ownerOf = new Map<string, string>();
        changes.forEach(([who, remove], index) => {
          if (index === readAfter) read();
          const person = people[who];
          assert.ok(person);
          const id = toHex(person.identity);
          const record = signedOnce(person, index + 1);
          ownerOf.set(toHex(record.bytes), id);
          if (remove) {
            directory.remove(record);
            model.delete(id);
          } else {
            directory.put(record, ['net']);
            model.set(id, record.bytes);
          }
        });
        read();
        for (const [id, record] of model) assert.equal(seen.get(id), toHex(record));
      }),
      { numRuns: 30 },
    );
  });

  const cache = new Map<string, PeerRecord>();
  function signedOnce(person: Keys, sequence: number): PeerRecord {
    const key = `${toHex(person.identity)} ${sequence}`;
    const record = cache.get(key) ?? signed(person, { sequence, name: `n${sequence}` });
    cache.set(key, record);
    return record;
  }

  it('does not tell a reader its own record', () => {
    const directory = new Directory();
    const [one, two] = people;
    assert.ok(one && two);
    directory.put(signed(one, {}), ['net']);
    directory.put(signed(two, {}), ['net', 'other']);
    assert.equal(directory.page('net', 0, toHex(one.identity), 1000).records.length, 1);
    assert.equal(directory.page('other', 0, toHex(two.identity), 1000).records.length, 0);
  });
});

describe('the member table', () => {
  const network: Network = { id: bytes(16), name: 'n', key: bytes(32), bootstraps: [] };
  const blinded = blindedNetworkId(nodePrimitives, network);

  function tableOf({ identity, sessionKey }: Keys, peers: PeerTable): MemberTable {
    return new MemberTable({ primitives: nodePrimitives, identity, sessionKey: toHex(sessionKey), peers });
  }

  function table(self: Keys = keys()): { members: MemberTable; peers: PeerTable } {
    const peers = new PeerTable();
    const members = tableOf(self, peers);
    members.addNetwork(network, turn());
    return { members, peers };
  }

  /** What the engine ends up with. */
  function routes(effects: readonly Effect[], into = new Map<string, readonly string[]>()): typeof into {
    for (const effect of effects)
      if (effect.type === 'set-peer') into.set(effect.peer.sessionKey, effect.peer.allowedIps);
      else if (effect.type === 'remove-peer') into.delete(effect.peer);
    return into;
  }

  it('routes a member by its overlay addresses, with the key of the network', () => {
    const { members } = table();
    const other = keys();
    const at = turn();
    members.learn(signed(other, { networks: [blinded] }).bytes, at);
    const { ipv4, ipv6 } = overlayAddresses(nodePrimitives, network.id, other.identity);
    assert.deepEqual(routes(at.effects).get(toHex(other.sessionKey)), [`${ipv6}/128`, `${ipv4}/32`]);
  });

  it('tells how a member’s packets are padded when that is decided, changes, ends, and after its session was reset', () => {
    const { members, peers } = table();
    const [other, plain] = [keys(), keys()];
    const key = toHex(other.sessionKey);
    const learned = turn();
    for (const each of [other, plain]) members.learn(signed(each, { networks: [blinded] }).bytes, learned);
    const told = (run: (at: Turn) => void): PeerShaping[] => {
      const at = turn();
      run(at);
      return at.effects.flatMap((effect) => (effect.type === 'set-shaping' ? [effect.shaping] : []));
    };
    const { rules } = NO_SHAPING;
    const padded = (paddingBudget?: number): ShapingPolicy => ({
      ...NO_SHAPING,
      members: new Map([[toHex(other.identity), { ...rules, padding: 'constant', paddingBudget }]]),
    });
    const constant = { peer: key, paddedSizes: [65_535], paddingBudget: undefined };
    assert.ok(!learned.effects.some(({ type }) => type === 'set-shaping'), 'nobody by default');
    assert.deepEqual(
      told((at) => members.setShaping(padded(), at)),
      [constant],
    );
    assert.deepEqual(
      told((at) => members.setShaping(padded(), at)),
      [],
    );
    assert.deepEqual(
      told((at) => members.setShaping(padded(20), at)),
      [{ ...constant, paddingBudget: 20 }],
    );
    assert.deepEqual(
      told((at) => peers.resetPath(key, at)),
      [{ ...constant, paddingBudget: 20 }],
    );
    assert.deepEqual(
      told((at) => members.setShaping(NO_SHAPING, at)),
      [{ peer: key, paddedSizes: [], paddingBudget: undefined }],
    );
  });

  it('tells of shaping with the peer each time, because an engine without room for the peer has lost it', () => {
    const { members, peers } = table();
    const other = keys();
    const key = toHex(other.sessionKey);
    members.setShaping({ ...NO_SHAPING, rules: { ...NO_SHAPING.rules, padding: 'constant' } }, turn());
    members.learn(signed(other, { networks: [blinded] }).bytes, turn());
    const at = turn();
    peers.setEndpoint(key, { address: address('192.0.2.1:1') }, at);
    assert.deepEqual(
      at.effects.map(({ type }) => type),
      ['set-shaping', 'set-peer'],
    );
  });

  it('tells what a ceiling is shared by: weights, and of several networks the one with the greatest', () => {
    const { members } = table();
    const [other, plain] = [keys(), keys()];
    for (const each of [other, plain]) members.learn(signed(each, { networks: [blinded] }).bytes, turn());
    const queues = (policy: Partial<ShapingPolicy>): Map<string, PeerShaping['queue']> => {
      const at = turn();
      members.setShaping({ ...NO_SHAPING, ...policy }, at);
      return new Map(
        at.effects.flatMap((effect): [string, PeerShaping['queue']][] =>
          effect.type === 'set-shaping' ? [[effect.shaping.peer, effect.shaping.queue]] : [],
        ),
      );
    };
    const { rules } = NO_SHAPING;
    const heavy = new Map([[toHex(other.identity), { ...rules, weight: 7 }]]);
    assert.equal(queues({ members: heavy }).size, 0, 'without a ceiling nothing waits');
    const share = { network: toHex(blinded), networkWeight: 3, slotMs: undefined };
    assert.deepEqual(
      queues({ members: heavy, networks: new Map([[network.name, 3]]), limited: true }),
      new Map([
        [toHex(other.sessionKey), { ...share, weight: 7 }],
        [toHex(plain.sessionKey), { ...share, weight: 1 }],
      ]),
    );
    const covered = { ...rules, padding: 'constant-rate', packetsPerSecond: 50 } as const;
    const slots = queues({ members: new Map([[toHex(other.identity), covered]]) });
    assert.equal(slots.get(toHex(other.sessionKey))?.slotMs, 20);
    assert.equal(slots.get(toHex(plain.sessionKey)), undefined);
  });

  it('accepts a record only with a higher sequence, and never its own', () => {
    const self = keys();
    const { members } = table(self);
    const other = keys();
    const learn = (sequence: number, name: string): unknown =>
      members.learn(signed(other, { networks: [blinded], sequence, name }).bytes, turn());
    learn(5, 'five');
    assert.equal(learn(5, 'another-five'), 'irrelevant');
    assert.equal(learn(4, 'four'), 'irrelevant');
    learn(6, 'six');
    assert.equal(members.members.get(toHex(other.identity))?.record.name, 'six');
    assert.equal(members.learn(signed(self, { networks: [blinded] }).bytes, turn()), 'irrelevant');
    assert.equal(members.learn(signed(keys(), { networks: [bytes(16)] }).bytes, turn()), 'irrelevant');
  });

  it('does not let a record claim the session key of another member', () => {
    const { members } = table();
    const honest = keys();
    const thief = { ...keys(), sessionKey: honest.sessionKey };
    members.learn(signed(honest, { networks: [blinded] }).bytes, turn());
    assert.equal(members.learn(signed(thief, { networks: [blinded] }).bytes, turn()), 'irrelevant');
    assert.deepEqual(members.bySessionKey(toHex(honest.sessionKey))?.identity, honest.identity);
  });

  describe('when two members have one IPv4 address', () => {
    const addressOf = (identity: Uint8Array): string =>
      overlayAddresses(nodePrimitives, network.id, identity).ipv4;
    /** Two identities an attacker might have searched for; the second sorts lower. */
    const [victim, attacker] = ((): [Uint8Array, Uint8Array] => {
      const byAddress = new Map<string, Uint8Array>();
      for (let i = 0; ; i++) {
        const identity = nodePrimitives.sha256(Uint8Array.of(i & 255, (i >> 8) & 255, i >> 16));
        const twin = byAddress.get(addressOf(identity));
        if (twin !== undefined) return toHex(twin) < toHex(identity) ? [identity, twin] : [twin, identity];
        byAddress.set(addressOf(identity), identity);
      }
    })();
    const day = 86_400_000;

    function world(store = new Map<string, Uint8Array>()): {
      learn: (identity: Uint8Array, now: number, since?: number) => void;
      expire: (now: number) => void;
      holder: () => 'victim' | 'attacker' | undefined;
      collisions: Effect[];
      store: Map<string, Uint8Array>;
    } {
      const peers = new PeerTable();
      const self = keys();
      const members = tableOf(self, peers);
      const ends = new Map<string, readonly string[]>();
      const collisions: Effect[] = [];
      const people = new Map([victim, attacker].map((identity) => [identity, { ...keys(), identity }]));
      const carry = (effects: readonly Effect[]): void => {
        routes(effects, ends);
        for (const effect of effects)
          if (effect.type === 'persist' && effect.value === undefined) store.delete(effect.key);
          else if (effect.type === 'persist' && effect.value !== undefined)
            store.set(effect.key, effect.value);
          else if (effect.type === 'notify') collisions.push(effect);
      };
      const begin = turn();
      members.restore(store, [network], begin);
      members.addNetwork(network, begin);
      carry(begin.effects);
      const has = (identity: Uint8Array): boolean =>
        ends
          .get(toHex(people.get(identity)?.sessionKey ?? bytes(32)))
          ?.includes(`${addressOf(victim)}/32`) === true;
      return {
        learn: (identity, now, since) => {
          const at = turn(now);
          const fields = recordFields(people.get(identity) ?? keys(), {
            networks: [blinded],
            sequence: now + 1,
            notAfter: (WALL_CLOCK + now + day) / 1000,
          });
          members.learnOpened({ ...fields, bytes: bytes(8) }, at, since);
          carry(at.effects);
        },
        expire: (now) => {
          const at = turn(now);
          members.expire(at);
          carry(at.effects);
        },
        holder: () => {
          assert.ok(!(has(victim) && has(attacker)), 'one route is never at two peers');
          return has(victim) ? 'victim' : has(attacker) ? 'attacker' : undefined;
        },
        collisions,
        store,
      };
    }

    it('whoever was first keeps it, whatever the identity of who comes later, and it is said', () => {
      const made = world();
      made.learn(victim, 0, 0);
      made.learn(attacker, 5000, 5000);
      assert.equal(made.holder(), 'victim');
      assert.equal(made.collisions.length, 1);
      made.learn(victim, 60_000, 60_000);
      made.learn(attacker, 70_000, 70_000);
      assert.equal(made.holder(), 'victim', 'nor does a newer record change it');
    });

    it('it is nobody\u2019s where both are in one reading of a directory', () => {
      const made = world();
      made.learn(attacker, 10, 0);
      made.learn(victim, 20, 0);
      assert.equal(made.holder(), undefined);
    });

    it('who is known by a circuit only has it from nobody, not even across a restart', () => {
      const made = world();
      made.learn(attacker, 0);
      made.expire(700_000);
      made.learn(victim, 700_001, 700_000);
      assert.equal(made.holder(), 'victim');
    });

    it('who has held it keeps it across a restart of the node, until his record has run out', () => {
      const before = world();
      before.learn(victim, 0, 0);
      before.expire(660_000);
      const after = world(before.store);
      after.learn(attacker, 0, 0);
      assert.equal(after.holder(), undefined);
      after.learn(victim, 10, 5);
      assert.equal(after.holder(), 'victim');
      const later = world(before.store);
      later.learn(attacker, 1000, 1000);
      later.learn(attacker, day - 1000, day - 1000);
      later.expire(day + 1000);
      assert.equal(later.holder(), 'attacker');
    });

    it('this node\u2019s own is never another\u2019s', () => {
      const peers = new PeerTable();
      const members = tableOf({ ...keys(), identity: victim }, peers);
      members.addNetwork(network, turn());
      const at = turn(5);
      const thief = { ...keys(), identity: attacker };
      members.learnOpened({ ...recordFields(thief, { networks: [blinded] }), bytes: bytes(8) }, at, 0);
      assert.equal(routes(at.effects).get(toHex(thief.sessionKey))?.length, 1);
      assert.ok(members.owns(addressOf(victim), victim));
    });
  });

  it('leaves room for those of another network, for those a directory tells of, and takes that of those who are gone', () => {
    const removed: string[] = [];
    const self = keys();
    const members = new MemberTable({
      primitives: nodePrimitives,
      identity: self.identity,
      sessionKey: toHex(self.sessionKey),
      peers: new PeerTable(),
      removed: (peer) => removed.push(peer),
    });
    const other: Network = { id: bytes(16), name: 'o', key: bytes(32), bootstraps: [] };
    for (const each of [network, other]) members.addNetwork(each, turn());
    const blindedOther = blindedNetworkId(nodePrimitives, other);
    const learn = (of: Network, since?: number): ReturnType<MemberTable['learnOpened']> => {
      const networks = [of === network ? blinded : blindedOther];
      const person = { ...self, identity: bytes(32), sessionKey: bytes(32) };
      return members.learnOpened({ ...recordFields(person, { networks }), bytes: bytes(8) }, turn(), since);
    };
    const { shares, total } = memberBounds(2);
    for (let index = 0; index < shares.circuit; index++) assert.notEqual(learn(network), 'capacity');
    assert.equal(learn(network), 'capacity', 'known by circuits alone');
    for (let index = shares.circuit; index < shares.network; index++)
      assert.notEqual(learn(network, 5), 'capacity');
    assert.equal(learn(network, 5), 'capacity', 'of one network');
    for (let index = shares.network; index < total; index++) assert.notEqual(learn(other, 5), 'capacity');
    assert.equal(learn(other, 5), 'capacity');
    const [first] = members.members.values();
    assert.ok(first);
    members.untold(first.identity);
    assert.notEqual(learn(network, 5), 'capacity');
    assert.deepEqual(removed, [first.sessionKey]);
    assert.equal(learn(network, 5), 'capacity');
  });

  it('makes nobody known in a network by a record alone that another network\u2019s directory tells', () => {
    const self = keys();
    const members = new MemberTable({
      primitives: nodePrimitives,
      identity: self.identity,
      sessionKey: toHex(self.sessionKey),
      peers: new PeerTable(),
    });
    members.addNetwork(network, turn());
    const person = keys();
    const elsewhere = bytes(16);
    const learn = (of: Keys, sequence: number, told: Uint8Array): ReturnType<MemberTable['learnOpened']> => {
      const fields = recordFields(of, { networks: [elsewhere, blinded], sequence });
      return members.learnOpened({ ...fields, bytes: bytes(8) }, turn(), 0, toHex(told));
    };
    assert.equal(learn(person, 1, elsewhere), 'irrelevant');
    assert.equal(members.members.size, 0);
    assert.notEqual(learn(person, 1, blinded), 'irrelevant');
    assert.notEqual(learn(person, 2, elsewhere), 'irrelevant', 'of who is known, the newer record is');
    assert.equal(learn({ ...person, sessionKey: bytes(32) }, 3, elsewhere), 'irrelevant');
    assert.equal(members.bySessionKey(toHex(person.sessionKey))?.record.sequence, 2);
  });

  it('tells of a member that is gone, that has another key, and that is in no network of ours any more', () => {
    const removed: string[] = [];
    const self = keys();
    const members = new MemberTable({
      primitives: nodePrimitives,
      identity: self.identity,
      sessionKey: toHex(self.sessionKey),
      peers: new PeerTable(),
      removed: (peer) => removed.push(peer),
    });
    members.addNetwork(network, turn());
    const person = keys();
    const learn = (of: Keys, sequence: number, networks = [blinded]): void => {
      const fields = recordFields(of, { networks, sequence });
      members.learnOpened({ ...fields, bytes: bytes(8) }, turn(), 0);
    };
    learn(person, 1);
    const moved = { ...person, sessionKey: bytes(32) };
    learn(moved, 2);
    assert.deepEqual(removed, [toHex(person.sessionKey)]);
    learn(moved, 3, [bytes(16)]);
    assert.deepEqual(
      removed.splice(0),
      [person, moved].map(({ sessionKey }) => toHex(sessionKey)),
    );
    learn(person, 4);
    members.removeNetwork(toHex(blinded), turn());
    assert.deepEqual(removed.splice(0), [toHex(person.sessionKey)]);
    members.addNetwork(network, turn());
    learn(person, 5);
    members.expire(turn(0, WALL_CLOCK + 400 * 86_400_000));
    assert.deepEqual(removed, [toHex(person.sessionKey)]);
  });

  it('a bootstrap that is a member gets no route before it has proven its membership', () => {
    const { members, peers } = table();
    const other = keys();
    const key = toHex(other.sessionKey);
    const at = turn();
    peers.addRole(key, 'bootstrap', { address: address('192.0.2.1:1') }, at);
    members.learn(signed(other, { networks: [blinded] }).bytes, at);
    assert.deepEqual(routes(at.effects).get(key), []);
    peers.prove(key, toHex(bytes(16)), at);
    assert.deepEqual(routes(at.effects).get(key), []);
    peers.prove(key, toHex(blinded), at);
    assert.equal(routes(at.effects).get(key)?.length, 2);
  });
});

describe('the own record', () => {
  const self = keys();
  const content = {
    networks: [bytes(16)],
    addresses: [{ round: 0, tenures: [] }],
    configured: [],
    observed: [],
    nat: NatBehaviour.unknown,
    capabilities: [],
  };

  it('is signed anew when it says something else or half its validity is over, with a higher sequence', () => {
    const own = new OwnRecord(nodePrimitives, self, 'me');
    const day = 86_400_000;
    const first = own.sign(content, turn(0, WALL_CLOCK));
    assert.equal(own.sign(content, turn(0, WALL_CLOCK + 2.9 * day)), first);
    const renewed = own.sign(content, turn(0, WALL_CLOCK + 3.1 * day));
    assert.ok(renewed.sequence > first.sequence && renewed.notAfter > first.notAfter);
    const changed = own.sign(
      { ...content, configured: [address('192.0.2.7:1')] },
      turn(0, WALL_CLOCK + 3.1 * day),
    );
    assert.ok(changed.sequence > renewed.sequence);
    const capable = own.sign({ ...content, capabilities: ['exit'] }, turn(0, WALL_CLOCK + 3.1 * day));
    assert.ok(capable.sequence > changed.sequence);
    assert.deepEqual(capable.capabilities, ['exit']);
  });

  it('names those who vouch for its addresses while there is room in what carries a record', () => {
    const own = new OwnRecord(nodePrimitives, self, 'me');
    const tenure = (since: number): AddressTenure => ({
      issuer: bytes(4),
      since,
      until: WALL_CLOCK,
      signature: bytes(64),
    });
    const networks = Array.from({ length: 8 }, () => bytes(16));
    const addresses = networks.map((_, round) => ({ round, tenures: [1, 2, 3, 4].map(tenure) }));
    const { bytes: encoded, addresses: said } = own.sign({ ...content, networks, addresses }, turn());
    assert.ok(encoded.length <= 975);
    assert.deepEqual(
      said.map(({ round, tenures }) => [round, tenures.map(({ since }) => since)]),
      networks.map((_, round) => [round, []]),
    );
    const [network, address] = [networks.slice(0, 1), addresses.slice(0, 1)];
    assert.deepEqual(
      own.sign({ ...content, networks: network, addresses: address }, turn()).addresses,
      address,
    );
  });

  it('counts on from the stored sequence even when the clock went back', () => {
    const own = new OwnRecord(nodePrimitives, self, 'me');
    const at = turn(0, WALL_CLOCK);
    const { sequence } = own.sign(content, at);
    const stored = new Map(
      at.effects.flatMap((effect) =>
        effect.type === 'persist' && effect.value !== undefined ? [[effect.key, effect.value] as const] : [],
      ),
    );
    const restarted = new OwnRecord(nodePrimitives, self, 'me');
    restarted.restore(stored);
    assert.equal(restarted.sign(content, turn(0, WALL_CLOCK - 3_600_000)).sequence, sequence + 1);
  });
});

describe('the configuration of a node', () => {
  const good: MeshNodeConfig = {
    identitySeed: bytes(32),
    sessionPrivateKey: bytes(32),
    name: 'node',
    endpoints: [],
    networks: [],
    relay: undefined,
    capabilities: [],
    maxLegs: 64,
  };

  it('is refused with the name of the field that is wrong', () => {
    const relay = (
      limits: Partial<RelayLimits>,
      rest: Partial<RelayPolicy> = {},
    ): Partial<MeshNodeConfig> => ({
      relay: { serve: 'any', allow: [], deny: [], limits, ...rest },
    });
    const quota = (given: Partial<QuotaClass>): Partial<MeshNodeConfig> =>
      relay({}, { classes: [{ ...NO_QUOTA, ...given }] });
    const cases: [Partial<MeshNodeConfig>, RegExp][] = [
      [{ identitySeed: bytes(31) }, /identitySeed: 31 bytes/],
      [{ sessionPrivateKey: bytes(33) }, /sessionPrivateKey: 33 bytes/],
      [{ name: 'My Laptop' }, /name: "My Laptop"/],
      [{ endpoints: [{ ip: new Uint8Array(16), port: 1 }] }, /endpoints/],
      [{ endpoints: Array.from({ length: 9 }, () => address('192.0.2.1:1')) }, /endpoints: 9 given/],
      [{ capabilities: ['x'.repeat(33)] }, /capabilities/],
      [{ maxLegs: 0 }, /maxLegs: 0 given/],
      [{ maxLegs: 2 ** 28 + 1 }, /maxLegs: 268435457 given/],
      [{ networks: [{ id: bytes(16), name: 'n', key: bytes(16), bootstraps: [] }] }, /network key: 16 bytes/],
      [relay({ circuits: 0 }), /relay limit circuits: 0/],
      [relay({ leaseSeconds: 100_000 }), /relay limit leaseSeconds: 100000/],
      [quota({ circuit: { rate: { bytesPerSecond: 10 } } }), /limits\.rate\.bytesPerSecond: 10/],
      [quota({ circuit: { rate: { packetsPerSecond: 20, burstMs: 1e9 } } }), /limits\.rate\.burstMs/],
      [quota({ identity: { packetsPerSecond: 0.1 } }), /identity\.packetsPerSecond: 0\.1/],
      [quota({ network: { bytesPerSecond: 1 } }), /network\.bytesPerSecond: 1/],
      [relay({}, { host: { bytesPerSecond: 1 } }), /host\.bytesPerSecond: 1/],
      [relay({}, { prefix: { packetsPerSecond: 9, ipv6Bits: 65 } }), /prefix\.ipv6Bits: 65/],
    ];
    assert.ok(new MeshNode(good, nodePrimitives));
    for (const [changed, message] of cases)
      assert.throws(() => new MeshNode({ ...good, ...changed }, nodePrimitives), message);
  });
});
