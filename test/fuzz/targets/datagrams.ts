// Datagrams as the WASM engine and the core read them: frames, STUN requests, WireGuard's messages, and the path
// frames inside these.

import assert from 'node:assert/strict';
import { crc32 } from 'node:zlib';
import { messageType, readU32, readU64, writeU32, writeU64 } from '../../../ts/engine/wasm/messages.js';
import { answerBindingRequest } from '../../../ts/engine/wasm/stun.js';
import {
  encodeFrame,
  FRAME_MIN_SIZE,
  frameTagMatches,
  FrameKind,
  parseFrame,
} from '../../../ts/wire/frame.js';
import {
  decodePathFrame,
  encodePathReport,
  encodeProbe,
  encodeProbeAnswer,
  isPathFrame,
  probePayloadSize,
  type PathFrame,
} from '../../../ts/wire/path-frame.js';
import { isIPv4 } from '../../../ts/wire/socket-address.js';
import { concat } from '../../../ts/wire/bytes.js';
import { address } from '../../core/fixtures.js';
import type { FuzzTarget } from '../harness/target.js';

const KEY = new Uint8Array(16).fill(5);
const FIELDS = {
  kind: FrameKind.forward,
  hopLimit: 8,
  epoch: 3,
  legId: 7,
  key: KEY,
  payload: new Uint8Array(16),
};
const SOURCES = [address('203.0.113.5:51820'), address('[2001:db8::5]:1')];
const COOKIE = Uint8Array.of(0x21, 0x12, 0xa4, 0x42);

/** A STUN binding request with these attributes. */
function bindingRequest(...attributes: readonly Uint8Array[]): Uint8Array {
  const body = concat(...attributes);
  return concat(Uint8Array.of(0, 1, 0, body.length), COOKIE, new Uint8Array(12).fill(9), body);
}

/** The same with a right FINGERPRINT behind it (RFC 8489 section 14.7), which no mutation would make. */
function fingerprinted(request: Uint8Array): Uint8Array {
  const covered = request.slice();
  covered[3] = (covered[3] ?? 0) + 8;
  const value = new Uint8Array(4);
  new DataView(value.buffer).setUint32(0, (crc32(covered) ^ 0x5354554e) >>> 0);
  return concat(covered, Uint8Array.of(0x80, 0x28, 0, 4), value);
}

const CHANGE_REQUEST = Uint8Array.of(0, 3, 0, 4, 0, 0, 0, 6);
const MESSAGE_INTEGRITY = concat(Uint8Array.of(0, 8, 0, 20), new Uint8Array(20));

const TOKEN = new Uint8Array(8).fill(3);

/** A frame that is read is written the same, but for what makes a probe larger than its answer. */
function checkPathFrame(payload: Uint8Array): void {
  const frame = decodePathFrame(payload);
  if (frame === undefined) return;
  assert.ok(isPathFrame(payload));
  const written = writtenAgain(frame, payload.length);
  const said = frame.kind === 'probe' ? 48 : payload.length;
  assert.deepEqual(written.subarray(0, said), payload.subarray(0, said));
  if (frame.kind !== 'probe') return;
  const { token, stamp } = frame;
  for (const source of [...SOURCES, undefined]) {
    const answer = encodeProbeAnswer({ token, stamp }, source, payload.length);
    assert.ok(answer.length <= payload.length);
    const read: PathFrame = { kind: 'answer', token, stamp, observed: source, size: payload.length & 0xffff };
    assert.deepEqual(decodePathFrame(answer), read);
  }
  const framing = payload.length % 2 === 0 ? 16 : 0;
  assert.equal(probePayloadSize(payload.length + 32 + framing, framing), Math.min(payload.length, 65_504));
}

function writtenAgain(frame: PathFrame, size: number): Uint8Array {
  if (frame.kind === 'report') return encodePathReport(frame.received);
  if (frame.kind === 'answer') return encodeProbeAnswer(frame, frame.observed, frame.size);
  return encodeProbe(frame.token, frame.stamp, size);
}

const target: FuzzTarget = {
  seeds: () => [
    encodeProbe(TOKEN, 7n),
    encodeProbe(TOKEN, 2n ** 63n, 1400),
    encodeProbeAnswer({ token: TOKEN, stamp: 7n }, SOURCES[0], 80),
    encodeProbeAnswer({ token: TOKEN, stamp: 7n }, undefined, 96),
    encodePathReport(2n ** 40n),
    encodePathReport(1n).subarray(0, 15),
    ...Object.values(FrameKind).map((kind) =>
      encodeFrame({
        kind,
        hopLimit: 8,
        epoch: 3,
        legId: 7,
        key: KEY,
        payload: new Uint8Array(16).fill(kind),
      }),
    ),
    concat(Uint8Array.of(0, 1, 0, 0), COOKIE, new Uint8Array(12).fill(9)),
    concat(Uint8Array.of(0, 1, 0, 8), COOKIE, new Uint8Array(12).fill(9), new Uint8Array(8)),
    fingerprinted(bindingRequest()),
    fingerprinted(bindingRequest(MESSAGE_INTEGRITY, CHANGE_REQUEST)),
    bindingRequest(...Array.from({ length: 17 }, () => CHANGE_REQUEST)),
    concat(fingerprinted(bindingRequest()).subarray(0, -1), Uint8Array.of(0)),
    ...[148, 92, 64, 32].map((size, index) =>
      concat(Uint8Array.of(index + 1, 0, 0, 0), new Uint8Array(size - 4)),
    ),
  ],
  run(input) {
    checkPathFrame(input);
    const frame = parseFrame(input);
    for (const wrong of [
      { legId: -1 },
      { epoch: 16 },
      { key: input.subarray(0, 15) },
      { payload: input.subarray(0, 15) },
    ])
      assert.throws(() => encodeFrame({ ...FIELDS, ...wrong }), RangeError);
    if (!Object.values<number>(FrameKind).includes(input[0] ?? 0))
      assert.throws(() => encodeFrame({ ...FIELDS, kind: (input[0] ?? 0) as FrameKind }), RangeError);
    const words = new Uint8Array(16);
    writeU32(words, 1, input.length);
    writeU64(words, 6, BigInt(input.length));
    assert.equal(readU32(words, 1), Number(readU64(words, 6)));
    if (frame !== undefined) {
      const { kind, hopLimit, epoch, legId, payload } = frame;
      const again = encodeFrame({ kind, hopLimit, epoch, legId, key: KEY, payload });
      assert.deepEqual(again.subarray(0, 8), input.subarray(0, 8));
      assert.deepEqual(again.subarray(16), input.subarray(16));
      assert.ok(frameTagMatches(KEY, again));
      const same = input.every((byte, at) => byte === again[at]);
      assert.equal(frameTagMatches(KEY, input), same);
    } else if (input[0] === 0x6f && input.length >= FRAME_MIN_SIZE && (input[3] ?? 0) < 16) {
      assert.ok(!Object.values<number>(FrameKind).includes(input[1] ?? 0));
    }
    for (const from of SOURCES) {
      const answer = answerBindingRequest(input, from);
      if (answer === undefined) continue;
      // RFC 8489: the same transaction; and never a tool to reflect with.
      assert.deepEqual(answer.subarray(4, 20), input.subarray(4, 20));
      if (answer[1] === 0x11) {
        // Error 420, with at most 16 attributes named, each of which the request has with its header.
        assert.ok(answer.length <= 64 && answer.length <= input.length + 12);
        assert.deepEqual(answer.subarray(24, 28), Uint8Array.of(0, 0, 4, 20));
        continue;
      }
      assert.equal(answer.length, isIPv4(from.ip) ? 32 : 44);
      const ip = answer.subarray(28).map((byte, index) => byte ^ (input[4 + index] ?? 0));
      assert.deepEqual(ip, isIPv4(from.ip) ? from.ip.slice(12) : from.ip);
    }
    const type = messageType(input);
    if (type !== undefined) assert.ok(input[0] === type && input[1] === 0 && input.length >= 32);
  },
};
export default target;
