// NAT models in RFC 4787's words. Time is an argument.

import { formatSocketAddress, type SocketAddress } from '../../wire/socket-address.js';
import type { Prng } from './prng.js';

export type NatMapping = 'endpoint-independent' | 'address-and-port-dependent';
export type NatFiltering = 'endpoint-independent' | 'address-dependent' | 'address-and-port-dependent';

export interface NatBehaviourModel {
  readonly mapping: NatMapping;
  readonly filtering: NatFiltering;
  /** Milliseconds without an outbound packet after which a mapping is gone. */
  readonly lifetimeMs: number;
}

/** What most home routers do: only who was sent to, from that very port, may answer. */
export const PORT_RESTRICTED: NatBehaviourModel = {
  mapping: 'endpoint-independent',
  filtering: 'address-and-port-dependent',
  lifetimeMs: 120_000,
};

export const SYMMETRIC: NatBehaviourModel = { ...PORT_RESTRICTED, mapping: 'address-and-port-dependent' };

interface Mapping {
  readonly inside: SocketAddress;
  readonly outside: SocketAddress;
  usedAt: number;
  /** Where the inside has lately sent to: addresses, and addresses with ports. */
  readonly contacted: Set<string>;
}

export class Nat {
  readonly ip: Uint8Array;
  readonly #behaviour: NatBehaviourModel;
  readonly #prng: Prng;
  #byFlow = new Map<string, Mapping>();
  #byPort = new Map<number, Mapping>();

  constructor(ip: Uint8Array, behaviour: NatBehaviourModel, prng: Prng) {
    this.ip = ip;
    this.#behaviour = behaviour;
    this.#prng = prng;
  }

  /** The source address a packet leaves with. */
  outbound(from: SocketAddress, to: SocketAddress, now: number): SocketAddress {
    const target = formatSocketAddress(to);
    const flow =
      this.#behaviour.mapping === 'endpoint-independent'
        ? formatSocketAddress(from)
        : `${formatSocketAddress(from)} ${target}`;
    let mapping = this.#byFlow.get(flow);
    if (mapping === undefined || now - mapping.usedAt > this.#behaviour.lifetimeMs) {
      if (mapping !== undefined) this.#byPort.delete(mapping.outside.port);
      mapping = {
        inside: from,
        outside: { ip: this.ip, port: this.#freePort() },
        usedAt: now,
        contacted: new Set(),
      };
      this.#byFlow.set(flow, mapping);
      this.#byPort.set(mapping.outside.port, mapping);
    }
    mapping.usedAt = now;
    mapping.contacted.add(target).add(ipOf(to));
    return mapping.outside;
  }

  /** Where a packet to this NAT's port goes inside; undefined when it is filtered. */
  inbound(from: SocketAddress, port: number, now: number): SocketAddress | undefined {
    const mapping = this.#byPort.get(port);
    if (mapping === undefined || now - mapping.usedAt > this.#behaviour.lifetimeMs) return undefined;
    const { filtering } = this.#behaviour;
    if (filtering === 'address-dependent' && !mapping.contacted.has(ipOf(from))) return undefined;
    if (filtering === 'address-and-port-dependent' && !mapping.contacted.has(formatSocketAddress(from)))
      return undefined;
    return mapping.inside;
  }

  /** The router restarts: every mapping is lost, ports will be others. */
  reboot(): void {
    this.#byFlow = new Map();
    this.#byPort = new Map();
  }

  #freePort(): number {
    for (;;) {
      const port = this.#prng.integer(1024, 65_535);
      if (!this.#byPort.has(port)) return port;
    }
  }
}

function ipOf({ ip }: SocketAddress): string {
  return ip.join('.');
}
