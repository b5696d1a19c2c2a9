// What a relay is willing to do, and how much of it.

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
import { DEFAULT_RELAY_LIMITS, checkRelayLimits, type RelayLimits } from './relay-limits.js';

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

/** Whose stock WireGuard clients are relayed, beside those of members that asked for it (`wireguardBindings`). */
export interface WireguardPolicy {
  /** Servers the operator names, by public key and address. */
  readonly servers: readonly { readonly publicKey: Uint8Array; readonly address: SocketAddress }[];
}

export interface RelayPolicy {
  /** Networks served: all, or those with these blinded ids (16 bytes each). */
  readonly serve: 'any' | readonly Uint8Array[];
  /** Identities admitted; empty = everybody who is not denied. */
  readonly allow: readonly Uint8Array[];
  /** Identities never admitted. Blocking is by key. */
  readonly deny: readonly Uint8Array[];
  /** Relays that carry circuits on, and whose circuits are carried on; each must name the other. */
  readonly peers?: readonly Bootstrap[];
  /** Undefined = the engine relays no stock WireGuard clients. */
  readonly wireguard?: WireguardPolicy | undefined;
  /** Caps that differ from DEFAULT_RELAY_LIMITS. */
  readonly limits: Partial<RelayLimits>;
  readonly classes?: readonly QuotaClass[];
  /** All that is relayed; shared fairly among identities while they ask for more. */
  readonly host?: RateLimit | undefined;
  /** What each source prefix sends. */
  readonly prefix?: PrefixLimit | undefined;
}

/** @throws RangeError that names the limit and what it may be. */
export function checkRelayPolicy({ limits, classes = [], host, prefix }: RelayPolicy): void {
  checkRelayLimits({ ...DEFAULT_RELAY_LIMITS, ...limits });
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
