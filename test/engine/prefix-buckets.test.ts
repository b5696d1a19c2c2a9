// What strangers may cost, by prefix: a table that cannot grow and is never closed.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PrefixBuckets } from '../../ts/engine/wasm/prefix-buckets.js';
import { parseIp } from '../../ts/wire/socket-address.js';

const KEY = Uint8Array.from({ length: 16 }, (_, index) => index);

function ipOf(text: string): Uint8Array {
  const ip = parseIp(text);
  assert.ok(ip !== undefined);
  return ip;
}

test('a prefix has a budget of its own, refilled with time', () => {
  const buckets = new PrefixBuckets({ perSecond: 2, burst: 3, ipv4Bits: 24, ipv6Bits: 48 }, KEY);
  assert.deepEqual(
    ['192.0.2.1', '192.0.2.77', '192.0.2.255', '192.0.2.1'].map((text) => buckets.take(ipOf(text), 0)),
    [true, true, true, false],
  );
  assert.equal(buckets.take(ipOf('192.0.3.1'), 0), true, 'another /24');
  assert.equal(buckets.take(ipOf('192.0.2.1'), 499), false);
  assert.equal(buckets.take(ipOf('192.0.2.1'), 500), true);
  const same = ['2001:db8:1::1', '2001:db8:1:ffff::1', '2001:db8:1:2:3:4:5:6', '2001:db8:1::2'];
  assert.deepEqual(
    same.map((text) => buckets.take(ipOf(text), 0)),
    [true, true, true, false],
  );
  assert.equal(buckets.take(ipOf('2001:db8:2::1'), 0), true, 'another /48');
});

test('a table of budgets that somebody fills is bounded, and closed to nobody who comes after', () => {
  const buckets = new PrefixBuckets({ perSecond: 1, burst: 2, ipv4Bits: 32, ipv6Bits: 64 }, KEY);
  const of = (number: number): Uint8Array =>
    ipOf(`10.${number >> 16}.${(number >> 8) & 255}.${number & 255}`);
  for (let flooding = 0; flooding < 100_000; flooding++) buckets.take(of(flooding), 0);
  assert.equal(buckets.size, 4096);
  // Of each bucket there is one token again, whoever comes for it.
  const newcomers = Array.from({ length: 100 }, (_, index) => of(200_000 + index));
  assert.ok(newcomers.filter((ip) => buckets.take(ip, 1000)).length > 80);
});

test('the same addresses share a bucket as in the native engine', () => {
  // The same numbers are in native/test/prefix_buckets_test.cc.
  const refused = (of: (number: number) => string): number[] => {
    const buckets = new PrefixBuckets({ perSecond: 1, burst: 1, ipv4Bits: 24, ipv6Bits: 48 }, KEY);
    return Array.from({ length: 300 }, (_, number) => number).filter(
      (number) => !buckets.take(ipOf(of(number)), 0),
    );
  };
  assert.deepEqual(
    refused((number) => `10.${number >> 8}.${number & 255}.7`),
    [60, 107, 176, 195, 206, 212, 218, 235, 283],
  );
  assert.deepEqual(
    refused((number) => `2001:db8:${number.toString(16)}::7`),
    [86, 113, 115, 151, 159, 169, 171, 192, 199, 207, 241, 273, 274, 299],
  );
});
