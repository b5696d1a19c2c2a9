// One datagram after the other until one is answered. Waits double, as RFC 6886 (section 3.1) has it; RFC 6887's
// first wait of 3 s would keep a gateway that knows UPnP alone waiting for longer than a person does.

const WAITS_MS = [250, 500, 1000, 2000];

export class DatagramRetry {
  #sent = 0;
  #at: number | undefined;

  /** Begins: the first one is sent now. */
  begin(now: number): void {
    this.#sent = 1;
    this.#at = now + (WAITS_MS[0] ?? 0);
  }

  end(): void {
    this.#at = undefined;
  }

  get isUnderWay(): boolean {
    return this.#at !== undefined;
  }

  /** @returns what is to be done: nothing yet, one more, or give up. */
  due(now: number): 'wait' | 'again' | 'over' {
    if (this.#at === undefined || this.#at > now) return 'wait';
    const wait = WAITS_MS[this.#sent];
    this.#sent++;
    this.#at = wait === undefined ? undefined : now + wait;
    return wait === undefined ? 'over' : 'again';
  }

  deadline(): number | undefined {
    return this.#at;
  }
}
