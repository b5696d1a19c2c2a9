// What every engine that keeps several ways to one peer must do with them, said over PathControl. The two ways
// are two loopback addresses of the host's.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import type { EngineEvent } from '../../ts/contract/engine.js';
import {
  MAX_PROBE_RULES,
  MIN_PLPMTU,
  NO_PATH_TIMES,
  type PathControl,
  type PathCounts,
  type PathEnds,
  type PeerPath,
  type PeerPaths,
  type ProbeRule,
} from '../../ts/contract/path-control.js';
import { EngineError } from '../../ts/contract/engine.js';
import type { Prefix } from '../../ts/wire/prefix.js';
import { formatSocketAddress, parseSocketAddress, type SocketAddress } from '../../ts/wire/socket-address.js';
import {
  connectCircuit,
  deliver,
  direct,
  exchange,
  message,
  scenario,
  until,
  type ConformanceNode,
  type ConformanceScenario,
} from './conformance.js';

const ANY = new Uint8Array(16);
const SILENT_AFTER_MS = 150;
const REPORT_EVERY_MS = 50;

function at(host: string, port: number): SocketAddress {
  const address = parseSocketAddress(`${host}:${port}`);
  assert.ok(address !== undefined);
  return address;
}

function paths({ engine }: ConformanceNode): PathControl {
  assert.ok(engine.paths !== undefined, 'the engine keeps several ways to one peer');
  return engine.paths;
}

/** From one of the host's addresses to the same one, where the peer listens too. */
function way(peer: ConformanceNode, host: '127.0.0.1' | '127.0.0.2'): PathEnds {
  return { remote: { address: at(host, peer.engine.port) }, local: { ip: at(host, 1).ip, interface: 0 } };
}

const first = (peer: ConformanceNode): PeerPath => ({ id: 1, ...way(peer, '127.0.0.1') });
const second = (peer: ConformanceNode): PeerPath => ({ id: 2, ...way(peer, '127.0.0.2') });

function setPaths(node: ConformanceNode, peer: ConformanceNode, set: Partial<PeerPaths>): void {
  paths(node).setPaths([
    {
      peer: peer.sessionKey,
      paths: [],
      ...NO_PATH_TIMES,
      silentAfterMs: SILENT_AFTER_MS,
      reportEveryMs: REPORT_EVERY_MS,
      ...set,
    },
  ]);
}

function probe(node: ConformanceNode, peer: ConformanceNode, to: PathEnds, size = 0): Uint8Array {
  const token = Uint8Array.from(randomBytes(8));
  paths(node).sendProbes([{ peer: peer.sessionKey, token, to, size }]);
  return token;
}

const answerTo =
  (token: Uint8Array) =>
  (event: Extract<EngineEvent, { type: 'probe-answer' }>): boolean =>
    Buffer.compare(event.token, token) === 0;

function reachedAt(node: ConformanceNode, peer: ConformanceNode): string | undefined {
  const endpoint = node.engine.peers().find(({ sessionKey }) => sessionKey === peer.sessionKey)?.endpoint;
  return endpoint !== undefined && 'address' in endpoint ? formatSocketAddress(endpoint.address) : undefined;
}

/** Whether no event said that the peer is elsewhere than it was at first. */
function neverMoved(node: ConformanceNode, peer: ConformanceNode): boolean {
  return node.events.every(
    (event) =>
      event.type !== 'endpoint' ||
      ('address' in event.endpoint &&
        formatSocketAddress(event.endpoint.address) === `127.0.0.1:${peer.engine.port}`),
  );
}

function countsOf(node: ConformanceNode, peer: ConformanceNode, id: number): PathCounts {
  const counts = paths(node)
    .pathCounts(peer.sessionKey)
    .find((path) => path.id === id);
  assert.ok(counts !== undefined);
  return counts;
}

async function connect(a: ConformanceNode, b: ConformanceNode): Promise<void> {
  a.setPeer(b, direct(b));
  b.setPeer(a, direct(a));
  await exchange(a, b);
}

/** Somebody on the way: keeps what comes, and may send it on. */
async function withTap(
  body: (
    address: SocketAddress,
    taken: Buffer[],
    send: (bytes: Buffer, port: number) => void,
  ) => Promise<void>,
): Promise<void> {
  const socket = createSocket('udp4');
  const taken: Buffer[] = [];
  socket.on('message', (bytes) => taken.push(bytes));
  socket.bind(0, '127.0.0.1');
  await once(socket, 'listening');
  try {
    await body(at('127.0.0.1', socket.address().port), taken, (bytes, port) => {
      socket.send(bytes, port, '127.0.0.1');
    });
  } finally {
    socket.close();
  }
}

/** Of an engine that can say that a datagram is not to be fragmented; any can answer it. */
export const paddedProbe = scenario(
  'a padded probe has the size that was asked for, to the byte, and its answer is small',
  async (a, b) => {
    assert.ok(paths(a).keepsWhole);
    await connect(a, b);
    setPaths(a, b, {});
    setPaths(b, a, { paths: [first(a)] });
    for (const size of [1400, 1401, 8932]) {
      const answer = await a.event('probe-answer', answerTo(probe(a, b, way(b, '127.0.0.1'), size)));
      assert.equal(answer.size, size);
    }
    assert.ok(countsOf(b, a, 1).sentBytes < 500, 'the answers');
  },
);

/** Two ports nobody has at present, at one of the host's addresses. */
async function freePorts(host: '127.0.0.1' | '127.0.0.2'): Promise<[SocketAddress, SocketAddress]> {
  const sockets = [createSocket('udp4'), createSocket('udp4')] as const;
  for (const socket of sockets) {
    socket.bind(0, host);
    await once(socket, 'listening');
  }
  const [first, second] = sockets.map((socket) => at(host, socket.address().port));
  for (const socket of sockets) socket.close();
  assert.ok(first !== undefined && second !== undefined);
  return [first, second];
}

/** From a port beside the engine's own. */
const from = (peer: ConformanceNode, { ip, port }: SocketAddress): PathEnds => ({
  remote: { address: at('127.0.0.1', peer.engine.port) },
  local: { ip, interface: 0, port },
});

/** A probe that is sent again until it is answered: a port is opened in its own time. */
async function probed(
  node: ConformanceNode,
  peer: ConformanceNode,
  to: PathEnds,
): Promise<Extract<EngineEvent, { type: 'probe-answer' }>> {
  const tokens: Uint8Array[] = [];
  const answer = (): Extract<EngineEvent, { type: 'probe-answer' }> | undefined =>
    node.events.find(
      (event): event is Extract<EngineEvent, { type: 'probe-answer' }> =>
        event.type === 'probe-answer' && tokens.some((token) => answerTo(token)(event)),
    );
  await until(() => {
    if (answer() === undefined) tokens.push(probe(node, peer, to));
    return answer() !== undefined;
  }, 'the answer');
  const found = answer();
  assert.ok(found !== undefined);
  return found;
}

export const pathScenarios: readonly ConformanceScenario[] = [
  scenario('a port beside the own one sends and is answered, and is another path’s end', async (a, b) => {
    await connect(a, b);
    const [one, other] = await freePorts('127.0.0.1');
    setPaths(a, b, {});
    setPaths(b, a, {});
    paths(a).setPorts([one, other]);
    const answer = await probed(a, b, from(b, one));
    assert.ok(answer.observed !== undefined);
    assert.deepEqual(answer.observed, one);
    assert.deepEqual(answer.at.local, { ip: one.ip, interface: answer.at.local?.interface, port: one.port });
    assert.deepEqual((await b.event('probe-from')).from.remote, { address: one });
    // Who is sent to at that port answers from it, and it is no end of a path from the own port.
    setPaths(a, b, { paths: [{ id: 1, ...way(b, '127.0.0.1') }] });
    const back = await probed(b, a, { remote: { address: other }, local: undefined });
    assert.deepEqual(back.at.remote, { address: other });
    const { from: came } = await a.event('probe-from', (event) => event.from.local?.port === other.port);
    assert.deepEqual(came.local?.ip, other.ip);
    assert.equal(reachedAt(b, a), `127.0.0.1:${a.engine.port}`);
  }),

  scenario(
    'data goes by a path from a port beside the own one, both ways, until it is closed',
    async (a, b) => {
      await connect(a, b);
      const [one] = await freePorts('127.0.0.1');
      setPaths(a, b, {});
      setPaths(b, a, {});
      paths(a).setPorts([one]);
      await probed(a, b, from(b, one));
      setPaths(a, b, { paths: [{ id: 5, ...from(b, one) }, first(b)], silentAfterMs: 0 });
      setPaths(b, a, { paths: [{ id: 6, remote: { address: one }, local: undefined }], silentAfterMs: 0 });
      for (let i = 0; i < 20; i++) await exchange(a, b);
      assert.ok(countsOf(b, a, 6).receivedPackets >= 20);
      assert.ok(countsOf(a, b, 5).receivedPackets >= 20);
      assert.equal(countsOf(a, b, 1).receivedPackets, 0);
      // A handshake comes and goes by it too.
      await sleep(250);
      const sessions = a.events.filter(({ type }) => type === 'session').length;
      a.engine.handshake(b.sessionKey);
      await until(() => a.events.filter(({ type }) => type === 'session').length > sessions, 'a session');
      paths(a).setPorts([]);
      const unsent = a.count('drop_probe_unsent');
      probe(a, b, from(b, one));
      await until(() => a.count('drop_probe_unsent') === unsent + 1, 'a probe that is not sent');
      const socket = createSocket('udp4');
      socket.bind(one.port, '127.0.0.1');
      await once(socket, 'listening'); // it is free again
      socket.close();
      setPaths(a, b, { paths: [first(b)] });
      setPaths(b, a, { paths: [first(a)] });
      await exchange(a, b);
    },
  ),

  scenario('a port that somebody else has is left out, and what can be none is refused', async (a, b) => {
    await connect(a, b);
    setPaths(a, b, {});
    setPaths(b, a, {});
    const socket = createSocket('udp4');
    socket.bind(0, '127.0.0.1');
    await once(socket, 'listening');
    const taken = at('127.0.0.1', socket.address().port);
    const [free] = await freePorts('127.0.0.1');
    paths(a).setPorts([taken, free]);
    await probed(a, b, from(b, free));
    probe(a, b, from(b, taken));
    await until(() => a.count('drop_probe_unsent') >= 1, 'the probe that is not sent');
    socket.close();
    const refused = (ports: SocketAddress[], field: RegExp): void =>
      assert.throws(
        () => paths(a).setPorts(ports),
        (error: unknown) =>
          error instanceof EngineError && error.code === 'BAD_ARGUMENT' && field.test(error.message),
      );
    refused([at('127.0.0.1', 1), at('127.0.0.2', 1)], /twice/);
    refused([{ ip: at('127.0.0.1', 1).ip, port: 0 }], /ports\.port/);
    refused(
      Array.from({ length: 1025 }, (_, n) => at('127.0.0.1', 1000 + n)),
      /at most 1024/,
    );
    await probed(a, b, from(b, free));
    paths(a).setPorts([]);
  }),

  scenario('a probe is answered by the way it came, tells both sides, and moves neither', async (a, b) => {
    await connect(a, b);
    setPaths(a, b, {});
    setPaths(b, a, {});
    const answer = await a.event('probe-answer', answerTo(probe(a, b, way(b, '127.0.0.2'))));
    assert.equal(answer.peer, b.sessionKey);
    assert.ok(answer.observed !== undefined && 'address' in answer.at.remote);
    assert.equal(formatSocketAddress(answer.observed), `127.0.0.2:${a.engine.port}`);
    assert.equal(formatSocketAddress(answer.at.remote.address), `127.0.0.2:${b.engine.port}`);
    assert.deepEqual(answer.at.local?.ip, at('127.0.0.2', 1).ip);
    assert.equal(answer.size, 80);
    assert.ok(answer.rttMs > 0 && answer.rttMs < 20_000, `${answer.rttMs} ms`);
    const from = (await b.event('probe-from')).from;
    assert.deepEqual(from.remote, { address: at('127.0.0.2', a.engine.port) });
    assert.equal(a.count('path_probes_sent'), 1);
    assert.equal(b.count('path_probes_answered'), 1);
    assert.equal(reachedAt(b, a), `127.0.0.1:${a.engine.port}`);
    assert.equal(reachedAt(a, b), `127.0.0.1:${b.engine.port}`);
  }),

  scenario(
    'a probe of a peer that agreed on no paths is dropped, counted, and moves nothing',
    async (a, b) => {
      await connect(a, b);
      probe(a, b, way(b, '127.0.0.2'));
      await until(() => b.count('drop_path_frame') === 1, 'the drop');
      assert.equal(reachedAt(b, a), `127.0.0.1:${a.engine.port}`);
      setPaths(b, a, {});
      setPaths(b, a, { paths: undefined });
      probe(a, b, way(b, '127.0.0.2'));
      await until(() => b.count('drop_path_frame') === 2, 'the second drop');
      await exchange(a, b);
      assert.ok(!b.events.some(({ type }) => type === 'probe-from'));
      assert.ok(!a.events.some(({ type }) => type === 'probe-answer'));
      assert.ok(neverMoved(b, a));
    },
  ),

  scenario(
    'a probe that a rule refuses is dropped, counted and not told of; the first rule that is of it counts',
    async (a, b) => {
      await connect(a, b);
      setPaths(a, b, {});
      const [one, other] = [at('127.0.0.1', 1).ip, at('127.0.0.2', 1).ip];
      const prefix = (length: number, ip: Uint8Array): Prefix => ({ family: 4, length, ip });
      const refused: readonly ProbeRule[][] = [
        [{ local: undefined, from: undefined, answered: false }],
        [{ local: other, from: undefined, answered: false }],
        [{ local: undefined, from: prefix(32, other), answered: false }],
        [{ local: undefined, from: prefix(30, one), answered: false }],
        [
          { local: one, from: undefined, answered: true },
          { local: other, from: prefix(0, one), answered: false },
          { local: other, from: undefined, answered: true },
        ],
      ];
      for (const [index, probeRules] of refused.entries()) {
        setPaths(b, a, { probeRules });
        probe(a, b, way(b, '127.0.0.2'));
        await until(() => b.count('drop_path_frame') === index + 1, 'the drop');
      }
      assert.ok(!b.events.some(({ type }) => type === 'probe-from'));
      const answered: readonly ProbeRule[][] = [
        [],
        [{ local: one, from: undefined, answered: false }],
        [
          {
            local: undefined,
            from: prefix(
              31,
              one.map((byte, index) => byte - Number(index === 15)),
            ),
            answered: false,
          },
        ],
        [{ local: undefined, from: { family: 6, length: 0, ip: one }, answered: false }],
        [
          { local: other, from: prefix(32, other), answered: true },
          { local: undefined, from: undefined, answered: false },
        ],
      ];
      for (const probeRules of answered) {
        setPaths(b, a, { probeRules });
        await a.event('probe-answer', answerTo(probe(a, b, way(b, '127.0.0.2'))));
      }
      assert.equal(b.count('drop_path_frame'), refused.length);
      await exchange(a, b);
    },
  ),

  scenario(
    'a probe by a leg is answered by the leg, and nobody’s address is observed',
    async (a, b, relay) => {
      const { legOfA, legOfB } = connectCircuit(a, relay, b);
      await connect(a, b);
      setPaths(a, b, {});
      setPaths(b, a, {});
      const to = { remote: { leg: legOfA }, local: undefined };
      const answer = await a.event('probe-answer', answerTo(probe(a, b, to)));
      assert.equal(answer.observed, undefined);
      assert.deepEqual(answer.at, to);
      assert.equal(answer.size, 96);
      assert.deepEqual((await b.event('probe-from')).from, { remote: { leg: legOfB }, local: undefined });
      assert.equal(reachedAt(b, a), `127.0.0.1:${a.engine.port}`);
    },
  ),

  scenario(
    'a probe taken off the way and sent from elsewhere gets one answer, and moves nothing',
    async (a, b) => {
      await connect(a, b);
      setPaths(a, b, {});
      setPaths(b, a, {});
      await withTap(async (tap, taken, send) => {
        probe(a, b, { remote: { address: tap }, local: undefined });
        await until(() => taken.length === 1, 'the probe at the tap');
        const [bytes] = taken.splice(0);
        assert.ok(bytes !== undefined);
        send(bytes, b.engine.port);
        await until(() => taken.length === 1, 'the answer at the tap');
        assert.ok((taken[0]?.length ?? Infinity) <= bytes.length);
        const { from } = await b.event('probe-from');
        assert.deepEqual(from.remote, { address: tap });
        const replayed = b.count('drop_replayed');
        send(bytes, b.engine.port);
        await until(() => b.count('drop_replayed') === replayed + 1, 'the replay');
        await exchange(a, b);
        assert.equal(taken.length, 1);
        assert.equal(reachedAt(b, a), `127.0.0.1:${a.engine.port}`);
      });
    },
  ),

  scenario(
    'a peer with paths does not roam: its data from elsewhere is delivered, and told of',
    async (a, b) => {
      await connect(a, b);
      setPaths(b, a, { paths: [first(a)] });
      setPaths(a, b, { paths: [second(b)] });
      await deliver(a, b);
      const { path, from } = await b.event('path-arrival');
      assert.equal(path, undefined);
      assert.deepEqual(from.remote, { address: at('127.0.0.2', a.engine.port) });
      assert.equal(reachedAt(b, a), `127.0.0.1:${a.engine.port}`);
      await deliver(b, a);
      assert.ok(neverMoved(b, a));
      // Nor does a handshake move it; it is answered where it came from.
      const sessions = (): number => b.events.filter(({ type }) => type === 'session').length;
      const before = sessions();
      await sleep(250);
      a.engine.handshake(b.sessionKey);
      await until(() => sessions() > before, 'the next session');
      await exchange(a, b);
      assert.equal(reachedAt(b, a), `127.0.0.1:${a.engine.port}`);
      const endpoint = b.events.filter((event) => event.type === 'session').at(-1)?.endpoint;
      assert.deepEqual(endpoint, { address: at('127.0.0.2', a.engine.port) });
    },
  ),

  scenario('what is sent changes path without a handshake, and an emptied set roams again', async (a, b) => {
    await connect(a, b);
    setPaths(b, a, { paths: [first(a), second(a)] });
    setPaths(a, b, { paths: [first(b), second(b)] });
    await exchange(a, b);
    const sessions = b.events.filter(({ type }) => type === 'session').length;
    setPaths(a, b, { paths: [second(b), first(b)] });
    await deliver(a, b);
    await b.event('path-arrival', ({ path }) => path === 2);
    assert.equal(countsOf(a, b, 1).sentPackets >= 1, true, 'a path that stays keeps its counts');
    assert.equal(reachedAt(a, b), `127.0.0.2:${b.engine.port}`);
    setPaths(b, a, { paths: [] });
    await deliver(a, b);
    await until(() => reachedAt(b, a) === `127.0.0.2:${a.engine.port}`, 'roaming again');
    setPaths(a, b, { paths: [] });
    await deliver(a, b);
    await until(() => reachedAt(b, a) === `127.0.0.1:${a.engine.port}`, 'where it was without paths');
    assert.equal(b.events.filter(({ type }) => type === 'session').length, sessions);
  }),

  scenario('what the control plane says goes by the path it was given, while there is one', async (a, b) => {
    await connect(a, b);
    setPaths(b, a, { paths: [first(a), second(a)] });
    setPaths(a, b, { paths: [first(b), second(b)], control: 2 });
    const sent = (id: number): number => countsOf(a, b, id).sentPackets;
    const before = [sent(1), sent(2)] as const;
    for (let n = 0; n < 5; n++) await deliver(a, b);
    assert.equal(sent(2), before[1] + 5);
    assert.equal(sent(1), before[0]);
    // That no report comes by the active path is no silence of it: nothing was sent by it.
    await sleep(2 * SILENT_AFTER_MS);
    assert.ok(!a.events.some(({ type }) => type === 'path-silent'));
    setPaths(a, b, { paths: [first(b), second(b)] });
    await deliver(a, b);
    assert.equal(sent(2), before[1] + 5);
    assert.ok(sent(1) > before[0]);
    assert.throws(
      () => setPaths(a, b, { paths: [first(b)], control: 2 }),
      (error: unknown) =>
        error instanceof EngineError && error.code === 'BAD_ARGUMENT' && /^control: 2/.test(error.message),
    );
  }),

  scenario('an endpoint that is given to a peer with paths waits until it has none', async (a, b) => {
    await connect(a, b);
    setPaths(a, b, { paths: [first(b)] });
    await withTap(async (tap, taken) => {
      a.setPeer(b, { endpoint: { address: tap }, redirect: true });
      await deliver(a, b);
      assert.equal(taken.length, 0);
      setPaths(a, b, { paths: [] });
      a.send(b, message());
      await until(() => taken.length > 0, 'the datagram there');
    });
  }),

  scenario('data is reported on by the path it came by, not twice in the reporting time', async (a, b) => {
    await connect(a, b);
    setPaths(b, a, { paths: [first(a), second(a)] });
    // Longer than a busy machine lets a timer of the other end wait.
    setPaths(a, b, { paths: [first(b), second(b)], silentAfterMs: 5000 });
    await deliver(a, b);
    const report = await a.event('path-report');
    assert.equal(report.path, 1);
    assert.ok(report.sent >= 1 && report.received >= 1 && report.received <= report.sent);
    const sent = countsOf(b, a, 1).sentPackets;
    for (let i = 0; i < 20; i++) await deliver(a, b);
    await until(() => countsOf(b, a, 1).sentPackets > sent, 'the next report');
    assert.ok(countsOf(b, a, 1).receivedPackets >= 21);
    assert.equal(countsOf(b, a, 2).receivedPackets, 0);
    assert.equal(countsOf(b, a, 2).lastReceivedMs, undefined);
    assert.equal(a.events.filter(({ type }) => type === 'path-silent').length, 0, 'reported in time');
  }),

  scenario('when the active path is silent all goes by the standby too, and arrives once', async (a, b) => {
    await connect(a, b);
    setPaths(b, a, { paths: [first(a), second(a)] });
    await withTap(async (tap, taken) => {
      setPaths(a, b, { paths: [{ id: 9, remote: { address: tap }, local: undefined }, second(b)] });
      a.send(b, message());
      const silent = await a.event('path-silent');
      assert.equal(silent.path, 9);
      assert.equal(taken.length, 1, 'until then by the active path alone');
      const payload = message();
      a.send(b, payload);
      await b.receives(a, payload);
      await until(() => taken.length === 2, 'by the active path too');
      assert.ok(a.count('path_duplicates_sent') >= 1);
      const [, copy] = taken;
      assert.ok(copy !== undefined);
      const replayed = b.count('drop_replayed');
      await new Promise<void>((resolve) => {
        const socket = createSocket('udp4');
        socket.send(copy, b.engine.port, '127.0.0.1', () => {
          socket.close(() => {
            resolve();
          });
        });
      });
      await until(() => b.count('drop_replayed') === replayed + 1, 'the other copy');
      const received = b.events.filter(
        (event) => event.type === 'control' && Buffer.compare(event.payload.subarray(0, 12), payload) === 0,
      );
      assert.equal(received.length, 1);
      // Said once, and no more said when the path is no longer active.
      setPaths(a, b, { paths: [second(b)] });
      await deliver(a, b);
      assert.equal(a.events.filter(({ type }) => type === 'path-silent').length, 1);
      assert.equal(taken.length, 2);
    });
  }),

  scenario('a silent path that is heard again is sent by alone', async (a, b) => {
    await connect(a, b);
    setPaths(a, b, { paths: [first(b), second(b)] });
    // The peer says nothing of what it gets.
    setPaths(b, a, { paths: [second(a), first(a)], reportEveryMs: 0 });
    a.send(b, message());
    await a.event('path-silent', ({ path }) => path === 1);
    // Its data shows that it can be heard, not that it hears.
    setPaths(b, a, { paths: [first(a)], reportEveryMs: 0 });
    await deliver(b, a);
    assert.ok(!a.events.some(({ type }) => type === 'path-heard'));
    setPaths(b, a, { paths: [first(a), second(a)] });
    await deliver(a, b);
    await a.event('path-heard', ({ path }) => path === 1);
    const duplicates = a.count('path_duplicates_sent');
    await deliver(a, b);
    assert.equal(a.count('path_duplicates_sent'), duplicates);
  }),

  scenario('the probes of one peer are answered up to a rate', async (a, b) => {
    await connect(a, b);
    setPaths(b, a, { paths: [first(a)] });
    for (let sent = 0; b.count('drop_path_rate') === 0; sent++) {
      assert.ok(sent < 20_000, 'no probe was one too many');
      for (let i = 0; i < 50; i++) probe(a, b, way(b, '127.0.0.1'));
      await sleep(1);
    }
    assert.ok(b.count('path_probes_answered') >= 400);
  }),

  scenario('a probe without a session is dropped, and starts no handshake', async (a, b) => {
    a.setPeer(b, direct(b));
    b.setPeer(a);
    probe(a, b, way(b, '127.0.0.1'));
    await until(() => a.count('drop_probe_unsent') === 1, 'the drop');
    await sleep(100);
    assert.equal(b.count('handshake_initiations_received'), 0);
    await exchange(a, b);
    assert.equal(b.count('drop_path_frame'), 0, 'nor was it kept');
  }),

  scenario('a path set survives new keys, and not the peer', async (a, b) => {
    await connect(a, b);
    setPaths(a, b, { paths: [second(b)] });
    setPaths(b, a, { paths: [second(a)] });
    await sleep(250);
    const sessions = (): number => a.events.filter(({ type }) => type === 'session').length;
    const before = sessions();
    a.engine.handshake(b.sessionKey);
    await until(() => sessions() > before, 'the next session');
    await exchange(a, b);
    assert.equal(countsOf(a, b, 2).id, 2);
    assert.equal(reachedAt(a, b), `127.0.0.2:${b.engine.port}`);
    a.engine.removePeers([b.sessionKey]);
    assert.deepEqual(paths(a).pathCounts(b.sessionKey), []);
    a.setPeer(b, direct(b));
    assert.deepEqual(paths(a).pathCounts(b.sessionKey), []);
  }),

  scenario(
    'a path is told what it takes without another change, and what is said inside goes on',
    async (a, b) => {
      await connect(a, b);
      setPaths(b, a, { paths: [first(a)] });
      setPaths(a, b, { paths: [first(b)] });
      await deliver(a, b);
      const { sentPackets } = countsOf(a, b, 1);
      setPaths(a, b, { paths: [{ ...first(b), plpmtu: MIN_PLPMTU }] });
      assert.equal(countsOf(a, b, 1).sentPackets, sentPackets, 'its counts are kept');
      const long = message(1100);
      a.send(b, long);
      await b.receives(a, long);
      if (paths(a).keepsWhole)
        await a.event('probe-answer', answerTo(probe(a, b, way(b, '127.0.0.1'), 1400)));
      else probe(a, b, way(b, '127.0.0.1'), 1400);
      assert.equal(a.count('drop_probe_unsent'), paths(a).keepsWhole ? 0 : 1);
      assert.ok(!a.events.some(({ type }) => type === 'path-silent'));
    },
  ),

  scenario('a path by a leg that is not there is left out, and those beside it are used', async (a, b) => {
    await connect(a, b);
    const gone: PeerPath = { id: 7, remote: { leg: 77 }, local: undefined };
    setPaths(b, a, {});
    setPaths(a, b, { paths: [gone, second(b)] });
    assert.deepEqual(
      paths(a)
        .pathCounts(b.sessionKey)
        .map(({ id }) => id),
      [2],
    );
    await deliver(a, b);
    assert.ok(countsOf(a, b, 2).sentPackets > 0);
    setPaths(a, b, { paths: [gone] });
    assert.deepEqual(paths(a).pathCounts(b.sessionKey), []);
    await deliver(a, b);
  }),

  scenario('what a path or probe cannot be is refused, and nothing is changed', async (a, b) => {
    await connect(a, b);
    setPaths(a, b, { paths: [second(b)] });
    const refused = (call: () => void, field: RegExp): void => {
      assert.throws(
        call,
        (error) => error instanceof EngineError && error.code === 'BAD_ARGUMENT' && field.test(error.message),
      );
    };
    const open = { local: undefined, from: undefined, answered: true };
    const nine = Array.from({ length: 9 }, (_, index) => ({ ...first(b), id: index + 1 }));
    for (const [set, field] of [
      [{ paths: nine }, /9 given, at most 8/],
      [{ paths: [{ ...first(b), id: 0 }] }, /id/],
      [{ paths: [{ ...first(b), id: 256 }] }, /id/],
      [{ paths: [first(b), { ...second(b), id: 1 }] }, /twice/],
      [{ paths: [{ ...first(b), plpmtu: MIN_PLPMTU - 1 }] }, /plpmtu/],
      [{ paths: [{ ...first(b), plpmtu: 65_536 }] }, /plpmtu/],
      [{ paths: [{ ...first(b), plpmtu: 1400.5 }] }, /plpmtu/],
      [{ paths: [{ ...first(b), share: 0 }] }, /share/],
      [{ paths: [{ ...first(b), share: 1001 }] }, /share/],
      [{ probeRules: [{ ...open, local: new Uint8Array(4) }] }, /probeRules.local/],
      [{ probeRules: [{ ...open, from: { family: 4, length: 33, ip: ANY } }] }, /probeRules.from.length/],
      [{ probeRules: Array.from({ length: MAX_PROBE_RULES + 1 }, () => open) }, /at most/],
      [{ silentAfterMs: -1 }, /silentAfterMs/],
      [{ leastRoundTripMs: -1 }, /leastRoundTripMs/],
      [{ silentBetweenReportsMs: Infinity }, /silentBetweenReportsMs/],
      [{ reportEveryMs: Number.NaN }, /reportEveryMs/],
      [
        { paths: [{ id: 1, remote: { address: { ip: new Uint8Array(4), port: 1 } }, local: undefined }] },
        /ip/,
      ],
    ] as const)
      refused(() => {
        setPaths(a, b, set);
      }, field);
    refused(() => {
      paths(a).sendProbes([
        { peer: b.sessionKey, token: new Uint8Array(7), to: way(b, '127.0.0.1'), size: 0 },
      ]);
    }, /token/);
    assert.deepEqual(
      paths(a)
        .pathCounts(b.sessionKey)
        .map(({ id }) => id),
      [2],
    );
  }),
];
