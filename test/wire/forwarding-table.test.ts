// What the golden packets do not reach: capacity, removal, counters, and the units of a leg.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { WasmForwardingTable } from '../../ts/engine/wasm/wasm-forwarding-table.js';
import { encodeFrame, FrameKind } from '../../ts/wire/frame.js';
import { UNCHARGED, type Leg } from '../../ts/wire/leg.js';
import { encodeLegEntry, legEntry, type LegEntry } from '../../ts/wire/leg-entry.js';
import { parseSocketAddress, type SocketAddress } from '../../ts/wire/socket-address.js';
import { IMPLEMENTATIONS } from './implementations.js';

function address(text: string): SocketAddress {
  const parsed = parseSocketAddress(text);
  assert.ok(parsed);
  return parsed;
}

const A = address('192.0.2.1:4000');
const key = new Uint8Array(16).fill(7);
const leg: Leg = {
  id: 1,
  key,
  epoch: 2,
  action: 'forward',
  source: A,
  next: { address: address('[2001:db8::1]:5'), id: 9, key: new Uint8Array(16).fill(8), epoch: 3 },
  lifetimeMs: undefined,
  charging: UNCHARGED,
};
const entry = (id: number): LegEntry => legEntry({ ...leg, id }, 0n);
const frame = (legId: number): Uint8Array =>
  encodeFrame({ kind: FrameKind.forward, hopLimit: 8, epoch: 2, legId, key, payload: new Uint8Array(16) });

for (const { name, make } of IMPLEMENTATIONS) {
  describe(name, () => {
    test('holds as many legs as it was made for, and replaces when full', () => {
      const table = make(100);
      for (let id = 0; id < 100; id++) assert.equal(table.install(entry(id)), true);
      assert.equal(table.install(entry(100)), false);
      assert.equal(table.install(entry(50)), true);
      assert.equal(table.size, 100);
      assert.equal(table.remove(50), true);
      assert.equal(table.remove(50), false);
      assert.equal(table.install(entry(100)), true);
      assert.deepEqual(
        new Set(table.legs().map(({ id }) => id)),
        new Set([...Array(101).keys()].filter((id) => id !== 50)),
      );
    });

    test('finds every leg that is there, and no other, however many have come and gone', () => {
      const table = make(64);
      const live = new Set<number>();
      let state = 12345;
      for (let step = 0; step < 20_000; step++) {
        state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
        const id = (state >>> 8) % 128;
        if ((state & 0x80) !== 0) {
          const room = live.has(id) || live.size < 64;
          assert.equal(table.install(entry(id)), room);
          if (room) live.add(id);
        } else {
          assert.equal(table.remove(id), live.delete(id));
        }
      }
      assert.equal(table.size, live.size);
      for (let id = 0; id < 128; id++) {
        assert.equal(table.counters(id) !== undefined, live.has(id), `leg ${id}`);
        assert.equal(table.judge(A, frame(id), 1n).verdict, live.has(id) ? 'forward' : 'drop');
      }
    });

    test('counts what it accepts, by leg', () => {
      const table = make(4);
      const ids = { id: 1, identity: 0, network: 0 };
      table.install(entry(1));
      assert.deepEqual(table.counters(1), { ...ids, packets: 0n, bytes: 0n, lastUsed: 0n });
      table.judge(A, frame(1), 77n);
      table.judge(A, frame(1), 78n);
      table.judge(address('192.0.2.1:4001'), frame(1), 79n);
      assert.deepEqual(table.counters(1), { ...ids, packets: 2n, bytes: 64n, lastUsed: 78n });
      assert.equal(table.counters(2), undefined);
    });

    test('judges a datagram that is a view into a larger buffer', () => {
      const table = make(4);
      table.install(entry(1));
      const buffer = new Uint8Array(100).fill(0xcc);
      buffer.set(frame(1), 33);
      const datagram = buffer.subarray(33, 65);
      assert.equal(table.judge(A, datagram, 1n).verdict, 'forward');
      assert.equal(datagram[2], 7);
      assert.equal(buffer[32], 0xcc);
      assert.equal(buffer[65], 0xcc);
    });

    test('a bad capacity or a forward leg that leads nowhere is refused by name', () => {
      assert.throws(() => make(0), /^RangeError: capacity: 0/);
      assert.throws(() => make(1.5), /^RangeError: capacity: 1.5/);
      assert.throws(() => make(1).install({ ...entry(1), next: undefined }), /^RangeError: next: missing/);
    });
  });
}

test('a WASM table larger than its module’s memory is refused', () => {
  assert.throws(() => new WasmForwardingTable(1 << 30), /^RangeError: capacity/);
});

test('a leg’s lifetime runs from now on the engine’s clock', () => {
  assert.equal(legEntry({ ...leg, lifetimeMs: 1500 }, 10n).expiresAt, 1_500_000_010n);
  assert.equal(legEntry(leg, 10n).expiresAt, 0n);
});

test('a leg that cannot be held is refused by the name of the field', () => {
  const bad: [Partial<Leg>, RegExp][] = [
    [{ source: undefined }, /source: missing; only the contact leg/],
    [{ id: -1 }, /leg\.id: -1/],
    [{ key: new Uint8Array(15) }, /leg\.key: 15 bytes/],
    [{ epoch: 16 }, /leg\.epoch: 16/],
    [{ lifetimeMs: -1 }, /lifetimeMs: -1/],
    [{ charging: { ...UNCHARGED, identity: -1 } }, /charging\.identity: -1/],
    [{ charging: { ...UNCHARGED, network: 65_536 } }, /charging\.network: 65536/],
    [{ charging: { ...UNCHARGED, limits: 0.5 } }, /charging\.limits: 0.5/],
    [{ source: { ip: new Uint8Array(4), port: 1 } }, /source\.ip: 4 bytes/],
    [{ source: { ip: new Uint8Array(16), port: 65536 } }, /source\.port: 65536/],
  ];
  for (const [change, message] of bad) {
    assert.throws(() => encodeLegEntry(legEntry({ ...leg, ...change }, 0n)), message);
  }
});

test('a leg’s 128 bytes are those drawn in the C header', () => {
  const charging = { identity: 6, network: 7, limits: 8 };
  const bytes = encodeLegEntry({ ...entry(0x01020304), expiresAt: 5n, charging });
  assert.equal(
    Buffer.from(bytes).toString('hex'),
    '04030201' +
      '01' +
      '00' +
      '02' +
      '03' +
      '00000000000000000000ffffc0000201' +
      '20010db8000000000000000000000001' +
      '0fa0' +
      '0005' +
      '09000000' +
      '07'.repeat(16) +
      '08'.repeat(16) +
      '0500000000000000' +
      '06000000' +
      '0700' +
      '0800' +
      '00'.repeat(32),
  );
});
