// A table that others make grow. Every entry has owners, each of a kind (an identity, a source prefix, a
// neighbour …), and an owner of a kind has a share of the table: whoever has used up his share is turned
// down while the rest of it stays free for everybody else. What is turned down leaves nothing behind.

import { Counter } from './counter.js';
import { FairPlaces } from './fair-places.js';

/** Who pays for an entry, by kind. */
export type Owners<Kind extends string> = Readonly<Partial<Record<Kind, string>>>;

/** How many entries there may be: in all, and of one owner of each kind. */
export interface Bounds<Kind extends string> {
  readonly total: number;
  readonly shares: Readonly<Record<Kind, number>>;
}

/** Who makes room for whom, where there is none. */
export interface Yielding<Kind extends string> {
  /** Of the entries of one owner of these kinds, and of all there are. */
  readonly within: readonly Kind[];
  /** Between whom the places are shared. */
  readonly payer: (owners: Owners<Kind>) => string | undefined;
}

interface Entry<V, Kind extends string> {
  value: V;
  owners: Owners<Kind>;
}

export class BoundedTable<K, V, Kind extends string> {
  readonly #entries = new Map<K, Entry<V, Kind>>();
  readonly #held = new Counter();
  readonly #bounds: () => Bounds<Kind>;
  readonly #yielding: Yielding<Kind> | undefined;
  /** Places that are shared, by what is crowded where there are no more. */
  readonly #places = new Map<string, FairPlaces<K>>();

  /**
   * @param bounds asked anew each time: a relay's caps may change while it runs.
   * @param yielding undefined: nobody makes room for anybody.
   */
  constructor(bounds: () => Bounds<Kind>, yielding?: Yielding<NoInfer<Kind>>) {
    this.#bounds = bounds;
    this.#yielding = yielding;
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
    return this.#held.get(scopeOf(kind, owner));
  }

  /** What one more entry of these owners would exceed: a kind's share, or the whole. */
  crowded(owners: Owners<Kind>): Kind | 'total' | undefined {
    const { total, shares } = this.#bounds();
    for (const [kind, owner] of entriesOf(owners)) if (this.heldBy(kind, owner) >= shares[kind]) return kind;
    return this.#entries.size >= total ? 'total' : undefined;
  }

  /** Whether one entry that goes is not enough to make room for one of these owners: the cap was higher once. */
  isOver(owners: Owners<Kind>, crowded: Kind | 'total'): boolean {
    const { total, shares } = this.#bounds();
    return crowded === 'total'
      ? this.#entries.size > total
      : this.heldBy(crowded, owners[crowded] ?? '') > shares[crowded];
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
      this.#take(key, owners);
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
    this.#leave(key, entry.owners);
    this.#take(key, owners);
    entry.owners = owners;
  }

  owners(key: K): Owners<Kind> | undefined {
    return this.#entries.get(key)?.owners;
  }

  delete(key: K): boolean {
    const entry = this.#entries.get(key);
    if (entry === undefined) return false;
    this.#leave(key, entry.owners);
    return this.#entries.delete(key);
  }

  /**
   * Which entry makes room for one more of these owners, where `crowded` has none: the one that came first of the
   * payer with most of them. Undefined where he has no more than these owners then would.
   */
  displaced(owners: Owners<Kind>, crowded: Kind | 'total'): K | undefined {
    const payer = this.#yielding?.payer(owners);
    if (payer === undefined) return undefined;
    const scope = crowded === 'total' ? crowded : scopeOf(crowded, owners[crowded] ?? '');
    return this.#places.get(scope)?.givingWayTo(payer);
  }

  #take(key: K, owners: Owners<Kind>): void {
    this.#count(owners, 1);
    const payer = this.#yielding?.payer(owners);
    if (payer === undefined) return;
    for (const scope of this.#scopes(owners)) {
      const places = this.#places.get(scope) ?? new FairPlaces<K>();
      places.add(payer, key);
      this.#places.set(scope, places);
    }
  }

  #leave(key: K, owners: Owners<Kind>): void {
    this.#count(owners, -1);
    const payer = this.#yielding?.payer(owners);
    if (payer === undefined) return;
    for (const scope of this.#scopes(owners)) {
      const places = this.#places.get(scope);
      places?.delete(payer, key);
      if (places?.isEmpty === true) this.#places.delete(scope);
    }
  }

  /** In what an entry of these owners has a place that is shared. */
  #scopes(owners: Owners<Kind>): string[] {
    const within = (this.#yielding?.within ?? []).map((kind) => scopeOf(kind, owners[kind] ?? ''));
    return ['total', ...within];
  }

  #count(owners: Owners<Kind>, by: number): void {
    for (const [kind, owner] of entriesOf(owners)) this.#held.add(scopeOf(kind, owner), by);
  }
}

function entriesOf<Kind extends string>(owners: Owners<Kind>): [kind: Kind, owner: string][] {
  return Object.entries(owners) as [Kind, string][];
}

const scopeOf = (kind: string, owner: string): string => `${kind} ${owner}`;
