// How many lines of a kind may be written: a burst, then one now and then. What is held back is counted
// by kind, so that it can be said.

/** Kinds watched one by one; further ones share. */
const MAX_KINDS = 4096;

export interface LineRate {
  /** Lines at once. */
  readonly burst: number;
  /** Milliseconds until another one may follow. */
  readonly everyMs: number;
}

interface Bucket {
  tokens: number;
  at: number;
  held: number;
}

export class LineLimiter {
  readonly #buckets = new Map<string, Bucket>();
  /** Lines held back so far. */
  held = 0;

  constructor(readonly rate: LineRate) {}

  /**
   * Whether another line of this kind may be written at `now` (ms, monotonic).
   * @returns undefined when not; else how many of its kind were held back since the last one.
   */
  take(kind: string, now: number): number | undefined {
    const bucket = this.#bucket(kind, now);
    if (bucket.tokens < 1) {
      bucket.held++;
      this.held++;
      return undefined;
    }
    bucket.tokens--;
    const { held } = bucket;
    bucket.held = 0;
    return held;
  }

  #bucket(kind: string, now: number): Bucket {
    const { burst, everyMs } = this.rate;
    const known = this.#buckets.get(kind);
    if (known === undefined && this.#buckets.size >= MAX_KINDS) this.#forget(now);
    const key = known === undefined && this.#buckets.size >= MAX_KINDS ? '' : kind;
    const bucket = this.#buckets.get(key) ?? { tokens: burst, at: now, held: 0 };
    bucket.tokens = Math.min(burst, bucket.tokens + (now - bucket.at) / everyMs);
    bucket.at = now;
    this.#buckets.set(key, bucket);
    return bucket;
  }

  /** Kinds that have had nothing to say for a while are as new. */
  #forget(now: number): void {
    const { burst, everyMs } = this.rate;
    for (const [kind, bucket] of this.#buckets)
      if (bucket.tokens + (now - bucket.at) / everyMs >= burst && bucket.held === 0)
        this.#buckets.delete(kind);
  }
}
