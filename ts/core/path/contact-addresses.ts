// What a member says in a contact of where it may be reached, and what of the other's word is tried.

import { sameBytes } from '../../wire/bytes.js';
import { reachOf, Reach } from '../../wire/reach.js';
import { formatSocketAddress, sameSocketAddress, type SocketAddress } from '../../wire/socket-address.js';
import {
  CandidateKind,
  MAX_CONTACT_CANDIDATES,
  type ContactCandidate,
} from '../protocol/contact-candidate.js';
import type { LocalInterface } from './local-interface.js';

/** Where a node may be reached, as far as it knows. */
export interface OwnAddresses {
  readonly interfaces: readonly LocalInterface[];
  /** Told to everybody by the node's record. */
  readonly announced: readonly SocketAddress[];
  /** Where a gateway lets everybody in. */
  readonly mapped: readonly SocketAddress[];
  /** Where relays see it. */
  readonly observed: readonly SocketAddress[];
  /** What its NAT is expected to give it next, the likeliest first. */
  readonly predicted: readonly SocketAddress[];
}

/**
 * At most MAX_CONTACT_CANDIDATES, each address once, under the first of its kinds.
 * @param mappedAs the kind of what a gateway mapped: CandidateKind.mapped, or one the other side can read
 */
export function contactCandidates(own: OwnAddresses, mappedAs: CandidateKind): ContactCandidate[] {
  const all: ContactCandidate[] = [
    ...own.announced.map((address) => ({ kind: CandidateKind.announced, address })),
    ...own.mapped.map((address) => ({ kind: mappedAs, address })),
    ...own.interfaces.map(({ source, port }) => ({
      kind: CandidateKind.host,
      address: { ip: source.ip, port },
    })),
    ...own.observed.map((address) => ({ kind: CandidateKind.observed, address })),
    ...own.predicted.map((address) => ({ kind: CandidateKind.predicted, address })),
  ];
  const each = new Map<string, ContactCandidate>();
  for (const candidate of all) {
    const key = formatSocketAddress(candidate.address);
    if (isReachable(candidate.address) && !each.has(key)) each.set(key, candidate);
  }
  return [...each.values()].slice(0, MAX_CONTACT_CANDIDATES);
}

/**
 * Those of another's candidates that are tried: what is an address of one host somewhere, and not of this
 * one. Whether the other has it, probes show; how often it is sent to before is bounded (unproven-budget.ts).
 */
export function triedCandidates(
  told: readonly ContactCandidate[],
  own: Pick<OwnAddresses, 'interfaces' | 'announced' | 'mapped'>,
): ContactCandidate[] {
  const isOwn = ({ ip, port }: SocketAddress): boolean =>
    own.interfaces.some((each) => each.port === port && sameBytes(each.source.ip, ip)) ||
    [...own.announced, ...own.mapped].some((address) => sameSocketAddress(address, { ip, port }));
  const tried = told.filter(({ address }) => isReachable(address) && !isOwn(address));
  // Two NATs that give a port to each destination are predicted to meet when both sides send to what was
  // predicted first, in one order.
  const isPredicted = ({ kind }: ContactCandidate): number => Number(kind === CandidateKind.predicted);
  return tried.toSorted((a, b) => isPredicted(b) - isPredicted(a));
}

/** Whether it can be the address of another host. */
export function isReachable({ ip, port }: SocketAddress): boolean {
  return port > 0 && reachOf(ip) >= Reach.cable;
}
