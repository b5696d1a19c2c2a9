// Timers of one owner: one row for each, which says when it is due after it was started and what is
// done then. Sans-IO: `fire` is called when `deadline` has come.

import type { Step } from '../../contract/step.js';
import type { SessionOutput } from './session-output.js';

export interface TimerRow {
  /** Milliseconds from the start of the timer until it is due. */
  readonly delay: (step: Step) => number;
  /** The timer has stopped by then, and may be started again. */
  readonly fired: (step: Step, outputs: SessionOutput[]) => void;
}

export class Timers<Name extends string> {
  readonly #rows: Readonly<Record<Name, TimerRow>>;
  /** Monotonic ms at which a running timer is due. */
  readonly #due = new Map<string, number>();

  /** Timers due at once are fired in the order of the rows. */
  constructor(rows: Readonly<Record<Name, TimerRow>>) {
    this.#rows = rows;
  }

  /** Starts a timer, from `since` on, whether it runs already or not. */
  start(name: Name, step: Step, since = step.now): void {
    this.#due.set(name, since + this.#rows[name].delay(step));
  }

  /** The same, but one that runs goes on as it is. */
  startIfIdle(name: Name, step: Step, since = step.now): void {
    if (!this.#due.has(name)) this.start(name, step, since);
  }

  stop(name: Name): void {
    this.#due.delete(name);
  }

  running(name: Name): boolean {
    return this.#due.has(name);
  }

  fire(step: Step, outputs: SessionOutput[]): void {
    for (const [name, row] of Object.entries<TimerRow>(this.#rows)) {
      const due = this.#due.get(name);
      if (due === undefined || due > step.now) continue;
      this.#due.delete(name);
      row.fired(step, outputs);
    }
  }

  /** Monotonic ms at which `fire` wants to be called; undefined: no timer runs. */
  deadline(): number | undefined {
    let earliest: number | undefined;
    for (const due of this.#due.values()) if (earliest === undefined || due < earliest) earliest = due;
    return earliest;
  }
}
