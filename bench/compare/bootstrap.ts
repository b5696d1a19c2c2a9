// How far apart two sets of samples are, and how sure that is: the percentile bootstrap (Efron, "Bootstrap Methods:
// Another Look at the Jackknife", 1979, and Efron & Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13).

import { generator } from '../../ts/lab/seeded-random.js';
import { percentile } from '../../ts/lab/statistics.js';

const RESAMPLES = 4000;
/** A smaller difference is called none: code is laid out differently in every build. */
export const NEGLIGIBLE = 0.02;
/** With fewer samples all of them lie on one side by chance too often: of six, three times in a hundred. */
export const CERTAIN_SAMPLES = 8;
/** With fewer nothing is said: two lie on one side every other time, five once in sixteen. */
export const LEAST_SAMPLES = 5;

/** The second's median over the first's, with its intervals of confidence. */
export interface Ratio {
  readonly ratio: number;
  readonly low95: number;
  readonly high95: number;
  readonly low99: number;
  readonly high99: number;
  /** Of the set that has fewer. */
  readonly samples: number;
}

export type Verdict = 'differs' | 'may-differ' | 'same' | 'too-noisy';

/**
 * @param paired sample i of both was taken at the same time, by runs in turn: what shook the machine shook both.
 * @returns undefined where there are no samples, or zeros, which nothing is a multiple of.
 */
export function ratioOf(
  before: readonly number[],
  after: readonly number[],
  paired: boolean,
): Ratio | undefined {
  const samples = Math.min(before.length, after.length);
  if (samples === 0 || [...before, ...after].some((value) => !Number.isFinite(value) || value <= 0))
    return undefined;
  // The same every time, so that the same reports compare the same.
  const random = generator(1);
  const draw = (values: readonly number[]): number[] =>
    values.map(() => values[Math.floor(random() * values.length)] ?? NaN);
  const ratios = before.slice(0, samples).map((value, i) => (after[i] ?? NaN) / value);
  const once = paired
    ? (): number => median(draw(ratios))
    : (): number => median(draw(after)) / median(draw(before));
  const resampled = Array.from({ length: RESAMPLES }, once);
  const at = (fraction: number): number => percentile(resampled, fraction) ?? NaN;
  return {
    ratio: paired ? median(ratios) : median(after) / median(before),
    low95: at(0.025),
    high95: at(0.975),
    low99: at(0.005),
    high99: at(0.995),
    samples,
  };
}

/** What may be said of it. */
export function verdictOf({ ratio, low95, high95, low99, high99, samples }: Ratio): Verdict {
  if (samples < LEAST_SAMPLES) return 'too-noisy';
  const isCertain = low99 > 1 + NEGLIGIBLE || high99 < 1 - NEGLIGIBLE;
  if (isCertain && samples >= CERTAIN_SAMPLES) return 'differs';
  if (low95 > 1 || high95 < 1) return Math.abs(ratio - 1) > NEGLIGIBLE ? 'may-differ' : 'same';
  const isNarrow = low95 >= 1 - 2 * NEGLIGIBLE && high95 <= 1 + 2 * NEGLIGIBLE;
  return isNarrow ? 'same' : 'too-noisy';
}

/** The middle value, or halfway between the two in the middle. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const half = sorted.length / 2;
  const upper = sorted[Math.floor(half)] ?? NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[half - 1] ?? NaN) + upper) / 2;
}
