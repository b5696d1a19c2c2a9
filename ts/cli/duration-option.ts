// A time as it is typed: 90s, 15min, 2h.

import { ExitCode, OperatorError } from '../host/operator-error.js';

const UNITS: Readonly<Record<string, number>> = {
  s: 1000,
  min: 60_000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};
const LONGEST_MS = 366 * 86_400_000;

/** `90s`, `15min`, `2h`, `7d` in milliseconds. @throws OperatorError */
export function durationOf(option: string, text: string): number {
  const [, count, unit] = /^([1-9]\d{0,5})(s|min|m|h|d)$/.exec(text) ?? [];
  const milliseconds = Number(count) * (UNITS[unit ?? ''] ?? NaN);
  if (milliseconds > 0 && milliseconds <= LONGEST_MS) return milliseconds;
  throw new OperatorError(
    ExitCode.usage,
    option,
    `"${text}" is not a time such as 90s, 15min, 2h or 7d, a year at most`,
    `Type for example: ${option} 2h`,
  );
}
