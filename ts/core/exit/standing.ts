// Whether who asks may have what this node serves: a member by its session, of a network this node is in, who has the
// right to it.

import type { SessionKey } from '../../contract/engine.js';
import type { Member, MemberTable } from '../members/member-table.js';
import type { Refusal } from '../protocol/refusal.js';
import type { PeerTable } from '../runtime/peer-table.js';
import type { Turn } from '../runtime/turn.js';
import { rightOf, type ExitService } from './exit-rights.js';

/** What the node lends to whoever serves. */
export interface ServingHost {
  readonly members: MemberTable;
  readonly peers: PeerTable;
}

export interface Standing<S> {
  readonly member: Member;
  readonly service: S;
  /** Wall clock, ms. */
  readonly until: number;
}

/**
 * Of who holds this session, or why not.
 * @param service undefined = nothing is served
 * @param network blinded id, hex
 */
export function standingOf<S extends Pick<ExitService, 'rights'>>(
  { members, peers }: ServingHost,
  service: S | undefined,
  peer: SessionKey,
  network: string,
  turn: Turn,
): Refusal | Standing<S> {
  if (service === undefined) return 'not-served';
  const member = members.bySessionKey(peer);
  const joined = members.networks.get(network);
  if (member === undefined || joined === undefined || !peers.isMember(peer, network)) return 'not-a-member';
  const applicant = { identity: member.identity, sessionKey: peer, network: joined.network.id };
  const until = rightOf(service, applicant, turn.step.wallClock);
  return typeof until === 'string' ? until : { member, service, until };
}
