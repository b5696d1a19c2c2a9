import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { concat, utf8 } from '../../ts/wire/bytes.js';
import type { AddressTenure } from '../../ts/core/protocol/address-tenure.js';
import { decodeCbor, encodeCbor } from '../../ts/core/protocol/cbor.js';
import { recordRefusal } from '../../ts/core/protocol/refusal.js';
import {
  EndpointKind,
  MAX_RECORD_BYTES,
  NatBehaviour,
  openPeerRecord,
  signPeerRecord,
  type RecordFields,
} from '../../ts/core/protocol/peer-record.js';
import { nodePrimitives } from '../../ts/engine/node-primitives.js';
import { address, keys, plain, recordFields, WALL_CLOCK } from './fixtures.js';

const self = keys();
const exactly = (length: number): fc.Arbitrary<Uint8Array> =>
  fc.uint8Array({ minLength: length, maxLength: length });

const tenure: fc.Arbitrary<AddressTenure> = plain({
  issuer: exactly(4),
  since: fc.maxSafeNat(),
  until: fc.maxSafeNat(),
  signature: exactly(64),
});
const fields: fc.Arbitrary<RecordFields> = plain({
  networks: fc.array(exactly(16), { maxLength: 2 }),
  endpoints: fc.array(
    plain({
      kind: fc.constantFrom(...Object.values(EndpointKind)),
      priority: fc.nat(65535),
      address: plain({ ip: exactly(16), port: fc.integer({ min: 1, max: 65535 }) }),
    }),
    { maxLength: 8 },
  ),
  relays: fc.array(exactly(32), { maxLength: 4 }),
  nat: fc.constantFrom(...Object.values(NatBehaviour)),
  capabilities: fc.array(fc.stringMatching(/^[a-z]{0,8}$/), { maxLength: 8 }),
  sequence: fc.maxSafeNat(),
  notAfter: fc.integer({ min: WALL_CLOCK / 1000 + 1, max: WALL_CLOCK / 1000 + 7 * 86_400 }),
  name: fc.stringMatching(/^[a-z0-9-]{1,63}$/),
}).chain((changed) =>
  fc
    .array(plain({ round: fc.nat(255), tenures: fc.array(tenure, { maxLength: 1 }) }), {
      minLength: changed.networks.length,
      maxLength: changed.networks.length,
    })
    .map((addresses) => recordFields(self, { ...changed, addresses })),
);

const sample = signPeerRecord(
  nodePrimitives,
  self.identitySeed,
  recordFields(self, {
    networks: [new Uint8Array(16).fill(7)],
    endpoints: [{ kind: EndpointKind.observed, priority: 100, address: address('203.0.113.5:51820') }],
    capabilities: ['relay'],
  }),
).bytes;

describe('a peer record', () => {
  it('is read back as what was signed, and encodes to the same bytes again', () => {
    fc.assert(
      fc.property(fields, (original) => {
        const signed = signPeerRecord(nodePrimitives, self.identitySeed, original);
        const opened = openPeerRecord(nodePrimitives, signed.bytes, WALL_CLOCK);
        assert.deepEqual(opened, signed);
      }),
      { numRuns: 50 },
    );
  });

  it('cut short anywhere is malformed', () => {
    for (let length = 0; length < sample.length; length++)
      assert.equal(openPeerRecord(nodePrimitives, sample.slice(0, length), WALL_CLOCK), 'malformed');
  });

  it('with any one bit flipped is refused', () => {
    for (let bit = 0; bit < sample.length * 8; bit++) {
      const flipped = sample.slice();
      flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      const opened = openPeerRecord(nodePrimitives, flipped, WALL_CLOCK);
      assert.equal(typeof opened, 'string', `bit ${bit}`);
    }
  });

  it('out of its time is refused: run out, or good for more than a week', () => {
    assert.equal(openPeerRecord(nodePrimitives, sample, WALL_CLOCK + 3600_000), 'expired');
    assert.equal(openPeerRecord(nodePrimitives, sample, WALL_CLOCK - 8 * 86_400_000), 'too-long-lived');
  });

  it('longer than 1,024 bytes is refused before it is parsed, and cannot be signed', () => {
    assert.equal(
      openPeerRecord(nodePrimitives, new Uint8Array(MAX_RECORD_BYTES + 1), WALL_CLOCK),
      'malformed',
    );
    const tooLong = recordFields(self, {
      capabilities: Array.from({ length: 16 }, () => 'x'.repeat(32)),
      endpoints: Array.from({ length: 16 }, () => ({
        kind: EndpointKind.local,
        priority: 0,
        address: address('[2001:db8::1]:51820'),
      })),
      relays: Array.from({ length: 4 }, () => new Uint8Array(32)),
    });
    assert.throws(() => signPeerRecord(nodePrimitives, self.identitySeed, tooLong), RangeError);
  });

  it('with more items than a list may have is refused, whoever signed it', () => {
    for (const changed of [
      { networks: Array.from({ length: 9 }, () => new Uint8Array(16)) },
      { relays: Array.from({ length: 5 }, () => new Uint8Array(32)) },
      { capabilities: Array.from({ length: 17 }, () => '') },
      { capabilities: ['é'.repeat(17)] },
      { name: 'Upper' },
      { name: '' },
      { sequence: -1 },
      { networks: [new Uint8Array(16)], addresses: [] },
      { networks: [new Uint8Array(16)], addresses: [{ round: 256, tenures: [] }] },
    ])
      assert.throws(
        () => signPeerRecord(nodePrimitives, self.identitySeed, recordFields(self, changed)),
        RangeError,
        JSON.stringify(Object.keys(changed)),
      );
  });

  it('of another version is refused, with a word that every release knows', () => {
    const { bytes } = signPeerRecord(nodePrimitives, self.identitySeed, recordFields(self));
    const [body] = decodeCbor(bytes, bytes.length) as [Uint8Array];
    const fields = decodeCbor(body, body.length) as Map<number, unknown>;
    for (const version of [0, 1, 2, 4]) {
      const other = encodeCbor(new Map([...fields, [0, version]]));
      const label = utf8('omerta peer record v1');
      const signature = nodePrimitives.ed25519Sign(self.identitySeed, concat(label, other));
      const opened = openPeerRecord(nodePrimitives, encodeCbor([other, signature]), WALL_CLOCK);
      assert.equal(opened, 'malformed');
      assert.equal(recordRefusal(opened), 'bad-record');
    }
  });

  it('signed by another key than its identity is refused', () => {
    const forged = signPeerRecord(nodePrimitives, keys().identitySeed, recordFields(self));
    assert.equal(openPeerRecord(nodePrimitives, forged.bytes, WALL_CLOCK), 'bad-signature');
  });

  it('in an encoding that is not the deterministic one is refused, though the signature holds', () => {
    // The same map with an indefinite length: another reading of the same content.
    const honest = signPeerRecord(nodePrimitives, self.identitySeed, recordFields(self));
    assert.notEqual(typeof openPeerRecord(nodePrimitives, honest.bytes, WALL_CLOCK), 'string');
    const start = honest.bytes.indexOf(0xab); // a map of eleven pairs
    const length = honest.bytes.length - 66 - start;
    const content = honest.bytes.subarray(start + 1, start + length);
    const body = concat(Uint8Array.of(0xbf), content, Uint8Array.of(0xff));
    const signature = nodePrimitives.ed25519Sign(
      self.identitySeed,
      concat(utf8('omerta peer record v1'), body),
    );
    assert.equal(openPeerRecord(nodePrimitives, encodeCbor([body, signature]), WALL_CLOCK), 'malformed');
  });
});
