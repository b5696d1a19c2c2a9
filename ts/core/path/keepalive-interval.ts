// How long a path may be silent before something has to go by it, so that the NATs and firewalls on it do not
// forget it: found out by being silent for longer, a step at a time (RFC 5780, section 4.6, without a second
// mapping to try it on). What one has kept for so long it keeps for less; when it was once forgotten, it is left
// alone well below that. RFC 5780 warns that a NAT under load forgets sooner: then it is found out again.

/** No NAT that is of use forgets sooner (RFC 4787, REQ-5, asks for 2 min). */
export const SHORTEST_KEEPALIVE_MS = 15_000;
/** At two packets each time, less than one in 20 s. */
export const LONGEST_KEEPALIVE_MS = 60_000;
/** The next silence, as a multiple of what was kept. */
const STEP = 1.5;
/** Of a silence after which it was forgotten. */
const SAFE = 0.8;
/** After so long it may have been something else, or is another NAT. */
const FORGIVEN_AFTER_MS = 1_800_000;

export class KeepaliveInterval {
  #keptMs = 0;
  #forgottenMs = Infinity;
  #forgottenAt = -Infinity;

  /** How long to be silent next. */
  next(now: number): number {
    if (now - this.#forgottenAt >= FORGIVEN_AFTER_MS) this.#forgottenMs = Infinity;
    const next = Number.isFinite(this.#forgottenMs)
      ? Math.min(this.#keptMs, this.#forgottenMs * SAFE)
      : this.#keptMs * STEP;
    return Math.min(Math.max(next, SHORTEST_KEEPALIVE_MS), LONGEST_KEEPALIVE_MS);
  }

  /** After so many ms of silence a probe was answered at once. */
  kept(silentMs: number): void {
    // Below what forgot it once, what was kept is known.
    if (silentMs < this.#forgottenMs) this.#keptMs = Math.max(this.#keptMs, silentMs);
  }

  /**
   * After so many ms of silence no probe was answered.
   * @returns whether the silence may be what it died of: it was longer than any before.
   */
  forgotten(silentMs: number, now: number): boolean {
    if (silentMs <= Math.max(this.#keptMs, SHORTEST_KEEPALIVE_MS)) return false;
    this.#forgottenMs = Math.min(this.#forgottenMs, silentMs);
    this.#forgottenAt = now;
    return true;
  }
}
