import { MAX_POLICY_IDENTITIES, MAX_POLICY_NETWORKS } from '../../ts/core/protocol/message-limits.js';
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { keys, plain, WALL_CLOCK } from './fixtures.js';
import { concat, utf8 } from '../../ts/wire/bytes.js';
import { decodeCbor, encodeCbor } from '../../ts/core/protocol/cbor.js';
import { checkConsent, type Consent } from '../../ts/core/path/own-policy.js';
import { decodeStoredPolicy, encodeStoredPolicy } from '../../ts/core/relay/relay-store.js';
import {
  accepts,
  MAX_POLICY_BYTES,
  MAX_POLICY_VALIDITY_SECONDS,
  openStandingPolicy,
  PREPARED_LEGS,
  signStandingPolicy,
  type PolicyFields,
} from '../../ts/core/protocol/standing-policy.js';
import { nodePrimitives } from '../../ts/engine/node-primitives.js';

const callee = keys();
const relay = keys();
const now = WALL_CLOCK / 1000;
const parties = { identity: callee.identity, relay: relay.identity };

const exactly = (length: number): fc.Arbitrary<Uint8Array> =>
  fc.uint8Array({ minLength: length, maxLength: length });
const policies: fc.Arbitrary<PolicyFields> = plain({
  identity: fc.constant(callee.identity),
  relay: fc.constant(relay.identity),
  serial: fc.maxSafeNat(),
  notAfter: fc.integer({ min: now + 1, max: now + MAX_POLICY_VALIDITY_SECONDS }),
  identities: fc.array(exactly(32), { maxLength: MAX_POLICY_IDENTITIES }),
  networks: fc.array(exactly(16), { maxLength: MAX_POLICY_NETWORKS }),
});
const sign = (fields: PolicyFields, seed = callee.identitySeed): Uint8Array =>
  signStandingPolicy(nodePrimitives, seed, fields).bytes;
const open = (bytes: Uint8Array, of: Partial<typeof parties> = {}, seconds = now): unknown =>
  openStandingPolicy(nodePrimitives, bytes, { ...parties, ...of }, seconds * 1000);

const plainest: PolicyFields = { ...parties, serial: 1, notAfter: now + 60, identities: [], networks: [] };

describe('a standing policy', () => {
  it('is read back as it was signed', () => {
    fc.assert(
      fc.property(policies, (fields) => {
        const bytes = sign(fields);
        assert.deepEqual(open(bytes), { ...fields, bytes });
      }),
    );
  });

  it('fits its limit when it is full, and is not signed when it is fuller', () => {
    const many = (count: number, length: number): Uint8Array[] =>
      Array.from({ length: count }, () => new Uint8Array(length));
    const full = {
      ...plainest,
      serial: Number.MAX_SAFE_INTEGER,
      identities: many(MAX_POLICY_IDENTITIES, 32),
      networks: many(MAX_POLICY_NETWORKS, 16),
    };
    assert.ok(sign(full).length <= MAX_POLICY_BYTES);
    for (const wrong of [
      { identities: many(MAX_POLICY_IDENTITIES + 1, 32) },
      { networks: many(MAX_POLICY_NETWORKS + 1, 16) },
      { identities: many(1, 31) },
      { networks: many(1, 17) },
      { serial: -1 },
      { notAfter: 0.5 },
    ])
      assert.throws(() => sign({ ...plainest, ...wrong }), RangeError);
  });

  it('with any bit flipped is none', () => {
    fc.assert(
      fc.property(policies, fc.nat(), (fields, at) => {
        const bytes = sign(fields);
        const bit = at % (bytes.length * 8);
        bytes[bit >> 3] = (bytes[bit >> 3] ?? 0) ^ (1 << (bit & 7));
        assert.equal(typeof open(bytes), 'string');
      }),
    );
  });

  it('is of one identity, for one relay, for a bounded time, under one label', () => {
    const bytes = sign(plainest);
    assert.equal(typeof open(bytes), 'object');
    assert.equal(open(bytes, { identity: relay.identity }), 'another-identity');
    assert.equal(open(bytes, { relay: callee.identity }), 'another-relay');
    assert.equal(open(bytes, {}, now + 60), 'expired');
    assert.equal(open(bytes, {}, now + 60 - MAX_POLICY_VALIDITY_SECONDS - 1), 'expired', 'too far ahead');
    assert.equal(open(sign(plainest, relay.identitySeed)), 'bad-signature');
    const [body] = decodeCbor(bytes, 1000) as [Uint8Array];
    const relabelled = nodePrimitives.ed25519Sign(
      callee.identitySeed,
      concat(utf8('omerta usage receipt v1'), body),
    );
    assert.equal(open(encodeCbor([body, relabelled])), 'bad-signature');
  });

  it('made of arbitrary bytes never throws', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 1000 }), (bytes) => {
        assert.equal(open(bytes), 'malformed');
        assert.equal(decodeStoredPolicy(bytes), undefined);
      }),
    );
  });

  it('accepts whom it names, and members in circuits of the networks it names', () => {
    const [identity, other] = [new Uint8Array(32).fill(1), new Uint8Array(32).fill(2)];
    const [home, office] = [new Uint8Array(16).fill(3), new Uint8Array(16).fill(4)];
    const policy = { identities: [identity], networks: [home] };
    assert.equal(accepts(policy, identity, office), true);
    assert.equal(accepts(policy, other, home), true);
    assert.equal(accepts(policy, other, office), false);
    assert.equal(accepts({ identities: [], networks: [] }, identity, home), false);
  });

  it('is stored and read back with its legs', () => {
    const policy = sign(plainest);
    const leg = (id: number): { id: number; key: Uint8Array; epoch: number } => ({
      id,
      key: new Uint8Array(16).fill(id),
      epoch: 1,
    });
    const stored = { policy, legs: [leg(1), leg(2)] };
    assert.deepEqual(decodeStoredPolicy(encodeStoredPolicy(stored)), stored);
    const many = Array.from({ length: PREPARED_LEGS + 1 }, (_, index) => leg(index + 1));
    assert.equal(decodeStoredPolicy(encodeStoredPolicy({ policy, legs: many })), undefined);
    assert.equal(decodeStoredPolicy(encodeStoredPolicy({ policy, legs: [leg(0)] })), undefined);
  });
});

describe('whom a node accepts', () => {
  const nobody: Consent = { networks: [], identities: [], until: undefined };
  const cases: readonly (readonly [Partial<Consent>, RegExp])[] = [
    [{ networks: ['No name'] }, /^consent networks: /],
    [{ networks: Array.from({ length: 9 }, (_, index) => `n${index}`) }, /^consent networks: .* 8 /],
    [{ identities: [new Uint8Array(31)] }, /^consent identities: /],
    [{ identities: Array.from({ length: 17 }, () => new Uint8Array(32)) }, /^consent identities: .* 16 /],
    [{ until: 0 }, /^consent until: /],
    [{ until: 1.5 }, /^consent until: /],
  ];
  for (const [changed, message] of cases)
    it(`is refused: ${message.source}, ${JSON.stringify(changed).slice(0, 40)}`, () => {
      assert.throws(() => checkConsent({ ...nobody, ...changed }), { name: 'RangeError', message });
    });

  it('may be nobody, or everybody of its networks', () => {
    checkConsent(nobody);
    checkConsent({ networks: 'own', identities: [callee.identity], until: now });
  });
});
