// STUN (RFC 8489): a binding request is answered with XOR-MAPPED-ADDRESS alone.
//
//   0  type u16            0x0001 request, 0x0101 success response       (all big-endian)
//   2  length u16          of the attributes
//   4  magic cookie u32    0x2112A442
//   8  transaction id 12
//   20 attributes          type u16, length u16, value padded to 4

import { isIPv4, type SocketAddress } from '../../wire/socket-address.js';

const HEADER_SIZE = 20;
const BINDING_REQUEST = 0x0001;
const BINDING_SUCCESS = 0x0101;
const MAGIC_COOKIE = 0x2112a442;
const XOR_MAPPED_ADDRESS = 0x0020;
const FAMILY_IPV4 = 0x01;
const FAMILY_IPV6 = 0x02;

/**
 * The binding response to `request`, telling its sender's address; undefined when it is not a
 * well-formed binding request. Attributes are not looked at (RFC 8489 6.3.1 without authentication).
 */
export function answerBindingRequest(request: Uint8Array, from: SocketAddress): Uint8Array | undefined {
  if (request.length < HEADER_SIZE) return undefined;
  const view = new DataView(request.buffer, request.byteOffset, request.length);
  const length = view.getUint16(2);
  if (view.getUint16(0) !== BINDING_REQUEST || view.getUint32(4) !== MAGIC_COOKIE) return undefined;
  if (length % 4 !== 0 || HEADER_SIZE + length !== request.length) return undefined;

  const ip = isIPv4(from.ip) ? from.ip.subarray(12) : from.ip;
  const response = new Uint8Array(HEADER_SIZE + 8 + ip.length);
  const out = new DataView(response.buffer);
  out.setUint16(0, BINDING_SUCCESS);
  out.setUint16(2, 8 + ip.length);
  response.set(request.subarray(4, HEADER_SIZE), 4);
  out.setUint16(HEADER_SIZE, XOR_MAPPED_ADDRESS);
  out.setUint16(HEADER_SIZE + 2, 4 + ip.length);
  out.setUint8(HEADER_SIZE + 5, ip.length === 4 ? FAMILY_IPV4 : FAMILY_IPV6);
  out.setUint16(HEADER_SIZE + 6, from.port ^ (MAGIC_COOKIE >>> 16));
  // RFC 8489 14.2: the address is XORed with the magic cookie and, for IPv6, the transaction id.
  ip.forEach((byte, index) => (response[HEADER_SIZE + 8 + index] = byte ^ (request[4 + index] ?? 0)));
  return response;
}
