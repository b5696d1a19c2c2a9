// Token buckets for strangers, one per source prefix, in a table of fixed size, as in native/ratelimit/prefix_buckets.h:
// prefixes that share a slot share a bucket, so that nobody can make the table grow, and nobody who fills it shuts out
// whoever comes after. The slot is chosen under a secret key, so that nobody can aim at another's.

import { siphash24Words } from '../../wire/siphash.js';
import { isIPv4 } from '../../wire/socket-address.js';
import { TokenBucket } from './token-bucket.js';

const SLOTS = 4096;

export interface PrefixRate {
  readonly perSecond: number;
  readonly burst: number;
  /** Leading bits of an address that share a bucket; at most 32 and 64. */
  readonly ipv4Bits: number;
  readonly ipv6Bits: number;
}

export class PrefixBuckets {
  /** By slot; one that was never taken from is not there. */
  readonly #buckets = new Map<number, TokenBucket>();
  readonly #rate: PrefixRate;
  readonly #key: Uint8Array;

  /** @param key 16 random bytes */
  constructor(rate: PrefixRate, key: Uint8Array) {
    this.#rate = rate;
    this.#key = key;
  }

  /** At most 4,096. */
  get size(): number {
    return this.#buckets.size;
  }

  /** Takes one token of the address's prefix; false when none is left. `now` in ms. */
  take(ip: Uint8Array, now: number): boolean {
    const slot = this.#slot(ip);
    let bucket = this.#buckets.get(slot);
    if (bucket === undefined) {
      bucket = new TokenBucket(this.#rate.perSecond, this.#rate.burst, now);
      this.#buckets.set(slot, bucket);
    }
    return bucket.take(now);
  }

  /** The two halves of the masked address go into the hash as numbers, and so the wrong way round. */
  #slot(ip: Uint8Array): number {
    const bits = isIPv4(ip) ? 96 + this.#rate.ipv4Bits : this.#rate.ipv6Bits;
    const message = new Uint8Array(32);
    for (let at = 0; at * 8 < bits; at++) {
      const keep = Math.min(8, bits - at * 8);
      message[at ^ 7] = (ip[at] ?? 0) & (0xff00 >> keep);
    }
    return siphash24Words(this.#key, message).low % SLOTS;
  }
}
