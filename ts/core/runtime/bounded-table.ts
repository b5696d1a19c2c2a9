// A table that others make grow. Every entry has owners, each of a kind (an identity, a source prefix, a
// neighbour …), and an owner of a kind has a share of the table: whoever has used up his share is turned
// down while the rest of it stays free for everybody else. What is turned down leaves nothing behind.

import { Counter } from './counter.js';

/** Who pays for an entry, by kind. */
export type Owners<Kind extends string> = Readonly<Partial<Record<Kind, string>>>;

/** How many entries there may be: in all, and of one owner of each kind. */
export interface Bounds<Kind extends string> {
  readonly total: number;
  readonly shares: Readonly<Record<Kind, number>>;
}

interface Entry<V, Kind extends string> {
  value: V;
  owners: Owners<Kind>;
}

export class BoundedTable<K, V, Kind extends string> {
  readonly #entries = new Map<K, Entry<V, Kind>>();
  readonly #held = new Counter();
  readonly #bounds: () => Bounds<Kind>;

  /** @param bounds asked anew each time: a relay's caps may change while it runs. */
  constructor(bounds: () => Bounds<Kind>) {
    this.#bounds = bounds;
  }

  get size(): number {
    return this.#entries.size;
  }

  get bounds(): Bounds<Kind> {
    return this.#bounds();
  }

  has(key: K): boolean {
    return this.#entries.has(key);
  }

  get(key: K): V | undefined {
    return this.#entries.get(key)?.value;
  }

  keys(): IterableIterator<K> {
    return this.#entries.keys();
  }

  /** In the order they came in. */
  *values(): IterableIterator<V> {
    for (const { value } of this.#entries.values()) yield value;
  }

  *[Symbol.iterator](): IterableIterator<readonly [key: K, value: V]> {
    for (const [key, { value }] of this.#entries) yield [key, value];
  }

  /** Entries of one owner. */
  heldBy(kind: Kind, owner: string): number {
    return this.#held.get(`${kind} ${owner}`);
  }

  /** What one more entry of these owners would exceed: a kind's share, or the whole. */
  crowded(owners: Owners<Kind>): Kind | 'total' | undefined {
    const { total, shares } = this.#bounds();
    for (const [kind, owner] of entriesOf(owners)) if (this.heldBy(kind, owner) >= shares[kind]) return kind;
    return this.#entries.size >= total ? 'total' : undefined;
  }

  /**
   * Puts in an entry, or another value in the place of one of this key, whose owners then are these.
   * @returns what has no room for it; then nothing has changed.
   */
  set(key: K, value: V, owners: Owners<Kind>): Kind | 'total' | undefined {
    const present = this.#entries.get(key);
    if (present === undefined) {
      const crowded = this.crowded(owners);
      if (crowded !== undefined) return crowded;
      this.#entries.set(key, { value, owners });
      this.#count(owners, 1);
    } else {
      present.value = value;
      this.hand(key, owners);
    }
    return undefined;
  }

  /** Gives an entry other owners; it stays even where they have no room. */
  hand(key: K, owners: Owners<Kind>): void {
    const entry = this.#entries.get(key);
    if (entry === undefined) return;
    this.#count(entry.owners, -1);
    this.#count(owners, 1);
    entry.owners = owners;
  }

  owners(key: K): Owners<Kind> | undefined {
    return this.#entries.get(key)?.owners;
  }

  delete(key: K): boolean {
    const entry = this.#entries.get(key);
    if (entry === undefined) return false;
    this.#count(entry.owners, -1);
    return this.#entries.delete(key);
  }

  /**
   * Who makes room for one more entry of these owners: of those that use what is crowded, the entry that came first
   * of the owner of kind `by` that has most of them. Nobody where that has no more than these owners then would.
   */
  displaced(owners: Owners<Kind>, crowded: Kind | 'total', by: Kind): K | undefined {
    const payers = new Map<string, { readonly first: K; count: number }>();
    for (const [key, { owners: held }] of this.#entries) {
      const payer = held[by];
      if (payer === undefined || (crowded !== 'total' && held[crowded] !== owners[crowded])) continue;
      const known = payers.get(payer);
      if (known === undefined) payers.set(payer, { first: key, count: 1 });
      else known.count++;
    }
    let most = { first: undefined as K | undefined, count: (payers.get(owners[by] ?? '')?.count ?? 0) + 1 };
    for (const each of payers.values()) if (each.count > most.count) most = each;
    return most.first;
  }

  #count(owners: Owners<Kind>, by: number): void {
    for (const [kind, owner] of entriesOf(owners)) this.#held.add(`${kind} ${owner}`, by);
  }
}

function entriesOf<Kind extends string>(owners: Owners<Kind>): [kind: Kind, owner: string][] {
  return Object.entries(owners) as [Kind, string][];
}
