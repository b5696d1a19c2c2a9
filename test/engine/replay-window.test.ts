import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { REJECT_AFTER_MESSAGES } from '../../ts/wire/session-constants.js';
import { REPLAY_WINDOW_SIZE, ReplayWindow } from '../../ts/engine/wasm/replay-window.js';

test('each counter is accepted once', () => {
  const window = new ReplayWindow();
  for (const counter of [0n, 1n, 9n, 8n, 7n, 2n ** 32n, 2n ** 32n - 1n, 2n ** 63n]) {
    assert.equal(window.accept(counter), true, `${counter}`);
    assert.equal(window.accept(counter), false, `${counter} again`);
  }
});

test('8128 counters behind the greatest are still told apart, one more is too old', () => {
  const greatest = 100_000n;
  const window = new ReplayWindow();
  assert.ok(window.accept(greatest));
  assert.equal(window.accept(greatest - REPLAY_WINDOW_SIZE - 1n), false);
  for (let counter = greatest - REPLAY_WINDOW_SIZE; counter < greatest; counter++) {
    assert.equal(window.accept(counter), true, `${counter}`);
  }
  assert.equal(window.accept(greatest - REPLAY_WINDOW_SIZE), false);
});

test('a jump over the whole ring forgets nothing it must remember', () => {
  const window = new ReplayWindow();
  assert.ok(window.accept(5n));
  assert.ok(window.accept(5n + 8192n));
  assert.equal(window.accept(5n), false);
  assert.ok(window.accept(6n + 8192n - 100n));
  assert.ok(window.accept(2n ** 40n));
  assert.ok(window.accept(2n ** 40n - 8128n));
  assert.equal(window.accept(2n ** 40n - 8129n), false);
});

test('counters from REJECT_AFTER_MESSAGES on are refused, so the nonce never wraps', () => {
  const window = new ReplayWindow();
  assert.ok(window.accept(REJECT_AFTER_MESSAGES - 1n));
  assert.equal(window.accept(REJECT_AFTER_MESSAGES), false);
  assert.equal(window.accept(2n ** 64n - 1n), false);
});

test('the ring agrees with a set of all counters seen', () => {
  const steps = fc.array(
    fc.oneof(
      { weight: 6, arbitrary: fc.bigInt({ min: -70n, max: 70n }) },
      { weight: 2, arbitrary: fc.bigInt({ min: -8300n, max: 8300n }) },
      { weight: 1, arbitrary: fc.bigInt({ min: 0n, max: 2n ** 34n }) },
    ),
    { maxLength: 300 },
  );
  fc.assert(
    fc.property(steps, (deltas) => {
      const window = new ReplayWindow();
      const seen = new Set<bigint>();
      let greatest = 0n;
      for (const delta of deltas) {
        const counter = greatest + delta < 0n ? 0n : greatest + delta;
        const expected = !seen.has(counter) && counter + REPLAY_WINDOW_SIZE >= greatest;
        assert.equal(window.accept(counter), expected, `${counter} after ${greatest}`);
        seen.add(counter);
        if (counter > greatest) greatest = counter;
      }
    }),
  );
});
