// What probes have shown of a path: round trip (RFC 6298's estimator, with a smaller first deviation: probes are many and small) and loss.

/** Share of the newest probe in the loss. */
const LOSS_GAIN = 1 / 8;

/** Before a round trip is known. */
const FIRST_TIMEOUT_MS = 500;
/** A few answers that took equally long do not promise the next. */
const LEAST_VARIATION_MS = 10;
/** A peer that holds answers back does not make us wait for longer. */
const LONGEST_TIMEOUT_MS = 10_000;

export class PathQuality {
  /** Smoothed, ms; undefined = nothing was answered yet. */
  rttMs: number | undefined;
  /** Mean deviation of it. */
  rttVarMs = 0;
  /** Of probes lately, 0–1. */
  loss = 0;

  answered(rttMs: number): void {
    this.loss *= 1 - LOSS_GAIN;
    if (this.rttMs === undefined) {
      this.rttMs = rttMs;
      this.rttVarMs = rttMs / 8;
      return;
    }
    this.rttVarMs += (Math.abs(this.rttMs - rttMs) - this.rttVarMs) / 4;
    this.rttMs += (rttMs - this.rttMs) / 8;
  }

  lost(): void {
    this.loss += (1 - this.loss) * LOSS_GAIN;
  }

  /** After so many ms without an answer there will be none. */
  get timeoutMs(): number {
    const expected = (this.rttMs ?? FIRST_TIMEOUT_MS) + Math.max(4 * this.rttVarMs, LEAST_VARIATION_MS);
    return Math.min(expected, LONGEST_TIMEOUT_MS);
  }
}
