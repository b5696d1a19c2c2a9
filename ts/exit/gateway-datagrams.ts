// Datagrams, or pings, of guests of a gateway: each port of a guest, or identifier, has a socket of the machine (RFC 4787,
// REQ-1), and what comes back there from whom the guest has sent to (REQ-8) is sent on as of them. What goes no further is
// told to the guest.

import { isIPv6 } from 'node:net';
import type { GatewayFlows } from './gateway-flows.js';
import { UNREACHABLE, type MachineSocket, type Unreachable } from './machine-socket.js';

/** Addresses a port of a guest is answered from: the last it has sent to. */
export const MAX_CORRESPONDENTS = 256;
/** Of what the network says of datagrams, before others have their turn. */
const MAX_ERRORS = 32;

interface Mapping extends MachineSocket {
  /** In the order they were sent to. */
  readonly correspondents: Set<string>;
  usedAt: number;
  readonly end: () => void;
}

/** Of a guest, and where it leads. */
export interface GatewayFlow {
  readonly guest: string;
  /** An identifier, where it is a ping: the other is 0 then. */
  readonly port: number;
  readonly address: string;
  readonly toPort: number;
}

export interface GatewayDatagramsOptions {
  readonly flows: GatewayFlows;
  /** Whether a guest may send there, and get answers from there; it is counted where not. */
  readonly isPermitted: (guest: string, address: string) => boolean;
  /** A socket of the machine; undefined = there is none to be had. */
  readonly open: (ipv6: boolean) => MachineSocket | undefined;
  /** Sends to the guest what has come as from where its flow leads. */
  readonly answer: (flow: GatewayFlow, data: Uint8Array) => void;
  /** Tells the guest that this of its flow went no further. */
  readonly refuse: (flow: GatewayFlow, data: Uint8Array, why: Unreachable) => void;
  /** Silent for so long, and a port is another's. */
  readonly idleMs: number;
  /** Monotonic ms. */
  readonly now: () => number;
}

export class GatewayDatagrams {
  readonly #options: GatewayDatagramsOptions;
  readonly #mappings = new Map<string, Mapping>();

  constructor(options: GatewayDatagramsOptions) {
    this.#options = options;
  }

  /** One of a guest. */
  send(flow: GatewayFlow, data: Uint8Array): void {
    const { guest, port, address, toPort } = flow;
    const { flows, isPermitted, now } = this.#options;
    const mapping = isPermitted(guest, address) ? this.#mappingOf(guest, port) : undefined;
    if (mapping === undefined) {
      this.#refuse(flow, data, UNREACHABLE.prohibited);
      return;
    }
    mapping.usedAt = now();
    const { correspondents } = mapping;
    correspondents.delete(address);
    correspondents.add(address);
    const [oldest] = correspondents;
    if (correspondents.size > MAX_CORRESPONDENTS && oldest !== undefined) correspondents.delete(oldest);
    const { sent, said, unreachable } = mapping.send(address, toPort, data);
    if (said) this.#passErrorsOn(mapping, guest, port);
    if (unreachable) this.#refuse(flow, data, UNREACHABLE.host);
    else if (!sent) flows.refused++;
  }

  /** Ends what has been silent for long. */
  tidy(): void {
    const { now, idleMs } = this.#options;
    for (const { usedAt, end } of this.#mappings.values()) if (now() - usedAt > idleMs) end();
  }

  #mappingOf(guest: string, port: number): Mapping | undefined {
    const key = `${guest} ${port}`;
    const present = this.#mappings.get(key);
    if (present !== undefined) return present;
    const { flows, isPermitted, open, answer, now } = this.#options;
    if (!flows.mayBegin(guest, 'udp')) return undefined;
    const opened = open(isIPv6(guest));
    if (opened === undefined) {
      flows.refused++;
      return undefined;
    }
    const { socket } = opened;
    const end = (): void => {
      if (this.#mappings.delete(key)) opened.close();
      left();
    };
    const left = flows.enter(guest, 'udp', end);
    const mapping: Mapping = { ...opened, correspondents: new Set(), usedAt: now(), end };
    this.#mappings.set(key, mapping);
    socket.on('error', () => this.#passErrorsOn(mapping, guest, port));
    socket.on('message', (data, from) => {
      // Whoever else sends there would take a socket, and by a made-up address one of the guests' network itself.
      if (!mapping.correspondents.has(from.address) || !isPermitted(guest, from.address)) return;
      mapping.usedAt = now();
      answer({ guest, port, address: from.address, toPort: from.port }, data);
    });
    return mapping;
  }

  /** Until all of it is read, the socket says again and again that there is something. */
  #passErrorsOn({ errors, correspondents }: Mapping, guest: string, port: number): void {
    for (let count = 0; count < MAX_ERRORS; count++) {
      const error = errors();
      if (error === undefined) return;
      if (error.why === undefined || !correspondents.has(error.address)) continue;
      this.#refuse({ guest, port, address: error.address, toPort: error.port }, error.data, error.why);
    }
  }

  #refuse(flow: GatewayFlow, data: Uint8Array, why: Unreachable): void {
    const { flows, refuse } = this.#options;
    if (flows.mayTell(flow.guest)) refuse(flow, data, why);
  }
}
