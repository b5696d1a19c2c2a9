// A flood of datagrams that look like WireGuard initiations and know nobody's key. Run as a program it is the
// sender, `garbage-flood.js ADDRESS PORT RATE`, until its standard input ends; it then prints how many it sent.

import { randomBytes } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { fileURLToPath } from 'node:url';
import { FloodProcess } from './flood-process.js';
import type { Namespace } from './namespace.js';

const PROGRAM = fileURLToPath(import.meta.url);
const INITIATION_BYTES = 148;
const TICK_MS = 2;
/** Of a sender that was late, together. */
const MOST_A_TICK = 200;

/** `rate`: datagrams a second. */
export function startGarbageFlood(
  from: Namespace,
  address: string,
  port: number,
  rate: number,
): FloodProcess {
  return FloodProcess.start(from, PROGRAM, address, String(port), String(rate));
}

function initiation(): Buffer {
  const datagram = randomBytes(INITIATION_BYTES);
  datagram.writeUInt32LE(1);
  return datagram;
}

function flood(address: string, port: number, rate: number): void {
  const datagrams = Array.from({ length: 1024 }, initiation);
  const socket = createSocket('udp4');
  const start = performance.now();
  let sent = 0;
  const timer = setInterval(() => {
    const due = Math.min(((performance.now() - start) / 1000) * rate, sent + MOST_A_TICK);
    for (; sent < due; sent++) socket.send(datagrams[sent % datagrams.length] ?? '', port, address);
  }, TICK_MS);
  process.stdin.resume().on('end', () => {
    clearInterval(timer);
    socket.close();
    process.stdout.write(String(sent));
  });
}

if (process.argv[1] === PROGRAM) {
  const [address = '', port = '', rate = ''] = process.argv.slice(2);
  flood(address, Number(port), Number(rate));
}
