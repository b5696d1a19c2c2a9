// Max-min fair sharing of the host's rate between identities: native/ratelimit/fair_share.h says how
// and why; the same numbers come out here.

/** How often shares are dealt anew. */
export const FAIR_SHARE_INTERVAL_MS = 100;

/** Part of the host's backlog that is worked off in one interval, beside serving the demand. */
const BACKLOG_PART = 10;
/** What is left to share at the least, as a part of an interval. */
const LEAST_PART = 2;
/** What was asked for in a longer time says nothing about now. */
const LONGEST_NS = 10e9;
/** While nothing is known of the demand an identity may take half of the host. */
const UNKNOWN = 2 * 65536;
const U32_MAX = 0xffffffff;

/**
 * The level that shares `capacity` max-min fairly; when there is enough for all, the largest demand and
 * what is spare. Whole numbers.
 */
export function fairLevel(demands: readonly number[], capacity: number): number {
  let left = capacity;
  let largest = 0;
  let asking = [...demands];
  // Serves whoever asks for less than an equal part of what is left, and shares again, until nobody does.
  while (asking.length > 0) {
    const part = Math.floor(left / asking.length);
    const served = asking.filter((demand) => demand <= part);
    if (served.length === 0) return part;
    for (const demand of served) {
      left -= demand;
      largest = Math.max(largest, demand);
    }
    asking = asking.filter((demand) => demand > part);
  }
  return largest + left;
}

export class FairShare {
  #before: readonly bigint[] = [];
  #lastUpdate: number | undefined;

  /**
   * To be called about ten times a second.
   * @param totals demand of each identity so far, ns
   * @param now ns on a monotonic clock
   * @param backlog ns the theoretical arrival time of the host's bucket is ahead of now
   * @returns the factor of the fair share until the next call
   */
  update(totals: readonly bigint[], now: number, backlog: number): number {
    const demands = totals
      .map((total, index) => Number(total - (this.#before[index] ?? 0n)))
      .filter((demand) => demand > 0);
    const elapsed = now - (this.#lastUpdate ?? now);
    this.#before = totals;
    this.#lastUpdate = now;
    if (elapsed <= 0 || elapsed > LONGEST_NS) return UNKNOWN;
    const capacity = elapsed - Math.min(Math.floor(backlog / BACKLOG_PART), Math.floor(elapsed / LEAST_PART));
    const share = Math.max(fairLevel(demands, capacity), 1);
    return Math.min(Math.ceil((elapsed * 65536) / share), U32_MAX);
  }

  /** There is no host limit any more: the next update is a first one. */
  reset(): void {
    this.#lastUpdate = undefined;
  }
}
