// A binary heap: at the top is the entry that comes before all others.

export class BinaryHeap<T> {
  readonly #entries: T[] = [];
  readonly #before: (a: T, b: T) => boolean;

  constructor(before: (a: T, b: T) => boolean) {
    this.#before = before;
  }

  get size(): number {
    return this.#entries.length;
  }

  get top(): T | undefined {
    return this.#entries[0];
  }

  push(entry: T): void {
    const entries = this.#entries;
    let index = entries.push(entry) - 1;
    while (index > 0) {
      const parent = (index - 1) >> 1;
      const above = entries[parent];
      if (above === undefined || !this.#before(entry, above)) break;
      entries[index] = above;
      index = parent;
    }
    entries[index] = entry;
  }

  /** Removes and returns the top. */
  pop(): T | undefined {
    const entries = this.#entries;
    const top = entries[0];
    const last = entries.pop();
    if (top === undefined || last === undefined || entries.length === 0) return top;
    let index = 0;
    for (;;) {
      const left = index * 2 + 1;
      const leftEntry = entries[left];
      if (leftEntry === undefined) break;
      const rightEntry = entries[left + 1];
      const useRight = rightEntry !== undefined && this.#before(rightEntry, leftEntry);
      const child = useRight ? rightEntry : leftEntry;
      if (!this.#before(child, last)) break;
      entries[index] = child;
      index = useRight ? left + 1 : left;
    }
    entries[index] = last;
    return top;
  }
}
