// A flood of requests for admission, as anybody can send them who knows a relay's public key: each is in
// order, none is ever followed up. Run as a program it is the sender, `stranger-flood.js ADDRESS PORT KEY`
// (KEY: the relay's session key, hex), until its standard input ends; it then prints how many it sent.

import { randomBytes, randomInt } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { setImmediate as breathe } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { encodeRequest } from '../core/protocol/admission-payload.js';
import { fromHex, toHex } from '../wire/bytes.js';
import { contactLegKey } from '../core/protocol/contact-leg.js';
import { nodePrimitives } from '../engine/node-primitives.js';
import { encodeFrame, FrameKind } from '../wire/frame.js';
import { FloodProcess } from './flood-process.js';
import type { Namespace } from './namespace.js';

const PROGRAM = fileURLToPath(import.meta.url);
/** Sent between two looks at the world. */
const BATCH = 32;

export function startStrangerFlood(
  from: Namespace,
  address: string,
  port: number,
  sessionKey: Uint8Array,
): FloodProcess {
  return FloodProcess.start(from, PROGRAM, address, String(port), toHex(sessionKey));
}

function request(leg: ReturnType<typeof contactLegKey>): Uint8Array {
  const [nonce, key, commitment] = [16, 16, 32].map((size) => new Uint8Array(randomBytes(size)));
  if (nonce === undefined || key === undefined || commitment === undefined) throw new Error('unreachable');
  const payload = encodeRequest({ nonce, reply: { id: randomInt(1, 2 ** 32), key, epoch: 0 }, commitment });
  return encodeFrame({
    kind: FrameKind.admissionRequest,
    hopLimit: 1,
    epoch: 0,
    legId: leg.id,
    key: leg.key,
    payload,
  });
}

async function flood(address: string, port: number, sessionKey: Uint8Array): Promise<void> {
  const leg = contactLegKey(nodePrimitives, sessionKey);
  // Made before: making one costs more than sending it.
  const requests = Array.from({ length: 1024 }, () => request(leg));
  const socket = createSocket('udp4');
  socket.bind(0);
  await once(socket, 'listening');
  process.stdin.resume();
  let sent = 0;
  while (!process.stdin.readableEnded) {
    for (let i = 0; i < BATCH; i++) socket.send(requests[sent++ % requests.length] ?? '', port, address);
    await breathe();
  }
  process.stdout.write(String(sent));
  socket.close();
}

if (process.argv[1] === PROGRAM) {
  const [address = '', port = '', key = ''] = process.argv.slice(2);
  await flood(address, Number(port), fromHex(key) ?? new Uint8Array(32));
}
