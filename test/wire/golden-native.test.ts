// The golden packets through the compiled C++ table and through the XDP relay in the kernel.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { nativeProgram } from './native-build.js';

const SKIPPED = 77;

for (const [engine, path] of [
  ['the C++ forwarding table', 'native/test/golden_test'],
  ['the XDP relay', 'xdp/test/golden_bpf_test'],
] as const) {
  test(`${engine} judges the golden packets as they say`, (t) => {
    const program = nativeProgram(path);
    if ('missing' in program) {
      t.skip(program.missing);
      return;
    }
    const run = spawnSync(program.file, { encoding: 'utf8' });
    if (run.status === SKIPPED) {
      t.skip(run.stdout.trim().replace(/^SKIP: /, ''));
      return;
    }
    assert.equal(run.status, 0, run.stdout + run.stderr);
    assert.match(run.stdout, /^[1-9]\d+ passed, 0 failed$/m);
  });
}
