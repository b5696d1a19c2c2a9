// The networks a relay looks up at its neighbours, and on whose behalf: its clients, and neighbours that
// ask for theirs. A network is followed for as long as somebody wishes it.
//
// A wish has a depth: 0 for a client's own, one more at each relay it is passed on to. It goes no further
// than a circuit could, and never back to whom it came from, so that relays cannot keep a network alive for
// each other when nobody else wants it any more.

import type { SessionKey } from '../../contract/engine.js';
import { MAX_CIRCUIT_RELAYS } from '../protocol/message-limits.js';
import { BoundedTable, type Owners } from '../runtime/bounded-table.js';

/** Networks followed: in all, for clients of one prefix, of one site, for one neighbour. */
export const FOLLOWED_BOUNDS = { total: 4096, shares: { prefix: 64, site: 256, neighbour: 1024 } } as const;
/**
 * How long a network is followed after its last wish was taken back. It still counts: so one prefix has no
 * more than its share of questions to the neighbours in such a time, however its clients come and go.
 */
export const FOLLOW_LINGER_MS = 60_000;
/** How far a wish is passed on. */
export const MAX_FOLLOW_DEPTH = MAX_CIRCUIT_RELAYS - 1;

/** Who pays for a followed network. */
export type FollowOwner = keyof typeof FOLLOWED_BOUNDS.shares;

interface Wish {
  readonly depth: number;
  /** Monotonic ms; undefined = until it is taken back. */
  readonly until: number | undefined;
  readonly payer: Owners<FollowOwner>;
}

export class FollowedNetworks {
  /** By network (hex); in each, by who wishes it. */
  readonly #followed = new BoundedTable<string, Map<SessionKey, Wish>, FollowOwner>(() => FOLLOWED_BOUNDS);

  has(network: string): boolean {
    return this.#followed.has(network);
  }

  get size(): number {
    return this.#followed.size;
  }

  /** @returns false when whoever pays has no room for another network. */
  wish(network: string, wisher: SessionKey, wish: Wish): boolean {
    const wishes = this.#followed.get(network);
    if (wishes !== undefined) wishes.set(wisher, wish);
    else return this.#followed.set(network, new Map([[wisher, wish]]), wish.payer) === undefined;
    return true;
  }

  /** Takes wishes back: of all networks but these. */
  release(wisher: SessionKey, now: number, but: readonly string[] = []): void {
    const until = now + FOLLOW_LINGER_MS;
    for (const [network, wishes] of this.#followed) {
      const wish = wishes.get(wisher);
      if (wish !== undefined && !but.includes(network) && (wish.until ?? Infinity) > until)
        wishes.set(wisher, { ...wish, until });
    }
  }

  /** @returns networks whose last wish has run out. */
  expire(now: number): string[] {
    const dropped: string[] = [];
    for (const [network, wishes] of this.#followed) {
      for (const [wisher, { until }] of wishes)
        if (until !== undefined && until <= now) wishes.delete(wisher);
      const [left] = wishes.values();
      if (left !== undefined) this.#followed.hand(network, left.payer);
      else if (this.#followed.delete(network)) dropped.push(network);
    }
    return dropped;
  }

  /** The networks to ask this neighbour for, with the depth of the question. */
  *of(neighbour: SessionKey): Iterable<readonly [network: string, depth: number]> {
    for (const [network] of this.#followed) {
      const depth = this.depth(network, neighbour);
      if (depth !== undefined) yield [network, depth];
    }
  }

  /** The depth at which a neighbour is to be asked for a network; undefined = it is not. */
  depth(network: string, neighbour: SessionKey): number | undefined {
    let least = MAX_FOLLOW_DEPTH;
    for (const [wisher, { depth }] of this.#followed.get(network) ?? [])
      if (wisher !== neighbour) least = Math.min(least, depth);
    return least < MAX_FOLLOW_DEPTH ? least + 1 : undefined;
  }
}
