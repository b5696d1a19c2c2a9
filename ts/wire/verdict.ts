// What becomes of a datagram, in the numbers of `enum omerta_verdict` and the order of
// OMERTA_DROP_REASONS in native/wire/include/omerta/wire.h.

import type { SocketAddress } from './socket-address.js';

export const VERDICTS = ['drop', 'wireguard', 'stun', 'control', 'deliver', 'forward'] as const;
export type Verdict = (typeof VERDICTS)[number];

export const DROP_REASONS = [
  'none',
  'empty',
  'unknown_protocol',
  'malformed_wireguard',
  'malformed_stun',
  'frame_too_short',
  'frame_too_long',
  'unknown_kind',
  'reserved_flags',
  'unknown_leg',
  'wrong_kind',
  'wrong_key_epoch',
  'wrong_source',
  'bad_tag',
  'expired',
  'hop_limit',
  'rate_limited',
  'byte_cap',
  'identity_rate',
  'network_rate',
  'prefix_rate',
  'fair_share',
  'host_rate',
  'repeated',
] as const;
export type DropReason = (typeof DROP_REASONS)[number];

export interface Decision {
  readonly verdict: Verdict;
  /** 'none' unless the verdict is 'drop'. */
  readonly reason: DropReason;
  /** The leg the frame came on: control, deliver and forward. */
  readonly leg: number | undefined;
  /** Where the rewritten frame goes: forward. */
  readonly next: SocketAddress | undefined;
}
