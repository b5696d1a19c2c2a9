// Two machines on one wire with a tunnel of `omerta wg` between them, and what tests look at.

import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { mustRun } from '../../ts/lab/command.js';
import type { Namespace } from '../../ts/lab/namespace.js';
import { World, type Node } from '../../ts/lab/world.js';
import { OMERTA_WG, socketOf, until } from '../wg/wg-lab.js';

/** One end: `omerta wg` in a machine of the world. */
export interface End {
  readonly node: Node;
  /** Name of the interface. */
  readonly name: string;
  readonly port: number;
  readonly inside: string;
  readonly inside6: string;
  readonly daemon: ChildProcess;
  /** What the daemon has written to standard error. */
  log(): string;
}

let count = 0;

/** Starts `omerta wg` and gives its interface addresses; `mtu` is the interface's. */
async function startEnd(
  node: Node,
  index: number,
  mtu: number,
  options: readonly string[],
  environment: NodeJS.ProcessEnv = process.env,
): Promise<Omit<End, 'port'>> {
  const name = `tp${process.pid}x${count++}`.slice(0, 15);
  const daemon = node.spawn(OMERTA_WG, ['-f', ...options, name], {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: environment,
  });
  let text = '';
  daemon.stderr?.setEncoding('utf8').on('data', (part: string) => (text += part));
  // Not by asking wg: it removes a socket that does not listen yet.
  await until(`${name} is there`, () => {
    assert.equal(daemon.exitCode, null, text);
    return existsSync(socketOf(name));
  });
  const inside = `10.78.0.${index}`;
  const inside6 = `fd78::${index}`;
  await node.ip(
    `address add ${inside}/24 dev ${name}`,
    `address add ${inside6}/64 dev ${name} nodad`,
    `link set ${name} mtu ${mtu} up`,
  );
  return { node, name, inside, inside6, daemon, log: () => text };
}

export interface PairOptions {
  /** Outer addresses: 4 or 6 (default 4). */
  readonly outer?: 4 | 6;
  readonly mtu?: number;
  /** Options of `omerta wg` for each end. */
  readonly left?: readonly string[];
  readonly right?: readonly string[];
  /** Of the left end's process. */
  readonly environment?: NodeJS.ProcessEnv;
}

export class TunnelPair {
  private constructor(
    readonly world: World,
    readonly left: End,
    readonly right: End,
  ) {}

  /** Both ends configured; the left one knows where the right one is. */
  static async start(options: PairOptions = {}): Promise<TunnelPair> {
    const { outer = 4, mtu = 1420 } = options;
    const world = await World.create();
    try {
      const nodes = [await world.addNode('left'), await world.addNode('right')] as const;
      const ends = [
        { ...(await startEnd(nodes[0], 1, mtu, options.left ?? [], options.environment)), port: 7001 },
        { ...(await startEnd(nodes[1], 2, mtu, options.right ?? [])), port: 7002 },
      ] as const;
      const [left, right] = ends;
      for (const [index, { node, name, port }] of ends.entries()) {
        const file = join(world.folder, `${index}.key`);
        writeFileSync(file, await mustRun('wg', ['genkey']), { mode: 0o600 });
        await node.mustRun('wg', ['set', name, 'listen-port', String(port), 'private-key', file]);
      }
      const publicKey = async ({ node, name }: Omit<End, 'port'>): Promise<string> =>
        (await node.mustRun('wg', ['show', name, 'public-key'])).trim();
      const address = outer === 4 ? right.node.address : `[${right.node.address6 ?? ''}]`;
      const allowed = (end: End): string => `${end.inside}/32,${end.inside6}/128`;
      const peerArguments = async (end: End): Promise<string[]> => [
        'peer',
        await publicKey(end),
        'allowed-ips',
        allowed(end),
      ];
      await right.node.mustRun('wg', ['set', right.name, ...(await peerArguments(left))]);
      await left.node.mustRun('wg', [
        'set',
        left.name,
        ...(await peerArguments(right)),
        'endpoint',
        `${address}:${right.port}`,
      ]);
      return new TunnelPair(world, left, right);
    } catch (error) {
      world.remove();
      throw error;
    }
  }

  /**
   * Pings the right end from the left, one ping after the other; tells how many of `count` were answered.
   * One that is to stay without an answer is given less time by an option: `-W1`.
   */
  async answered(count: number, ...options: readonly string[]): Promise<number> {
    let answered = 0;
    for (let i = 0; i < count; i++) {
      // A process for each: ping(8) waits for the last of several only twice the longest time it saw.
      const args = ['-nq', '-c1', '-W15', ...options, this.right.inside];
      if ((await this.left.node.run('ping', args)).code === 0) answered++;
    }
    return answered;
  }

  /** Makes the right end's network interface coalesce datagrams that come one by one, as a fast NIC does. */
  async coalesceOnReceipt(): Promise<void> {
    await this.right.node.mustRun('ethtool', ['-K', 'eth0', 'gro', 'on']);
    // `ip netns exec`, because only it shows a namespace's interfaces in /sys.
    const inside = (name: string, command: string): Promise<string> =>
      mustRun('ip', ['netns', 'exec', name, 'sh', '-c', command]);
    await inside(
      this.right.node.name,
      'cd /sys/class/net/eth0 && echo 200000 > gro_flush_timeout && echo 4 > napi_defer_hard_irqs',
    );
    // A veth passes by GRO what comes from a port that could have segmented.
    await inside(`${this.world.prefix}net`, 'ethtool -K port2 tso off');
  }

  remove(): void {
    this.world.remove();
    for (const { name } of [this.left, this.right]) rmSync(socketOf(name), { force: true });
  }
}

/** Packets counted by the rules with a comment of this text, in `table` (e.g. `inet count`). */
export async function counted(namespace: Namespace, table: string, comment: string): Promise<number> {
  const listed = await namespace.mustRun('nft', ['list', 'table', ...table.split(' ')]);
  return listed
    .split('\n')
    .filter((line) => line.includes(`comment "${comment}"`))
    .reduce((sum, line) => sum + Number(/packets (\d+)/.exec(line)?.[1] ?? 0), 0);
}
