// A stateful packet filter in front of one address, as routers put it before hosts that have a public one
// (RFC 6092). Nothing is translated. Time is an argument.

import { formatIp, formatSocketAddress, type SocketAddress } from '../../wire/socket-address.js';
import type { NatFiltering } from './nat.js';

export interface FirewallRules {
  /** Who may answer what went out; `nobody`: nothing comes in but to `openPorts`. */
  readonly filtering: NatFiltering | 'nobody';
  /** Ports of the host that anybody may send to. */
  readonly openPorts: readonly number[];
  /** Ports elsewhere that may be sent to; undefined = all. */
  readonly allowedPorts: readonly number[] | undefined;
  /** Milliseconds without an outbound packet after which an answer is none any more. */
  readonly lifetimeMs: number;
}

/** What RFC 6092 asks of a home router. */
export const STATEFUL: FirewallRules = {
  filtering: 'address-and-port-dependent',
  openPorts: [],
  allowedPorts: undefined,
  lifetimeMs: 120_000,
};

export class Firewall {
  readonly rules: FirewallRules;
  /** When the host last sent to an address, and to an address and port. */
  #contacted = new Map<string, number>();

  constructor(rules: FirewallRules) {
    this.rules = rules;
  }

  /** Whether it lets out. */
  outbound(to: SocketAddress, now: number): boolean {
    const { allowedPorts } = this.rules;
    if (allowedPorts !== undefined && !allowedPorts.includes(to.port)) return false;
    this.#contacted.set(formatIp(to.ip), now).set(formatSocketAddress(to), now).set('anybody', now);
    return true;
  }

  /** Whether it lets in. @param port of the host */
  inbound(from: SocketAddress, port: number, now: number): boolean {
    const { filtering, openPorts, lifetimeMs } = this.rules;
    if (openPorts.includes(port)) return true;
    if (filtering === 'nobody') return false;
    const key = {
      'endpoint-independent': 'anybody',
      'address-dependent': formatIp(from.ip),
      'address-and-port-dependent': formatSocketAddress(from),
    }[filtering];
    return now - (this.#contacted.get(key) ?? -Infinity) <= lifetimeMs;
  }

  reboot(): void {
    this.#contacted = new Map();
  }
}
