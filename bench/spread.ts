// One measure over the rounds of a benchmark.

import { percentile } from '../ts/lab/statistics.js';

export interface Spread {
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

export function spread(values: readonly number[]): Spread {
  return {
    median: percentile(values, 0.5) ?? NaN,
    min: Math.min(...values),
    max: Math.max(...values),
  };
}

/**
 * One subject's values over another's, round by round: what shakes both shakes the ratio little.
 * Undefined when a round of one is missing.
 */
export function ratio(
  values: readonly number[] | undefined,
  others: readonly number[] | undefined,
): Spread | undefined {
  if (values === undefined || others === undefined) return undefined;
  const ratios = values.flatMap((value, i) => {
    const other = others[i];
    return other === undefined ? [] : [value / other];
  });
  return ratios.length === 0 ? undefined : spread(ratios);
}
