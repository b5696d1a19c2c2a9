// How much later than expected the reports on a path come. What made one late, or kept it away, will do so again: a
// path is not taken for silent so soon for the next minutes. So a path that is steady is left quickly when it dies, and
// one that loses packets, or whose other end is busy, is not said to be silent again and again.

/** Later than this it was no report that was late: the path was dead. */
const LONGEST_MS = 200;
/** The next one is later by up to so much more. */
const MARGIN_MS = 30;
/** What is allowed for is half as much after so long. */
const HALF_LIFE_MS = 120_000;

export class ReportLateness {
  #silentAt: number | undefined;
  #allowedMs = 0;
  /** When that was learned. */
  #learnedAt = 0;

  /** The engine has found the path silent. */
  silent(now: number): void {
    this.#silentAt = now;
  }

  /** A report came by it again. */
  heard(now: number): void {
    if (this.#silentAt === undefined) return;
    const lateMs = now - this.#silentAt;
    this.#silentAt = undefined;
    if (lateMs > LONGEST_MS) return;
    this.#allowedMs = Math.min(this.allowedMs(now) + lateMs + MARGIN_MS, LONGEST_MS);
    this.#learnedAt = now;
  }

  /** So many ms later than expected a report may come. */
  allowedMs(now: number): number {
    return this.#allowedMs * 2 ** ((this.#learnedAt - now) / HALF_LIFE_MS);
  }
}
