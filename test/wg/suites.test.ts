// What two of our nodes agree on inside a session, over real interfaces and with real traffic; and that
// Debian's wireguard-go, which knows nothing of it, notices nothing.

import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface, type Interface } from 'node:readline';
import { after, afterEach, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { tcpThroughput } from '../../ts/lab/iperf.js';
import { ping, type PingResult } from '../../ts/lab/ping.js';
import { labUnavailable } from '../../ts/lab/requirements.js';
import { uapiListening } from '../../ts/lab/uapi-listening.js';
import { World, type Node } from '../../ts/lab/world.js';
import { loadNativeAddon } from '../../ts/engine/native/native-addon.js';
import { NATIVE_ACCELERATORS } from '../../ts/engine/native/accelerators.js';
import { openNativeEngine } from '../../ts/engine/native/native-engine.js';
import { sessionKeys } from '../engine/conformance.js';
import type { EngineRequest, EngineState } from './engine-process.js';

const ENGINE = fileURLToPath(new URL('./engine-process.js', import.meta.url));
const OMERTA = fileURLToPath(new URL('../../../bin/omerta', import.meta.url));
const PORT = 7001;
const GO_NAME = `gs${process.pid}`;
const WG_NAME = `os${process.pid}`;
const PINNED = ['aes-256-gcm', 'wide-window'];

function addonMissing(): string | undefined {
  try {
    loadNativeAddon();
    return undefined;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

function unavailable(): string | false {
  const missing = labUnavailable(['wg', 'wireguard-go', 'ping', 'iperf3', 'ss']);
  if (missing !== undefined) return missing;
  return existsSync('/dev/net/tun') ? (addonMissing() ?? false) : 'needs /dev/net/tun: modprobe tun';
}

/** The suite two unrestricted engines end with on this machine. */
async function bestSuite(): Promise<string> {
  const engine = openNativeEngine({
    ...{ privateKey: sessionKeys().privateKey, port: 0, bind: '127.0.0.1' },
    ...{ maxLegs: 1, maxPeers: 1, controlFramesPerSecond: 1 },
  });
  const gcm = engine.describe().accelerators.find(({ name }) => name === 'aes-256-gcm');
  await engine.close();
  return gcm?.state === 'on' ? 'AES-256-GCM' : 'ChaCha20-Poly1305';
}

const opened: EngineNode[] = [];

async function closeAll(): Promise<void> {
  await Promise.all(opened.splice(0).map((engine) => engine.close()));
}

/** An engine in a namespace, with the inner address 10.78.0.`last`. */
class EngineNode {
  readonly keys = sessionKeys();
  readonly inside: string;
  readonly #process: ChildProcess;
  readonly #lines: Interface;

  private constructor(
    readonly node: Node,
    last: number,
  ) {
    this.inside = `10.78.0.${last}`;
    this.#process = node.spawn(process.execPath, [ENGINE], { stdio: ['pipe', 'pipe', 'inherit'] });
    assert.ok(this.#process.stdout !== null);
    this.#lines = createInterface({ input: this.#process.stdout });
  }

  static async open(node: Node, last: number, disable: readonly string[] = []): Promise<EngineNode> {
    const engine = new EngineNode(node, last);
    opened.push(engine);
    const privateKey = Buffer.from(engine.keys.privateKey).toString('hex');
    const tun = { name: 'om0', addresses: [`${engine.inside}/24`], mtu: 1420 };
    await engine.#ask({ open: { privateKey, port: PORT, tun, disable } });
    return engine;
  }

  async #ask(request: EngineRequest): Promise<EngineState> {
    const line = once(this.#lines, 'line') as Promise<[string]>;
    this.#process.stdin?.write(`${JSON.stringify(request)}\n`);
    const [text] = await line;
    return JSON.parse(text) as EngineState;
  }

  setPeer(sessionKey: string, inside: string, endpoint?: string): Promise<EngineState> {
    return this.#ask({
      peer: { sessionKey, allowedIps: [`${inside}/32`], ...(endpoint === undefined ? {} : { endpoint }) },
    });
  }
  state(): Promise<EngineState> {
    return this.#ask({});
  }
  async close(): Promise<void> {
    const exit = once(this.#process, 'exit');
    this.#process.stdin?.end();
    await exit;
  }
}

async function connect(a: EngineNode, b: EngineNode): Promise<void> {
  await b.setPeer(a.keys.sessionKey, a.inside);
  await a.setPeer(b.keys.sessionKey, b.inside, `${b.node.address}:${PORT}`);
}

/**
 * Pings both ways, 20 of them at once (a suite is offered in a burst of 16) and then one every 2 ms, none of which may
 * get lost; then a TCP stream. More or longer ones are lost in ping's own socket on a busy machine: it sends all that
 * it is late with before it reads an answer, and there is room for 87 of 1,200 bytes, or 170 of 100.
 */
async function transfer(from: Node, to: Node, fromInside: string, toInside: string): Promise<void> {
  // wireguard-go stages nothing before it was told where its peer is.
  await from.mustRun('ping', ['-nq', '-c1', '-W15', toInside]);
  const burst = (by: Node, address: string): Promise<PingResult> =>
    ping(by, address, 500, 2, '-l20', '-s100');
  for (const { sent, lost } of await Promise.all([burst(from, toInside), burst(to, fromInside)]))
    assert.deepEqual({ sent, lost }, { sent: 500, lost: 0 });
  const { megabitsPerSecond } = await tcpThroughput(from, to, toInside, 1);
  assert.ok(megabitsPerSecond > 1, `${megabitsPerSecond} Mbit/s`);
}

/** Packets an engine could not make sense of. */
const misread = ({ counters }: EngineState): number =>
  ['decrypt_failed', 'replayed', 'unknown_index', 'key_expired', 'bad_handshake', 'inner_malformed']
    .map((reason) => counters[`drop_${reason}`] ?? 0)
    .reduce((sum, count) => sum + count, 0);

const skip = unavailable();
if (skip !== false) console.log(`suites over interfaces are skipped: ${skip}`);

describe('suites over interfaces', { skip, timeout: 300_000 }, () => {
  let world: World;
  let alice: Node;
  let bob: Node;
  let best: string;

  before(async () => {
    world = await World.create();
    alice = await world.addNode('alice');
    bob = await world.addNode('bob');
    best = await bestSuite();
    mkdirSync('/var/run/wireguard', { recursive: true });
  });
  afterEach(closeAll);
  after(() => {
    world.remove();
    for (const name of [GO_NAME, WG_NAME]) rmSync(`/var/run/wireguard/${name}.sock`, { force: true });
  });

  it('two engines switch while pings go both ways, and not one is lost', async () => {
    const [a, b] = [await EngineNode.open(alice, 1), await EngineNode.open(bob, 2)];
    await connect(a, b);
    await transfer(alice, bob, a.inside, b.inside);
    for (const state of [await a.state(), await b.state()]) {
      assert.deepEqual([state.peers[0]?.suite, state.peers[0]?.replayWindow], [best, 65472]);
      assert.ok((state.counters['suites_settled'] ?? 0) > 0);
      assert.equal(misread(state), 0);
    }
  });

  it('with one side pinned off the session stays in ChaCha20-Poly1305, and no ping is lost', async () => {
    const [a, b] = [await EngineNode.open(alice, 1), await EngineNode.open(bob, 2, PINNED)];
    await connect(a, b);
    await transfer(alice, bob, a.inside, b.inside);
    for (const state of [await a.state(), await b.state()]) {
      assert.deepEqual([state.peers[0]?.suite, state.peers[0]?.replayWindow], ['ChaCha20-Poly1305', 8128]);
      assert.equal(misread(state), 0);
    }
  });

  it('wireguard-go gets a few offers, and its session goes on as it was', async () => {
    const a = await EngineNode.open(alice, 1);
    const go = sessionKeys();
    const keyFile = join(world.folder, 'go.key');
    writeFileSync(keyFile, Buffer.from(go.privateKey).toString('base64'), { mode: 0o600 });
    const wireguardGo = bob.spawn('wireguard-go', ['-f', GO_NAME], {
      stdio: 'ignore',
      env: { ...process.env, LOG_LEVEL: 'error' },
    });
    await uapiListening(GO_NAME);
    const ours = Buffer.from(a.keys.sessionKey, 'hex').toString('base64');
    const peer = ['peer', ours, 'allowed-ips', `${a.inside}/32`];
    await bob.mustRun('wg', ['set', GO_NAME, 'private-key', keyFile, 'listen-port', '51820', ...peer]);
    await bob.ip(`address add 10.78.0.2/24 dev ${GO_NAME}`, `link set ${GO_NAME} mtu 1420 up`);
    await a.setPeer(go.sessionKey, '10.78.0.2', `${bob.address}:51820`);
    await transfer(alice, bob, a.inside, '10.78.0.2');
    const { counters: before } = await a.state();
    const handshake = await bob.mustRun('wg', ['show', GO_NAME, 'latest-handshakes']);
    await transfer(alice, bob, a.inside, '10.78.0.2');

    const { peers, counters } = await a.state();
    assert.equal(peers[0]?.suite, 'ChaCha20-Poly1305');
    const [offers = 0, sessions = 0] = [counters['suite_offers_sent'], counters['handshakes_completed']];
    assert.ok(offers >= 3 && offers <= 3 * sessions, `${offers} offers in ${sessions} sessions`);
    assert.equal(sessions, before['handshakes_completed']);
    assert.ok((counters['suites_given_up'] ?? 0) > 0);
    assert.equal(misread({ peers, counters }), 0);
    assert.equal(await bob.mustRun('wg', ['show', GO_NAME, 'latest-handshakes']), handshake);
    assert.match(
      await bob.mustRun('wg', ['show', GO_NAME, 'endpoints']),
      new RegExp(`${alice.address}:${PORT}`),
    );
    const ended = once(wireguardGo, 'exit');
    wireguardGo.kill('SIGTERM');
    await ended;
  });

  it('omerta wg agrees with an engine, unless it is pinned off by an option or by its variable', async () => {
    const variable = { ...process.env, OMERTA_WG_DISABLE: PINNED.join(',') };
    for (const [options, environment, expected] of [
      [[], process.env, best],
      [['--disable', PINNED.join(',')], process.env, 'ChaCha20-Poly1305'],
      [[], variable, 'ChaCha20-Poly1305'],
    ] as const) {
      const a = await EngineNode.open(alice, 1);
      const keys = sessionKeys();
      const keyFile = join(world.folder, 'wg.key');
      writeFileSync(keyFile, Buffer.from(keys.privateKey).toString('base64'), { mode: 0o600 });
      const started = bob.spawn(process.execPath, [OMERTA, 'wg', ...options, WG_NAME], {
        stdio: 'inherit',
        env: environment,
      });
      assert.deepEqual(await once(started, 'exit'), [0, null]);
      const ours = Buffer.from(a.keys.sessionKey, 'hex').toString('base64');
      const peer = ['peer', ours, 'allowed-ips', `${a.inside}/32`];
      await bob.mustRun('wg', ['set', WG_NAME, 'private-key', keyFile, 'listen-port', '51820', ...peer]);
      await bob.ip(`address add 10.78.0.2/24 dev ${WG_NAME}`, `link set ${WG_NAME} up`);
      await a.setPeer(keys.sessionKey, '10.78.0.2', `${bob.address}:51820`);
      await transfer(alice, bob, a.inside, '10.78.0.2');
      const state = await a.state();
      assert.equal(state.peers[0]?.suite, expected);
      assert.equal(
        (state.counters['suite_offers_received'] ?? 0) > 0,
        environment === process.env && options.length === 0,
      );
      assert.equal(misread(state), 0);
      await bob.ip(`link delete ${WG_NAME}`);
      await closeAll();
    }
  });

  it('omerta wg refuses to leave off what there is not', async () => {
    for (const [options, environment] of [
      [['--disable', 'aes'], process.env],
      [[], { ...process.env, OMERTA_WG_DISABLE: 'aes' }],
    ] as const) {
      const child = bob.spawn(process.execPath, [OMERTA, 'wg', ...options, WG_NAME], {
        stdio: ['ignore', 'ignore', 'pipe'],
        env: environment,
      });
      let said = '';
      child.stderr?.setEncoding('utf8').on('data', (text: string) => (said += text));
      assert.deepEqual(await once(child, 'close'), [2, null]);
      assert.match(said, new RegExp(`'aes' is not one of: ${NATIVE_ACCELERATORS.join(', ')}`));
    }
  });
});
