// What probes have shown of a path: round trip (RFC 6298's estimator, with a smaller first deviation: probes are many and small)
// and loss; and what the peer has reported of the data sent by it.

import { DataLoss } from './data-loss.js';

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
  probeLoss = 0;
  /** Of data when it went by it last, 0–1; less with each probe that was answered since. */
  #dataLoss = 0;
  readonly #data = new DataLoss();

  /** Of what goes by it, 0–1. */
  get loss(): number {
    return Math.max(this.probeLoss, this.#dataLoss);
  }

  answered(rttMs: number): void {
    this.probeLoss *= 1 - LOSS_GAIN;
    this.#dataLoss *= 1 - LOSS_GAIN;
    if (this.rttMs === undefined) {
      this.rttMs = rttMs;
      this.rttVarMs = rttMs / 8;
      return;
    }
    this.rttVarMs += (Math.abs(this.rttMs - rttMs) - this.rttVarMs) / 4;
    this.rttMs += (rttMs - this.rttMs) / 8;
  }

  lost(): void {
    this.probeLoss += (1 - this.probeLoss) * LOSS_GAIN;
  }

  /** The peer says how much of what was sent by it it has had. @returns whether its loss is another now. */
  reported(sent: number, received: number, now: number): boolean {
    const loss = this.#data.reported(sent, received, now);
    if (loss === undefined || loss === this.#dataLoss) return false;
    this.#dataLoss = loss;
    return true;
  }

  /** What is sent goes by two paths, or by one again. */
  duplicated(): void {
    this.#data.restart();
  }

  /** It was dead: what it lost meanwhile says nothing of what it is like alive. */
  revived(): void {
    this.probeLoss = this.#dataLoss = 0;
    this.#data.restart();
  }

  /** After so many ms without an answer there will be none. */
  get timeoutMs(): number {
    return Math.min((this.rttMs ?? FIRST_TIMEOUT_MS) + this.#variationMs, LONGEST_TIMEOUT_MS);
  }

  /** No answer comes sooner. */
  get leastRttMs(): number {
    return Math.max((this.rttMs ?? 0) - this.#variationMs, 0);
  }

  get #variationMs(): number {
    return Math.max(4 * this.rttVarMs, LEAST_VARIATION_MS);
  }
}
