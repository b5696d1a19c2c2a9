// How a process that was put into the background tells the one that started it how its start went.

import { OperatorError } from '../host/operator-error.js';

/** Sent over the IPC channel, once. */
export type StartReport =
  | { readonly type: 'ready' }
  | {
      readonly type: 'failed';
      readonly exitCode: number;
      readonly field: string;
      readonly expected: string;
      readonly next: string;
    };

function report(message: StartReport): Promise<void> {
  return new Promise((resolve) => {
    if (process.send === undefined) resolve();
    else process.send(message, undefined, {}, () => resolve());
  });
}

/** Reports success and lets go of the parent, if one waits. */
export async function reportReady(): Promise<void> {
  await report({ type: 'ready' });
  if (process.connected) process.disconnect();
}

/** Reports an OperatorError; the caller throws it. */
export async function reportFailure(error: unknown): Promise<void> {
  if (!(error instanceof OperatorError)) return;
  const { exitCode, field, expected, next } = error;
  await report({ type: 'failed', exitCode, field, expected, next });
}
