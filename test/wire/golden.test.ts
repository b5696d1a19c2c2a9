import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { legHome } from '../../ts/wire/leg-slots.js';
import { DROP_REASONS, VERDICTS } from '../../ts/wire/verdict.js';
import { formatSocketAddress } from '../../ts/wire/socket-address.js';
import { goldenText, legHomesText } from '../golden/generate.js';
import {
  applySetting,
  bytesOf,
  entryOf,
  GOLDEN_ACCOUNTS,
  GOLDEN_FILE,
  hexOf,
  LEG_HOMES_FILE,
  readGolden,
  readLegHomes,
  socketAddress,
} from '../golden/golden.js';
import { IMPLEMENTATIONS } from './implementations.js';

const golden = readGolden();

test('the golden files are what their generator writes', () => {
  const remedy = 'run: node dist/test/golden/generate.js';
  assert.equal(readFileSync(GOLDEN_FILE, 'utf8'), goldenText(), remedy);
  assert.equal(readFileSync(LEG_HOMES_FILE, 'utf8'), legHomesText(), remedy);
});

test('a leg id has the home the golden file gives it', () => {
  for (const { id, slots, home } of readLegHomes())
    assert.equal(legHome(id, slots), home, `${id} of ${slots}`);
});

test('the golden packets show every verdict and every drop reason', () => {
  const packets = golden.flatMap((sequence) => sequence.packets);
  assert.deepEqual(new Set(packets.map((packet) => packet.verdict)), new Set(VERDICTS));
  assert.deepEqual(new Set(packets.map((packet) => packet.reason)), new Set(DROP_REASONS));
});

for (const { name, make } of IMPLEMENTATIONS) {
  describe(`golden packets, ${name}`, () => {
    for (const sequence of golden) {
      test(sequence.name, () => {
        const table = make(64, GOLDEN_ACCOUNTS);
        for (const setting of sequence.settings) applySetting(table, setting);
        for (const leg of sequence.legs) assert.ok(table.install(entryOf(leg)));
        for (const packet of sequence.packets) {
          for (const setting of packet.settings ?? []) applySetting(table, setting);
          for (const id of packet.remove ?? []) assert.ok(table.remove(id));
          for (const leg of packet.install ?? []) assert.ok(table.install(entryOf(leg)));
          const datagram = bytesOf(packet.hex, packet.zeros);
          const decision = table.judge(socketAddress(packet.from), datagram, BigInt(packet.now));
          assert.deepEqual(
            {
              verdict: decision.verdict,
              reason: decision.reason,
              leg: decision.leg,
              to: decision.next && formatSocketAddress(decision.next),
              out: hexOf(datagram),
            },
            {
              verdict: packet.verdict,
              reason: packet.reason,
              leg: packet.leg,
              to: packet.to,
              out: hexOf(bytesOf(packet.out ?? packet.hex, packet.zeros)),
            },
            packet.shows,
          );
        }
        assert.deepEqual(
          table
            .legs()
            .map(({ id, packets, bytes }) => ({ id, packets: Number(packets), bytes: Number(bytes) }))
            .sort((a, b) => a.id - b.id),
          sequence.counters.toSorted((a, b) => a.id - b.id),
        );
        for (const { kind, index, ...expected } of sequence.accounts) {
          const counters = Object.entries(table.account(kind, index));
          const got = Object.fromEntries(counters.map(([name, value]) => [name, Number(value)]));
          assert.deepEqual(got, expected, `${kind} ${index}`);
        }
      });
    }
  });
}
