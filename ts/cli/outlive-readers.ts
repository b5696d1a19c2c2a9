// What keeps a process that serves alive when nobody reads its output any more. Other commands end when
// their reader has gone (program.ts); their output is all they are for.

import { NonBlockingOutput } from '../host/non-blocking-output.js';

const STANDARD_OUTPUT = 1;

/** Lets standard output fail without ending the process. */
export function outliveReaders(): void {
  process.stdout.removeAllListeners('error');
  process.stdout.on('error', () => undefined);
}

/** Writes text to standard output without waiting for whoever reads it. */
export function printUnattended(text: string): void {
  const output = new NonBlockingOutput(STANDARD_OUTPUT);
  output.write(`${text}\n`);
}
