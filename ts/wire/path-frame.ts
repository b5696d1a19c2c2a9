// Path frames (docs/protocol.md, "Paths"): what engines say to each other inside a session about the ways
// between them. Like suite frames they are the engines' own, told from other payloads by their first four bytes.

import { isZero, viewOf } from './bytes.js';
import type { SocketAddress } from './socket-address.js';

const MARKER = 0xc0;
const PROBE = 6;
const ANSWER = 7;
const REPORT = 8;
const PROBE_SIZE = 48;
const REPORT_SIZE = 16;
const HEADER_SIZE = 4;
/** Zero in a probe; where it came from and how big it was, in an answer; then zero. */
const OBSERVED_AT = 20;
const SIZE_AT = 38;
const ZERO_AT = 40;

/** Transport header and tag around a payload. */
export const TRANSPORT_OVERHEAD = 32;
/** The greatest payload whose length the header can say. */
const MAX_PAYLOAD = 65_504;

export type PathFrame =
  | {
      readonly kind: 'probe';
      readonly token: Uint8Array;
      /** The prober's clock, which nobody else reads. */
      readonly stamp: bigint;
    }
  | {
      readonly kind: 'answer';
      readonly token: Uint8Array;
      readonly stamp: bigint;
      /** Where the probe came from; undefined: by a leg. */
      readonly observed: SocketAddress | undefined;
      /** UDP payload of the datagram that brought the probe. */
      readonly size: number;
    }
  | {
      readonly kind: 'report';
      /** Transport messages received by the path the report goes by. */
      readonly received: bigint;
    };

/** Whether a transport payload is a path frame, well-formed or not. */
export function isPathFrame(payload: Uint8Array): boolean {
  const [marker, kind = 0] = payload;
  return marker === MARKER && kind >= PROBE && kind <= REPORT;
}

/** Bytes of payload a probe has whose datagram is to have `size` bytes, `framing` of them an Omerta header. */
export function probePayloadSize(size: number, framing: number): number {
  return Math.min(Math.max(size - framing - TRANSPORT_OVERHEAD, PROBE_SIZE), MAX_PAYLOAD);
}

/** @param size bytes of payload, at least 48 */
export function encodeProbe(token: Uint8Array, stamp: bigint, size = PROBE_SIZE): Uint8Array {
  const payload = new Uint8Array(size);
  payload.set([MARKER, PROBE]);
  const view = viewOf(payload);
  view.setUint16(2, size - HEADER_SIZE, true);
  payload.set(token, HEADER_SIZE);
  view.setBigUint64(12, stamp, true);
  return payload;
}

/** The answer to a probe; never larger than it. */
export function encodeProbeAnswer(
  probe: { readonly token: Uint8Array; readonly stamp: bigint },
  observed: SocketAddress | undefined,
  size: number,
): Uint8Array {
  const payload = encodeProbe(probe.token, probe.stamp);
  payload[1] = ANSWER;
  const view = viewOf(payload);
  if (observed !== undefined) {
    payload.set(observed.ip, OBSERVED_AT);
    view.setUint16(OBSERVED_AT + 16, observed.port, true);
  }
  view.setUint16(SIZE_AT, size, true);
  return payload;
}

export function encodePathReport(received: bigint): Uint8Array {
  const payload = new Uint8Array(REPORT_SIZE);
  payload.set([MARKER, REPORT, REPORT_SIZE - HEADER_SIZE]);
  viewOf(payload).setBigUint64(4, received, true);
  return payload;
}

/** Reads a path frame; undefined when it is malformed, or none. */
export function decodePathFrame(payload: Uint8Array): PathFrame | undefined {
  if (payload.length < REPORT_SIZE || !isPathFrame(payload)) return undefined;
  const view = viewOf(payload);
  if (view.getUint16(2, true) !== payload.length - HEADER_SIZE) return undefined;
  if (payload[1] === REPORT) {
    if (payload.length !== REPORT_SIZE || !isZero(payload.subarray(12))) return undefined;
    return { kind: 'report', received: view.getBigUint64(4, true) };
  }
  if (payload.length < PROBE_SIZE) return undefined;
  const token = payload.slice(HEADER_SIZE, 12);
  const stamp = view.getBigUint64(12, true);
  if (payload[1] === PROBE) {
    // What makes a probe larger than its answer is not looked at.
    return isZero(payload.subarray(OBSERVED_AT, PROBE_SIZE)) ? { kind: 'probe', token, stamp } : undefined;
  }
  if (payload.length !== PROBE_SIZE || !isZero(payload.subarray(ZERO_AT))) return undefined;
  const ip = payload.slice(OBSERVED_AT, OBSERVED_AT + 16);
  const port = view.getUint16(OBSERVED_AT + 16, true);
  if (port === 0 && !isZero(ip)) return undefined;
  const observed = port === 0 ? undefined : { ip, port };
  return { kind: 'answer', token, stamp, observed, size: view.getUint16(SIZE_AT, true) };
}
