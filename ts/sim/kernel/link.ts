// One direction of a link: when, how often and whether at all a datagram comes out at its far end.

import type { Prng } from './prng.js';

export interface LinkModel {
  /** One-way milliseconds. */
  readonly delayMs: number;
  /** Up to so many ms more, uniform. */
  readonly jitterMs: number;
  /** Probabilities of a datagram. */
  readonly loss: number;
  readonly duplicate: number;
  readonly reorder: number;
  /** How much later than its turn a reordered one comes. */
  readonly reorderMs: number;
  /** Bits per second, undefined = no limit; what waits for longer than `queueMs` is dropped. */
  readonly bitsPerSecond: number | undefined;
  readonly queueMs: number;
  /** Largest IP packet; a larger one is dropped, as with "don't fragment". */
  readonly mtu: number;
}

export const PERFECT_LINK: LinkModel = {
  delayMs: 0,
  jitterMs: 0,
  loss: 0,
  duplicate: 0,
  reorder: 0,
  reorderMs: 0,
  bitsPerSecond: undefined,
  queueMs: 200,
  mtu: 1500,
};

export class Link {
  model: LinkModel;
  readonly #prng: Prng;
  #busyUntil = 0;

  constructor(model: LinkModel, prng: Prng) {
    this.model = model;
    this.#prng = prng;
  }

  /** When copies of a datagram of so many bytes arrive that is put in at `now`; none: it is lost. */
  arrivals(bytes: number, now: number): number[] {
    const { delayMs, jitterMs, loss, duplicate, reorder, reorderMs, mtu } = this.model;
    if (bytes > mtu || this.#happens(loss)) return [];
    const leaves = this.#leaves(bytes, now);
    if (leaves === undefined) return [];
    const arrival = (): number => {
      const jitter = jitterMs > 0 ? this.#prng.fraction() * jitterMs : 0;
      return leaves + delayMs + jitter + (this.#happens(reorder) ? reorderMs : 0);
    };
    return this.#happens(duplicate) ? [arrival(), arrival()] : [arrival()];
  }

  #leaves(bytes: number, now: number): number | undefined {
    const { bitsPerSecond, queueMs } = this.model;
    if (bitsPerSecond === undefined) return now;
    const begins = Math.max(this.#busyUntil, now);
    if (begins - now > queueMs) return undefined;
    return (this.#busyUntil = begins + (bytes * 8000) / bitsPerSecond);
  }

  #happens(probability: number): boolean {
    return probability > 0 && this.#prng.fraction() < probability;
  }
}
