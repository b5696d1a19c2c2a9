// What a gateway says a node can be reached at, and whether others are told. A gateway, or who plays it on the
// LAN, may name a victim's address: where relays see this node, it has to be one of those they see.

import { isPrivate } from '../../wire/reach.js';
import { sameBytes } from '../../wire/bytes.js';
import { isIPv4, type SocketAddress } from '../../wire/socket-address.js';
import { CandidateKind } from '../protocol/contact-candidate.js';

/** What the record of a node says that reads CandidateKind.mapped. */
export const MAPPED_CAPABILITY = 'mapped-candidates';

/** The kind of a mapped address for whose record says this: who does not know that kind drops the whole contact. */
export function mappedKindFor(capabilities: readonly string[]): CandidateKind {
  return capabilities.includes(MAPPED_CAPABILITY) ? CandidateKind.mapped : CandidateKind.announced;
}

/**
 * `private`: another NAT is behind the gateway, and the mapping leads up to that one; `unconfirmed`: relays see this
 * node at other addresses, and nobody is told.
 */
export type MappedReach = 'public' | 'private' | 'unconfirmed';

/** @param observed where relays see this node */
export function mappedReach(mapped: SocketAddress, observed: readonly SocketAddress[]): MappedReach {
  if (isPrivate(mapped.ip)) return 'private';
  const seen = observed.filter(({ ip }) => isIPv4(ip) === isIPv4(mapped.ip) && !isPrivate(ip));
  return seen.length === 0 || seen.some(({ ip }) => sameBytes(ip, mapped.ip)) ? 'public' : 'unconfirmed';
}

/** What members are told of it. */
export function toldMapping(
  mapped: SocketAddress | undefined,
  observed: readonly SocketAddress[],
): readonly SocketAddress[] {
  return mapped === undefined || mappedReach(mapped, observed) === 'unconfirmed' ? [] : [mapped];
}
