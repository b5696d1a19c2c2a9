// Holding a usage receipt against an end's own counts.
//
// The end counts before it asks and after it was answered, so the relay's count lies between the two,
// but for packets that were lost or doubled by the network on the way between end and relay.

import type { Usage } from './usage-receipt.js';

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

/** Packets the network may have doubled, or that other packets overtook. */
const FEW_PACKETS = 8;
/** Packets on their way, or lost: so many, and this part of all. */
const IN_FLIGHT_PACKETS = 64;
const LOST_PART = 0.02;
/** The largest frame a path of 1,500 bytes carries, for tolerances in bytes. */
const FRAME_BYTES = 1500;

interface Tolerance {
  readonly packets: number;
  readonly part: number;
}
const DOUBLED: Tolerance = { packets: FEW_PACKETS, part: 0.001 };
const LOST: Tolerance = { packets: IN_FLIGHT_PACKETS, part: LOST_PART };

/** Whether `a` exceeds `b` by more than the tolerance, in packets or in bytes. */
function exceeds(a: Usage, b: Usage, { packets, part }: Tolerance): boolean {
  return (
    a.packets - b.packets > packets + part * a.packets ||
    a.bytes - b.bytes > packets * FRAME_BYTES + part * a.bytes
  );
}

/**
 * @param claimed what the relay counted, `sent` being what came from us.
 * @param whole whether the relay counted since the circuit stands; after its restart it counted less.
 */
export function compareUsage(
  before: OwnUsage,
  after: OwnUsage,
  claimed: OwnUsage,
  whole: boolean,
): Difference[] {
  const found: Difference[] = [];
  if (exceeds(claimed.sent, after.sent, DOUBLED)) found.push('more-than-sent');
  if (exceeds(claimed.received, after.received, LOST)) found.push('more-than-received');
  if (!whole) return found;
  if (exceeds(before.sent, claimed.sent, LOST)) found.push('less-than-sent');
  if (exceeds(before.received, claimed.received, DOUBLED)) found.push('less-than-received');
  return found;
}
