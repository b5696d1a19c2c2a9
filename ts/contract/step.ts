// What a step of the sans-IO core is given instead of a clock and a source of randomness.

/** Time and randomness for one step. */
export interface Step {
  /** Monotonic milliseconds; the unit of every deadline the core returns. */
  readonly now: number;
  /** Wall clock, milliseconds since 1970: record validity only. */
  readonly wallClock: number;
  /** Fresh random bytes, as many as asked for. */
  random(length: number): Uint8Array;
}
