import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { CircuitStatus } from '../../ts/core/runtime/mesh-status.js';
import {
  SORT_KEYS,
  filtered,
  carriedCircuits,
  sorted,
  totals,
  withRates,
  type CarriedCircuits,
} from '../../ts/status/model/relay-circuits.js';

function circuit(
  id: string,
  caller: string,
  callee: string,
  more: Partial<CircuitStatus> = {},
): CircuitStatus {
  return {
    id,
    callerPeerId: `omerta1${caller}`,
    calleePeerId: `omerta1${callee}`,
    network: 'aa00',
    previousRelays: [],
    consent: 'asked',
    nextRelay: undefined,
    legs: [],
    ageMs: 0,
    expiresInMs: 0,
    ...more,
  };
}

const CIRCUITS = [
  circuit('c1', 'alice', 'bob', { legs: [1, 2], ageMs: 5040, expiresInMs: 9000 }),
  circuit('c2', 'alice', 'carol', { legs: [3, 4], ageMs: 1000, expiresInMs: 2000, network: 'bb00' }),
  circuit('c3', 'dave', 'bob'),
];

/** @param counts packets, bytes and drops by leg. */
function look(
  atMs: number,
  counts: Readonly<Record<number, readonly [number, number, number]>>,
): CarriedCircuits {
  const legs = Object.entries(counts).map(([id, [packets, bytes, refused]]) => ({
    id: Number(id),
    packets,
    bytes,
    refused,
    idleMs: packets === 0 ? undefined : 100 * Number(id),
  }));
  return carriedCircuits(CIRCUITS, legs, new Map([['aa00', 'home']]), atMs);
}

const BEFORE = look(1000, { 1: [10, 1000, 0], 2: [1, 100, 0], 3: [0, 0, 0], 4: [0, 0, 0] });
const AFTER = look(3000, { 1: [30, 3000, 4], 2: [2, 200, 0], 3: [100, 9000, 0], 4: [0, 0, 0] });

describe('what a relay carries', () => {
  test('each circuit shows its ends, network, times and both directions', () => {
    const [first, second, third] = AFTER.circuits;
    assert.deepEqual(first, {
      id: 'c1',
      state: 'open',
      callerPeerId: 'omerta1alice',
      calleePeerId: 'omerta1bob',
      network: 'aa00',
      networkName: 'home',
      previousRelays: [],
      consent: 'asked',
      nextRelay: undefined,
      ageSeconds: 5,
      expiresInSeconds: 9,
      idleSeconds: 0.1,
      fromCaller: { packets: 30, bytes: 3000, dropped: 4 },
      fromCallee: { packets: 2, bytes: 200, dropped: 0 },
    });
    assert.equal(second?.networkName, undefined);
    assert.deepEqual(
      [third?.state, third?.idleSeconds, third?.fromCaller.packets],
      ['half-open', undefined, 0],
    );
  });

  test('rates are differences over the time between, never negative, and a new circuit counts whole', () => {
    const rates = withRates(BEFORE, AFTER).map(({ rate }) => rate);
    assert.deepEqual(rates[0], { packets: 10.5, bytes: 1050, dropped: 2 });
    assert.deepEqual(rates[2], { packets: 0, bytes: 0, dropped: 0 });
    const [newcomer] = withRates({ atMs: 1000, circuits: [] }, AFTER);
    assert.deepEqual(newcomer?.rate, { packets: 16, bytes: 1600, dropped: 2 });
    const [reinstalled] = withRates(AFTER, { ...BEFORE, atMs: 5000 });
    assert.deepEqual(reinstalled?.rate, { packets: 0, bytes: 0, dropped: 0 });
  });

  test('every sort key puts the right circuit first', () => {
    const rated = withRates(BEFORE, AFTER);
    const first = Object.fromEntries(SORT_KEYS.map((key) => [key, sorted(rated, key)[0]?.id]));
    assert.deepEqual(first, {
      rate: 'c2',
      'packet-rate': 'c2',
      bytes: 'c2',
      packets: 'c2',
      drops: 'c1',
      age: 'c1',
      expiry: 'c3',
    });
  });

  test('filters take the beginning of a peer id of either end, and a network by name or id', () => {
    const ids = (filter: Parameters<typeof filtered>[1]): string[] =>
      filtered(AFTER.circuits, filter).map(({ id }) => id);
    assert.deepEqual(ids({}), ['c1', 'c2', 'c3']);
    assert.deepEqual(ids({ peer: 'omerta1bo' }), ['c1', 'c3']);
    assert.deepEqual(ids({ peer: 'alice' }), ['c1', 'c2']);
    assert.deepEqual(ids({ network: 'home' }), ['c1', 'c3']);
    assert.deepEqual(ids({ network: 'bb' }), ['c2']);
    assert.deepEqual(ids({ peer: 'bob', network: 'bb00' }), []);
  });

  test('sums by identity count a circuit for both ends, sums by network once', () => {
    const rated = withRates(BEFORE, AFTER);
    const identities = totals(rated, 'identity');
    assert.deepEqual(
      identities.map(({ key, circuits, bytes }) => [key, circuits, bytes]),
      [
        ['omerta1alice', 2, 12_200],
        ['omerta1carol', 1, 9000],
        ['omerta1bob', 2, 3200],
        ['omerta1dave', 1, 0],
      ],
    );
    assert.deepEqual(identities[0]?.rate, { packets: 60.5, bytes: 5550, dropped: 2 });
    assert.deepEqual(
      totals(rated, 'network').map(({ key, name, circuits, packets }) => [key, name, circuits, packets]),
      [
        ['bb00', undefined, 1, 100],
        ['aa00', 'home', 2, 32],
      ],
    );
    assert.deepEqual(
      totals(rated, 'circuit').map(({ key }) => key),
      ['c2', 'c1', 'c3'],
    );
  });
});
