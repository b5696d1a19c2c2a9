// What came of fetching usage receipts and holding them against an end's own counts.

import type { Usage, UsageReceipt } from '../protocol/usage-receipt.js';

/** What an end counted on its own legs of a circuit. */
export interface OwnUsage {
  readonly sent: Usage;
  readonly received: Usage;
}

/** How a receipt may disagree with an end's own counts. */
export type Difference =
  /** The relay counted more from us than we sent. */
  | 'more-than-sent'
  /** Much of what we sent is not in its count: lost before the relay, or left out. */
  | 'less-than-sent'
  /** Much of what it says it sent to us did not arrive: lost behind the relay, or never sent. */
  | 'more-than-received'
  /** The relay counted less to us than has arrived. */
  | 'less-than-received';

/** One circuit's receipt and what came of the check. */
export interface ReceiptReport {
  /** Lower-case hex. */
  readonly circuit: string;
  /** Identities. */
  readonly relay: Uint8Array;
  readonly member: Uint8Array;
  /** What we counted; undefined when the circuit went meanwhile. */
  readonly own: OwnUsage | undefined;
  /** As it came, signature included. */
  readonly bytes: Uint8Array | undefined;
  readonly receipt: UsageReceipt | undefined;
  /** What the relay counted, as seen from this end. */
  readonly claimed: OwnUsage | undefined;
  /**
   * `matches`, `differs` (see `differences`), `restarted`: nothing differs, but the relay's count
   * began after ours; `invalid`: not a receipt of this relay for this circuit; `unanswered`.
   */
  readonly verdict: 'matches' | 'differs' | 'restarted' | 'invalid' | 'unanswered';
  readonly differences: readonly Difference[];
}
