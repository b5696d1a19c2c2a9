// An address a member may be reached at, as it says in a contact (docs/protocol.md, "Contact").

import type { SocketAddress } from '../../wire/socket-address.js';

/** How the member came to know it. */
export const CandidateKind = {
  /** Of one of its interfaces. */
  host: 0,
  /** Where a relay sees it. */
  observed: 1,
  /** Its operator announced it. */
  announced: 2,
  /** What its NAT is expected to give it next. */
  predicted: 3,
  /** A gateway lets everybody in there. */
  mapped: 4,
} as const;
export type CandidateKind = (typeof CandidateKind)[keyof typeof CandidateKind];

export interface ContactCandidate {
  readonly kind: CandidateKind;
  readonly address: SocketAddress;
}

export const MAX_CONTACT_CANDIDATES = 32;
