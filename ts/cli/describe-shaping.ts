// How what is sent to a peer is shaped, as text for the terminal.

import type { Ceiling, CeilingCounts, ShapingCounts } from '../contract/shaping-control.js';
import type { ShapingStatus } from '../core/runtime/mesh-status.js';
import { formatBytes } from '../host/units.js';

/** `omerta path`: a line on padding and one on waiting, where there is any. */
export function describeShaping(rules: ShapingStatus, counts: ShapingCounts | undefined): string[] {
  return [describePadding(rules, counts), describeQueue(rules, counts)].filter((line) => line !== undefined);
}

function describePadding(
  { padding, paddingBudget, packetsPerSecond }: ShapingStatus,
  counts: ShapingCounts | undefined,
): string | undefined {
  if (padding === 'off') return undefined;
  const rate = padding === 'constant-rate' ? `, ${packetsPerSecond ?? 0} packets a second` : '';
  const budget = paddingBudget === undefined ? '' : `, at most ${paddingBudget} % of data`;
  const spent =
    counts === undefined
      ? ''
      : `: ${formatBytes(counts.paddingBytes)} for ${formatBytes(counts.dataBytes)} of data${covered(counts)}${unpadded(counts)}`;
  return `padding: ${padding}${rate}${budget}${spent}`;
}

const some = (count: number, what: string): string => (count === 0 ? '' : `, ${count} ${what}`);

const covered = ({ covers, coversLeftOut }: ShapingCounts): string =>
  `${some(covers, 'packets that held nothing')}${some(coversLeftOut, 'of them left out for want of budget')}`;

const unpadded = ({ unpaddedPackets }: ShapingCounts): string =>
  some(unpaddedPackets, 'packets not padded for want of budget');

function describeQueue({ weight }: ShapingStatus, counts: ShapingCounts | undefined): string | undefined {
  if (counts === undefined || (counts.queuedPackets === 0 && weight === 1)) return undefined;
  const { queuedPackets, markedPackets, droppedFull, droppedLate, waitingBytes } = counts;
  const dropped =
    some(droppedLate, 'dropped since they waited too long') + some(droppedFull, 'dropped for want of room');
  const marked = some(markedPackets, 'marked instead of being dropped');
  return `waiting: weight ${weight}, ${queuedPackets} packets had to${dropped}${marked}, ${formatBytes(waitingBytes)} now`;
}

/** `omerta peers`: bytes of padding for 100 of data. */
export function paddingShare(counts: ShapingCounts | undefined): string {
  if (counts === undefined) return '-';
  if (counts.dataBytes === 0) return counts.paddingBytes === 0 ? '0 %' : formatBytes(counts.paddingBytes);
  return `${Math.round((counts.paddingBytes / counts.dataBytes) * 100)} %`;
}

/** `omerta peers`: what waits, and how many packets were dropped. */
export function queueState(counts: ShapingCounts | undefined): string {
  if (counts === undefined || counts.queuedPackets === 0) return '-';
  return `${formatBytes(counts.waitingBytes)}${some(counts.droppedFull + counts.droppedLate, 'dropped')}`;
}

/** `omerta status`: a row for each ceiling. */
export function ceilingRows(ceilings: readonly (Ceiling & CeilingCounts)[]): string[][] {
  return ceilings.map(({ interface: name, bytesPerSecond, sentBytes, waitingBytes }) => [
    `ceiling ${name}`,
    `${formatBytes(bytesPerSecond)} a second: ${formatBytes(sentBytes)} sent, ${formatBytes(waitingBytes)} waiting`,
  ]);
}
