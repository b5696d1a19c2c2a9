// The Omerta frame (docs/protocol.md, "Omerta frame"); integers are little-endian.
//
//  0        1        2        3        4                                   8
// +--------+--------+--------+--------+-----------------------------------+
// | 6F 'o' |  kind  |  hop   |0000 kkkk|              leg id              |
// |        |        | limit  |    epoch|                                  |
// +--------+--------+--------+--------+-----------------------------------+
// |                               leg tag                                 |
// +-----------------------------------------------------------------------+ 16
// |  payload, at least 16 bytes                                           |
// +-----------------------------------------------------------------------+

import { siphash24Words, SIPHASH_KEY_SIZE, type SipHashWords } from './siphash.js';

export const FRAME_MAGIC = 0x6f;
export const FRAME_HEADER_SIZE = 16;
/** The tag covers 16 payload bytes, so a payload is never shorter. */
export const FRAME_MIN_PAYLOAD = 16;
export const FRAME_MIN_SIZE = FRAME_HEADER_SIZE + FRAME_MIN_PAYLOAD;
/** The largest UDP payload over IPv4. */
export const FRAME_MAX_SIZE = 65507;
/** What a first sender writes. */
export const HOP_LIMIT_DEFAULT = 8;
/** The leg that accepts any source; its key is derived from the receiver's session public key. */
export const CONTACT_LEG = 0;

export const FrameKind = {
  forward: 0x01,
  probe: 0x02,
  probeReply: 0x03,
  admissionRequest: 0x10,
  admissionChallenge: 0x11,
  admissionAnswer: 0x12,
  admissionGrant: 0x13,
  contact: 0x20,
  notice: 0x30,
} as const;
export type FrameKind = (typeof FrameKind)[keyof typeof FrameKind];

const KINDS: ReadonlySet<number> = new Set(Object.values(FrameKind));

/** Whether a kind byte is in the protocol's table. */
export function isFrameKind(kind: number): kind is FrameKind {
  return KINDS.has(kind);
}

export interface FrameFields {
  readonly kind: FrameKind;
  /** 0–255. */
  readonly hopLimit: number;
  /** Epoch of the key the tag is made with, 0–15. */
  readonly epoch: number;
  /** 0–2^32−1; 0 is the contact leg. */
  readonly legId: number;
  /** 16 bytes. */
  readonly key: Uint8Array;
  /** 16–65491 bytes. */
  readonly payload: Uint8Array;
}

export interface ParsedFrame {
  readonly kind: FrameKind;
  readonly hopLimit: number;
  readonly epoch: number;
  readonly legId: number;
  readonly tag: bigint;
  /** A view into the bytes that were parsed, not a copy. */
  readonly payload: Uint8Array;
}

/** The tag `frame` (whole, at least 32 bytes) carries under `key`; its own tag bytes are not read. */
export function frameTag(key: Uint8Array, frame: Uint8Array): SipHashWords {
  const message = new Uint8Array(32);
  message.set(frame.subarray(0, 8));
  new DataView(message.buffer).setUint32(8, frame.length - FRAME_HEADER_SIZE, true);
  message.set(frame.subarray(FRAME_HEADER_SIZE, FRAME_MIN_SIZE), 16);
  return siphash24Words(key, message);
}

/** Writes the tag of a whole frame into its bytes 8–15. */
export function writeFrameTag(key: Uint8Array, frame: Uint8Array): void {
  const tag = frameTag(key, frame);
  const view = new DataView(frame.buffer, frame.byteOffset, frame.length);
  view.setUint32(8, tag.low, true);
  view.setUint32(12, tag.high, true);
}

/** Whether a whole frame's tag is the one `key` makes. Both halves are always compared. */
export function frameTagMatches(key: Uint8Array, frame: Uint8Array): boolean {
  const tag = frameTag(key, frame);
  const view = new DataView(frame.buffer, frame.byteOffset, frame.length);
  return ((tag.low ^ view.getUint32(8, true)) | (tag.high ^ view.getUint32(12, true))) === 0;
}

function requireInteger(name: string, value: number, max: number): void {
  if (!Number.isInteger(value) || value < 0 || value > max) {
    throw new RangeError(`${name}: ${value} given, must be an integer from 0 to ${max}`);
  }
}

/**
 * Builds a tagged frame.
 * @throws RangeError naming the field that is out of its range.
 */
export function encodeFrame(fields: FrameFields): Uint8Array {
  const { kind, hopLimit, epoch, legId, key, payload } = fields;
  if (!isFrameKind(kind)) throw new RangeError(`kind: ${String(kind)} given, must be one of FrameKind`);
  requireInteger('hopLimit', hopLimit, 255);
  requireInteger('epoch', epoch, 15);
  requireInteger('legId', legId, 0xffffffff);
  if (key.length !== SIPHASH_KEY_SIZE) throw new RangeError(`key: ${key.length} bytes given, must be 16`);
  if (payload.length < FRAME_MIN_PAYLOAD || payload.length > FRAME_MAX_SIZE - FRAME_HEADER_SIZE) {
    throw new RangeError(
      `payload: ${payload.length} bytes given, must be ${FRAME_MIN_PAYLOAD} to ${FRAME_MAX_SIZE - FRAME_HEADER_SIZE}`,
    );
  }
  const frame = new Uint8Array(FRAME_HEADER_SIZE + payload.length);
  frame[0] = FRAME_MAGIC;
  frame[1] = kind;
  frame[2] = hopLimit;
  frame[3] = epoch;
  new DataView(frame.buffer).setUint32(4, legId, true);
  frame.set(payload, FRAME_HEADER_SIZE);
  writeFrameTag(key, frame);
  return frame;
}

/**
 * Reads a frame's fields; undefined when the size, magic, kind or reserved flags are out of order.
 * The tag is read, not checked: the key belongs to whoever knows the leg.
 */
export function parseFrame(bytes: Uint8Array): ParsedFrame | undefined {
  if (bytes.length < FRAME_MIN_SIZE || bytes.length > FRAME_MAX_SIZE) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const kind = view.getUint8(1);
  const epoch = view.getUint8(3);
  if (view.getUint8(0) !== FRAME_MAGIC || !isFrameKind(kind) || epoch > 15) return undefined;
  return {
    kind,
    hopLimit: view.getUint8(2),
    epoch,
    legId: view.getUint32(4, true),
    tag: view.getBigUint64(8, true),
    payload: bytes.subarray(FRAME_HEADER_SIZE),
  };
}
