// A state directory that is removed after the test.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { StateDirectory } from '../../ts/daemon/state/state-directory.js';

export function temporaryDirectory(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), 'omerta-test-'));
  t.after(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

/** Not created yet. */
export function temporaryState(t: TestContext): StateDirectory {
  return new StateDirectory(join(temporaryDirectory(t), 'state'));
}
