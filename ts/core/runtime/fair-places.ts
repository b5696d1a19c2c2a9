// Places by who pays for them: where none is left, whoever has most of them makes room for whoever has fewer. So
// nobody keeps places for longer than it takes others to want them.

export class FairPlaces<T> {
  /** By payer, those that came first at the front. */
  readonly #byPayer = new Map<string, Set<T>>();

  get isEmpty(): boolean {
    return this.#byPayer.size === 0;
  }

  add(payer: string, entry: T): void {
    this.#byPayer.set(payer, (this.#byPayer.get(payer) ?? new Set()).add(entry));
  }

  delete(payer: string, entry: T): void {
    const entries = this.#byPayer.get(payer);
    if (entries?.delete(entry) === true && entries.size === 0) this.#byPayer.delete(payer);
  }

  /** What gives up its place to one more of `payer`; undefined: nothing, for nobody has more of them. */
  givingWayTo(payer: string): T | undefined {
    let most: ReadonlySet<T> | undefined;
    for (const entries of this.#byPayer.values()) if (entries.size > (most?.size ?? 0)) most = entries;
    const [oldest] = most ?? [];
    return (most?.size ?? 0) > (this.#byPayer.get(payer)?.size ?? 0) + 1 ? oldest : undefined;
  }
}
