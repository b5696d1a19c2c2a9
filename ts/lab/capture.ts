// Packets on an interface, as tcpdump records them.

import { readFileSync } from 'node:fs';
import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import type { Node, World } from './world.js';

/** The bytes of all packets that pass `device` of `node` while `during` runs (a pcap file). */
export async function capture(
  world: World,
  node: Node,
  device: string,
  during: () => Promise<void>,
): Promise<Buffer> {
  const file = join(world.folder, `${node.name}-${device}.pcap`);
  // -U and immediate mode: every packet is in the file at once. -Z root: the folder is closed to
  // tcpdump's own user.
  const tcpdump = node.spawn('tcpdump', ['-U', '--immediate-mode', '-Z', 'root', '-i', device, '-w', file], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  if (tcpdump.stderr === null) throw new Error('tcpdump has no output');
  await once(tcpdump.stderr, 'data'); // "listening on …"
  await during();
  await setTimeout(100);
  const gone = once(tcpdump, 'exit');
  tcpdump.kill('SIGINT');
  await gone;
  return readFileSync(file);
}
