// Which of the proven paths is used: one that takes what IPv6 asks of every link before one that does not, then by
// what the operator said of them (their cost), then a direct one before one over relays unless it loses clearly more,
// then of direct ones one that is known to have room for the inner MTU, then loss, then round trip; and not another
// one for a small difference. What a relay sends on may be fragmented after it, so that a way over relays is no better for what it
// seems to take.

import type { WayReason } from '../runtime/way-status.js';
import { isMetered } from './local-interface.js';
import type { TrackedPath } from './tracked-path.js';

/** A direct path may lose so much more than one over relays. */
const DIRECT_LOSS_BONUS = 0.1;
/** Loss is compared in steps of this. */
const LOSS_STEP = 0.05;
/** A round trip is clearly shorter by a fifth and by 5 ms. */
const SHORTER = 0.8;
const SHORTER_MS = 5;

/** What counts before all that was measured, lower first. */
export type CostOf = (path: TrackedPath) => readonly [preference: number, rank: number];

/** Proven paths, the one to be used first. @param used the one in use, which small differences do not change */
export function choosePaths(
  paths: readonly TrackedPath[],
  used: TrackedPath | undefined,
  costOf: CostOf,
): readonly TrackedPath[] {
  const proven = paths.filter(({ state }) => state === 'proven');
  const merits = new Map(proven.map((path) => [path, meritsOf(path, costOf(path))]));
  const of = (path: TrackedPath): Merits => merits.get(path) ?? [];
  const order = proven.toSorted((a, b) => compare(of(a), of(b)));
  const [best] = order;
  if (best === undefined || used === undefined || best === used || !order.includes(used)) return order;
  if (isClearlyBetter(best, used, costOf)) return order;
  return [used, ...order.filter((path) => path !== used)];
}

/** Why a proven path is not used instead of this one. */
export function whyNot(path: TrackedPath, used: TrackedPath, costOf: CostOf): WayReason {
  const [[preference, rank], [usedPreference, usedRank]] = [costOf(path), costOf(used)];
  if (isNarrow(path) > isNarrow(used)) return 'mtu';
  if (preference > usedPreference) return 'not-preferred';
  if (isMetered(rank) && !isMetered(usedRank)) return 'metered';
  if (rank > usedRank) return 'priority';
  if (inSteps(excessOf(path)) > inSteps(excessOf(used))) return 'loss';
  if (path.relayed && !used.relayed) return 'relayed';
  if (path.mtu?.limited === true && isLimited(path) > isLimited(used)) return 'mtu';
  if (inSteps(path.quality.loss) > inSteps(used.quality.loss)) return 'loss';
  return (path.quality.rttMs ?? Infinity) > (used.quality.rttMs ?? Infinity) ? 'slower' : 'no-gain';
}

/** Lower is better; the first difference counts. */
type Merits = readonly number[];

function meritsOf(path: TrackedPath, cost: readonly number[]): Merits {
  const { relayed, quality, id } = path;
  const { loss, rttMs = Infinity } = quality;
  const excess = inSteps(excessOf(path));
  return [isNarrow(path), ...cost, excess, relayed ? 1 : 0, isLimited(path), inSteps(loss), rttMs, id];
}

/** 1 = it takes less than IPv6 asks of every link. */
const isNarrow = ({ mtu }: TrackedPath): number => Number(mtu?.narrow ?? false);

/** 1 = it is a direct one that the inner MTU does not fit, or not as far as is known: none is left for what it may take. */
const isLimited = ({ mtu, relayed }: TrackedPath): number =>
  Number(!relayed && (mtu?.plpmtu === undefined || mtu.limited));

/** What it loses beyond what it may. */
const excessOf = ({ relayed, quality: { loss } }: TrackedPath): number =>
  relayed ? loss : Math.max(0, loss - DIRECT_LOSS_BONUS);

function compare(a: Merits, b: Merits): number {
  const at = a.findIndex((merit, index) => merit !== b[index]);
  return (a[at] ?? 0) - (b[at] ?? 0);
}

function isClearlyBetter(a: TrackedPath, b: TrackedPath, costOf: CostOf): boolean {
  if (compare(costOf(a), costOf(b)) !== 0 || a.relayed !== b.relayed) return true;
  if (isNarrow(a) !== isNarrow(b) || isLimited(a) !== isLimited(b)) return true;
  if (Math.abs(a.quality.loss - b.quality.loss) > 2 * LOSS_STEP) return a.quality.loss < b.quality.loss;
  return (a.quality.rttMs ?? Infinity) < (b.quality.rttMs ?? Infinity) * SHORTER - SHORTER_MS;
}

const inSteps = (loss: number): number => Math.round(loss / LOSS_STEP);
