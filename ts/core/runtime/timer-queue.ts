// Timers by key. Setting a key again moves its timer; the stale heap entry is skipped when it surfaces.

import { BinaryHeap } from './binary-heap.js';

/** Stale entries the heap may have beside as many as there are timers: keys are moved at others' will. */
const STALE_ENTRIES = 64;

interface Entry<K> {
  readonly at: number;
  readonly key: K;
}

export class TimerQueue<K> {
  #heap = new BinaryHeap<Entry<K>>((a, b) => a.at < b.at);
  readonly #deadlines = new Map<K, number>();

  /** Fires `key` at `at` (monotonic ms), instead of whenever it was set to. */
  set(key: K, at: number): void {
    if (this.#deadlines.get(key) === at) return;
    this.#deadlines.set(key, at);
    this.#heap.push({ at, key });
    if (this.#heap.size > 2 * this.#deadlines.size + STALE_ENTRIES) this.#compact();
  }

  /** Entries in memory, stale ones included. */
  get entries(): number {
    return this.#heap.size;
  }

  clear(key: K): void {
    this.#deadlines.delete(key);
  }

  has(key: K): boolean {
    return this.#deadlines.has(key);
  }

  /** The earliest deadline. */
  next(): number | undefined {
    for (;;) {
      const { top } = this.#heap;
      if (top === undefined) return undefined;
      if (this.#deadlines.get(top.key) === top.at) return top.at;
      this.#heap.pop();
    }
  }

  /** Removes and returns one key whose time has come, earliest first. */
  takeDue(now: number): K | undefined {
    const at = this.next();
    if (at === undefined || at > now) return undefined;
    const key = this.#heap.pop()?.key;
    if (key !== undefined) this.#deadlines.delete(key);
    return key;
  }

  /** Takes the keys whose time has come, earliest first; those set on the way are taken too. */
  *allDue(now: number): Iterable<K> {
    for (let key = this.takeDue(now); key !== undefined; key = this.takeDue(now)) yield key;
  }

  #compact(): void {
    this.#heap = new BinaryHeap<Entry<K>>((a, b) => a.at < b.at);
    for (const [key, at] of this.#deadlines) this.#heap.push({ at, key });
  }
}
