// NAT models in RFC 4787's words. Time is an argument.

import { formatIp, formatSocketAddress, type SocketAddress } from '../../wire/socket-address.js';
import type { Prng } from './prng.js';

/** Which packets of one inner address and port share an outer one (RFC 4787, section 4.1). */
export type NatMapping = 'endpoint-independent' | 'address-dependent' | 'address-and-port-dependent';
/** Whose packets a mapping lets in (section 5). */
export type NatFiltering = 'endpoint-independent' | 'address-dependent' | 'address-and-port-dependent';
/**
 * The outer port of a new mapping (section 4.2): the inner one, or the next above it that is free; the one
 * after the last that was given; any.
 */
export type PortAllocation = 'preserving' | 'sequential' | 'random';

export interface NatBehaviourModel {
  readonly mapping: NatMapping;
  readonly filtering: NatFiltering;
  readonly ports: PortAllocation;
  /** Whether two behind it reach each other by their outer addresses (section 6). */
  readonly hairpin: boolean;
  /**
   * Milliseconds without an outbound packet after which a mapping is gone, and after which somebody is filtered who was
   * sent to: packets to others keep the mapping, not his way in (section 5).
   */
  readonly lifetimeMs: number;
}

/** What most home routers do: only who was sent to, from that very port, may answer. */
export const PORT_RESTRICTED: NatBehaviourModel = {
  mapping: 'endpoint-independent',
  filtering: 'address-and-port-dependent',
  ports: 'random',
  hairpin: false,
  lifetimeMs: 120_000,
};

export const FULL_CONE: NatBehaviourModel = { ...PORT_RESTRICTED, filtering: 'endpoint-independent' };
export const ADDRESS_RESTRICTED: NatBehaviourModel = { ...PORT_RESTRICTED, filtering: 'address-dependent' };
export const SYMMETRIC: NatBehaviourModel = { ...PORT_RESTRICTED, mapping: 'address-and-port-dependent' };

interface Mapping {
  readonly inside: SocketAddress;
  readonly outside: SocketAddress;
  usedAt: number;
  /** Where the inside has sent to, and when last: addresses, and addresses with ports. */
  readonly contacted: Map<string, number>;
}

const FIRST_PORT = 1024;
const LAST_PORT = 65_535;

export class Nat {
  readonly ip: Uint8Array;
  /** The NAT it is itself behind; undefined = its address is public. */
  readonly outer: Nat | undefined;
  readonly behaviour: NatBehaviourModel;
  readonly #prng: Prng;
  #byFlow = new Map<string, Mapping>();
  #byPort = new Map<number, Mapping>();
  #lastPort: number;

  constructor(ip: Uint8Array, behaviour: NatBehaviourModel, prng: Prng, outer?: Nat) {
    this.ip = ip;
    this.behaviour = behaviour;
    this.outer = outer;
    this.#prng = prng;
    this.#lastPort = behaviour.ports === 'sequential' ? prng.integer(FIRST_PORT, LAST_PORT) : 0;
  }

  /** The source address a packet leaves with. */
  outbound(from: SocketAddress, to: SocketAddress, now: number): SocketAddress {
    const flow = this.#flow(from, to);
    let mapping = this.#byFlow.get(flow);
    if (mapping === undefined || this.#isOver(mapping, now)) {
      if (mapping !== undefined) this.#byPort.delete(mapping.outside.port);
      mapping = {
        inside: from,
        outside: { ip: this.ip, port: this.#newPort(from.port, now) },
        usedAt: now,
        contacted: new Map(),
      };
      this.#byFlow.set(flow, mapping);
      this.#byPort.set(mapping.outside.port, mapping);
    }
    mapping.usedAt = now;
    mapping.contacted.set(formatSocketAddress(to), now).set(formatIp(to.ip), now);
    return mapping.outside;
  }

  /** Where a packet to this NAT's port goes inside; undefined when it is filtered. */
  inbound(from: SocketAddress, port: number, now: number): SocketAddress | undefined {
    const mapping = this.#byPort.get(port);
    if (mapping === undefined || this.#isOver(mapping, now)) return undefined;
    const { filtering, lifetimeMs } = this.behaviour;
    if (filtering === 'endpoint-independent') return mapping.inside;
    const sender = filtering === 'address-dependent' ? formatIp(from.ip) : formatSocketAddress(from);
    return now - (mapping.contacted.get(sender) ?? -Infinity) > lifetimeMs ? undefined : mapping.inside;
  }

  /** The router restarts: every mapping is lost, ports will be others. */
  reboot(): void {
    this.#byFlow = new Map();
    this.#byPort = new Map();
    if (this.behaviour.ports === 'sequential') this.#lastPort = this.#prng.integer(FIRST_PORT, LAST_PORT);
  }

  #flow(from: SocketAddress, to: SocketAddress): string {
    switch (this.behaviour.mapping) {
      case 'endpoint-independent':
        return formatSocketAddress(from);
      case 'address-dependent':
        return `${formatSocketAddress(from)} ${formatIp(to.ip)}`;
      case 'address-and-port-dependent':
        return `${formatSocketAddress(from)} ${formatSocketAddress(to)}`;
    }
  }

  #isOver({ usedAt }: Mapping, now: number): boolean {
    return now - usedAt > this.behaviour.lifetimeMs;
  }

  #newPort(inner: number, now: number): number {
    switch (this.behaviour.ports) {
      case 'preserving':
        return this.#freeFrom(inner, now);
      case 'sequential':
        return (this.#lastPort = this.#freeFrom(this.#lastPort + 1, now));
      case 'random':
        for (;;) {
          const port = this.#prng.integer(FIRST_PORT, LAST_PORT);
          if (!this.#byPort.has(port)) return port;
        }
    }
  }

  #freeFrom(first: number, now: number): number {
    for (let port = first; ; port++) {
      if (port > LAST_PORT) port = FIRST_PORT;
      const mapping = this.#byPort.get(port);
      if (mapping === undefined || this.#isOver(mapping, now)) return port;
    }
  }
}
