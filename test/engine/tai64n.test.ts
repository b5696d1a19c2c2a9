import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isLater, tai64n } from '../../ts/engine/wasm/tai64n.js';

test('a timestamp does not tell the exact clock: steps of 16.8 ms', () => {
  for (let ms = 1_800_000_000_000; ms < 1_800_000_000_100; ms++) {
    const stamp = tai64n(ms, undefined);
    assert.deepEqual([...stamp.subarray(9)], [0, 0, 0], 'the low 24 bits of the nanoseconds');
    const seconds = new DataView(stamp.buffer, stamp.byteOffset).getBigUint64(0);
    assert.equal(seconds, 2n ** 62n + 10n + 1_800_000_000n);
  }
});

test('each timestamp is later than the one before, also when the clock stands still or is set back', () => {
  let last = tai64n(1_800_000_000_000, undefined);
  for (const clock of [1_800_000_000_000, 1_800_000_000_001, 1_700_000_000_000, 1_800_000_000_500]) {
    const next = tai64n(clock, last);
    assert.ok(isLater(next, last) && !isLater(last, next) && !isLater(next, next));
    last = next;
  }
});
