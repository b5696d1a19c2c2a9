// Datagrams of guests of a gateway: each port of a guest has a port of the machine (RFC 4787, REQ-1), and what comes back
// there from whom the guest has sent to (REQ-8) is sent on as of them.

import { createSocket, type Socket as UdpSocket } from 'node:dgram';
import { isIPv6 } from 'node:net';
import type { GatewayFlows } from './gateway-flows.js';

/** RFC 4787, REQ-5. */
const IDLE_MS = 5 * 60_000;
/** Sockets answers are sent by, one for each address and port that answered. */
const MAX_ANSWERERS = 4096;
/** Addresses a port of a guest is answered from: the last it has sent to. */
export const MAX_CORRESPONDENTS = 256;
/** Waiting in the process for a socket that takes no more; beyond it datagrams are dropped, as a router does. */
const MAX_QUEUED_BYTES = 256 * 1024;

interface Mapping {
  readonly socket: UdpSocket;
  /** In the order they were sent to. */
  readonly correspondents: Set<string>;
  usedAt: number;
  readonly end: () => void;
}

export interface GatewayDatagramsOptions {
  readonly flows: GatewayFlows;
  /** Whether a guest may send there, and get answers from there; it is counted where not. */
  readonly isPermitted: (guest: string, address: string) => boolean;
  /** A socket of the guests' network that is bound to an address of anybody; undefined = there is none to be had. */
  readonly openAnswerer: (address: string, port: number) => UdpSocket | undefined;
  /** Monotonic ms. */
  readonly now: () => number;
}

export class GatewayDatagrams {
  readonly #options: GatewayDatagramsOptions;
  readonly #mappings = new Map<string, Mapping>();
  /** By `address port`. */
  readonly #answerers = new Map<string, UdpSocket>();

  constructor(options: GatewayDatagramsOptions) {
    this.#options = options;
  }

  /** One of a guest. */
  send(guest: string, port: number, address: string, toPort: number, data: Uint8Array): void {
    if (port === 0 || toPort === 0 || !this.#options.isPermitted(guest, address)) return;
    const mapping = this.#mappingOf(guest, port);
    if (mapping === undefined) return;
    mapping.usedAt = this.#options.now();
    const { correspondents } = mapping;
    correspondents.delete(address);
    correspondents.add(address);
    const [oldest] = correspondents;
    if (correspondents.size > MAX_CORRESPONDENTS && oldest !== undefined) correspondents.delete(oldest);
    this.#sendBy(mapping.socket, data, toPort, address);
  }

  /** Ends what has been silent for long. */
  tidy(): void {
    const now = this.#options.now();
    for (const { usedAt, end } of this.#mappings.values()) if (now - usedAt > IDLE_MS) end();
  }

  #sendBy(socket: UdpSocket, data: Uint8Array, port: number, address: string): void {
    if (socket.getSendQueueSize() > MAX_QUEUED_BYTES) this.#options.flows.refused++;
    else socket.send(data, port, address, () => undefined);
  }

  #mappingOf(guest: string, port: number): Mapping | undefined {
    const key = `${guest} ${port}`;
    const present = this.#mappings.get(key);
    if (present !== undefined) return present;
    const { flows, isPermitted, now } = this.#options;
    if (!flows.mayBegin(guest, 'udp')) return undefined;
    const socket = createSocket({ type: isIPv6(guest) ? 'udp6' : 'udp4', ipv6Only: isIPv6(guest) });
    const end = (): void => {
      if (this.#mappings.delete(key)) socket.close();
      left();
    };
    const left = flows.enter(guest, 'udp', end);
    const mapping: Mapping = { socket, correspondents: new Set(), usedAt: now(), end };
    this.#mappings.set(key, mapping);
    socket.on('error', end);
    socket.on('message', (data, from) => {
      // Whoever else sends there would take a socket, and by a made-up address one of the guests' network itself.
      if (!mapping.correspondents.has(from.address) || !isPermitted(guest, from.address)) return;
      mapping.usedAt = now();
      const answerer = this.#answererOf(from.address, from.port);
      if (answerer !== undefined) this.#sendBy(answerer, data, port, guest);
    });
    return mapping;
  }

  #answererOf(address: string, port: number): UdpSocket | undefined {
    const key = `${address} ${port}`;
    const present = this.#answerers.get(key);
    if (present !== undefined) {
      this.#answerers.delete(key); // the last used is the last to go
      this.#answerers.set(key, present);
      return present;
    }
    const { flows, openAnswerer } = this.#options;
    const [oldest] = this.#answerers;
    if ((this.#answerers.size >= MAX_ANSWERERS || !flows.hasDescriptors) && oldest !== undefined) {
      oldest[1].close();
      this.#answerers.delete(oldest[0]);
    }
    const socket = openAnswerer(address, port);
    if (socket !== undefined) {
      socket.on('error', () => undefined); // what the network says of one datagram
      this.#answerers.set(key, socket);
    }
    flows.answerers = this.#answerers.size;
    return socket;
  }
}
