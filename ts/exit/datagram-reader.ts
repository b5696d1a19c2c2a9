// A thread that waits for datagrams and pings of guests, which Node.js cannot be told the destination of, and hands them to
// the gateway's.

import { setImmediate } from 'node:timers/promises';
import { workerData } from 'node:worker_threads';
import { loadNativeAddon } from '../engine/native/native-addon.js';
import { MAX_PENDING_DATAGRAMS, type DatagramReaderStart, type ToGateway } from './gateway-messages.js';

/** Between two looks whether it is to end. */
const WAIT_MS = 200;

const { sockets, port, pending } = workerData as DatagramReaderStart;
const count = new Int32Array(pending);
const { receiveDatagram } = loadNativeAddon();
for (;;) {
  const waiting = Atomics.load(count, 0);
  if (waiting >= MAX_PENDING_DATAGRAMS) {
    Atomics.wait(count, 0, waiting, WAIT_MS);
    await setImmediate();
    continue;
  }
  const datagram = receiveDatagram(sockets, WAIT_MS);
  if (datagram === undefined) {
    await setImmediate();
    continue;
  }
  Atomics.add(count, 0, 1);
  port.postMessage({ type: 'datagram', datagram } satisfies ToGateway);
}
