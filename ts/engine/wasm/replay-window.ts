// Anti-replay window without bit shifting (RFC 6479), over a ring of 8192 bits.
//
//   word of `greatest` ──┐          counters are 64 bit; bit = counter mod 32 of
//   ┌────┬────┬────┬─────▼┬────┐    word ⌊counter / 32⌋ mod 256
//   │ 32 │ 32 │ .. │  32  │ .. │    words between the old and the new greatest
//   └────┴────┴────┴──────┴────┘    are cleared when it advances

import { REJECT_AFTER_MESSAGES } from '../../wire/session-constants.js';

const RING_WORDS = 256;
const RING_MASK = BigInt(RING_WORDS - 1);

/** How far behind the greatest counter one is still told apart (as in the Linux implementation). */
export const REPLAY_WINDOW_SIZE = 8128n;

export class ReplayWindow {
  readonly #words = new Uint32Array(RING_WORDS);
  #greatest = 0n;

  /** Whether this counter is new; if so it is marked as seen. Call only with authenticated counters. */
  accept(counter: bigint): boolean {
    if (counter >= REJECT_AFTER_MESSAGES) return false;
    if (counter + REPLAY_WINDOW_SIZE < this.#greatest) return false;
    const word = counter >> 5n;
    if (counter > this.#greatest) {
      const current = this.#greatest >> 5n;
      const steps = word - current > RING_MASK ? RING_WORDS : Number(word - current);
      for (let i = 1; i <= steps; i++) {
        this.#words[Number((current + BigInt(i)) & RING_MASK)] = 0;
      }
      this.#greatest = counter;
    }
    const index = Number(word & RING_MASK);
    const bit = 1 << Number(counter & 31n);
    const bits = this.#words[index] ?? 0;
    if ((bits & bit) !== 0) return false;
    this.#words[index] = bits | bit;
    return true;
  }
}
