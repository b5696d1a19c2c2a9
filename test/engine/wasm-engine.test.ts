// The fallback engine over loopback: the conformance scenarios, its options, STUN, its budgets.

import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import { describe, test } from 'node:test';
import { EngineError, type EngineErrorCode, type EngineOptions } from '../../ts/contract/engine.js';
import { openWasmEngine } from '../../ts/engine/wasm/wasm-engine.js';
import {
  ConformanceNode,
  conformanceScenarios,
  interfacesOfTwoLoopbacks,
  sessionKeys,
  until,
} from './conformance.js';
import { pathScenarios } from './path-conformance.js';
import { Counters } from '../../ts/engine/wasm/counters.js';
import { fromHex, toHex } from './vectors.js';
import { UNCHARGED } from '../../ts/wire/leg.js';

const open = (options: EngineOptions): ReturnType<typeof openWasmEngine> =>
  openWasmEngine(options, interfacesOfTwoLoopbacks);
const engines = { a: open, b: open, relay: open };
const withModel = (options: EngineOptions): ReturnType<typeof openWasmEngine> =>
  openWasmEngine({ ...options, disable: ['wasm-forwarding'] });

describe('every engine', () => {
  for (const { name, run } of conformanceScenarios) test(name, () => run(engines));
});

describe('several ways to one peer', () => {
  for (const { name, run } of pathScenarios) test(name, () => run(engines));

  test('a padded probe is not sent, for nothing would keep it whole', async () => {
    const [a, b] = [await ConformanceNode.open(open), await ConformanceNode.open(open)];
    try {
      a.setPeer(b, { endpoint: { address: b.address } });
      b.setPeer(a);
      a.engine.handshake(b.sessionKey);
      await a.event('session');
      const to = { remote: { address: b.address }, local: undefined };
      a.engine.paths?.sendProbes([{ peer: b.sessionKey, token: new Uint8Array(8), to, size: 200 }]);
      assert.equal(a.count('drop_probe_unsent'), 1);
      assert.equal(a.count('path_probes_sent'), 0);
    } finally {
      await Promise.all([a.engine.close(), b.engine.close()]);
    }
  });
});

describe('with the TypeScript model in place of the forwarding module', () => {
  for (const { name, run } of conformanceScenarios.filter((scenario) => /relay|leg/.test(scenario.name))) {
    test(name, () => run({ a: withModel, b: openWasmEngine, relay: withModel }));
  }
});

const refusedAs =
  (code: EngineErrorCode, field: RegExp) =>
  (error: unknown): boolean =>
    error instanceof EngineError && error.code === code && field.test(error.message);

const OPTIONS: EngineOptions = {
  privateKey: new Uint8Array(32).fill(1),
  port: 0,
  maxLegs: 4,
  maxPeers: 4,
  controlFramesPerSecond: 10,
};

test('a TUN interface is refused with the engine that has one named', async () => {
  const tun = { name: 'omerta0', addresses: ['100.64.0.1/10'], mtu: 1420 };
  await assert.rejects(openWasmEngine({ ...OPTIONS, tun }), refusedAs('TUN_FAILED', /native engine/));
});

test('bad options are refused with the field named', async () => {
  const cases: [Partial<EngineOptions>, RegExp][] = [
    [{ privateKey: new Uint8Array(31) }, /privateKey/],
    [{ port: 70_000 }, /port/],
    [{ bind: 'localhost' }, /bind/],
    [{ maxLegs: 0 }, /maxLegs/],
    [{ maxLegs: 2 ** 30 }, /maxLegs/],
    [{ maxPeers: 0 }, /maxPeers/],
    [{ controlFramesPerSecond: 0 }, /controlFramesPerSecond/],
  ];
  for (const [options, field] of cases) {
    await assert.rejects(openWasmEngine({ ...OPTIONS, ...options }), refusedAs('BAD_ARGUMENT', field));
  }
});

test('a port in use and an address that is not here have errors of their own', async () => {
  const engine = await openWasmEngine(OPTIONS);
  await assert.rejects(openWasmEngine({ ...OPTIONS, port: engine.port }), refusedAs('PORT_IN_USE', /port/));
  await engine.close();
  await assert.rejects(openWasmEngine({ ...OPTIONS, bind: '192.0.2.1' }), refusedAs('BIND_FAILED', /bind/));
});

test('a port in use at one address of the host names the address', async () => {
  const socket = createSocket('udp4');
  socket.bind(0, '127.0.0.1');
  await once(socket, 'listening');
  const { port } = socket.address();
  await assert.rejects(
    openWasmEngine({ ...OPTIONS, port }),
    refusedAs(
      'PORT_IN_USE',
      new RegExp(`^port: UDP port ${port} is in use by another process at 127\\.0\\.0\\.1;`),
    ),
  );
  socket.close();
});

test('addresses of the host are followed: a new one answers, one that is gone is forgotten', async () => {
  let second = false;
  const engine = await openWasmEngine(OPTIONS, () =>
    second ? interfacesOfTwoLoopbacks() : networkInterfaces(),
  );
  const socket = createSocket('udp4');
  const heard: string[] = [];
  socket.on('message', (_, { address }) => heard.push(address));
  socket.bind(0, '127.0.0.1');
  await once(socket, 'listening');
  const answeredFrom = async (expected: string): Promise<void> => {
    heard.length = 0;
    let asked = 0;
    await until(() => {
      if (performance.now() - asked > 100) {
        asked = performance.now(); // STUN has a budget
        socket.send(BINDING_REQUEST, engine.port, '127.0.0.2');
      }
      return heard.at(-1) === expected;
    }, `an answer from ${expected}`);
  };
  try {
    // Not known: routing chooses.
    await answeredFrom('127.0.0.1');
    second = true;
    await answeredFrom('127.0.0.2');
    second = false;
    await answeredFrom('127.0.0.1');
  } finally {
    socket.close();
    await engine.close();
  }
});

test('bad peers, legs, payloads and frames are refused with the field named', async () => {
  const node = await ConformanceNode.open(openWasmEngine);
  const peer = sessionKeys();
  const bad = (field: RegExp, act: () => void): void => assert.throws(act, refusedAs('BAD_ARGUMENT', field));
  try {
    bad(/sessionKey/, () => node.setPeer({ sessionKey: 'AA'.repeat(32) }));
    bad(/presharedKey/, () => node.setPeer(peer, { presharedKey: new Uint8Array(16) }));
    bad(/persistentKeepalive/, () => node.setPeer(peer, { persistentKeepalive: -1 }));
    for (const prefix of ['10.0.0.0', '10.0.0.0/33', 'fd00::/129', '10.0.0/8', '/0']) {
      bad(/allowedIps/, () => node.setPeer(peer, { allowedIps: [prefix] }));
    }
    bad(/endpoint/, () => node.setPeer(peer, { endpoint: { leg: 5 } }));
    bad(/endpoint.*port/, () =>
      node.setPeer(peer, { endpoint: { address: { ip: new Uint8Array(16), port: 0 } } }),
    );
    assert.deepEqual(node.engine.peers(), []);
    node.setPeer(peer, { allowedIps: ['100.64.1.2/32', 'fd00::1/128', '0.0.0.0/0', '::/0'] });
    bad(/payload/, () => node.send(peer, new Uint8Array(0)));
    bad(/payload/, () => node.send(peer, new Uint8Array(65_457).fill(0xc0)));
    bad(/payload/, () => node.send(peer, Uint8Array.of(0x45)));
    bad(/payload/, () => node.send(peer, Uint8Array.of(0x60)));
    bad(/frame/, () => node.engine.sendFrames([{ to: node.address, frame: new Uint8Array(31) }]));
    const leg = {
      id: 1,
      key: new Uint8Array(16),
      epoch: 0,
      action: 'control',
      source: node.address,
    } as const;
    const rest = { next: undefined, lifetimeMs: undefined, charging: UNCHARGED };
    bad(/leg 1: .*key/, () =>
      node.engine.installLegs([
        { ...leg, ...rest, id: 2 },
        { ...leg, ...rest, key: new Uint8Array(15) },
      ]),
    );
    bad(/leg 1: .*source/, () => node.engine.installLegs([{ ...leg, ...rest, source: undefined }]));
    assert.deepEqual(node.engine.legs(), [], 'none of a refused batch is installed');
  } finally {
    await node.engine.close();
  }
});

test('it describes itself, with the forwarding module and why it is off', async () => {
  const engine = await openWasmEngine(OPTIONS);
  const { kind, summary, tun, wireguardRelay, accelerators } = engine.describe();
  assert.deepEqual([kind, tun, wireguardRelay], ['wasm', undefined, false]);
  engine.setWireguardBindings([]);
  assert.throws(
    () =>
      engine.setWireguardBindings([
        {
          publicKey: new Uint8Array(32),
          address: { ip: new Uint8Array(16), port: 1 },
          charging: UNCHARGED,
        },
      ]),
    /the wasm engine relays no stock WireGuard clients/,
  );
  assert.match(summary, /AssemblyScript/);
  assert.deepEqual(
    accelerators.map(({ name, state }) => [name, state]),
    [['wasm-forwarding', 'on']],
  );
  await engine.close();
  const other = await withModel(OPTIONS);
  assert.equal(other.describe().accelerators[0]?.state, 'off');
  await other.close();
});

test('every counter is there from the start, named as in the native engine', async () => {
  const header = (path: string): string =>
    readFileSync(new URL(`../../../native/${path}`, import.meta.url), 'utf8');
  const native = new Set([
    ...[...header('common/counters.h').matchAll(/X\((\w+)\)/g)].map((match) => match[1]),
    ...[...header('wire/include/omerta/wire.h').matchAll(/X\([A-Z_]+, (\w+)\)/g)].map(
      (match) => `drop_${match[1]}`,
    ),
  ]);
  const own = ['drop_handshake_queue_full', 'drop_no_path'];
  const engine = await openWasmEngine(OPTIONS);
  const counters = engine.counters();
  await engine.close();
  assert.deepEqual([...counters.keys()], [...new Counters().snapshot().keys()]);
  assert.ok([...counters.values()].every((value) => value === 0));
  assert.deepEqual(
    [...counters.keys()].filter((name) => !native.has(name)),
    own,
  );
  for (const name of native) {
    if (name?.startsWith('drop_') === true && /rate|leg|tag|hop|epoch|source$|kind|frame/.test(name)) {
      if (!/^drop_(inner|wireguard)/.test(name)) assert.ok(counters.has(name), name);
    }
  }
});

/** Sends one datagram from a plain socket; what comes back, or undefined when nothing does. */
async function exchange(
  port: number,
  datagram: Uint8Array,
  host = '127.0.0.1',
): Promise<Uint8Array | undefined> {
  const socket = createSocket(host.includes(':') ? 'udp6' : 'udp4');
  try {
    socket.send(datagram, port, host);
    const answer = once(socket, 'message', { signal: AbortSignal.timeout(200) }) as Promise<[Uint8Array]>;
    return (await answer)[0];
  } catch (error) {
    if (error instanceof Error && error.name === 'AbortError') return undefined;
    throw error;
  } finally {
    socket.close();
  }
}

const BINDING_REQUEST = fromHex('000100002112a442000102030405060708090a0b');

test('a STUN binding request is answered over IPv4 and IPv6, with the mapped address alone', async () => {
  const engine = await openWasmEngine(OPTIONS);
  try {
    const v4 = await exchange(engine.port, BINDING_REQUEST);
    assert.ok(v4?.length === 32);
    assert.equal(toHex(v4.subarray(0, 26)), '0101000c2112a442000102030405060708090a0b002000080001');
    assert.equal(toHex(v4.subarray(28)), '5e12a443', '127.0.0.1 xor the magic cookie');
    const v6 = await exchange(engine.port, BINDING_REQUEST, '::1');
    assert.ok(v6?.length === 44);
    assert.equal(engine.counters().get('stun_answered'), 2);
  } finally {
    await engine.close();
  }
});

test('a source prefix gets 20 STUN answers and then silence', async () => {
  const engine = await openWasmEngine(OPTIONS);
  const socket = createSocket('udp4');
  try {
    let answers = 0;
    socket.on('message', () => answers++);
    for (let i = 0; i < 40; i++) socket.send(BINDING_REQUEST, engine.port, '127.0.0.1');
    await until(() => engine.counters().get('rx_datagrams') === 40, '40 requests');
    const dropped = engine.counters().get('drop_stun_rate') ?? 0;
    assert.ok(dropped >= 15 && dropped <= 20, `${dropped} dropped`);
    await until(() => answers === 40 - dropped, 'the answers');
  } finally {
    socket.close();
    await engine.close();
  }
});

test('with stunPerSecond 0 no STUN request is answered', async () => {
  const engine = await openWasmEngine({ ...OPTIONS, stunPerSecond: 0 });
  try {
    assert.equal(await exchange(engine.port, BINDING_REQUEST), undefined);
    assert.equal(engine.counters().get('drop_stun_rate'), 1);
  } finally {
    await engine.close();
  }
});

test('what is no protocol of ours gets silence and a counter', async () => {
  const engine = await openWasmEngine(OPTIONS);
  try {
    const cases: [string, Uint8Array][] = [
      ['drop_empty', new Uint8Array(0)],
      ['drop_unknown_protocol', Uint8Array.of(0x99)],
      ['drop_malformed_wireguard', new Uint8Array(147).fill(1, 0, 1)],
      ['drop_malformed_stun', new Uint8Array(20)],
      ['drop_malformed_stun', new Uint8Array([...BINDING_REQUEST, 0])],
      ['drop_frame_too_short', new Uint8Array(31).fill(0x6f, 0, 1)],
      ['drop_unknown_kind', new Uint8Array(32).fill(0x6f, 0, 1)],
    ];
    for (const [counter, datagram] of cases) {
      const before = engine.counters().get(counter) ?? NaN;
      assert.equal(await exchange(engine.port, datagram), undefined);
      assert.equal(engine.counters().get(counter), before + 1, counter);
    }
    assert.equal(engine.counters().get('tx_datagrams'), 0);
  } finally {
    await engine.close();
  }
});
