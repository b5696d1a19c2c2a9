// Control frame: what a session carries besides IP packets (docs/protocol.md, "Control frames").
//
//   0      C0            control, version 0
//   1      kind          01 message (CBOR) · 02 ping · 03 pong (04 and 05 are the engine's)
//   2      2  length     of the body
//   4      body          then zero bytes, as many as the engine pads with
//
// Pings are answered by the engine of whoever they reach (ts/wire/ping-frame.ts): none arrives here.

import { isZero, viewOf } from '../../wire/bytes.js';
import { PING_TOKEN_SIZE } from '../../wire/ping-frame.js';

const MARKER = 0xc0;
const HEADER_SIZE = 4;
export const MAX_CONTROL_BODY = 1200;

export const ControlKind = { message: 1, ping: 2, pong: 3 } as const;
export type ControlKind = (typeof ControlKind)[keyof typeof ControlKind];

export interface ControlFrame {
  readonly kind: ControlKind;
  readonly body: Uint8Array;
}

/**
 * The payload to send; the engine pads it.
 * @throws RangeError when the body is longer than 1,200 bytes or a token is not 8 bytes.
 */
export function encodeControlFrame({ kind, body }: ControlFrame): Uint8Array {
  if (!lengthFits(kind, body.length)) throw new RangeError(`control frame: a body of ${body.length} bytes`);
  const payload = new Uint8Array(HEADER_SIZE + body.length);
  payload[0] = MARKER;
  payload[1] = kind;
  viewOf(payload).setUint16(2, body.length, true);
  payload.set(body, HEADER_SIZE);
  return payload;
}

/** One that arrives. */
export interface ReceivedControlFrame {
  readonly kind: Exclude<ControlKind, typeof ControlKind.ping>;
  readonly body: Uint8Array;
}

/** Reads a transport payload; undefined when it is not a control frame of this version for the control plane. */
export function decodeControlFrame(payload: Uint8Array): ReceivedControlFrame | undefined {
  if (payload.length < HEADER_SIZE || payload[0] !== MARKER) return undefined;
  const kind = payload[1];
  if (kind !== ControlKind.message && kind !== ControlKind.pong) return undefined;
  const length = viewOf(payload).getUint16(2, true);
  const end = HEADER_SIZE + length;
  if (!lengthFits(kind, length) || end > payload.length) return undefined;
  if (!isZero(payload.subarray(end))) return undefined;
  return { kind, body: payload.slice(HEADER_SIZE, end) };
}

function lengthFits(kind: ControlKind, length: number): boolean {
  return kind === ControlKind.message ? length <= MAX_CONTROL_BODY : length === PING_TOKEN_SIZE;
}
