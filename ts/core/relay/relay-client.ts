// A client of a relay: admitted → (session) → registered.

import type { SessionKey } from '../../contract/engine.js';
import { isIPv4, type SocketAddress } from '../../wire/socket-address.js';
import { toHex } from '../../wire/bytes.js';
import type { PeerRecord } from '../protocol/peer-record.js';
import type { Owners } from '../runtime/bounded-table.js';
import type { CircuitEnd } from './relay-circuit.js';
import type { ClientDrain } from './relay-drain.js';

/** The challenge an admission answered, and the answer: an older one is a replay. */
export interface Admitted {
  /** Monotonic ms. */
  readonly issued: number;
  /** SHA-256. */
  readonly digest: Uint8Array;
}

export interface Client extends CircuitEnd {
  readonly key: SessionKey;
  readonly sessionKey: Uint8Array;
  identity: Uint8Array;
  /** The network (hex) it was admitted for. */
  readonly network: string;
  /** The last admission since this node's start. */
  admitted: Admitted | undefined;
  /** Proven by admission or by an answered challenge. */
  address: SocketAddress;
  /** A session came up: the client holds the session key it claimed. */
  hasSession: boolean;
  /** It has registered: its identity does not change any more. */
  bound: boolean;
  registration: Registration | undefined;
  /** Networks (hex) it has shown to be a member of, in this session key and identity. */
  readonly proven: Set<string>;
  /** Of the life before the registered one. */
  formerBoot: Uint8Array | undefined;
  /** Where it proved to receive by its last admission, until a session comes up. */
  provenAddress: SocketAddress | undefined;
  /** The address the session moved to, until it is proven. */
  challenged: SocketAddress | undefined;
  challenging: boolean;
  /** Theoretical arrival time of the next message (GCRA), ms. */
  nextMessage: number;
  /** The same of the next change of its record, ms. */
  nextChange: number;
  /** What it was told of a drain; undefined = nothing. */
  drain: ClientDrain | undefined;
}

export interface Registration {
  record: PeerRecord;
  boot: Uint8Array;
  /** Networks (hex) of the record that are served here, and that its membership of is proven. */
  networks: readonly string[];
  /** Directory version the client has, by network; absent until a lookup came to the end. */
  readonly cursors: Map<string, number>;
  /** Networks with a push under way. */
  readonly pushing: Set<string>;
}

/** IPv4 counts per address, IPv6 per /64: what one subscriber is given. */
export function prefixOf({ ip }: SocketAddress): string {
  return `prefix ${toHex(isIPv4(ip) ? ip : ip.subarray(0, 8))}`;
}

/** What one site is given at most: an IPv4 /24, an IPv6 /48. */
export function siteOf({ ip }: SocketAddress): string {
  return `site ${toHex(isIPv4(ip) ? ip.subarray(0, 15) : ip.subarray(0, 6))}`;
}

/** Who pays for what is asked for from an address. */
export function addressOwners(address: SocketAddress): Record<'prefix' | 'site', string> {
  return { prefix: prefixOf(address), site: siteOf(address) };
}

/** Who pays for a client: it is admitted only while each of these has room. */
export type ClientOwner = 'identity' | 'network' | 'prefix' | 'site';

/** A network pays for those who have shown to be in it: anybody can ask for one, knowing its blinded id. */
export function clientOwners({
  identity,
  proven,
  address,
}: Pick<Client, 'identity' | 'proven' | 'address'>): Owners<ClientOwner> {
  const owners = { identity: toHex(identity), ...addressOwners(address) };
  const [network] = proven;
  return network === undefined ? owners : { ...owners, network };
}
