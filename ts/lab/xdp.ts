// Makes a world fit for XDP. A veth sends what an XDP program gives it only when a program runs on its
// other end, and what a local socket sends has no checksum yet unless the interface leaves it to the
// socket: a real network card does neither.

import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Namespace } from './namespace.js';
import type { Node, World } from './world.js';

const PASS_PROGRAM = fileURLToPath(new URL('../../../build/native/xdp/test/pass.bpf.o', import.meta.url));

/** Why a world cannot be made fit for XDP here. */
export function xdpUnavailable(): string | undefined {
  return existsSync(PASS_PROGRAM) ? undefined : 'the BPF programs are not built (npm run build)';
}

/** Puts a program that passes everything on an interface. */
export async function passOn(namespace: Namespace, name: string): Promise<void> {
  await namespace.mustRun('ip', [
    'link',
    'set',
    'dev',
    name,
    'xdpdrv',
    'object',
    PASS_PROGRAM,
    'section',
    'xdp',
  ]);
}

/** Leaves no checksum to the interface. */
export async function computeChecksums(namespace: Namespace, name: string): Promise<void> {
  await namespace.mustRun('ethtool', ['-K', name, 'tx', 'off']);
}

/** Prepares every port of the world's public switch, and the interface of each of these nodes. */
export async function prepareForXdp(world: World, nodes: readonly Node[]): Promise<void> {
  await world.mountBpf();
  const net = new Namespace(`${world.prefix}net`);
  const links = JSON.parse(await net.mustRun('ip', ['-json', 'link', 'show', 'type', 'veth'])) as {
    readonly ifname: string;
  }[];
  for (const { ifname } of links) await passOn(net, ifname);
  for (const node of nodes) await computeChecksums(node, 'eth0');
}
