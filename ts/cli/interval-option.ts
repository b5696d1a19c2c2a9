// Seconds between two of something, as --interval takes them.

import { ExitCode, OperatorError } from '../host/operator-error.js';

/**
 * @param least seconds
 * @returns ms. @throws OperatorError naming what it takes
 */
export function intervalOf(value: string, least: number, example: string): number {
  const seconds = Number(value);
  if (/^\d+(\.\d+)?$/.test(value) && seconds >= least && seconds <= 3600) return seconds * 1000;
  throw new OperatorError(
    ExitCode.usage,
    '--interval',
    `"${value}" is not a number of seconds from ${least} to 3600`,
    `Type for example: --interval ${example}`,
  );
}
