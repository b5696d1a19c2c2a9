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

import { Reason, Verdict, decision } from './verdict';
import { siphash24 } from './siphash';

export const FRAME_MAGIC: u8 = 0x6f;
export const FRAME_HEADER_SIZE: u32 = 16;
export const FRAME_MIN_SIZE: u32 = 32;
export const FRAME_MAX_SIZE: u32 = 65507;
export const KIND_FORWARD: u8 = 0x01;

function isKind(kind: u8): bool {
  return (kind >= 0x01 && kind <= 0x03) || (kind >= 0x10 && kind <= 0x13) || kind == 0x20 || kind == 0x30;
}

/** The tag of a frame of `size` bytes whose first 32 are at `frame`, under the key at `key`. */
export function frameTag(key: usize, frame: usize, size: u32): u64 {
  return siphash24(
    key,
    load<u64>(frame),
    u64(size - FRAME_HEADER_SIZE),
    load<u64>(frame, 16),
    load<u64>(frame, 24),
  );
}

/** Classifies a datagram of `size` bytes, the first 8 of which (or all) are at `data`. FORWARD: a frame. */
export function classify(data: usize, size: u32): u32 {
  if (size == 0) return decision(Verdict.Drop, Reason.Empty);
  const first = load<u8>(data);
  if (first == FRAME_MAGIC) {
    if (size < FRAME_MIN_SIZE) return decision(Verdict.Drop, Reason.FrameTooShort);
    if (size > FRAME_MAX_SIZE) return decision(Verdict.Drop, Reason.FrameTooLong);
    if (!isKind(load<u8>(data, 1))) return decision(Verdict.Drop, Reason.UnknownKind);
    if (load<u8>(data, 3) & 0xf0) return decision(Verdict.Drop, Reason.ReservedFlags);
    return decision(Verdict.Forward, Reason.None);
  }
  if (first >= 1 && first <= 4) {
    const type = size >= 4 ? load<u32>(data) : 0;
    const sizeIsRight =
      (type == 1 && size == 148) ||
      (type == 2 && size == 92) ||
      (type == 3 && size == 64) ||
      (type == 4 && size >= 32);
    return sizeIsRight
      ? decision(Verdict.WireGuard, Reason.None)
      : decision(Verdict.Drop, Reason.MalformedWireGuard);
  }
  if (first == 0) {
    // RFC 8489 section 5: message type 0x0001, magic cookie 0x2112A442.
    return size >= 20 && load<u8>(data, 1) == 0x01 && load<u32>(data, 4) == 0x42a41221
      ? decision(Verdict.Stun, Reason.None)
      : decision(Verdict.Drop, Reason.MalformedStun);
  }
  return decision(Verdict.Drop, Reason.UnknownProtocol);
}
