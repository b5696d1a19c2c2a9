// Runs inside a network namespace of its own (wireguard-go.test.ts makes it): wireguard-go and
// engines meet on loopback; what happened is printed as one line of JSON.

import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { openWasmEngine } from '../../ts/engine/wasm/wasm-engine.js';
import { ConformanceNode, sessionKeys, until } from './conformance.js';
import { formatSocketAddress } from '../../ts/wire/socket-address.js';
import { uapiListening } from '../../ts/lab/uapi-listening.js';
import { socketAddress } from './virtual-network.js';

export interface WireguardGoFacts {
  /** The engine starts; the peer has a preshared key and a keepalive every second on our side. */
  readonly initiator: {
    readonly endpointSeenByPeer: string;
    readonly latestHandshake: number;
    readonly innerPacketsDropped: number;
    readonly keepalivesSent: number;
    readonly peerReceivedBytes: number;
    readonly handshakesAfterRekey: number;
    readonly innerPacketsAfterRekey: number;
    readonly unexpectedDrops: number;
  };
  /** wireguard-go starts, because there is data for us, and keeps alive every second. */
  readonly responder: {
    readonly sessionEndpoint: string;
    readonly peerEndpoint: string;
    readonly innerPacketsDropped: number;
    readonly keepalivesReceived: number;
    readonly latestHandshake: number;
    readonly unexpectedDrops: number;
  };
  /** One with the wrong preshared key. */
  readonly wrongPresharedKey: { readonly completed: number; readonly badHandshakes: number };
}

const UAPI_FOLDER = '/var/run/wireguard';
const OVERLAY = '10.77.0';

const toBase64 = (hex: string): string => Buffer.from(hex, 'hex').toString('base64');

/** Drops that would mean we misread what wireguard-go sends. */
function unexpectedDrops(node: ConformanceNode): number {
  return [
    'drop_bad_mac1',
    'drop_bad_handshake',
    'drop_decrypt_failed',
    'drop_replayed',
    'drop_malformed_wireguard',
  ]
    .map((name) => node.count(name))
    .reduce((sum, count) => sum + count, 0);
}

class WireguardGo {
  readonly name: string;
  readonly keys = sessionKeys();
  readonly #folder: string;
  #process: ChildProcess | undefined;

  constructor(name: string) {
    this.name = name;
    this.#folder = mkdtempSync(join(tmpdir(), 'omerta-wireguard-go-'));
  }

  async start(): Promise<void> {
    this.#process = spawn('wireguard-go', ['-f', this.name], {
      env: { ...process.env, WG_PROCESS_FOREGROUND: '1', LOG_LEVEL: 'error' },
      stdio: ['ignore', 'ignore', 'inherit'],
    });
    await uapiListening(this.name);
    this.wg(
      'set',
      this.name,
      'private-key',
      this.secret(Buffer.from(this.keys.privateKey).toString('base64')),
    );
    execFileSync('ip', ['address', 'add', `${OVERLAY}.1/24`, 'dev', this.name]);
    execFileSync('ip', ['link', 'set', this.name, 'mtu', '1420', 'up']);
  }

  /** A file only we can read: `wg` takes no secrets as arguments. */
  secret(text: string): string {
    const path = join(this.#folder, randomBytes(8).toString('hex'));
    writeFileSync(path, `${text}\n`, { mode: 0o600 });
    return path;
  }

  wg(...args: string[]): string {
    return execFileSync('wg', args, { encoding: 'utf8' });
  }

  addPeer(node: ConformanceNode, last: number, ...more: string[]): void {
    this.wg(
      'set',
      this.name,
      'peer',
      toBase64(node.sessionKey),
      'allowed-ips',
      `${OVERLAY}.${last}/32`,
      ...more,
    );
  }

  /** A peer's column of `wg show IFNAME WHAT`. */
  show(what: 'endpoints' | 'latest-handshakes' | 'transfer', node: ConformanceNode): string[] {
    const line = this.wg('show', this.name, what)
      .split('\n')
      .find((text) => text.startsWith(toBase64(node.sessionKey)));
    return line?.split('\t').slice(1) ?? [];
  }

  get port(): number {
    return Number(this.wg('show', this.name, 'listen-port'));
  }

  async stop(): Promise<void> {
    this.#process?.kill('SIGTERM');
    await until(
      () => this.#process?.exitCode !== null || this.#process.signalCode !== null,
      'wireguard-go to end',
    );
    rmSync(this.#folder, { recursive: true });
    rmSync(join(UAPI_FOLDER, `${this.name}.sock`), { force: true });
  }
}

/** Three echo requests into the tunnel; nobody answers them. */
function pingThrough(last: number): void {
  spawn('ping', ['-q', '-c', '3', '-i', '0.1', '-W', '1', `${OVERLAY}.${last}`], { stdio: 'ignore' });
}

async function asInitiator(peer: WireguardGo): Promise<WireguardGoFacts['initiator']> {
  const node = await ConformanceNode.open(openWasmEngine);
  try {
    const presharedKey = Uint8Array.from(randomBytes(32));
    peer.addPeer(node, 2, 'preshared-key', peer.secret(Buffer.from(presharedKey).toString('base64')));
    node.setPeer(peer.keys, {
      presharedKey,
      endpoint: { address: socketAddress(`127.0.0.1:${peer.port}`) },
      persistentKeepalive: 1,
    });
    await node.event('session');
    pingThrough(2);
    await until(() => node.count('drop_no_tun') >= 3, 'inner packets');
    const innerPacketsDropped = node.count('drop_no_tun');
    await until(() => node.count('keepalives_sent') >= 3, 'keepalives sent');
    node.engine.handshake(peer.keys.sessionKey);
    await until(() => node.count('handshakes_completed') >= 2, 'the second handshake');
    pingThrough(2);
    await until(
      () => node.count('drop_no_tun') >= innerPacketsDropped + 3,
      'inner packets under the new key',
    );
    return {
      endpointSeenByPeer:
        peer.show('endpoints', node)[0] === formatSocketAddress(node.address) ? 'ours' : 'wrong',
      latestHandshake: Number(peer.show('latest-handshakes', node)[0]),
      innerPacketsDropped,
      keepalivesSent: node.count('keepalives_sent'),
      peerReceivedBytes: Number(peer.show('transfer', node)[0]),
      handshakesAfterRekey: node.count('handshakes_completed'),
      innerPacketsAfterRekey: node.count('drop_no_tun') - innerPacketsDropped,
      unexpectedDrops: unexpectedDrops(node),
    };
  } finally {
    await node.engine.close();
  }
}

async function asResponder(peer: WireguardGo): Promise<WireguardGoFacts['responder']> {
  const node = await ConformanceNode.open(openWasmEngine);
  try {
    node.setPeer(peer.keys);
    peer.addPeer(node, 3, 'endpoint', formatSocketAddress(node.address));
    pingThrough(3);
    const { endpoint } = await node.event('session');
    await until(() => node.count('drop_no_tun') >= 3, 'inner packets');
    const innerPacketsDropped = node.count('drop_no_tun');
    peer.wg('set', peer.name, 'peer', toBase64(node.sessionKey), 'persistent-keepalive', '1');
    const before = node.count('keepalives_received');
    await until(() => node.count('keepalives_received') >= before + 2, 'keepalives');
    return {
      sessionEndpoint: 'address' in endpoint ? formatSocketAddress(endpoint.address) : 'leg',
      peerEndpoint: `127.0.0.1:${peer.port}`,
      innerPacketsDropped,
      keepalivesReceived: node.count('keepalives_received') - before,
      latestHandshake: Number(peer.show('latest-handshakes', node)[0]),
      unexpectedDrops: unexpectedDrops(node),
    };
  } finally {
    await node.engine.close();
  }
}

async function withWrongPresharedKey(peer: WireguardGo): Promise<WireguardGoFacts['wrongPresharedKey']> {
  const node = await ConformanceNode.open(openWasmEngine);
  try {
    peer.addPeer(node, 4);
    node.setPeer(peer.keys, {
      presharedKey: Uint8Array.from(randomBytes(32)),
      endpoint: { address: socketAddress(`127.0.0.1:${peer.port}`) },
    });
    node.engine.handshake(peer.keys.sessionKey);
    await until(() => node.count('drop_bad_handshake') > 0, 'the response that does not open');
    await sleep(50);
    return { completed: node.count('handshakes_completed'), badHandshakes: node.count('drop_bad_handshake') };
  } finally {
    await node.engine.close();
  }
}

/** `argument`: the interface's name. */
async function main(name: string): Promise<void> {
  const peer = new WireguardGo(name);
  try {
    await peer.start();
    const [initiator, responder, wrongPresharedKey] = await Promise.all([
      asInitiator(peer),
      asResponder(peer),
      withWrongPresharedKey(peer),
    ]);
    console.log(JSON.stringify({ initiator, responder, wrongPresharedKey } satisfies WireguardGoFacts));
  } finally {
    await peer.stop();
  }
}

const [, , name] = process.argv;
if (name !== undefined) await main(name);
