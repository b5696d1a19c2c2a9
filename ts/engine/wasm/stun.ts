// STUN (RFC 8489): a binding request is answered with XOR-MAPPED-ADDRESS, or with those of its
// attributes that are not known here. Without authentication; native/udp/stun.cc is the same in C++.
//
//   0  type u16            0x0001 request, 0x0101 success, 0x0111 error response    (all big-endian)
//   2  length u16          of the attributes
//   4  magic cookie u32    0x2112A442
//   8  transaction id 12
//   20 attributes          type u16, length u16, value padded to 4

import { isIPv4, type SocketAddress } from '../../wire/socket-address.js';

const HEADER_SIZE = 20;
const ATTRIBUTE_HEADER_SIZE = 4;
const BINDING_REQUEST = 0x0001;
const BINDING_SUCCESS = 0x0101;
const BINDING_ERROR = 0x0111;
const MAGIC_COOKIE = 0x2112a442;
const FAMILY_IPV4 = 0x01;
const FAMILY_IPV6 = 0x02;
/** So the answer is never much larger than the request, whatever that names. */
const MOST_UNKNOWN = 16;
const FINGERPRINT_MASK = 0x5354554e;

/** RFC 8489 section 18.3. From 0x8000 on, those that are not known are passed over. */
const Attribute = {
  mappedAddress: 0x0001,
  username: 0x0006,
  messageIntegrity: 0x0008,
  errorCode: 0x0009,
  unknownAttributes: 0x000a,
  realm: 0x0014,
  nonce: 0x0015,
  messageIntegritySha256: 0x001c,
  passwordAlgorithm: 0x001d,
  userHash: 0x001e,
  xorMappedAddress: 0x0020,
  fingerprint: 0x8028,
} as const;
const COMPREHENSION_OPTIONAL = 0x8000;
const KNOWN: ReadonlySet<number> = new Set(Object.values(Attribute));

/** CRC-32 of ITU V.42, bit by bit: the budget for STUN keeps it rare. */
function crc32(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ ((crc & 1) === 1 ? 0xedb88320 : 0);
  }
  return ~crc >>> 0;
}

/** The unknown attributes that have to be understood; undefined when the attributes are not well-formed. */
function unknownAttributes(request: Uint8Array, view: DataView): number[] | undefined {
  const unknown: number[] = [];
  let afterIntegrity = false;
  for (let at = HEADER_SIZE; at < request.length;) {
    // The length is a multiple of four, and so is every step: an attribute's header always fits.
    const type = view.getUint16(at);
    const size = view.getUint16(at + 2);
    const end = at + ATTRIBUTE_HEADER_SIZE + Math.ceil(size / 4) * 4;
    if (end > request.length) return undefined;
    if (type === Attribute.fingerprint) {
      // Section 14.7: the last one.
      if (size !== 4 || end !== request.length) return undefined;
      const expected = (crc32(request.subarray(0, at)) ^ FINGERPRINT_MASK) >>> 0;
      if (view.getUint32(at + ATTRIBUTE_HEADER_SIZE) !== expected) return undefined;
    } else if (!afterIntegrity && type < COMPREHENSION_OPTIONAL && !KNOWN.has(type)) unknown.push(type);
    // Section 14.5: what comes after it is not covered by it, and is not looked at.
    afterIntegrity ||= type === Attribute.messageIntegrity || type === Attribute.messageIntegritySha256;
    at = end;
  }
  return unknown.slice(0, MOST_UNKNOWN);
}

/** A response of this type to a request, with room for `size` bytes of attributes. */
function responseTo(request: Uint8Array, type: number, size: number): { bytes: Uint8Array; view: DataView } {
  const bytes = new Uint8Array(HEADER_SIZE + size);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, type);
  view.setUint16(2, size);
  bytes.set(request.subarray(4, HEADER_SIZE), 4);
  return { bytes, view };
}

/** Error 420 (section 6.3.1), without a reason phrase. */
function refusal(request: Uint8Array, unknown: readonly number[]): Uint8Array {
  const listSize = Math.ceil((2 * unknown.length) / 4) * 4;
  const { bytes, view } = responseTo(request, BINDING_ERROR, 12 + listSize);
  view.setUint16(HEADER_SIZE, Attribute.errorCode);
  view.setUint16(HEADER_SIZE + 2, 4);
  view.setUint8(HEADER_SIZE + 6, 4);
  view.setUint8(HEADER_SIZE + 7, 20);
  view.setUint16(HEADER_SIZE + 8, Attribute.unknownAttributes);
  view.setUint16(HEADER_SIZE + 10, 2 * unknown.length);
  for (const [index, type] of unknown.entries()) view.setUint16(HEADER_SIZE + 12 + 2 * index, type);
  return bytes;
}

/**
 * The answer to `request`: its sender's address, or error 420 when it holds attributes that have to be
 * understood and are not. Undefined when it is no well-formed binding request (section 6.3: silence).
 */
export function answerBindingRequest(request: Uint8Array, from: SocketAddress): Uint8Array | undefined {
  if (request.length < HEADER_SIZE) return undefined;
  const view = new DataView(request.buffer, request.byteOffset, request.length);
  const length = view.getUint16(2);
  if (view.getUint16(0) !== BINDING_REQUEST || view.getUint32(4) !== MAGIC_COOKIE) return undefined;
  if (length % 4 !== 0 || HEADER_SIZE + length !== request.length) return undefined;
  const unknown = unknownAttributes(request, view);
  if (unknown === undefined) return undefined;
  if (unknown.length > 0) return refusal(request, unknown);

  const ip = isIPv4(from.ip) ? from.ip.subarray(12) : from.ip;
  const { bytes, view: out } = responseTo(request, BINDING_SUCCESS, 8 + ip.length);
  out.setUint16(HEADER_SIZE, Attribute.xorMappedAddress);
  out.setUint16(HEADER_SIZE + 2, 4 + ip.length);
  out.setUint8(HEADER_SIZE + 5, ip.length === 4 ? FAMILY_IPV4 : FAMILY_IPV6);
  out.setUint16(HEADER_SIZE + 6, from.port ^ (MAGIC_COOKIE >>> 16));
  // Section 14.2: the address is XORed with the magic cookie and, for IPv6, the transaction id.
  ip.forEach((byte, index) => (bytes[HEADER_SIZE + 8 + index] = byte ^ (request[4 + index] ?? 0)));
  return bytes;
}
