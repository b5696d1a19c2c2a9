// One way out that is full: datagrams to others go out, memory stays, and who asks is heard.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { packageRoot } from '../../ts/host/version.js';

interface Outcome {
  /** To each of 50 others. */
  readonly sent: number;
  /** At the one of them that fewest arrived at. */
  readonly arrived: number;
  readonly grewMiB: number;
  readonly dropped: number;
  readonly heard: number;
}

function outcome(...bind: string[]): Outcome {
  const script = join(packageRoot(), 'dist/test/engine/slow-way-out.js');
  const printed = execFileSync('unshare', ['-n', process.execPath, script, ...bind], { encoding: 'utf8' });
  return JSON.parse(printed) as Outcome;
}

const skip = process.getuid?.() === 0 ? false : 'needs root';

describe('a way out of the wasm engine that is full', { skip }, () => {
  it('delays nobody else, and loses what it has no room for', () => {
    const { sent, arrived, dropped, grewMiB, heard } = outcome();
    assert.ok(sent - arrived <= 2, `${arrived} of ${sent} arrived elsewhere`);
    assert.ok(dropped > 20_000, `${dropped} dropped`);
    assert.ok(grewMiB < 48, `${grewMiB} MiB`);
    assert.ok(heard >= 95, `${heard} of 100 heard`);
  });

  it('of the one address that was chosen has no more waiting than there is room for', () => {
    const { dropped, grewMiB } = outcome('198.51.100.2');
    assert.ok(dropped > 20_000, `${dropped} dropped`);
    assert.ok(grewMiB < 48, `${grewMiB} MiB`);
  });
});
