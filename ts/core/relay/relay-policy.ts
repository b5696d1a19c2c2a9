// What a relay is willing to do, and how much of it. Every number is a cap that a test crosses.

import {
  limitsOf,
  prefixRateOf,
  rateOf,
  type LegLimits,
  type PrefixLimit,
  type RateLimit,
} from '../../wire/limits.js';
import type { SocketAddress } from '../../wire/socket-address.js';
import type { Bootstrap } from '../protocol/network.js';

/** Caps and lifetimes of a relay. */
export interface RelayLimits {
  /**
   * Admissions (with or without a session) in total, per identity, per network they were asked for, per
   * IPv4 /32 or IPv6 /64.
   */
  readonly admissions: number;
  readonly admissionsPerIdentity: number;
  readonly admissionsPerNetwork: number;
  readonly admissionsPerPrefix: number;
  /** Registered records in total. */
  readonly registrations: number;
  /** Circuits, half-open ones included: in total, per identity (either end), network, prefix (caller). */
  readonly circuits: number;
  readonly circuitsPerIdentity: number;
  readonly circuitsPerNetwork: number;
  readonly circuitsPerPrefix: number;
  /** Circuits that come from, or go on to, one neighbouring relay. */
  readonly circuitsPerRelay: number;
  /** Circuits that wait for the callee's consent: in total, and of one calling identity. */
  readonly halfOpen: number;
  readonly halfOpenPerIdentity: number;
  /** Seconds an admission lasts without a session. */
  readonly admissionSeconds: number;
  /** Seconds a registration lasts without renewal. */
  readonly leaseSeconds: number;
  /** Seconds a circuit lasts without a refresh. */
  readonly circuitSeconds: number;
}

export const DEFAULT_RELAY_LIMITS: RelayLimits = {
  admissions: 4096,
  admissionsPerIdentity: 4,
  admissionsPerNetwork: 4096,
  admissionsPerPrefix: 256, // an office or a carrier NAT shares one address
  registrations: 4096,
  circuits: 16_384,
  circuitsPerIdentity: 256,
  circuitsPerNetwork: 16_384,
  circuitsPerPrefix: 4096,
  circuitsPerRelay: 4096,
  halfOpen: 1024,
  halfOpenPerIdentity: 128,
  admissionSeconds: 60,
  leaseSeconds: 600,
  circuitSeconds: 3600,
};

/** A cap as it is counted when it turns somebody down; they are told `capacity`. */
export const CAPS = [
  'admissions',
  'admissions-per-identity',
  'admissions-per-network',
  'admissions-per-prefix',
  'registrations',
  'circuits',
  'circuits-per-identity',
  'circuits-per-network',
  'circuits-per-prefix',
  'circuits-per-relay',
  'half-open',
  'half-open-per-identity',
  'wireguard-bindings',
] as const;
export type Cap = (typeof CAPS)[number];

export function isCap(reason: string): reason is Cap {
  return CAPS.some((cap) => cap === reason);
}

/** What those in it may use. An identity listed counts before a network listed. */
export interface QuotaClass {
  readonly name: string;
  readonly identities: readonly Uint8Array[];
  /** Blinded ids. */
  readonly networks: readonly Uint8Array[];
  /** Each direction of each circuit by itself. */
  readonly circuit: LegLimits;
  /** What one identity sends, all its circuits together. */
  readonly identity: RateLimit | undefined;
  /** What one network of the class carries. */
  readonly network: RateLimit | undefined;
  /** Circuits of one identity; undefined = `circuitsPerIdentity`. */
  readonly circuits: number | undefined;
  /** Seconds a circuit lasts at most, however often it is refreshed; undefined = no end. */
  readonly seconds: number | undefined;
}

/** The class of those who are listed nowhere; without limits unless the policy has one of this name. */
export const DEFAULT_CLASS = 'default';
/** The engine's tables have room for so many, the default one included. */
export const MAX_QUOTA_CLASSES = 64;

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
  readonly classes?: readonly QuotaClass[];
  /** All that is relayed; shared fairly among identities while they ask for more. */
  readonly host?: RateLimit | undefined;
  /** What each source prefix sends. */
  readonly prefix?: PrefixLimit | undefined;
}

/** What control messages can carry. */
const LONGEST_LIFETIME_SECONDS = 86_400;

/** @throws RangeError that names the limit and what it may be. */
export function checkRelayPolicy({ limits, classes = [], host, prefix }: RelayPolicy): void {
  for (const [name, value] of Object.entries({ ...DEFAULT_RELAY_LIMITS, ...limits })) {
    const most = name.endsWith('Seconds') ? LONGEST_LIFETIME_SECONDS : Number.MAX_SAFE_INTEGER;
    if (!Number.isInteger(value) || value < 1 || value > most)
      throw new RangeError(`relay limit ${name}: ${value} given, must be a whole number from 1 to ${most}`);
  }
  if (classes.length > MAX_QUOTA_CLASSES - 1)
    throw new RangeError(
      `relay classes: ${classes.length} given, at most ${MAX_QUOTA_CLASSES - 1} are possible`,
    );
  rateOf(host, 'host');
  prefixRateOf(prefix);
  for (const { circuit, identity, network } of classes) {
    limitsOf(circuit);
    rateOf(identity, 'identity');
    rateOf(network, 'network');
  }
}
