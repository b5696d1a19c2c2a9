import assert from 'node:assert/strict';
import { createPrivateKey, createPublicKey, randomBytes } from 'node:crypto';
import { after, describe, it } from 'node:test';
import { EngineError, type Engine, type EngineEvent, type EngineOptions } from '../../ts/contract/engine.js';
import type { PeerQueue } from '../../ts/contract/shaping-control.js';
import { loadNativeAddon } from '../../ts/engine/native/native-addon.js';
import { openNativeEngine } from '../../ts/engine/native/native-engine.js';
import { openWasmEngine } from '../../ts/engine/wasm/wasm-engine.js';
import { parseIp, type SocketAddress } from '../../ts/wire/socket-address.js';
import { UNCHARGED } from '../../ts/wire/leg.js';

function unavailable(): string | false {
  try {
    loadNativeAddon();
    return false;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

const X25519_PKCS8 = Buffer.from('302e020100300506032b656e04220420', 'hex');

function keys(): { privateKey: Uint8Array; sessionKey: string } {
  const privateKey = randomBytes(32);
  const key = createPrivateKey({
    key: Buffer.concat([X25519_PKCS8, privateKey]),
    format: 'der',
    type: 'pkcs8',
  });
  const { x } = createPublicKey(key).export({ format: 'jwk' });
  return { privateKey, sessionKey: Buffer.from(x ?? '', 'base64url').toString('hex') };
}

function options(privateKey: Uint8Array): EngineOptions {
  return {
    privateKey,
    port: 0,
    bind: '127.0.0.1',
    maxLegs: 64,
    maxPeers: 16,
    controlFramesPerSecond: 100,
    accounts: { identities: 4, networks: 4, classes: 4 },
  };
}

const LOOPBACK = parseIp('127.0.0.1') ?? new Uint8Array(16);

function addressOf(engine: Engine): SocketAddress {
  return { ip: LOOPBACK, port: engine.port };
}

/** Resolves with the first event that `matches`; the test runner's own time limit bounds the wait. */
function nextEvent(engine: Engine, matches: (event: EngineEvent) => boolean): Promise<EngineEvent> {
  return new Promise((resolve) => {
    engine.onEvents((events) => {
      const found = events.find(matches);
      if (found !== undefined) resolve(found);
    });
  });
}

const HELLO = Buffer.from('c00108000102030405060708', 'hex');
const isControl = (event: EngineEvent): boolean => event.type === 'control';

describe('native engine', { skip: unavailable(), timeout: 300_000 }, () => {
  const engines: Engine[] = [];
  const native = (privateKey: Uint8Array): Engine => {
    const engine = openNativeEngine(options(privateKey));
    engines.push(engine);
    return engine;
  };
  after(async () => {
    for (const engine of engines) await engine.close();
  });

  it('takes rules of an exit, and refuses what is no prefix by naming it', () => {
    const engine = native(keys().privateKey);
    engine.exit?.setExitRules(
      [
        { prefix: '10.0.0.0/8', denied: true },
        { prefix: 'fd00::1/128', denied: false },
      ],
      [{ prefix: '192.168.7.0/24', denied: false }],
    );
    assert.throws(
      () => engine.exit?.setExitRules([], [{ prefix: '10.0.0.0/33', denied: true }]),
      (error: EngineError) => error.code === 'BAD_ARGUMENT' && error.message.includes("'10.0.0.0/33'"),
    );
  });

  it('takes how a peer is padded, tells what came of it, and refuses what cannot be by naming it', () => {
    const engine = native(keys().privateKey);
    const { shaping } = engine;
    assert.ok(shaping);
    const peer = keys().sessionKey;
    engine.setPeers([
      {
        sessionKey: peer,
        presharedKey: undefined,
        allowedIps: [],
        endpoint: undefined,
        persistentKeepalive: 0,
      },
    ]);
    const QUEUE: PeerQueue = { weight: 1, networkWeight: 1, network: '0'.repeat(32), slotMs: undefined };
    const CEILING = { interface: 'eth0', bytesPerSecond: 1_250_000 };
    const shape = (
      paddedSizes: readonly number[],
      paddingBudget?: number,
      queue?: Partial<PeerQueue>,
    ): void =>
      shaping.setShaping([
        {
          peer,
          paddedSizes,
          paddingBudget,
          ...(queue === undefined ? {} : { queue: { ...QUEUE, ...queue } }),
        },
      ]);
    assert.equal(shaping.shapingCounts(peer), undefined);
    shape([128, 65_535], 100);
    assert.deepEqual(shaping.shapingCounts(peer), {
      dataBytes: 0,
      paddingBytes: 0,
      unpaddedPackets: 0,
      covers: 0,
      coversLeftOut: 0,
      queuedPackets: 0,
      droppedFull: 0,
      droppedLate: 0,
      markedPackets: 0,
      waitingBytes: 0,
    });
    for (const [wrong, field] of [
      [() => shape([1, 2, 3, 4, 5, 6, 7, 8, 9]), 'paddedSizes: 9'],
      [() => shape([256, 128]), 'paddedSizes: 128'],
      [() => shape([65_536]), 'paddedSizes: 65536'],
      [() => shape([128], 0), 'paddingBudget: 0'],
      [() => shape([128], 1.5), 'paddingBudget: 1.5'],
      [() => shape([], undefined, { weight: 0 }), 'weight: 0'],
      [() => shape([], undefined, { networkWeight: 1001 }), 'networkWeight: 1001'],
      [() => shape([], undefined, { network: 'home' }), "network: 'home'"],
      [() => shape([], undefined, { slotMs: 0.5 }), 'slotMs: 0.5'],
      [() => shaping.setCeilings([{ interface: '', bytesPerSecond: 1000 }]), "interface: ''"],
      [() => shaping.setCeilings([{ interface: 'eth0', bytesPerSecond: 999 }]), 'bytesPerSecond: 999'],
      [() => shaping.setCeilings([CEILING, CEILING]), "interface: 'eth0'"],
    ] as const)
      assert.throws(
        wrong,
        (error: EngineError) => error.code === 'BAD_ARGUMENT' && error.message.includes(field),
      );
    shape([]);
    assert.equal(shaping.shapingCounts(peer), undefined);
    shape([], undefined, {});
    assert.equal(shaping.shapingCounts(peer)?.waitingBytes, 0);
    shaping.setCeilings([CEILING]);
    assert.deepEqual(shaping.ceilingCounts(), [{ sentBytes: 0, waitingBytes: 0 }]);
    shaping.setCeilings([]);
    assert.deepEqual(shaping.ceilingCounts(), []);
  });

  for (const initiator of ['native', 'wasm'] as const) {
    it(`a session and its control messages work with the wasm engine, ${initiator} initiating`, async () => {
      const [n, w] = [keys(), keys()];
      const nativeEngine = native(n.privateKey);
      const wasmEngine = await openWasmEngine(options(w.privateKey));
      engines.push(wasmEngine);
      const presharedKey = randomBytes(32);
      const peer = (sessionKey: string, other: Engine, knows: boolean) => ({
        sessionKey,
        presharedKey,
        allowedIps: [],
        endpoint: knows ? { address: addressOf(other) } : undefined,
        persistentKeepalive: 0,
      });
      const nativeStarts = initiator === 'native';
      nativeEngine.setPeers([peer(w.sessionKey, wasmEngine, nativeStarts)]);
      wasmEngine.setPeers([peer(n.sessionKey, nativeEngine, !nativeStarts)]);
      const [from, to] = nativeStarts ? [nativeEngine, wasmEngine] : [wasmEngine, nativeEngine];
      const [fromKey, toKey] = nativeStarts ? [n.sessionKey, w.sessionKey] : [w.sessionKey, n.sessionKey];
      const arrived = nextEvent(to, isControl);
      from.sendControl([{ peer: toKey, payload: HELLO }]);
      const event = await arrived;
      assert.ok(event.type === 'control' && event.peer === fromKey);
      assert.deepEqual(Buffer.from(event.payload.subarray(0, HELLO.length)), HELLO);
      const answered = nextEvent(from, isControl);
      to.sendControl([{ peer: fromKey, payload: HELLO }]);
      await answered;
    });
  }

  /** A session in which `count` control messages went from one engine to the other at full rate. */
  async function burst(from: Engine, to: Engine, toKey: string, fromKey: string, count: number) {
    const common = { presharedKey: undefined, allowedIps: [], persistentKeepalive: 0 };
    to.setPeers([{ ...common, sessionKey: fromKey, endpoint: undefined }]);
    from.setPeers([{ ...common, sessionKey: toKey, endpoint: { address: addressOf(to) } }]);
    let arrived = 0;
    const allThere = new Promise<void>((resolve) => {
      to.onEvents((events) => {
        arrived += events.filter(isControl).length;
        if (arrived === count) resolve();
      });
    });
    const established = nextEvent(from, ({ type }) => type === 'session');
    from.handshake(toKey);
    await established;
    from.sendControl(Array.from({ length: count }, () => ({ peer: toKey, payload: HELLO })));
    await allThere;
  }
  const counted = async (engine: Engine, counter: string, count: number): Promise<void> => {
    while ((engine.counters().get(counter) ?? 0) < count) await new Promise((r) => setTimeout(r, 5));
  };

  it('a burst between native engines moves the session to the best suite both have, and a wide window', async () => {
    for (const disable of [[], ['ipsec-mb'], ['aes-256-gcm'], ['aes-256-gcm', 'wide-window']]) {
      const [a, b] = [keys(), keys()];
      const A = openNativeEngine({ ...options(a.privateKey), disable });
      engines.push(A);
      const B = native(b.privateKey);
      const state = (name: string) => A.describe().accelerators.find((one) => one.name === name)?.state;
      assert.equal(state('aes-256-gcm') === 'off', disable.includes('aes-256-gcm'));
      assert.equal(state('wide-window'), disable.includes('wide-window') ? 'off' : 'on');
      await burst(A, B, b.sessionKey, a.sessionKey, 200);
      const suite = state('aes-256-gcm') === 'on' ? 'AES-256-GCM' : 'ChaCha20-Poly1305';
      const window = disable.includes('wide-window') ? 8128 : 65472;
      if (window !== 8128) for (const engine of [A, B]) await counted(engine, 'suites_settled', 1);
      for (const engine of [A, B]) {
        const [peer] = engine.peers();
        assert.deepEqual([peer?.suite, peer?.replayWindow], [suite, window], disable.join());
      }
    }
  });

  it('a session with the wasm engine stays in ChaCha20-Poly1305 and loses nothing', async () => {
    const [n, w] = [keys(), keys()];
    const nativeEngine = native(n.privateKey);
    const wasmEngine = await openWasmEngine(options(w.privateKey));
    engines.push(wasmEngine);
    await burst(nativeEngine, wasmEngine, w.sessionKey, n.sessionKey, 200);
    await counted(wasmEngine, 'suite_offers_received', 1);
    assert.equal(nativeEngine.peers()[0]?.suite, 'ChaCha20-Poly1305');
    assert.equal(nativeEngine.counters().get('suites_settled'), 0);
    assert.equal(wasmEngine.counters().get('control_messages'), 200);
  });

  it('a circuit over a native relay carries a session, and the relay counts its legs', async () => {
    const [a, b] = [keys(), keys()];
    const [A, B, R] = [native(a.privateKey), native(b.privateKey), native(keys().privateKey)];
    const leg = (id: number) => ({ id, key: Buffer.alloc(16, id), epoch: id % 16 });
    const lifetimeMs = 60_000;
    R.installLegs([
      {
        ...leg(1),
        action: 'forward',
        source: addressOf(A),
        next: { ...leg(2), address: addressOf(B) },
        lifetimeMs,
        charging: UNCHARGED,
      },
      {
        ...leg(3),
        action: 'forward',
        source: addressOf(B),
        next: { ...leg(4), address: addressOf(A) },
        lifetimeMs,
        charging: UNCHARGED,
      },
    ]);
    const back = { address: addressOf(R) };
    A.installLegs([
      {
        ...leg(4),
        action: 'deliver',
        source: addressOf(R),
        next: { ...leg(1), ...back },
        lifetimeMs,
        charging: UNCHARGED,
      },
    ]);
    B.installLegs([
      {
        ...leg(2),
        action: 'deliver',
        source: addressOf(R),
        next: { ...leg(3), ...back },
        lifetimeMs,
        charging: UNCHARGED,
      },
    ]);
    const common = { presharedKey: undefined, allowedIps: [], persistentKeepalive: 0 };
    B.setPeers([{ ...common, sessionKey: a.sessionKey, endpoint: undefined }]);
    A.setPeers([{ ...common, sessionKey: b.sessionKey, endpoint: { leg: 4 } }]);
    const arrived = nextEvent(B, isControl);
    A.sendControl([{ peer: b.sessionKey, payload: HELLO }]);
    await arrived;
    assert.deepEqual(B.peers()[0]?.endpoint, { leg: 2 });
    assert.ok(R.legs().every((status) => status.packets > 0 && status.bytes > 0));
    assert.ok((R.counters().get('forwarded_packets') ?? 0) >= 3);
    R.removeLegs([1, 3]);
    assert.equal(R.legs().length, 0);
  });

  it('a leg that limits its rate drops what is above and says so in a counter', async () => {
    const R = native(keys().privateKey);
    const from = native(keys().privateKey);
    R.setLimits(1, { rate: { bytesPerSecond: 100_000, burstMs: 100 } });
    R.installLegs([
      {
        id: 7,
        key: Buffer.alloc(16),
        epoch: 0,
        action: 'forward',
        source: addressOf(from),
        next: { id: 8, key: Buffer.alloc(16), epoch: 0, address: addressOf(from) },
        lifetimeMs: undefined,
        charging: { ...UNCHARGED, limits: 1 },
      },
    ]);
    const { encodeFrame, FrameKind } = await import('../../ts/wire/frame.js');
    const frame = encodeFrame({
      kind: FrameKind.forward,
      hopLimit: 8,
      epoch: 0,
      legId: 7,
      key: Buffer.alloc(16),
      payload: randomBytes(984),
    });
    from.sendFrames(Array.from({ length: 50 }, () => ({ to: addressOf(R), frame })));
    const seen = (): [number, number] => {
      const counters = R.counters();
      return [counters.get('forwarded_packets') ?? 0, counters.get('drop_rate_limited') ?? 0];
    };
    while (seen()[0] + seen()[1] < 50) await new Promise((resolve) => setTimeout(resolve, 5));
    const [forwarded, limited] = seen();
    assert.ok(forwarded >= 10 && forwarded <= 14, `forwarded ${forwarded}`);
    assert.equal(forwarded + limited, 50);
  });

  it('every table that is full says so and is left as it was', () => {
    const R = native(keys().privateKey);
    const leg = (id: number) => ({
      id,
      key: Buffer.alloc(16),
      epoch: 0,
      action: 'control' as const,
      source: addressOf(R),
      next: undefined,
      lifetimeMs: undefined,
      charging: UNCHARGED,
    });
    R.installLegs(Array.from({ length: 60 }, (_, index) => leg(index + 1)));
    assert.throws(
      () => R.installLegs(Array.from({ length: 10 }, (_, index) => leg(index + 1000))),
      (error) => error instanceof EngineError && error.code === 'TABLE_FULL',
    );
    assert.equal(R.legs().length, 60);
    const peers = Array.from({ length: 17 }, () => ({
      sessionKey: keys().sessionKey,
      presharedKey: undefined,
      allowedIps: [],
      endpoint: undefined,
      persistentKeepalive: 0,
    }));
    assert.throws(
      () => R.setPeers(peers),
      (error) => error instanceof EngineError && error.code === 'TABLE_FULL',
    );
    assert.equal(R.peers().length, 0);
  });

  it('bad arguments name the field', () => {
    const R = native(keys().privateKey);
    const peer = {
      sessionKey: keys().sessionKey,
      presharedKey: undefined,
      allowedIps: ['10.0.0.0/99'],
      endpoint: undefined,
      persistentKeepalive: 0,
    };
    assert.throws(() => R.setPeers([peer]), /allowedIps: '10.0.0.0\/99' is not a prefix/);
    assert.throws(
      () => R.setPeers([{ ...peer, allowedIps: [], sessionKey: 'zz' }]),
      /sessionKey: expected 64/,
    );
    assert.throws(() => R.setPeers([{ ...peer, allowedIps: [], endpoint: { leg: 5 } }]), /endpoint: no such/);
    assert.throws(() => openNativeEngine({ ...options(randomBytes(32)), disable: ['warp'] }), /'warp'/);
    assert.throws(() => openNativeEngine(options(randomBytes(31))), /privateKey: expected 32 bytes/);
  });

  it('a taken port and an address that is not here are told apart', () => {
    const first = native(keys().privateKey);
    const code = (change: Partial<EngineOptions>): string => {
      try {
        engines.push(openNativeEngine({ ...options(randomBytes(32)), ...change }));
        return 'opened';
      } catch (error) {
        return error instanceof EngineError ? error.code : String(error);
      }
    };
    assert.equal(code({ port: first.port }), 'PORT_IN_USE');
    assert.equal(code({ port: first.port, workers: 2 }), 'PORT_IN_USE');
    assert.equal(code({ bind: '192.0.2.77' }), 'BIND_FAILED');
    assert.equal(code({ bind: 'not an address' }), 'BIND_FAILED');
  });

  it('a closed engine refuses work and can be closed again', async () => {
    const engine = native(keys().privateKey);
    await engine.close();
    await engine.close();
    assert.throws(
      () => engine.peers(),
      (error) => error instanceof EngineError && error.code === 'CLOSED',
    );
    assert.ok(engine.counters().size > 30); // shared memory outlives the workers
  });

  it('what the workers report adds up to the counters of the engine', async () => {
    const a = keys();
    const engine = openNativeEngine({ ...options(a.privateKey), workers: 2 });
    engines.push(engine);
    engine.sendFrames([{ to: addressOf(engine), frame: randomBytes(40) }]);
    const received = (): number => engine.counters().get('rx_datagrams') ?? 0;
    while (received() === 0) await new Promise((r) => setTimeout(r, 5));
    const workers = engine.workers();
    assert.deepEqual(
      workers.map(({ name }) => name),
      ['0', '1', 'control'],
    );
    for (const [name, total] of engine.counters())
      assert.equal(
        workers.reduce((sum, { counters }) => sum + (counters.get(name) ?? NaN), 0),
        total,
        name,
      );
    for (const { queues, latency } of workers.slice(0, 2)) {
      assert.ok(queues !== undefined && latency !== undefined);
      assert.ok(queues.receiveLimitBytes > 100_000 && queues.sendLimitBytes > 100_000);
      assert.equal(queues.receiveBytes, 0);
      assert.equal(latency.counts.length, latency.boundsNs.length + 1);
      assert.equal(latency.boundsNs[0], 1024);
      assert.equal(latency.sumNs, 0, 'nothing was forwarded');
    }
    assert.deepEqual([workers[2]?.queues, workers[2]?.latency], [undefined, undefined]);
  });

  it('each socket engine that is asked for carries traffic, and says so', async () => {
    for (const io of ['mmsg', 'io_uring', 'auto'] as const) {
      const [a, b] = [keys(), keys()];
      const A = openNativeEngine({ ...options(a.privateKey), io });
      const B = openNativeEngine({ ...options(b.privateKey), io });
      engines.push(A, B);
      const described = A.describe().accelerators.find(({ name }) => name === 'io-uring');
      if (io === 'mmsg')
        assert.deepEqual([described?.state, described?.reason], ['off', 'mmsg was asked for']);
      if (io === 'io_uring' && described?.state !== 'on') assert.equal(described?.state, 'unavailable');
      if (io === 'auto' && described?.state !== 'unavailable')
        assert.match(described?.reason ?? '', /^measured: /);
      const peer = { presharedKey: undefined, allowedIps: [], persistentKeepalive: 0 };
      B.setPeers([{ ...peer, sessionKey: a.sessionKey, endpoint: undefined }]);
      A.setPeers([{ ...peer, sessionKey: b.sessionKey, endpoint: { address: addressOf(B) } }]);
      const arrived = nextEvent(B, isControl);
      A.sendControl([{ peer: b.sessionKey, payload: HELLO }]);
      await arrived;
    }
  });

  it('steering is on with several workers, off with one, and has a switch', async () => {
    const steering = async (change: Partial<EngineOptions>): Promise<string> => {
      const engine = openNativeEngine({ ...options(randomBytes(32)), ...change });
      const found = engine.describe().accelerators.find(({ name }) => name === 'steering');
      await engine.close();
      return `${found?.state ?? 'missing'}: ${found?.reason ?? ''}`;
    };
    assert.equal(await steering({ workers: 2 }), 'on: a session or leg stays with one worker');
    assert.equal(await steering({ workers: 1 }), 'off: one worker needs none');
    assert.equal(await steering({ workers: 2, disable: ['steering'] }), 'off: switched off');
  });

  it('a disabled accelerator is off and traffic flows all the same', async () => {
    const [a, b] = [keys(), keys()];
    const B = native(b.privateKey);
    const A = openNativeEngine({ ...options(a.privateKey), disable: ['udp-gro', 'udp-gso'] });
    engines.push(A);
    const states = new Map(A.describe().accelerators.map(({ name, state }) => [name, state]));
    assert.equal(states.get('udp-gro'), 'off');
    assert.equal(states.get('udp-gso'), 'off');
    const common = { presharedKey: undefined, allowedIps: [], persistentKeepalive: 0 };
    B.setPeers([{ ...common, sessionKey: a.sessionKey, endpoint: undefined }]);
    A.setPeers([{ ...common, sessionKey: b.sessionKey, endpoint: { address: addressOf(B) } }]);
    const arrived = nextEvent(B, isControl);
    A.sendControl([{ peer: b.sessionKey, payload: HELLO }]);
    await arrived;
  });
});
