// What tests of `omerta wg` with the stock tools share.

import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { Namespace } from '../../ts/lab/namespace.js';
import { ping } from '../../ts/lab/ping.js';
import { labUnavailable } from '../../ts/lab/requirements.js';
import { addonMissing } from '../engine/addon.js';

export const OMERTA_WG = fileURLToPath(new URL('../../../bin/omerta-wg', import.meta.url));

/** Why `omerta wg` cannot be tried here with wg(8) and these programs; undefined when it can. */
export function wgUnavailable(...programs: readonly string[]): string | undefined {
  const missing = labUnavailable(['wg', 'ping', 'ss', ...programs]);
  if (missing !== undefined) return missing;
  return existsSync('/dev/net/tun') ? addonMissing() : 'needs /dev/net/tun: modprobe tun';
}

/** Where the configuration socket of an interface is. */
export function socketOf(name: string): string {
  return `/var/run/wireguard/${name}.sock`;
}

export async function until(
  what: string,
  holds: () => boolean | Promise<boolean>,
  timeoutMs = 20_000,
): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  while (Date.now() < deadline) {
    if (await holds()) return;
    await sleep(20);
  }
  throw new Error(`not within ${timeoutMs} ms: ${what}`);
}

/**
 * Waits for five pings in a row to be answered. On a busy machine any datagram may be lost: all interfaces
 * share the queues of its processors. One of a handshake is repeated after 5 s, and of the pings of that time
 * the first ones no longer wait: 128 packets do.
 */
export function carriesPings(from: Namespace, to: string): Promise<void> {
  return until(
    `${from.name} has five answers in a row from ${to}`,
    async () => (await ping(from, to, 5, 20)).lost === 0,
    40_000,
  );
}

/** Sends text to a configuration socket and resolves with the answer to it. */
export function ask(name: string, text: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(socketOf(name));
    let answer = '';
    socket.setEncoding('latin1').on('data', (part: string) => {
      answer += part;
      if (!answer.endsWith('\n\n')) return;
      socket.destroy();
      resolve(answer);
    });
    socket.once('error', reject);
    socket.end(text);
  });
}

/** Process ids whose command line ends in this interface's name and that have not ended. */
export function processesOf(name: string): string[] {
  return execFileSync('ps', ['-eo', 'pid=,stat=,args='], { encoding: 'utf8' })
    .split('\n')
    .filter((line) => / wg (?:.* )?--foreground /.test(line) && line.endsWith(` ${name}`))
    .filter((line) => !/^\s*\d+\s+Z/.test(line))
    .map((line) => line.trim().split(/\s+/)[0] ?? '');
}
