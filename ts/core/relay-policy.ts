// What a relay is willing to do, and how much of it. Every number is a cap that a test crosses.

import { limitsOf, type LegLimits } from '../wire/limits.js';
import type { SocketAddress } from '../wire/socket-address.js';
import type { Bootstrap } from './network.js';

/** Caps and lifetimes of a relay. */
export interface RelayLimits {
  /** Admissions (with or without a session) in total, per identity, per IPv4 /32, per IPv6 /64. */
  readonly admissions: number;
  readonly admissionsPerIdentity: number;
  readonly admissionsPerPrefix: number;
  /** Registered records in total. */
  readonly registrations: number;
  /** Circuits, half-open ones included: in total, per identity (either end), per prefix (caller). */
  readonly circuits: number;
  readonly circuitsPerIdentity: number;
  readonly circuitsPerPrefix: number;
  /** Circuits that come from, or go on to, one neighbouring relay. */
  readonly circuitsPerRelay: number;
  /** Circuits that wait for the callee's consent, in total. */
  readonly halfOpen: number;
  /** Seconds an admission lasts without a session. */
  readonly admissionSeconds: number;
  /** Seconds a registration lasts without renewal. */
  readonly leaseSeconds: number;
  /** Seconds a circuit lasts without a refresh. */
  readonly circuitSeconds: number;
  /** What each direction of a circuit may; undefined = unlimited. */
  readonly leg: LegLimits | undefined;
}

export const DEFAULT_RELAY_LIMITS: RelayLimits = {
  admissions: 4096,
  admissionsPerIdentity: 4,
  admissionsPerPrefix: 256, // an office or a carrier NAT shares one address
  registrations: 4096,
  circuits: 16_384,
  circuitsPerIdentity: 256,
  circuitsPerPrefix: 4096,
  circuitsPerRelay: 4096,
  halfOpen: 1024,
  admissionSeconds: 60,
  leaseSeconds: 600,
  circuitSeconds: 3600,
  leg: undefined,
};

/** The class of limits of circuits. */
export const CIRCUIT_LIMITS = 1;

/** Stock WireGuard clients: whose are relayed. */
export interface WireguardPolicy {
  /** Clients of the relay that may have theirs relayed, at most; 0 = none. */
  readonly clients: number;
  /** Servers the operator names, by public key and address. */
  readonly servers: readonly { readonly publicKey: Uint8Array; readonly address: SocketAddress }[];
}

/** What the engine has numbers for. */
export const MAX_WIREGUARD_BINDINGS = 64;

export interface RelayPolicy {
  /** Networks served: all, or those with these blinded ids (16 bytes each). */
  readonly serve: 'any' | readonly Uint8Array[];
  /** Identities admitted; empty = everybody who is not denied. */
  readonly allow: readonly Uint8Array[];
  /** Identities never admitted. Blocking is by key. */
  readonly deny: readonly Uint8Array[];
  /** Relays that carry circuits on, and whose circuits are carried on; each must name the other. */
  readonly peers?: readonly Bootstrap[];
  /** Undefined = no stock WireGuard clients are relayed. At most 64 bindings in all. */
  readonly wireguard?: WireguardPolicy | undefined;
  /** Caps that differ from DEFAULT_RELAY_LIMITS. */
  readonly limits: Partial<RelayLimits>;
}

/** What control messages can carry. */
const LONGEST_LIFETIME_SECONDS = 86_400;

/** @throws RangeError that names the limit and what it may be. */
export function checkRelayLimits(limits: RelayLimits): void {
  const { leg, ...counts } = limits;
  for (const [name, value] of Object.entries(counts)) {
    const most = name.endsWith('Seconds') ? LONGEST_LIFETIME_SECONDS : Number.MAX_SAFE_INTEGER;
    if (!Number.isInteger(value) || value < 1 || value > most)
      throw new RangeError(`relay limit ${name}: ${value} given, must be a whole number from 1 to ${most}`);
  }
  if (leg !== undefined) limitsOf(leg);
}
