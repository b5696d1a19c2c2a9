// Calls back when a deadline has come. One that was set too early does no harm: whoever is called looks what
// is due.

/** setTimeout takes no more; waking up early is harmless. */
const MAX_TIMEOUT_MS = 2 ** 31 - 1;

export class Alarm {
  readonly #ring: () => void;
  #timer: NodeJS.Timeout | undefined;
  #timerAt = Infinity;
  #immediate: NodeJS.Immediate | undefined;

  constructor(ring: () => void) {
    this.#ring = ring;
  }

  /**
   * To be told of each deadline: the earliest counts.
   * @param deadline ms of performance.now(); one that has passed is rung for in the next turn of the event loop
   */
  set(deadline: number): void {
    const wait = deadline - performance.now();
    if (wait <= 0) {
      this.#immediate ??= setImmediate(() => {
        this.#immediate = undefined;
        this.#ring();
      });
    } else if (deadline < this.#timerAt) {
      clearTimeout(this.#timer);
      this.#timerAt = deadline;
      // Rounded up: a timer that fires a fraction early would only be set again.
      this.#timer = setTimeout(
        () => {
          this.#timerAt = Infinity;
          this.#ring();
        },
        Math.min(Math.ceil(wait), MAX_TIMEOUT_MS),
      );
    }
  }

  clear(): void {
    clearTimeout(this.#timer);
    clearImmediate(this.#immediate);
  }
}
