// Holding a usage receipt against an end's own counts.
//
// The end counts before it asks and after it was answered, so the relay's count lies between the two,
// but for packets that were lost or doubled by the network on the way between end and relay.

import type { Usage } from '../protocol/usage-receipt.js';
import type { Difference, OwnUsage } from '../runtime/receipt-report.js';

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
