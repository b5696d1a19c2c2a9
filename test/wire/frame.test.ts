import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import {
  encodeFrame,
  FRAME_MAX_SIZE,
  frameTag,
  frameTagMatches,
  FrameKind,
  parseFrame,
  type FrameFields,
} from '../../ts/wire/frame.js';
import { siphash24 } from '../../ts/wire/siphash.js';
import { DROP_REASONS, VERDICTS } from '../../ts/wire/verdict.js';

const fields: fc.Arbitrary<FrameFields> = fc.record({
  kind: fc.constantFrom(...Object.values(FrameKind)),
  hopLimit: fc.integer({ min: 0, max: 255 }),
  epoch: fc.integer({ min: 0, max: 15 }),
  legId: fc.integer({ min: 0, max: 0xffffffff }),
  key: fc.uint8Array({ minLength: 16, maxLength: 16 }),
  payload: fc.uint8Array({ minLength: 16, maxLength: 200 }),
});

const example: FrameFields = {
  kind: FrameKind.forward,
  hopLimit: 8,
  epoch: 5,
  legId: 0x0a0b0c0d,
  key: new Uint8Array(16),
  payload: new Uint8Array(16).fill(0xee),
};

test('a frame’s bytes are those drawn in the protocol', () => {
  const frame = encodeFrame(example);
  assert.equal(Buffer.from(frame.subarray(0, 8)).toString('hex'), '6f0108050d0c0b0a');
  assert.equal(Buffer.from(frame.subarray(16)).toString('hex'), 'ee'.repeat(16));
  assert.equal(frame.length, 32);
});

test('the tag is SipHash of header, payload length and 16 payload bytes', () => {
  fc.assert(
    fc.property(fields, (given) => {
      const frame = encodeFrame(given);
      const message = Buffer.alloc(32);
      message.set(frame.subarray(0, 8));
      message.writeBigUInt64LE(BigInt(given.payload.length), 8);
      message.set(given.payload.subarray(0, 16), 16);
      assert.equal(parseFrame(frame)?.tag, siphash24(given.key, message));
      const { low, high } = frameTag(given.key, frame);
      assert.equal((BigInt(high) << 32n) | BigInt(low), parseFrame(frame)?.tag);
    }),
  );
});

test('what is encoded is what is parsed', () => {
  fc.assert(
    fc.property(fields, ({ key, ...given }) => {
      const parsed = parseFrame(encodeFrame({ key, ...given }));
      assert.ok(parsed);
      const { tag, ...rest } = parsed;
      assert.deepEqual(rest, given);
      assert.equal(typeof tag, 'bigint');
    }),
  );
});

test('a tag matches under its own key and no other', () => {
  const frame = encodeFrame(example);
  assert.equal(frameTagMatches(example.key, frame), true);
  for (let bit = 0; bit < 64; bit++) {
    const other = frame.slice();
    other[8 + (bit >> 3)] = (other[8 + (bit >> 3)] ?? 0) ^ (1 << (bit & 7));
    assert.equal(frameTagMatches(example.key, other), false, `bit ${bit}`);
  }
  assert.equal(frameTagMatches(new Uint8Array(16).fill(1), frame), false);
});

test('what is no frame is not parsed', () => {
  const frame = encodeFrame(example);
  const changed = (at: number, value: number): Uint8Array => frame.with(at, value);
  assert.ok(parseFrame(frame));
  assert.equal(parseFrame(frame.subarray(0, 31)), undefined);
  assert.equal(parseFrame(new Uint8Array(FRAME_MAX_SIZE + 1).fill(0x6f, 0, 1).fill(1, 1, 2)), undefined);
  assert.equal(parseFrame(changed(0, 0x70)), undefined);
  assert.equal(parseFrame(changed(1, 0x04)), undefined);
  assert.equal(parseFrame(changed(3, 0x10)), undefined);
});

test('a field out of its range is refused by name', () => {
  const bad: [Partial<FrameFields>, RegExp][] = [
    [{ hopLimit: 256 }, /^RangeError: hopLimit: 256/],
    [{ hopLimit: 1.5 }, /^RangeError: hopLimit: 1.5/],
    [{ epoch: 16 }, /^RangeError: epoch: 16/],
    [{ legId: 2 ** 32 }, /^RangeError: legId: 4294967296/],
    [{ legId: -1 }, /^RangeError: legId: -1/],
    [{ key: new Uint8Array(15) }, /^RangeError: key: 15 bytes/],
    [{ payload: new Uint8Array(15) }, /^RangeError: payload: 15 bytes/],
    [{ payload: new Uint8Array(FRAME_MAX_SIZE - 15) }, /^RangeError: payload: 65492 bytes/],
  ];
  for (const [change, message] of bad) assert.throws(() => encodeFrame({ ...example, ...change }), message);
});

test('kinds, verdicts and drop reasons have the numbers of the C header', () => {
  const header = readFileSync('native/wire/include/omerta/wire.h', 'utf8');
  const reasons = [...header.matchAll(/^\s*X\(\w+, (\w+)\)/gm)].map((match) => match[1]);
  assert.deepEqual(reasons, DROP_REASONS);
  const verdicts = /enum omerta_verdict \{(.*?)\};/s.exec(header)?.[1] ?? '';
  assert.deepEqual(
    [...verdicts.matchAll(/OMERTA_(\w+) = (\d)/g)].map(([, name, number]) => [
      name?.toLowerCase(),
      Number(number),
    ]),
    VERDICTS.map((name, number) => [name, number]),
  );
  const kinds = [...header.matchAll(/OMERTA_KIND_(\w+) = (0x\w+)/g)].map(([, name = '', number]) => [
    name.toLowerCase().replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase()),
    Number(number),
  ]);
  assert.deepEqual(Object.fromEntries(kinds), FrameKind);
});
