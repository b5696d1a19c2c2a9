import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  KeepaliveInterval,
  LONGEST_KEEPALIVE_MS,
  SHORTEST_KEEPALIVE_MS,
} from '../../ts/core/path/keepalive-interval.js';

describe('how long a path may be silent', () => {
  /** Silences as long as they may be, on a way that forgets after so long. */
  const silences = (interval: KeepaliveInterval, lifetimeMs: number, count: number): number[] =>
    Array.from({ length: count }, (_, n) => {
      const silent = interval.next(n);
      if (silent <= lifetimeMs) interval.kept(silent);
      else interval.forgotten(silent, n);
      return silent;
    });

  test('grows by half from the shortest to the longest while it is kept', () => {
    const grown = silences(new KeepaliveInterval(), Infinity, 6);
    assert.deepEqual(grown, [15_000, 22_500, 33_750, 50_625, 60_000, 60_000]);
    assert.deepEqual([grown[0], grown[5]], [SHORTEST_KEEPALIVE_MS, LONGEST_KEEPALIVE_MS]);
  });

  for (const lifetime of [20_000, 30_000, 45_000, 59_000])
    test(`is too long once, where it is forgotten after ${lifetime / 1000} s, and safe from then on`, () => {
      const all = silences(new KeepaliveInterval(), lifetime, 20);
      assert.equal(all.filter((each) => each > lifetime).length, 1, all.join(' '));
      assert.ok((all.at(-1) ?? 0) <= 0.8 * Math.min(...all.filter((each) => each > lifetime)));
    });

  test('is never below the shortest: a way that forgets sooner is of no use, and no reason to send more', () => {
    const all = silences(new KeepaliveInterval(), 5000, 20);
    assert.deepEqual(new Set(all), new Set([SHORTEST_KEEPALIVE_MS]));
  });

  test('is found out again half an hour after it was too long', () => {
    const interval = new KeepaliveInterval();
    silences(interval, 30_000, 5);
    assert.equal(interval.next(1_000_000), 22_500);
    assert.equal(interval.next(2_000_000), 33_750);
  });

  test('is not what a path died of in a silence that it had survived', () => {
    const interval = new KeepaliveInterval();
    silences(interval, Infinity, 3);
    assert.equal(interval.forgotten(30_000, 0), false);
    assert.equal(interval.next(0), 50_625);
    assert.equal(interval.forgotten(50_625, 0), true);
  });
});
