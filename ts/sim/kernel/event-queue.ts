// What happens when, in virtual time. Events of the same moment happen in the order they were added:
// that, and the seed, make a run repeatable.

import { BinaryHeap } from '../../core/runtime/binary-heap.js';

interface Entry {
  readonly at: number;
  readonly order: number;
  readonly run: () => void;
}

export class EventQueue {
  readonly #heap = new BinaryHeap<Entry>((a, b) => a.at < b.at || (a.at === b.at && a.order < b.order));
  #order = 0;
  #now = 0;

  /** Virtual milliseconds. */
  get now(): number {
    return this.#now;
  }

  get size(): number {
    return this.#heap.size;
  }

  /** Runs `run` at `at`, or next if that is past. */
  at(at: number, run: () => void): void {
    this.#heap.push({ at: Math.max(at, this.#now), order: this.#order++, run });
  }

  /** Runs the next event if it is due by `until`; false when there is none. */
  step(until: number): boolean {
    const { top } = this.#heap;
    if (top === undefined || top.at > until) {
      this.#now = Math.max(this.#now, until);
      return false;
    }
    this.#heap.pop();
    this.#now = top.at;
    top.run();
    return true;
  }
}
