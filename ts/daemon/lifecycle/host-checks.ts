// When this host's interfaces are looked at: as soon as the engine says that links, addresses or routes have
// changed, and now and then in case that did not come. An engine that cannot say so is not waited for.

/** Where changes are told, how long a check is content with what it saw. */
const CONTENT_MS = 30_000;

interface Check {
  readonly intervalMs: number;
  readonly run: () => boolean;
  dueAt: number;
}

export class HostChecks {
  readonly #checks: Check[] = [];

  /**
   * @param intervalMs between two of them while nobody tells of changes, or the last did not find all in order
   * @param run looks; returns whether all is in order
   */
  add(intervalMs: number, run: () => boolean): void {
    this.#checks.push({ intervalMs, run, dueAt: -Infinity });
  }

  /** To be called every second. @param told whether changes are told; `now` in ms, never goes back. */
  tick(now: number, told: boolean): void {
    for (const check of this.#checks) if (now >= check.dueAt) this.#look(check, now, told);
  }

  /** Something has changed. */
  changed(now: number): void {
    for (const check of this.#checks) this.#look(check, now, true);
  }

  #look(check: Check, now: number, told: boolean): void {
    check.dueAt = now + check.intervalMs; // what throws is tried again then
    if (check.run() && told) check.dueAt = now + CONTENT_MS;
  }
}
