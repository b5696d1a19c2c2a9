// Addresses that have proven themselves not long ago: IPv4 whole, IPv6 by its /64; the port plays no part. As in
// native/wire/include/omerta/door.h, in a table that forgets the oldest.

import { isIPv4 } from '../../wire/socket-address.js';

const KNOWN = 8192;
/** A session in use proves it again every 2 minutes. */
const KNOWN_MS = 600_000;

export class KnownAddresses {
  /** When each was known last, ms of performance.now(); the oldest first. */
  readonly #since = new Map<string, number>();

  get size(): number {
    return this.#since.size;
  }

  /** @param ip 16 bytes, IPv4 mapped */
  add(ip: Uint8Array, now: number): void {
    const key = keyOf(ip);
    this.#since.delete(key);
    if (this.#since.size >= KNOWN) {
      for (const oldest of this.#since.keys()) {
        this.#since.delete(oldest);
        break;
      }
    }
    this.#since.set(key, now);
  }

  has(ip: Uint8Array, now: number): boolean {
    const since = this.#since.get(keyOf(ip));
    return since !== undefined && now - since < KNOWN_MS;
  }
}

function keyOf(ip: Uint8Array): string {
  return String.fromCharCode(...ip.subarray(0, isIPv4(ip) ? 16 : 8));
}
