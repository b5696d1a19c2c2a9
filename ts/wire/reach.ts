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
