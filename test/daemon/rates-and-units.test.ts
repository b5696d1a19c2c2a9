import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { RateSampler } from '../../ts/status/model/rate-sampler.js';
import { sparkline } from '../../ts/status/page/sparkline.js';
import { latencyWithin, sumLatencies } from '../../ts/status/model/latency.js';
import { formatBytes, formatCount, formatDuration, formatNanoseconds } from '../../ts/host/units.js';

describe('rates and units', () => {
  test('a rate is the difference of two samples over the time between them', () => {
    const sampler = new RateSampler();
    sampler.sample(
      0,
      new Map([
        ['rx_bytes', 100],
        ['drop_a', 1],
        ['drop_b', 0],
      ]),
    );
    sampler.sample(
      500,
      new Map([
        ['rx_bytes', 600],
        ['drop_a', 2],
        ['drop_b', 4],
      ]),
    );
    const values = Object.fromEntries(sampler.series().map(({ title, values: [first] }) => [title, first]));
    assert.deepEqual(values, { Received: 1000, Sent: 0, Forwarded: 0, Dropped: 10 });
  });

  test('counters that start again from zero are no negative rate', () => {
    const sampler = new RateSampler();
    sampler.sample(0, new Map([['tx_bytes', 5000]]));
    sampler.sample(1000, new Map([['tx_bytes', 10]]));
    assert.deepEqual(sampler.series()[1]?.values, [0]);
  });

  test('a latency histogram tells what part of the samples stays within which bound', () => {
    const one = { boundsNs: [1024, 2048], counts: [50, 40, 10], sumNs: 200_000 };
    assert.deepEqual(
      [0.5, 0.51, 0.9, 0.91].map((part) => latencyWithin(one, part)),
      [1024, 2048, 2048, Infinity],
    );
    const none = { boundsNs: [1024, 2048], counts: [0, 0, 0], sumNs: 0 };
    assert.equal(sumLatencies([none, undefined]), undefined);
    assert.deepEqual(sumLatencies([one, none, undefined, one]), {
      boundsNs: [1024, 2048],
      counts: [100, 80, 20],
      sumNs: 400_000,
    });
    assert.deepEqual([1024, 131_072, 1_073_741_824, Infinity].map(formatNanoseconds), [
      '1.0 µs',
      '131 µs',
      '1.1 s',
      '∞',
    ]);
  });

  test('only the last five minutes are kept', () => {
    const sampler = new RateSampler();
    for (let i = 0; i < 400; i++) sampler.sample(i * 2000, new Map([['rx_bytes', i * i]]));
    const values = sampler.series()[0]?.values ?? [];
    assert.equal(values.length, 150);
    assert.equal(values.at(-1), (399 ** 2 - 398 ** 2) / 2);
  });

  test('a chart stays inside its box and holds no more than numbers', () => {
    const svg = sparkline([0, 5e9, 1, 0]);
    const points = /polyline class="line" points="([^"]+)"/.exec(svg)?.[1]?.split(' ') ?? [];
    assert.equal(points.length, 4);
    for (const point of points) {
      const [x = NaN, y = NaN] = point.split(',').map(Number);
      assert.ok(x >= 0 && x <= 240 && y >= 0 && y <= 48, point);
    }
    assert.doesNotMatch(sparkline([]) + sparkline([1]), /polyline|NaN/);
  });

  test('numbers are written as people read them', () => {
    assert.deepEqual([0, 999, 1000, 1234, 99_949, 999_600, 1.5e9].map(formatBytes), [
      '0 B',
      '999 B',
      '1.0 kB',
      '1.2 kB',
      '99.9 kB',
      '1.0 MB',
      '1.5 GB',
    ]);
    assert.deepEqual([5, 12_300].map(formatCount), ['5', '12.3 k']);
    assert.deepEqual([0, 59, 61, 3600, 90_061, 172_800].map(formatDuration), [
      '0 s',
      '59 s',
      '1 min 1 s',
      '1 h',
      '1 d 1 h',
      '2 d',
    ]);
  });
});
