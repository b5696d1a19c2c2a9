// A prefix (CIDR): an IPv4 or IPv6 network, of one address or more.

import { formatIp, isIPv4, parseIp } from './socket-address.js';

export interface Prefix {
  readonly family: 4 | 6;
  /** 0–32 or 0–128. */
  readonly length: number;
  /** 16 canonical bytes (v4-mapped for family 4). Bits beyond the length may be set. */
  readonly ip: Uint8Array;
}

/** Parses `100.64.1.2/32` or `fd00::/8`; the length may not be left out. */
export function parsePrefix(text: string): Prefix | undefined {
  const match = /^([^/]+)\/(0|[1-9]\d{0,2})$/.exec(text);
  const address = match?.[1] ?? '';
  const ip = parseIp(address);
  const length = Number(match?.[2]);
  const family = address.includes(':') ? 6 : 4;
  return ip !== undefined && length <= (family === 4 ? 32 : 128) ? { family, length, ip } : undefined;
}

/** Whether an address (16 canonical bytes) is in a prefix. */
export function containsIp({ family, length, ip }: Prefix, address: Uint8Array): boolean {
  if ((family === 4) !== isIPv4(address)) return false;
  const bits = family === 4 ? 96 + length : length;
  const whole = bits >> 3;
  for (let index = 0; index < whole; index++) if (ip[index] !== address[index]) return false;
  const rest = bits & 7;
  return rest === 0 || ((ip[whole] ?? 0) ^ (address[whole] ?? 0)) >> (8 - rest) === 0;
}

/** The text form that parsePrefix reads, RFC 5952. */
export function formatPrefix({ family, length, ip }: Prefix): string {
  // The canonical 16 bytes of an address do not tell ::ffff:1.2.3.4 from 1.2.3.4; a prefix does.
  return `${family === 6 && isIPv4(ip) ? '::ffff:' : ''}${formatIp(ip)}/${length}`;
}
