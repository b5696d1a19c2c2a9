// Tables on a terminal.

import type { Spread } from './spread.js';

/** A number with as many digits as mean something. */
export const short = (value: number): string =>
  value.toLocaleString('en-US', value < 20 ? { maximumFractionDigits: 2 } : { maximumFractionDigits: 0 });

/** Median (smallest–largest), in multiples of `unit`. */
export function spreadText(values: Spread | undefined, unit = 1): string {
  if (values === undefined) return '';
  const { median, min, max } = values;
  return `${short(median / unit)} (${short(min / unit)}–${short(max / unit)})`;
}

/** Rows as lines: the first column to the left, the others to the right. */
export function columns(rows: readonly (readonly string[])[]): string[] {
  const widths: number[] = [];
  for (const row of rows) row.forEach((cell, i) => (widths[i] = Math.max(widths[i] ?? 0, cell.length)));
  return rows.map((row) =>
    row
      .map((cell, i) => (i === 0 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0)))
      .join('  ')
      .trimEnd(),
  );
}
