// What a node lends to its relay service, and what the parts of that service share.

import type { SessionKey } from '../../contract/engine.js';
import type { Primitives } from '../../contract/primitives.js';
import type { Uplink } from '../uplink/uplink.js';
import type { Counter } from '../runtime/counter.js';
import type { LegIds } from '../runtime/leg-ids.js';
import type { LegQueries } from '../runtime/leg-queries.js';
import type { PeerRecord } from '../protocol/peer-record.js';
import type { PeerTable } from '../runtime/peer-table.js';
import type { RelayAccounts } from './relay-accounts.js';
import type { RelayDirectory } from './relay-directory.js';
import type { RelayNeighbours } from './relay-neighbours.js';
import type { RelayRules } from './relay-rules.js';
import type { RelayDrain } from './relay-drain.js';
import type { RequestTable } from '../runtime/request-table.js';
import { sameSocketAddress, type SocketAddress } from '../../wire/socket-address.js';
import type { Refusal } from '../protocol/refusal.js';
import type { Turn } from '../runtime/turn.js';

/** What the node lends to its relay service. */
export interface RelayHost {
  readonly primitives: Primitives;
  readonly identity: Uint8Array;
  readonly sessionKey: Uint8Array;
  readonly sessionPrivateKey: Uint8Array;
  /** 8 bytes, new at each start. */
  readonly boot: Uint8Array;
  /** The relay's own: what a client is asked ends with the client. */
  readonly requests: RequestTable;
  /** The node's: what a neighbour is asked ends with that neighbour. */
  readonly neighbourRequests: RequestTable;
  readonly legs: LegIds;
  readonly legQueries: LegQueries;
  readonly peers: PeerTable;
  /** An Ed25519 signature by the relay's identity. */
  sign(message: Uint8Array): Uint8Array;
  /** Own addresses: never a client's, so never a next hop. */
  ownAddresses(): readonly SocketAddress[];
  /** The bootstraps this node uses, configured relay peers among them. */
  uplinks(): Iterable<Uplink>;
  /** The identity this session key is known to be of: of a bootstrap we use, or by a member's record. */
  holderOf(sessionKey: SessionKey): Uint8Array | undefined;
  /** A record whose signature is checked came in, of a client that has shown to be in these networks (hex). */
  recordRegistered(record: PeerRecord, networks: readonly string[], turn: Turn): void;
}

/** What clients and circuits share. */
export interface RelayParts {
  readonly host: RelayHost;
  readonly rules: RelayRules;
  readonly accounts: RelayAccounts;
  readonly neighbours: RelayNeighbours;
  readonly directory: RelayDirectory;
  readonly drain: RelayDrain;
  /** Refusals and silent drops, by reason. */
  readonly refusals: Counter;
}

/** Whether this is an address of the relay itself: no client may have it, and nothing is forwarded to it. */
export function isOwnAddress(host: RelayHost, address: SocketAddress): boolean {
  return host.ownAddresses().some((own) => sameSocketAddress(own, address));
}

/** Turns a request down, and counts it. */
export function refuse(
  { refusals }: RelayParts,
  peer: SessionKey,
  request: number,
  what: string,
  reason: Refusal,
  turn: Turn,
): void {
  refusals.add(reason, 1);
  turn.refuse(peer, request, what, reason);
}
