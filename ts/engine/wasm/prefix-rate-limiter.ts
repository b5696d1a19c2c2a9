// Token buckets per source prefix, in a table of bounded size: what a stranger may cost.

import { isIPv4 } from '../../wire/socket-address.js';
import { TokenBucket } from './token-bucket.js';

export interface PrefixRate {
  readonly perSecond: number;
  readonly burst: number;
  /** Leading bits of an address that share a bucket. */
  readonly ipv4Bits: number;
  readonly ipv6Bits: number;
  /** Buckets kept at most; while all are in use, new prefixes are refused. */
  readonly capacity: number;
}

export class PrefixRateLimiter {
  readonly #buckets = new Map<string, TokenBucket>();
  readonly #rate: PrefixRate;
  #nextSweep = -Infinity;

  constructor(rate: PrefixRate) {
    this.#rate = rate;
  }

  get size(): number {
    return this.#buckets.size;
  }

  /** Takes one token of the address's prefix; false when none is left. `now` in ms. */
  allow(ip: Uint8Array, now: number): boolean {
    const prefix = this.#prefix(ip);
    let bucket = this.#buckets.get(prefix);
    if (bucket === undefined) {
      const { perSecond, burst, capacity } = this.#rate;
      if (this.#buckets.size >= capacity) this.#forgetFull(now);
      if (this.#buckets.size >= capacity) return false;
      bucket = new TokenBucket(perSecond, burst, now);
      this.#buckets.set(prefix, bucket);
    }
    return bucket.take(now);
  }

  #prefix(ip: Uint8Array): string {
    const bits = isIPv4(ip) ? 96 + this.#rate.ipv4Bits : this.#rate.ipv6Bits;
    let prefix = '';
    for (let i = 0; i * 8 < bits; i++) {
      const keep = Math.min(8, bits - i * 8);
      prefix += String.fromCharCode((ip[i] ?? 0) & (0xff00 >> keep));
    }
    return prefix;
  }

  /**
   * A full bucket says nothing that a missing one would not. Looked for at most once per refill
   * time, so that strangers who fill the table do not buy a walk over it with every packet.
   */
  #forgetFull(now: number): void {
    if (now < this.#nextSweep) return;
    this.#nextSweep = now + (this.#rate.burst / this.#rate.perSecond) * 1000;
    for (const [prefix, bucket] of this.#buckets) {
      if (bucket.full(now)) this.#buckets.delete(prefix);
    }
  }
}
