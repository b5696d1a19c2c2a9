// Ways a member may be reached by. Whoever makes, proves and ends ways of one kind is a source of candidates;
// the path agent chooses among them and does not know how they come to be.

import type { PeerEndpoint, SessionKey } from '../../contract/engine.js';
import type { Member } from '../members/member-table.js';
import type { Refusal } from '../protocol/refusal.js';
import type { Turn } from '../runtime/turn.js';

/** Why a source made no candidate: who was asked refused, or did not answer, or the operator lets none be made. */
export type NotFound = Refusal | 'unanswered' | 'forbidden';

/** One way to one member. A source keeps the same object for as long as the way stands. */
export interface Candidate {
  /** `circuit`: over relays. `address`: an address the member's packets come from. */
  readonly kind: 'circuit' | 'address';
  readonly member: SessionKey;
  /** What the engine is told when the member is to be reached by it. */
  readonly endpoint: PeerEndpoint;
  /** The relay of ours it leads over. */
  readonly relay: SessionKey | undefined;
}

/** Who has the candidates of one kind. */
export interface CandidateSource {
  /** Those that stand, oldest first. */
  candidates(member: SessionKey): readonly Candidate[];
  /** The one whose packets arrive from `endpoint`. */
  candidateAt(member: SessionKey, endpoint: PeerEndpoint): Candidate | undefined;
  /**
   * Tries to make one more; CandidateUser.found or notFound tells how it went.
   * @param attempt counts those in vain since there was a session with the member, so that the next tries
   *   something else
   * @returns false when there is nothing to try.
   */
  seek(member: Member, attempt: number, turn: Turn): boolean;
  /** Whether one is being made. */
  isSeeking(member: SessionKey): boolean;
  /** A session was made or moved over it: if it is this source's, it is worth being kept up. */
  carried(candidate: Candidate): void;
  /** A relay fell silent and there are others: what is being made over it is given up. */
  relayLost(relay: SessionKey, turn: Turn): void;
  /** Ends one, if it is this source's. CandidateUser.lost is not called. */
  close(candidate: Candidate, turn: Turn): void;
  /** Ends all of a member's, and the search for more. */
  closeAll(member: SessionKey, turn: Turn): void;
}

/** Who uses candidates, as their sources see it. */
export interface CandidateUser {
  /** Whether the member is reached by it now. */
  isActive(candidate: Candidate): boolean;
  /** One stands that was sought. */
  found(candidate: Candidate, turn: Turn): void;
  /** What was sought did not come to be. @returns whether the reason is another than last time. */
  notFound(member: SessionKey, reason: NotFound, turn: Turn): boolean;
  /** One stands that the member made. */
  offered(candidate: Candidate, turn: Turn): void;
  /** It stands, but whether it carries anything has to be seen. */
  unproven(candidate: Candidate, turn: Turn): void;
  /** It will not last. @returns whether it is to be kept until there is another. */
  doubtful(candidate: Candidate, turn: Turn): boolean;
  /** It is gone. `refused`: whom it leads over ended it. */
  lost(candidate: Candidate, refused: boolean, turn: Turn): void;
}
