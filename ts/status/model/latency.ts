// Reading a latency histogram of the engine.

import type { LatencyHistogram } from '../../contract/engine.js';

/** Adds histograms with the same bounds up; undefined when there is none or nothing was sampled. */
export function sumLatencies(
  histograms: readonly (LatencyHistogram | undefined)[],
): LatencyHistogram | undefined {
  const given = histograms.filter((histogram) => histogram !== undefined);
  const [first] = given;
  if (first === undefined || given.every(({ counts }) => counts.every((count) => count === 0)))
    return undefined;
  return {
    boundsNs: first.boundsNs,
    counts: first.counts.map((_, bucket) =>
      given.reduce((sum, { counts }) => sum + (counts[bucket] ?? 0), 0),
    ),
    sumNs: given.reduce((sum, { sumNs }) => sum + sumNs, 0),
  };
}

/** The bound in ns that this part (0 to 1) of the samples stays within; Infinity beyond the last one. */
export function latencyWithin({ boundsNs, counts }: LatencyHistogram, part: number): number {
  const wanted = counts.reduce((sum, count) => sum + count, 0) * part;
  let seen = 0;
  for (const [bucket, count] of counts.entries()) {
    seen += count;
    if (seen >= wanted && seen > 0) return boundsNs[bucket] ?? Infinity;
  }
  return Infinity;
}
