// A pipe that is full, whose reader is there and reads nothing.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { closeSync, constants, openSync, writeSync } from 'node:fs';
import type { TestContext } from 'node:test';

/** @param path where it is made. @returns the descriptor that is written to; it is closed with the test */
export function fullPipe(t: TestContext, path: string): number {
  execFileSync('mkfifo', [path]);
  const reader = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  const writer = openSync(path, constants.O_WRONLY);
  const filler = openSync(path, constants.O_WRONLY | constants.O_NONBLOCK);
  t.after(() => [reader, writer, filler].forEach((fd) => closeSync(fd)));
  assert.throws(() => {
    for (;;) writeSync(filler, Buffer.alloc(4096));
  }, /EAGAIN/);
  return writer;
}
