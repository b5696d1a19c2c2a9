// How much of what was sent by a path is lost, by what the peer reports to have had of it: probes are too few to
// show it. What is under way when a report comes counts as lost and, in the next stretch, as found again; so a
// loss counts when two stretches in a row show it.

/** Of one stretch. */
const STRETCH_MS = 4000;
const LEAST_PACKETS = 20;

interface Counts {
  readonly at: number;
  /** Messages sent by the path, and those that the peer had by it. */
  readonly sent: number;
  readonly received: number;
}

export class DataLoss {
  #begin: Counts | undefined;
  /** Of the stretch before. */
  #before: number | undefined;

  /** @returns the loss (0–1) when a stretch is over; undefined = go on. The peer may say anything: it is bounded. */
  reported(sent: number, received: number, now: number): number | undefined {
    const begin = this.#begin;
    // The peer counts anew when it has had no such path for a while.
    if (begin === undefined || received < begin.received || sent < begin.sent) {
      this.restart();
      this.#begin = { at: now, sent, received };
      return undefined;
    }
    if (now - begin.at < STRETCH_MS || sent - begin.sent < LEAST_PACKETS) return undefined;
    const loss = Math.min(Math.max(1 - (received - begin.received) / (sent - begin.sent), 0), 1);
    const before = this.#before ?? 0;
    this.#before = loss;
    this.#begin = { at: now, sent, received };
    return Math.min(loss, before);
  }

  /** What was sent meanwhile went by another path too: which copy came first says nothing. */
  restart(): void {
    this.#begin = this.#before = undefined;
  }
}
