// Whether the address others see is one of this machine's, and if not, what kind of translation made it.
// An IPv6 address that others see as it is may still be behind a firewall: that is the filter's affair.

import { sameBytes } from '../../wire/bytes.js';
import { isIPv4, type SocketAddress } from '../../wire/socket-address.js';
import type { Translation } from '../runtime/nat-status.js';

/**
 * @param local what it was sent from
 * @param own all addresses of this machine: with several of one prefix (RFC 8981, temporary ones among them) the
 *   kernel chooses
 */
export function translationOf(
  local: SocketAddress,
  own: readonly Uint8Array[],
  seen: SocketAddress,
): Translation {
  const keepsPort = seen.port === local.port;
  if (keepsPort && own.some((ip) => sameBytes(ip, seen.ip))) return 'none';
  if (isIPv4(seen.ip)) return 'nat44';
  // An address made since the list was: nobody else has one of this prefix and sends from our port.
  if (keepsPort && own.some((ip) => !isIPv4(ip) && sameBytes(ip.subarray(0, 8), seen.ip.subarray(0, 8))))
    return 'none';
  const isPrefix = own.some((ip) => !isIPv4(ip) && isPrefixTranslation(ip, seen.ip));
  return keepsPort && isPrefix ? 'nptv6' : 'nat66';
}

/** RFC 6296 keeps the checksum; others that change the prefix alone keep the interface identifier. */
function isPrefixTranslation(inner: Uint8Array, outer: Uint8Array): boolean {
  if (sameBytes(inner.subarray(8), outer.subarray(8))) return true;
  const changed = [4, 5, 6, 7].filter(
    (word) => !sameBytes(inner.subarray(2 * word, 2 * word + 2), outer.subarray(2 * word, 2 * word + 2)),
  );
  return changed.length === 1 && checksum(inner) === checksum(outer);
}

/** One's complement sum of 16-bit words (RFC 1071), its two zeros as one. */
function checksum(ip: Uint8Array): number {
  let sum = 0;
  for (let at = 0; at < ip.length; at += 2) sum += ((ip[at] ?? 0) << 8) | (ip[at + 1] ?? 0);
  return sum % 0xffff;
}
