import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { EngineEvent } from '../../ts/contract/engine.js';
import {
  NO_PATH_TIMES,
  type PathEnds,
  type PathTimes,
  type PeerPath,
} from '../../ts/contract/path-control.js';
import { Prng } from '../../ts/sim/kernel/prng.js';
import { FakeEngine } from '../../ts/sim/mesh/fake-engine.js';
import { parseSocketAddress, formatSocketAddress, type SocketAddress } from '../../ts/wire/socket-address.js';

const address = (text: string): SocketAddress => {
  const parsed = parseSocketAddress(text);
  assert.ok(parsed);
  return parsed;
};
const A1 = address('10.0.0.1:1');
const A2 = address('10.0.1.1:1');
const B1 = address('10.0.0.2:2');
const B2 = address('10.0.1.2:2');
const TIMES: PathTimes = { ...NO_PATH_TIMES, silentAfterMs: 100, reportEveryMs: 50 };
/** Payload of a control message; the engine does not look into it. */
const DATA = Uint8Array.of(0xc0, 1, 0, 0);

interface Datagram {
  readonly from: SocketAddress;
  readonly to: SocketAddress;
  readonly bytes: Uint8Array;
}

/** Two engines; what one sends the other hears at once, unless the address is cut off. */
class Pair {
  now = 1000;
  readonly sent: Datagram[] = [];
  readonly cut = new Set<string>();
  readonly a = this.#side('aa'.repeat(32), [A1, A2]);
  readonly b = this.#side('bb'.repeat(32), [B1, B2]);

  constructor() {
    for (const [side, peer, at] of [
      [this.a, this.b, B1],
      [this.b, this.a, A1],
    ] as const)
      side.engine.setPeers([
        {
          sessionKey: peer.key,
          presharedKey: undefined,
          allowedIps: ['10.9.0.0/24'],
          endpoint: { address: at },
          persistentKeepalive: 0,
        },
      ]);
    this.a.engine.handshake(this.b.key);
    this.settle();
    this.a.events.length = this.b.events.length = 0;
  }

  #side(key: string, own: readonly [SocketAddress, SocketAddress]) {
    const events: EngineEvent[] = [];
    const engine = new FakeEngine(key, 16, new Prng(own[0].port), {
      now: () => this.now,
      send: (to, bytes, local) => {
        const from = own.find(({ ip }) => local === undefined || ip.join() === local.ip.join()) ?? own[0];
        this.sent.push({ from, to, bytes: bytes.slice() });
      },
      event: (event) => events.push(event),
    });
    return { key, engine, events };
  }

  /** Delivers what was sent, and what that leads to. @returns what was on the wire. */
  settle(): Datagram[] {
    const crossed: Datagram[] = [];
    for (let next = this.sent.shift(); next !== undefined; next = this.sent.shift()) {
      crossed.push(next);
      if (this.cut.has(formatSocketAddress(next.to)) || this.cut.has(formatSocketAddress(next.from)))
        continue;
      this.deliver(next);
    }
    return crossed;
  }

  deliver({ from, to, bytes }: Datagram): void {
    const side = [A1, A2].some((own) => formatSocketAddress(own) === formatSocketAddress(to))
      ? this.a
      : this.b;
    side.engine.receive(from, bytes, { ip: to.ip, interface: 0 });
  }

  pass(ms: number): Datagram[] {
    const crossed: Datagram[] = [];
    const until = this.now + ms;
    for (;;) {
      const at = Math.min(this.a.engine.deadline() ?? Infinity, this.b.engine.deadline() ?? Infinity);
      if (at > until) break;
      this.now = Math.max(this.now, at);
      this.a.engine.handleTimeout();
      this.b.engine.handleTimeout();
      crossed.push(...this.settle());
    }
    this.now = until;
    return crossed;
  }

  /** Both sides have these paths, the first one active. */
  usePaths(order: readonly (1 | 2)[], times: Partial<PathTimes> = {}): void {
    const path = (id: 1 | 2, own: SocketAddress, remote: SocketAddress): PeerPath => ({
      id,
      ...ends(own, remote),
    });
    for (const [side, peer, own, remote] of [
      [this.a, this.b, [A1, A2], [B1, B2]],
      [this.b, this.a, [B1, B2], [A1, A2]],
    ] as const)
      side.engine.paths.setPaths([
        {
          peer: peer.key,
          paths: order.map((id) => path(id, own[id - 1] ?? own[0], remote[id - 1] ?? remote[0])),
          ...TIMES,
          ...times,
        },
      ]);
  }

  send(): void {
    this.a.engine.sendControl([{ peer: this.b.key, payload: DATA }]);
  }
}

const ends = (own: SocketAddress, remote: SocketAddress): PathEnds => ({
  remote: { address: remote },
  local: { ip: own.ip, interface: 0 },
});
const typesOf = (events: readonly EngineEvent[]): string[] => events.map(({ type }) => type);
const where = (datagrams: readonly Datagram[]): string[] =>
  datagrams.map(({ from, to }) => `${formatSocketAddress(from)} ${formatSocketAddress(to)}`);
const token = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8);

describe('the path set of the simulator’s engine', () => {
  test('a probe is answered where it came from, tells both sides, and moves neither', () => {
    const pair = new Pair();
    pair.usePaths([]);
    pair.a.engine.paths.sendProbes([{ peer: pair.b.key, token, to: ends(A2, B2), size: 0 }]);
    const crossed = pair.settle();
    assert.deepEqual(where(crossed), ['10.0.1.1:1 10.0.1.2:2', '10.0.1.2:2 10.0.1.1:1']);
    assert.deepEqual(new Set(crossed.map(({ bytes }) => bytes.length)), new Set([80]));
    assert.deepEqual(typesOf(pair.b.events), ['probe-from']);
    const [answer] = pair.a.events;
    assert.ok(answer?.type === 'probe-answer');
    assert.deepEqual(answer.token, token);
    assert.deepEqual(answer.observed, A2);
    assert.equal(answer.size, 80);
    pair.send();
    assert.deepEqual(where(pair.settle()), ['10.0.0.1:1 10.0.0.2:2']);
  });

  test('a probe of a peer that agreed on nothing is dropped and moves nothing', () => {
    const pair = new Pair();
    pair.a.engine.paths.sendProbes([{ peer: pair.b.key, token, to: ends(A2, B2), size: 0 }]);
    assert.equal(pair.settle().length, 1);
    assert.equal(pair.b.engine.counters.get('drop_path_frame'), 1);
    assert.deepEqual(pair.b.events, []);
  });

  test('a padded probe has the size that was asked for, and its answer is small', () => {
    const pair = new Pair();
    pair.usePaths([]);
    pair.a.engine.paths.sendProbes([{ peer: pair.b.key, token, to: ends(A1, B1), size: 1401 }]);
    assert.deepEqual(
      pair.settle().map(({ bytes }) => bytes.length),
      [1401, 80],
    );
    const [answer] = pair.a.events;
    assert.equal(answer?.type === 'probe-answer' && answer.size, 1401);
  });

  test('a probe sent again by somebody is a replay, from wherever it comes', () => {
    const pair = new Pair();
    pair.usePaths([]);
    pair.a.engine.paths.sendProbes([{ peer: pair.b.key, token, to: ends(A2, B2), size: 0 }]);
    const [probe] = pair.sent;
    assert.ok(probe);
    pair.settle();
    pair.b.events.length = 0;
    pair.deliver({ ...probe, from: address('203.0.113.9:9') });
    assert.equal(pair.sent.length, 0);
    assert.deepEqual(pair.b.events, []);
  });

  test('a peer with paths does not roam: its data from elsewhere is delivered, and told of', () => {
    const pair = new Pair();
    pair.usePaths([1]);
    pair.send();
    const [message] = pair.sent.splice(0);
    assert.ok(message);
    pair.deliver({ ...message, from: address('203.0.113.9:9') });
    assert.deepEqual(typesOf(pair.b.events), ['path-arrival', 'control']);
    pair.b.engine.sendControl([{ peer: pair.a.key, payload: DATA }]);
    assert.equal(where(pair.sent)[0], '10.0.0.2:2 10.0.0.1:1');
  });

  test('what is sent changes path without a handshake, and an emptied set roams again', () => {
    const pair = new Pair();
    pair.usePaths([1]);
    pair.usePaths([2, 1]);
    pair.send();
    assert.equal(where(pair.settle())[0], '10.0.1.1:1 10.0.1.2:2');
    assert.deepEqual(typesOf(pair.b.events), ['path-arrival', 'control']);
    pair.usePaths([]);
    pair.send();
    assert.equal(where(pair.settle())[0], '10.0.0.1:1 10.0.0.2:2');
  });

  test('data is reported on by the path it came by, once in the reporting time', () => {
    const pair = new Pair();
    pair.usePaths([1, 2]);
    for (let packet = 0; packet < 10; packet++) {
      pair.send();
      pair.settle();
      pair.pass(10);
    }
    pair.pass(100);
    const [first, ...more] = pair.a.events.filter(({ type }) => type === 'path-report');
    assert.ok(first?.type === 'path-report');
    assert.deepEqual([first.path, first.sent, first.received, more.length], [1, 1, 1, 0]);
    const [counts] = pair.b.engine.paths.pathCounts(pair.a.key);
    assert.equal(counts?.receivedPackets, 10);
    assert.ok(counts.sentPackets >= 2 && counts.sentPackets <= 3, `${counts.sentPackets} reports`);
  });

  test('an inner packet longer than the active path takes is not sent, and how long it may be is said', () => {
    const pair = new Pair();
    const packet = (size: number): Uint8Array => Uint8Array.of(0x45, ...new Uint8Array(size - 1));
    pair.usePaths([1, 2]);
    assert.equal(pair.a.engine.sendInner(pair.b.key, packet(9000)), undefined, 'nothing is known of it');
    pair.settle();
    const { id, ...at } = { id: 1, ...ends(A1, B1) };
    pair.a.engine.paths.setPaths([{ peer: pair.b.key, paths: [{ id, ...at, plpmtu: 1352 }], ...TIMES }]);
    assert.equal(pair.a.engine.sendInner(pair.b.key, packet(1321)), 1320);
    assert.deepEqual(pair.settle(), []);
    assert.equal(pair.a.engine.sendInner(pair.b.key, packet(1319)), undefined);
    assert.equal(pair.settle()[0]?.bytes.length, 1352, 'padding goes no further');
    assert.equal(pair.a.engine.counters.get('too_big_sent'), 1);
  });

  test('when the active path falls silent everything goes by the standby too, once each arrives, until it is heard', () => {
    const pair = new Pair();
    pair.usePaths([1, 2]);
    pair.send();
    pair.settle();
    pair.pass(500);
    assert.deepEqual(
      typesOf(pair.a.events).filter((type) => type === 'path-silent'),
      [],
      'reported in time',
    );
    pair.cut.add(formatSocketAddress(B1));
    pair.send();
    pair.settle();
    pair.pass(99);
    assert.equal(typesOf(pair.a.events).includes('path-silent'), false);
    pair.pass(1);
    assert.equal(typesOf(pair.a.events).includes('path-silent'), true);
    pair.b.events.length = 0;
    pair.send();
    assert.deepEqual(where(pair.settle()).slice(0, 2), ['10.0.0.1:1 10.0.0.2:2', '10.0.1.1:1 10.0.1.2:2']);
    assert.deepEqual(typesOf(pair.b.events), ['path-arrival', 'control']);
    pair.cut.clear();
    pair.send();
    pair.settle();
    assert.deepEqual(
      typesOf(pair.b.events).filter((type) => type === 'control').length,
      2,
      'no copy is delivered twice',
    );
    pair.pass(60);
    assert.equal(
      pair.a.events.at(-1)?.type === 'path-heard' || typesOf(pair.a.events).includes('path-heard'),
      true,
    );
    pair.send();
    assert.equal(where(pair.settle()).filter((way) => way === '10.0.1.1:1 10.0.1.2:2').length, 0);
  });
});
