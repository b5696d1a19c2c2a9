// Sockets by which a gateway sends answers to datagrams on: in the guests' network, each bound to an address and port that
// answered.

import type { Socket as UdpSocket } from 'node:dgram';
import type { GatewayFlow } from './gateway-datagrams.js';
import type { GatewayFlows } from './gateway-flows.js';

const MAX_ANSWERERS = 4096;
/** Waiting in the process for a socket that takes no more; beyond it datagrams are dropped, as a router does. */
const MAX_QUEUED_BYTES = 256 * 1024;

export class GatewayAnswerers {
  /** By `address port`. */
  readonly #sockets = new Map<string, UdpSocket>();

  /** @param open a socket of the guests' network that is bound to an address of anybody; undefined = there is none to be had */
  constructor(
    private readonly flows: GatewayFlows,
    private readonly open: (address: string, port: number) => UdpSocket | undefined,
  ) {}

  send({ guest, port, address, toPort }: GatewayFlow, data: Uint8Array): void {
    const socket = this.#of(address, toPort);
    if (socket === undefined) return;
    if (socket.getSendQueueSize() > MAX_QUEUED_BYTES) this.flows.refused++;
    else socket.send(data, port, guest, () => undefined);
  }

  #of(address: string, port: number): UdpSocket | undefined {
    const key = `${address} ${port}`;
    const present = this.#sockets.get(key);
    if (present !== undefined) {
      this.#sockets.delete(key); // the last used is the last to go
      this.#sockets.set(key, present);
      return present;
    }
    const [oldest] = this.#sockets;
    if ((this.#sockets.size >= MAX_ANSWERERS || !this.flows.hasDescriptors) && oldest !== undefined) {
      oldest[1].close();
      this.#sockets.delete(oldest[0]);
    }
    const socket = this.open(address, port);
    if (socket !== undefined) {
      socket.on('error', () => undefined); // what the network says of one datagram
      this.#sockets.set(key, socket);
    }
    this.flows.answerers = this.#sockets.size;
    return socket;
  }
}
