/** Counts by name; a count of zero takes no room, but for those named from the start. */
export class Counter {
  readonly #counts = new Map<string, number>();
  readonly #known: readonly string[];

  constructor(known: readonly string[] = []) {
    this.#known = known;
  }

  get(name: string): number {
    return this.#counts.get(name) ?? 0;
  }

  add(name: string, by: number): void {
    const count = this.get(name) + by;
    if (count === 0) this.#counts.delete(name);
    else this.#counts.set(name, count);
  }

  toRecord(): Record<string, number> {
    return Object.fromEntries([...this.#known.map((name) => [name, 0] as const), ...this.#counts]);
  }
}
