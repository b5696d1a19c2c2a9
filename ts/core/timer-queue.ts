// Timers by key: a binary heap of deadlines. Setting a key again moves its timer; the stale heap
// entry is skipped when it surfaces.

interface Entry<K> {
  readonly at: number;
  readonly key: K;
}

export class TimerQueue<K> {
  readonly #heap: Entry<K>[] = [];
  readonly #deadlines = new Map<K, number>();

  /** Fires `key` at `at` (monotonic ms), instead of whenever it was set to. */
  set(key: K, at: number): void {
    if (this.#deadlines.get(key) === at) return;
    this.#deadlines.set(key, at);
    this.#push({ at, key });
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
      const top = this.#heap[0];
      if (top === undefined) return undefined;
      if (this.#deadlines.get(top.key) === top.at) return top.at;
      this.#pop();
    }
  }

  /** Removes and returns one key whose time has come, earliest first. */
  takeDue(now: number): K | undefined {
    const at = this.next();
    if (at === undefined || at > now) return undefined;
    const key = this.#pop()?.key;
    if (key !== undefined) this.#deadlines.delete(key);
    return key;
  }

  #push(entry: Entry<K>): void {
    const heap = this.#heap;
    let index = heap.push(entry) - 1;
    while (index > 0) {
      const parent = (index - 1) >> 1;
      const above = heap[parent];
      if (above === undefined || above.at <= entry.at) break;
      heap[index] = above;
      index = parent;
    }
    heap[index] = entry;
  }

  #pop(): Entry<K> | undefined {
    const heap = this.#heap;
    const top = heap[0];
    const last = heap.pop();
    if (top === undefined || last === undefined || heap.length === 0) return top;
    let index = 0;
    for (;;) {
      const left = index * 2 + 1;
      const leftEntry = heap[left];
      if (leftEntry === undefined) break;
      const rightEntry = heap[left + 1];
      const useRight = rightEntry !== undefined && rightEntry.at < leftEntry.at;
      const child = useRight ? rightEntry : leftEntry;
      if (child.at >= last.at) break;
      heap[index] = child;
      index = useRight ? left + 1 : left;
    }
    heap[index] = last;
    return top;
  }
}
