// A thread that waits for datagrams of guests, which Node.js cannot be told the destination of, and hands them to the
// gateway's.

import { setImmediate } from 'node:timers/promises';
import { workerData, type MessagePort } from 'node:worker_threads';
import { loadNativeAddon } from '../engine/native/native-addon.js';
import type { ToGateway } from './gateway-messages.js';

/** Between two looks whether it is to end. */
const WAIT_MS = 200;

const { udp4, udp6, port } = workerData as {
  readonly udp4: number | undefined;
  readonly udp6: number | undefined;
  readonly port: MessagePort;
};
const { receiveDatagram } = loadNativeAddon();
for (;;) {
  const datagram = receiveDatagram(udp4 ?? -1, udp6 ?? -1, WAIT_MS);
  if (datagram === undefined) await setImmediate();
  else port.postMessage({ type: 'datagram', datagram } satisfies ToGateway);
}
