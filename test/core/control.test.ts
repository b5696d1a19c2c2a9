import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { plain } from './fixtures.js';
import type { LegKey } from '../../ts/wire/leg.js';
import { concat } from '../../ts/wire/bytes.js';
import { pongTo } from '../../ts/wire/ping-frame.js';
import { encodeCbor } from '../../ts/core/protocol/cbor.js';
import {
  ControlKind,
  decodeControlFrame,
  encodeControlFrame,
  MAX_CONTROL_BODY,
} from '../../ts/core/protocol/control-frame.js';
import {
  ANSWER_OF,
  decodeMessage,
  encodeMessage,
  isRequest,
  messageSize,
  type ControlMessage,
  type Envelope,
} from '../../ts/core/protocol/control-message.js';
import { REFUSALS } from '../../ts/core/protocol/refusal.js';
import { CandidateKind, MAX_CONTACT_CANDIDATES } from '../../ts/core/protocol/contact-candidate.js';
import { MAX_RECORD_BYTES } from '../../ts/core/protocol/peer-record.js';
import { MAX_POLICY_BYTES, PREPARED_LEGS } from '../../ts/core/protocol/standing-policy.js';

const exactly = (length: number): fc.Arbitrary<Uint8Array> =>
  fc.uint8Array({ minLength: length, maxLength: length });
const record = fc.uint8Array({ minLength: 1, maxLength: 900 });
const records = fc.array(fc.uint8Array({ minLength: 1, maxLength: 100 }), { maxLength: 8 });
const gone = fc.array(fc.uint8Array({ minLength: 32, maxLength: 32 }), { maxLength: 4 });
const leg = plain({ id: fc.integer({ min: 1, max: 2 ** 32 - 1 }), key: exactly(16), epoch: fc.nat(15) });
const lifetime = fc.integer({ min: 1, max: 86_400 });
const network = exactly(16);
const circuit = exactly(16);
const type = <T extends string>(name: T): fc.Arbitrary<T> => fc.constant(name);

const candidates = fc.array(
  plain({
    kind: fc.constantFrom(...Object.values(CandidateKind)),
    address: plain({ ip: exactly(16), port: fc.integer({ min: 1, max: 65535 }) }),
  }),
  { maxLength: MAX_CONTACT_CANDIDATES },
);

const message: fc.Arbitrary<ControlMessage> = fc.oneof(
  plain({ type: type('contact'), candidates }),
  plain({ type: type('contact-accepted'), candidates }),
  plain({ type: type('contact-begin') }),
  plain({ type: type('register'), record, boot: exactly(8) }),
  plain({
    type: type('registered'),
    observed: plain({ ip: exactly(16), port: fc.integer({ min: 1, max: 65535 }) }),
    lease: lifetime,
    boot: exactly(8),
    tenures: fc.array(
      plain({
        network,
        round: fc.nat(255),
        tenure: plain({
          issuer: exactly(4),
          since: fc.maxSafeNat(),
          until: fc.maxSafeNat(),
          signature: exactly(64),
        }),
      }),
      { maxLength: 8 },
    ),
    unproven: fc.array(network, { maxLength: 8 }),
  }),
  plain({ type: type('join-network'), key: exactly(32), signature: exactly(64) }),
  plain({ type: type('network-joined'), tenures: fc.constant([]) }),
  plain({ type: type('lookup'), network, after: fc.maxSafeNat(), depth: fc.integer({ min: 0, max: 2 }) }),
  plain({
    type: type('records'),
    network,
    from: fc.maxSafeNat(),
    records,
    gone,
    version: fc.maxSafeNat(),
    more: fc.boolean(),
  }),
  plain({
    type: type('records-changed'),
    network,
    from: fc.maxSafeNat(),
    records,
    gone,
    version: fc.maxSafeNat(),
  }),
  plain({ type: type('records-received'), network, version: fc.maxSafeNat() }),
  plain({ type: type('prove-membership'), network, proof: exactly(32) }),
  plain({ type: type('membership-proven'), network, proof: exactly(32) }),
  plain({ type: type('circuit-open'), callee: exactly(32), network, leg }),
  plain({
    type: type('circuit-extend'),
    circuit,
    caller: record,
    callee: exactly(32),
    network,
    leg,
    path: fc.array(exactly(32), { minLength: 1, maxLength: 2 }),
  }),
  plain({ type: type('circuit-offer'), circuit, caller: record, network, leg, lifetime }),
  plain({ type: type('circuit-accept'), circuit, leg }),
  plain({
    type: type('standing-policy'),
    policy: fc.uint8Array({ minLength: 1, maxLength: MAX_POLICY_BYTES }),
    legs: fc.uniqueArray(leg, { maxLength: PREPARED_LEGS, selector: ({ id }) => id }),
  }),
  plain({ type: type('policy-held'), serial: fc.maxSafeNat() }),
  plain({
    type: type('circuit-opened'),
    circuit,
    caller: record,
    network,
    leg,
    on: fc.integer({ min: 1, max: 2 ** 32 - 1 }),
    lifetime,
  }),
  plain({ type: type('circuit-joined'), circuit, leg }),
  plain({ type: type('circuit-granted'), circuit, callee: record, leg, lifetime }),
  plain({ type: type('circuit-refresh'), circuit }),
  plain({ type: type('circuit-refreshed'), circuit, lifetime }),
  plain({ type: type('circuit-close'), circuit }),
  plain({ type: type('circuit-closed'), circuit }),
  plain({ type: type('receipt'), circuit }),
  plain({ type: type('receipt-given'), receipt: fc.uint8Array({ minLength: 1, maxLength: 512 }) }),
  plain({ type: type('wireguard-bind') }),
  plain({ type: type('wireguard-bound') }),
  plain({ type: type('address-challenge'), nonce: exactly(16) }),
  plain({ type: type('address-answer'), nonce: exactly(16) }),
  plain({
    type: type('refused'),
    reason: fc.constantFrom(...REFUSALS),
    what: fc.constantFrom(...Object.keys(ANSWER_OF)),
  }),
);
const envelope: fc.Arbitrary<Envelope> = plain({ request: fc.nat(2 ** 31), message });

function bodyOf(sent: Envelope): Uint8Array {
  const frame = decodeControlFrame(encodeMessage(sent));
  assert.equal(frame?.kind, ControlKind.message);
  return frame.body;
}

describe('a control message', () => {
  it('is read back as it was sent', () => {
    fc.assert(
      fc.property(envelope, (sent) => {
        assert.deepEqual(decodeMessage(bodyOf(sent)), sent);
      }),
    );
  });

  it('that extends a circuit has room for a record of 1,009 bytes, 975 with a relay more', () => {
    for (const [relays, most] of [
      [1, 1009],
      [2, 975],
    ] as const) {
      const sent = (length: number): ControlMessage => ({
        type: 'circuit-extend',
        circuit: new Uint8Array(16),
        caller: new Uint8Array(length),
        callee: new Uint8Array(32),
        network: new Uint8Array(16),
        leg: { id: 2 ** 32 - 1, key: new Uint8Array(16), epoch: 15 },
        path: Array.from({ length: relays }, () => new Uint8Array(32)),
      });
      assert.equal(messageSize(sent(most)), MAX_CONTROL_BODY);
      assert.equal(messageSize(sent(most + 1)), MAX_CONTROL_BODY + 1);
    }
  });

  it('has room for the longest standing policy with all its legs, and for the longest record in a circuit', () => {
    const leg = (id: number): LegKey => ({ id: 2 ** 32 - 1 - id, key: new Uint8Array(16), epoch: 15 });
    const policy = new Uint8Array(MAX_POLICY_BYTES);
    const legs = Array.from({ length: PREPARED_LEGS }, (_, index) => leg(index));
    assert.ok(messageSize({ type: 'standing-policy', policy, legs }) <= MAX_CONTROL_BODY);
    const opened: ControlMessage = {
      type: 'circuit-opened',
      circuit: new Uint8Array(16),
      caller: new Uint8Array(MAX_RECORD_BYTES),
      network: new Uint8Array(16),
      leg: leg(0),
      on: 2 ** 32 - 1,
      lifetime: 86_400,
    };
    assert.ok(messageSize(opened) <= MAX_CONTROL_BODY);
  });

  it('cut short anywhere is no message', () => {
    fc.assert(
      fc.property(envelope, fc.nat(), (sent, at) => {
        const body = bodyOf(sent);
        assert.equal(decodeMessage(body.slice(0, at % body.length)), undefined);
      }),
    );
  });

  it('with a bit flipped is no message, or one that encodes to exactly those bytes', () => {
    fc.assert(
      fc.property(envelope, fc.nat(), (sent, at) => {
        const body = bodyOf(sent).slice();
        const bit = at % (body.length * 8);
        body[bit >> 3] = (body[bit >> 3] ?? 0) ^ (1 << (bit & 7));
        const read = decodeMessage(body);
        if (read !== undefined) assert.deepEqual(bodyOf(read), body);
      }),
      { numRuns: 500 },
    );
  });

  it('made of arbitrary bytes never throws', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 1300 }), (body) => {
        const read = decodeMessage(body);
        if (read !== undefined) assert.deepEqual(bodyOf(read), body);
      }),
    );
  });

  it('with a field too many, too few, of another type or out of its limits is no message', () => {
    const circuitId = new Uint8Array(16);
    const encode = (kind: string, request: unknown, fields: [string, unknown][]): Uint8Array =>
      encodeCbor([kind, request, new Map(fields)]);
    assert.notEqual(decodeMessage(encode('circuit-close', 1, [['circuit', circuitId]])), undefined);
    for (const body of [
      encode('circuit-close', 1, []),
      encode('circuit-close', 1, [
        ['circuit', circuitId],
        ['extra', 1],
      ]),
      encode('circuit-close', 1, [['circuit', new Uint8Array(15)]]),
      encode('circuit-close', 1, [['circuit', 'text']]),
      encode('circuit-close', -1, [['circuit', circuitId]]),
      encode('circuit-close', 2 ** 32, [['circuit', circuitId]]),
      encode('circuit-close', 1.5, [['circuit', circuitId]]),
      encode('unheard-of', 1, [['circuit', circuitId]]),
      encode('constructor', 1, []),
      encode('__proto__', 1, []),
      encodeCbor(['circuit-close', 1]),
      encodeCbor(['circuit-close', 1, [circuitId]]),
      encode('circuit-accept', 1, [
        ['circuit', circuitId],
        ['leg', [0, circuitId, 0]],
      ]),
      encode('circuit-accept', 1, [
        ['circuit', circuitId],
        ['leg', [1, circuitId, 16]],
      ]),
      encode('circuit-refreshed', 1, [
        ['circuit', circuitId],
        ['lifetime', 0],
      ]),
      encode('circuit-refreshed', 1, [
        ['circuit', circuitId],
        ['lifetime', 86_401],
      ]),
      encode('standing-policy', 1, [
        ['policy', new Uint8Array(MAX_POLICY_BYTES + 1)],
        ['legs', []],
      ]),
      encode('standing-policy', 1, [
        ['policy', new Uint8Array(0)],
        ['legs', []],
      ]),
      encode('standing-policy', 1, [
        ['policy', new Uint8Array(1)],
        ['legs', Array.from({ length: PREPARED_LEGS + 1 }, (_, index) => [index + 1, circuitId, 0])],
      ]),
      encode('standing-policy', 1, [
        ['policy', new Uint8Array(1)],
        [
          'legs',
          [
            [5, circuitId, 0],
            [5, circuitId, 1],
          ],
        ],
      ]),
      encode('standing-policy', 1, [
        ['policy', new Uint8Array(1)],
        ['legs', [[0, circuitId, 0]]],
      ]),
      encode('refused', 1, [
        ['reason', 'because'],
        ['what', 'register'],
      ]),
    ])
      assert.equal(decodeMessage(body), undefined);
  });

  it('deeply nested is refused without exhausting the stack', () => {
    assert.equal(decodeMessage(new Uint8Array(MAX_CONTROL_BODY).fill(0x81)), undefined);
  });

  it('too long is neither made nor read', () => {
    const long = {
      type: 'records',
      network: new Uint8Array(16),
      from: 0,
      records: [1, 2].map(() => new Uint8Array(700)),
      gone: [],
      version: 1,
      more: false,
    } as const;
    assert.throws(() => encodeMessage({ request: 1, message: long }), RangeError);
    assert.equal(decodeMessage(new Uint8Array(MAX_CONTROL_BODY + 1)), undefined);
  });

  it('is a request exactly when something answers it', () => {
    fc.assert(
      fc.property(message, (any) => {
        assert.equal(isRequest(any), any.type in ANSWER_OF);
      }),
    );
  });
});

describe('a control frame', () => {
  const pad = (payload: Uint8Array, by: number): Uint8Array => concat(payload, new Uint8Array(by));

  it('is read with the padding WireGuard adds, and with what a peer pads its messages with', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 1200 }), fc.nat(2048), (body, padding) => {
        const payload = encodeControlFrame({ kind: ControlKind.message, body });
        assert.deepEqual(decodeControlFrame(pad(payload, padding)), { kind: ControlKind.message, body });
      }),
    );
  });

  it('with padding that is not zero is refused', () => {
    const payload = pad(encodeControlFrame({ kind: ControlKind.message, body: new Uint8Array(3) }), 9);
    payload[payload.length - 1] = 1;
    assert.equal(decodeControlFrame(payload), undefined);
  });

  it("ping and pong carry exactly eight bytes, and pings are the engine's", () => {
    for (const kind of [ControlKind.ping, ControlKind.pong]) {
      const body = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8);
      const payload = encodeControlFrame({ kind, body });
      const pong = kind === ControlKind.ping ? pongTo(pad(payload, 4)) : payload;
      assert.deepEqual(pong && decodeControlFrame(pong), { kind: ControlKind.pong, body });
      assert.equal(decodeControlFrame(payload) === undefined, kind === ControlKind.ping);
      assert.throws(() => encodeControlFrame({ kind, body: new Uint8Array(9) }), RangeError);
      const short = payload.slice(0, 11);
      short[2] = 7;
      assert.equal(decodeControlFrame(short), undefined);
    }
  });

  it('is never made of an IP packet, another version or an unknown kind', () => {
    const good = encodeControlFrame({ kind: ControlKind.message, body: new Uint8Array(12) });
    for (const [at, value] of [
      [0, 0x45],
      [0, 0x60],
      [0, 0xc1],
      [1, 0],
      [1, 4],
      [2, 13],
    ] as const) {
      const bad = good.slice();
      bad[at] = value;
      assert.equal(decodeControlFrame(bad), undefined, `byte ${at} = ${value}`);
    }
  });
});
