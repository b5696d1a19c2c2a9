// One WireGuard interface, its process and the network namespace both are in. Everything is removed
// when this process ends, SIGINT and SIGTERM included.

import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import { mustRun } from '../ts/lab/command.js';
import { Namespace } from '../ts/lab/namespace.js';
import { uapiListening } from '../ts/lab/uapi-listening.js';
import { idOf, processCpu, residentBytes } from './process-cpu.js';
import type { Implementation } from './wireguard-implementations.js';

export const PORT = 51820;
const MTU = 1420;
const SOCKETS = '/var/run/wireguard';

const interfaces: WireguardInterface[] = [];

function removeAll(): void {
  for (const made of interfaces.splice(0)) made.remove();
}

process.on('exit', removeAll);
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
  process.on(signal, () => process.exit(128 + constants.signals[signal]));

/** Runs `wg` with arguments that name a file (0600) with this text. */
async function wgWithFile(text: string, args: (file: string) => readonly string[]): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'omerta-bench-'));
  try {
    const file = join(folder, 'input');
    writeFileSync(file, text, { mode: 0o600 });
    await mustRun('wg', args(file));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

export class WireguardInterface {
  #processId = 0;

  private constructor(
    readonly implementation: Implementation,
    /** Unique on the machine: control sockets are files that all namespaces see. */
    readonly name: string,
    readonly namespace: Namespace,
    readonly publicKey: string,
    /** Whether the namespace goes with it. */
    private readonly isOwner: boolean,
  ) {}

  /** Starts one with a new key and without peers; default: in a namespace of its own. */
  static async start(implementation: Implementation, inside?: Namespace): Promise<WireguardInterface> {
    const index = interfaces.length;
    const privateKey = await mustRun('wg', ['genkey']);
    const publicKey = (await mustRun('wg', ['pubkey'], { input: privateKey })).trim();
    // Named as a lab world's namespaces: what a killed benchmark leaves behind goes with those.
    const namespace = inside ?? new Namespace(`om-${process.pid}-0-tunnel${index}`);
    const name = `ob${process.pid}x${index}`;
    const made = new WireguardInterface(implementation, name, namespace, publicKey, inside === undefined);
    interfaces.push(made);
    if (made.isOwner) {
      await mustRun('ip', ['netns', 'add', namespace.name]);
      await namespace.ip('link set lo up');
    }
    mkdirSync(SOCKETS, { recursive: true });
    const [file = '', ...args] = implementation.command;
    const child = namespace.spawn(file, [...args, made.name], {
      // Standard output is the results' alone.
      stdio: ['ignore', 2, 2],
      // The second spares standard error wireguard-go's word of welcome.
      env: { ...process.env, LOG_LEVEL: 'error', WG_PROCESS_FOREGROUND: '1' },
    });
    made.#processId = idOf(child);
    await uapiListening(made.name, () => {
      const { exitCode, signalCode } = child;
      if (exitCode === null && signalCode === null) return undefined;
      return `${implementation.title} ended at its start: ${signalCode ?? `code ${exitCode}`}`;
    });
    const port = String(PORT);
    await wgWithFile(privateKey, (key) => ['set', made.name, 'private-key', key, 'listen-port', port]);
    return made;
  }

  /** Gives it an address inside and brings it up. */
  async up(address: string): Promise<void> {
    const { name } = this;
    await this.namespace.ip(`address add ${address}/24 dev ${name}`, `link set ${name} mtu ${MTU} up`);
  }

  /** Adds the peers of a configuration file's text. */
  addPeers(text: string): Promise<void> {
    return wgWithFile(text, (file) => ['addconf', this.name, file]);
  }

  /** ns of CPU its process has used. */
  cpu(): number {
    return processCpu(this.#processId);
  }

  residentBytes(): number {
    return residentBytes(this.#processId);
  }

  get netns(): string {
    return `/run/netns/${this.namespace.name}`;
  }

  remove(): void {
    if (this.isOwner) {
      this.namespace.killChildren();
      try {
        execFileSync('ip', ['netns', 'delete', this.namespace.name], { stdio: 'ignore' });
      } catch {
        // Never made: something failed before it.
      }
    }
    rmSync(`${SOCKETS}/${this.name}.sock`, { force: true });
  }
}

/** Two interfaces of one implementation, joined by a veth pair, with a session between them. */
export class Tunnel {
  static readonly LEFT = '10.88.0.1';
  static readonly RIGHT = '10.88.0.2';

  private constructor(
    readonly left: WireguardInterface,
    readonly right: WireguardInterface,
  ) {}

  static async start(implementation: Implementation): Promise<Tunnel> {
    const left = await WireguardInterface.start(implementation);
    const right = await WireguardInterface.start(implementation);
    await left.namespace.ip(`link add eth0 type veth peer name eth0 netns ${right.namespace.name}`);
    const ends = [
      [left, '10.99.0.1', Tunnel.LEFT],
      [right, '10.99.0.2', Tunnel.RIGHT],
    ] as const;
    for (const [end, outside, inside] of ends) {
      const [other, otherOutside, otherInside] = end === left ? ends[1] : ends[0];
      await end.namespace.ip(`address add ${outside}/24 dev eth0`, 'link set eth0 up');
      await mustRun('wg', [
        ...['set', end.name, 'peer', other.publicKey],
        ...['endpoint', `${otherOutside}:${PORT}`, 'allowed-ips', `${otherInside}/32`],
      ]);
      await end.up(inside);
    }
    await left.namespace.mustRun('ping', ['-c', '3', '-i', '0.2', '-W', '3', Tunnel.RIGHT]);
    return new Tunnel(left, right);
  }
}
