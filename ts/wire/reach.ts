// How far an IP address reaches: what can be told to others, and what may be sent to when others tell it.

import { isIPv4 } from './socket-address.js';

/** How far an address reaches; more is better. */
export const Reach = { nowhere: 0, machine: 1, cable: 2, network: 3 } as const;
export type Reach = (typeof Reach)[keyof typeof Reach];

/** How far an address reaches: to nobody when it is none of one machine (multicast, broadcast, reserved). */
export function reachOf(ip: Uint8Array): Reach {
  const [first = 0, second = 0] = isIPv4(ip) ? ip.subarray(12) : ip;
  if (isIPv4(ip)) {
    if (first === 127) return Reach.machine;
    if (first === 0 || first >= 224) return Reach.nowhere; // "this network", multicast, reserved, broadcast
    return first === 169 && second === 254 ? Reach.cable : Reach.network;
  }
  if (ip.subarray(0, 15).every((byte) => byte === 0)) return ip[15] === 1 ? Reach.machine : Reach.nowhere;
  if (first === 0xff) return Reach.nowhere;
  // Unlike an IPv4 one it cannot be used without the name of an interface of the sender's.
  return first === 0xfe && (second & 0xc0) === 0x80 ? Reach.nowhere : Reach.network;
}

/** Prefixes of addresses that many networks use, each for itself: RFC 1918, 6598, 7335, 3927, 2544. */
const PRIVATE_IPV4: readonly (readonly [first: number, second: number, bits: number])[] = [
  [10, 0, 8],
  [172, 16, 12],
  [192, 168, 16],
  [100, 64, 10],
  [169, 254, 16],
  [198, 18, 15],
];

/** Whether the same address is somebody else's elsewhere: a NAT is on the way from it to the Internet. */
export function isPrivate(ip: Uint8Array): boolean {
  if (!isIPv4(ip)) return ((ip[0] ?? 0) & 0xfe) === 0xfc; // RFC 4193
  const [first = 0, second = 0, third = 0] = ip.subarray(12);
  if (first === 192 && second === 0 && third === 0) return true; // RFC 6890: between a home and its carrier's NAT
  const both = first * 256 + second;
  return PRIVATE_IPV4.some(([a, b, bits]) => both >> (16 - bits) === (a * 256 + b) >> (16 - bits));
}
