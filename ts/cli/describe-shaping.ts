// How what is sent to a peer is shaped, as text for the terminal.

import type { ShapingCounts } from '../contract/shaping-control.js';
import type { ShapingStatus } from '../core/runtime/mesh-status.js';
import { formatBytes } from '../host/units.js';

/** `omerta path`: one line; undefined: nothing is shaped. */
export function describePadding(
  { padding, paddingBudget }: ShapingStatus,
  counts: ShapingCounts | undefined,
): string | undefined {
  if (padding === 'off') return undefined;
  const budget = paddingBudget === undefined ? '' : `, at most ${paddingBudget} % of data`;
  const spent =
    counts === undefined
      ? ''
      : `: ${formatBytes(counts.paddingBytes)} for ${formatBytes(counts.dataBytes)} of data${unpadded(counts)}`;
  return `padding: ${padding}${budget}${spent}`;
}

function unpadded({ unpaddedPackets }: ShapingCounts): string {
  return unpaddedPackets === 0 ? '' : `, ${unpaddedPackets} packets not padded for want of budget`;
}

/** `omerta peers`: bytes of padding for 100 of data. */
export function paddingShare(counts: ShapingCounts | undefined): string {
  if (counts === undefined) return '-';
  return counts.dataBytes === 0 ? '0 %' : `${Math.round((counts.paddingBytes / counts.dataBytes) * 100)} %`;
}
