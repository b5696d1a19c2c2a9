import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { plain } from './fixtures.js';
import { concat, utf8 } from '../../ts/wire/bytes.js';
import { decodeCbor, encodeCbor } from '../../ts/core/protocol/cbor.js';
import { compareUsage } from '../../ts/core/receipts/receipt-check.js';
import type { Difference, OwnUsage } from '../../ts/core/runtime/receipt-report.js';
import {
  MAX_RECEIPT_BYTES,
  openReceipt,
  signReceipt,
  type UsageReceipt,
} from '../../ts/core/protocol/usage-receipt.js';
import { nodePrimitives } from '../../ts/engine/node-primitives.js';

const SEED = new Uint8Array(32).fill(7);
const sign = (message: Uint8Array): Uint8Array => nodePrimitives.ed25519Sign(SEED, message);
const relay = nodePrimitives.ed25519PublicKey(SEED);

const exactly = (length: number): fc.Arbitrary<Uint8Array> =>
  fc.uint8Array({ minLength: length, maxLength: length });
const usage = plain({ packets: fc.maxSafeNat(), bytes: fc.maxSafeNat() });
const receipts: fc.Arbitrary<UsageReceipt> = plain({
  relay: fc.constant(relay),
  circuit: exactly(16),
  network: exactly(16),
  caller: exactly(32),
  callee: exactly(32),
  issued: fc.maxSafeNat(),
  seconds: fc.maxSafeNat(),
  toCallee: usage,
  toCaller: usage,
});

describe('a usage receipt', () => {
  it('is read back as it was signed, and fits its limit', () => {
    fc.assert(
      fc.property(receipts, (receipt) => {
        const bytes = signReceipt(receipt, sign);
        assert.ok(bytes.length <= MAX_RECEIPT_BYTES);
        assert.deepEqual(openReceipt(nodePrimitives, bytes), receipt);
      }),
    );
  });

  it('with any bit flipped is none', () => {
    fc.assert(
      fc.property(receipts, fc.nat(), (receipt, at) => {
        const bytes = signReceipt(receipt, sign);
        const bit = at % (bytes.length * 8);
        bytes[bit >> 3] = (bytes[bit >> 3] ?? 0) ^ (1 << (bit & 7));
        assert.equal(typeof openReceipt(nodePrimitives, bytes), 'string');
      }),
    );
  });

  it('signed by somebody else, or as something else, is none', () => {
    const receipt = fc.sample(receipts, 1)[0];
    assert.ok(receipt);
    const other = new Uint8Array(32).fill(8);
    const forged = signReceipt(receipt, (message) => nodePrimitives.ed25519Sign(other, message));
    assert.equal(openReceipt(nodePrimitives, forged), 'bad-signature');
    const [body] = decodeCbor(signReceipt(receipt, sign), 1000) as [Uint8Array];
    const relabelled = encodeCbor([body, sign(concat(utf8('omerta peer record v1'), body))]);
    assert.equal(openReceipt(nodePrimitives, relabelled), 'bad-signature');
  });

  it('made of arbitrary bytes never throws', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 600 }), (bytes) => {
        assert.equal(openReceipt(nodePrimitives, bytes), 'malformed');
      }),
    );
  });
});

describe('own counts held against a receipt', () => {
  const counted = (sent: number, received: number, frame = 1000): OwnUsage => ({
    sent: { packets: sent, bytes: sent * frame },
    received: { packets: received, bytes: received * frame },
  });
  const cases: readonly [
    name: string,
    before: OwnUsage,
    after: OwnUsage,
    claimed: OwnUsage,
    whole: boolean,
    expected: Difference[],
  ][] = [
    ['equal', counted(10_000, 5000), counted(10_000, 5000), counted(10_000, 5000), true, []],
    ['between before and after', counted(900, 900), counted(1100, 1100), counted(1000, 1000), true, []],
    ['two in a hundred lost', counted(9800, 9800), counted(10_000, 9800), counted(9800, 10_000), true, []],
    ['few packets on their way', counted(40, 0), counted(40, 0), counted(0, 40), true, []],
    [
      'padded by a relay that charges for more than it was sent',
      counted(10_000, 10_000),
      counted(10_000, 10_000),
      counted(10_500, 10_000),
      true,
      ['more-than-sent'],
    ],
    [
      'padded in the other direction',
      counted(10_000, 10_000),
      counted(10_000, 10_000),
      counted(10_000, 10_500),
      true,
      ['more-than-received'],
    ],
    [
      'left out',
      counted(10_000, 10_000),
      counted(10_000, 10_000),
      counted(9000, 9000),
      true,
      ['less-than-sent', 'less-than-received'],
    ],
    [
      'counted since a restart only',
      counted(10_000, 10_000),
      counted(10_000, 10_000),
      counted(10, 10),
      false,
      [],
    ],
    [
      'padded after a restart',
      counted(10_000, 10_000),
      counted(10_000, 10_000),
      counted(11_000, 10),
      false,
      ['more-than-sent'],
    ],
    [
      'larger packets than there were',
      counted(10_000, 10_000),
      counted(10_000, 10_000),
      { ...counted(10_000, 10_000), sent: { packets: 10_000, bytes: 12_000_000 } },
      true,
      ['more-than-sent'],
    ],
  ];
  for (const [name, before, after, claimed, whole, expected] of cases)
    it(`${name}: ${expected.length === 0 ? 'agree' : expected.join(', ')}`, () => {
      assert.deepEqual(compareUsage(before, after, claimed, whole), expected);
    });
});
