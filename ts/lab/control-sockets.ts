// Control sockets of wireguard-go, which are files outside the namespaces: a process that is killed
// leaves its own behind, and `wg show` on the whole machine stumbles over it.

import { mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { isAlive } from './world.js';

const FOLDER = '/var/run/wireguard';
/** omwgPIDxINDEX, of the lab whose process id it is. */
const NAME = /^omwg(\d+)x\d+\.sock$/;

const used = new Set<string>();

function removeUsed(): void {
  for (const name of used) rmSync(join(FOLDER, `${name}.sock`), { force: true });
}

/** An interface name unique on the machine; the socket that belongs to it goes when this process does. */
export function controlSocketName(index: number): string {
  if (used.size === 0) process.on('exit', removeUsed);
  const name = `omwg${process.pid}x${index}`;
  used.add(name);
  return name;
}

/** Makes the folder, and removes what labs left there that were killed. */
export function removeStaleControlSockets(folder = FOLDER): void {
  mkdirSync(folder, { recursive: true });
  for (const file of readdirSync(folder)) {
    const owner = NAME.exec(file)?.[1];
    if (owner !== undefined && !isAlive(Number(owner))) rmSync(join(folder, file), { force: true });
  }
}
