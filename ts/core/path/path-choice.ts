// Which of the proven paths is used: one that takes what IPv6 asks of every link before one that does not, then by
// rank of interface, then a direct one before one over relays unless it loses clearly more, then of direct ones one
// that the inner MTU fits, then loss, then round trip; and not another one for a small difference. What a relay sends
// on may be fragmented after it, so that a way over relays is no better for what it seems to take.

import type { TrackedPath } from './tracked-path.js';

/** A direct path may lose so much more than one over relays. */
const DIRECT_LOSS_BONUS = 0.1;
/** Loss is compared in steps of this. */
const LOSS_STEP = 0.05;
/** A round trip is clearly shorter by a fifth and by 5 ms. */
const SHORTER = 0.8;
const SHORTER_MS = 5;

/** Proven paths, the one to be used first. @param used the one in use, which small differences do not change */
export function choosePaths(
  paths: readonly TrackedPath[],
  used: TrackedPath | undefined,
): readonly TrackedPath[] {
  const order = paths.filter(({ state }) => state === 'proven').toSorted(compare);
  const [best] = order;
  if (best === undefined || used === undefined || best === used || !order.includes(used)) return order;
  return isClearlyBetter(best, used) ? order : [used, ...order.filter((path) => path !== used)];
}

/** Lower is better; the first difference counts. */
function merits({ rank, relayed, quality, mtu, id }: TrackedPath): readonly number[] {
  const { loss, rttMs = Infinity } = quality;
  const excess = relayed ? loss : Math.max(0, loss - DIRECT_LOSS_BONUS);
  const [narrow, limited] = [Number(mtu?.narrow ?? false), Number(mtu?.limited ?? false)];
  return [narrow, rank, inSteps(excess), relayed ? 1 : 0, relayed ? 0 : limited, inSteps(loss), rttMs, id];
}

function compare(a: TrackedPath, b: TrackedPath): number {
  const [ofA, ofB] = [merits(a), merits(b)];
  const at = ofA.findIndex((merit, index) => merit !== ofB[index]);
  return (ofA[at] ?? 0) - (ofB[at] ?? 0);
}

function isClearlyBetter(a: TrackedPath, b: TrackedPath): boolean {
  if (a.rank !== b.rank || a.relayed !== b.relayed) return true;
  if (a.mtu?.narrow !== b.mtu?.narrow || a.mtu?.limited !== b.mtu?.limited) return true;
  if (Math.abs(a.quality.loss - b.quality.loss) > 2 * LOSS_STEP) return a.quality.loss < b.quality.loss;
  return (a.quality.rttMs ?? Infinity) < (b.quality.rttMs ?? Infinity) * SHORTER - SHORTER_MS;
}

const inSteps = (loss: number): number => Math.round(loss / LOSS_STEP);
