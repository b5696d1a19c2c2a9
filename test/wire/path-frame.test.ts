import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import {
  decodePathFrame,
  encodePathReport,
  encodeProbe,
  encodeProbeAnswer,
  isPathFrame,
  probePayloadSize,
} from '../../ts/wire/path-frame.js';

const token = fc.uint8Array({ minLength: 8, maxLength: 8 });
const u64 = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
const observed = fc.option(
  fc.record(
    { ip: fc.uint8Array({ minLength: 16, maxLength: 16 }), port: fc.integer({ min: 1, max: 65_535 }) },
    { noNullPrototype: true },
  ),
  { nil: undefined },
);

describe('path frames', () => {
  test('what is written is read again, and an answer is never larger than its probe', () => {
    fc.assert(
      fc.property(token, u64, observed, fc.integer({ min: 0, max: 9000 }), (bytes, stamp, from, size) => {
        const probe = encodeProbe(bytes, stamp, probePayloadSize(size, 16));
        assert.deepEqual(decodePathFrame(probe), { kind: 'probe', token: bytes, stamp });
        const answer = encodeProbeAnswer({ token: bytes, stamp }, from, size);
        assert.deepEqual(decodePathFrame(answer), {
          kind: 'answer',
          token: bytes,
          stamp,
          observed: from,
          size,
        });
        assert.ok(answer.length <= probe.length);
        assert.deepEqual(decodePathFrame(encodePathReport(stamp)), { kind: 'report', received: stamp });
      }),
    );
  });

  test('a probe fills its datagram to the byte', () => {
    for (const size of [0, 80, 81, 95, 1280, 1432, 1472, 65_507])
      assert.equal(32 + probePayloadSize(size, 0), Math.max(size, 80));
    assert.equal(probePayloadSize(1280, 16), probePayloadSize(1264, 0));
  });

  test('another length, or anything in a zero field, makes a frame malformed', () => {
    const nothing = new Uint8Array(8);
    const frames = [
      encodeProbe(nothing, 0n),
      encodeProbeAnswer({ token: nothing, stamp: 0n }, undefined, 80),
      encodePathReport(0n),
    ];
    const zeros = [
      [20, 47],
      [40, 47],
      [12, 15],
    ] as const;
    for (const [index, frame] of frames.entries()) {
      assert.ok(decodePathFrame(frame));
      const padded = new Uint8Array(frame.length + 16);
      padded.set(frame);
      for (const other of [padded, frame.subarray(0, frame.length - 1), frame.subarray(0, 4)]) {
        assert.ok(isPathFrame(other));
        assert.equal(decodePathFrame(other), undefined);
      }
      for (const at of zeros[index] ?? []) {
        const dirty = frame.slice();
        dirty[at] = 1;
        assert.equal(decodePathFrame(dirty), undefined, `byte ${at} of frame ${index}`);
      }
    }
  });

  test('other control frames and packets are none', () => {
    for (const first of [
      Uint8Array.of(0xc0, 1),
      Uint8Array.of(0xc0, 5),
      Uint8Array.of(0xc0, 9),
      Uint8Array.of(0x45, 6),
    ])
      assert.equal(isPathFrame(first), false);
    fc.assert(fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => void decodePathFrame(bytes)));
  });
});
