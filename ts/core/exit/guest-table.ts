// Members this node forwards for, each on a lease that ends unless it is renewed.

import type { SessionKey } from '../../contract/engine.js';
import { encodePeerId } from '../protocol/peer-id.js';
import { BoundedTable } from '../runtime/bounded-table.js';
import type { ExitGuest, GuestStatus } from '../runtime/exit-change.js';
import { TimerQueue } from '../runtime/timer-queue.js';

/** Guests at once, in all and of one network. */
export const GUEST_BOUNDS = { total: 2048, shares: { network: 1024 } } as const;
/** The host is told of leases again when one of those it knows has less than this: not at every renewal. */
const TOLD_LEAST_MS = 60_000;

export interface Guest {
  readonly sessionKey: SessionKey;
  readonly identity: Uint8Array;
  /** Blinded id, hex. */
  readonly network: string;
  readonly addresses: readonly string[];
  readonly since: number;
  /** Exits it agrees to leave by; 0 where it asked for routes. */
  readonly hops: number;
  /** Monotonic ms. */
  readonly leaseUntil: number;
}

export class GuestTable {
  readonly #guests = new BoundedTable<SessionKey, Guest, 'network'>(() => GUEST_BOUNDS);
  readonly #expiries = new TimerQueue<SessionKey>();
  /** When the first of the leases the host was told of is over. */
  #toldUntil = Infinity;

  get(peer: SessionKey): Guest | undefined {
    return this.#guests.get(peer);
  }

  all(): Guest[] {
    return [...this.#guests.values()];
  }

  /** @returns whether the host has to be told; undefined = there is no room, and nothing has changed. */
  set(guest: Guest, now: number): boolean | undefined {
    const known = this.#guests.get(guest.sessionKey);
    if (this.#guests.set(guest.sessionKey, guest, { network: guest.network }) !== undefined) return undefined;
    this.#expiries.set(guest.sessionKey, guest.leaseUntil);
    const isNews = known?.addresses.join() !== guest.addresses.join();
    return isNews || this.#toldUntil - now < TOLD_LEAST_MS;
  }

  /** @returns whether it was one. */
  end(peer: SessionKey): boolean {
    this.#expiries.clear(peer);
    return this.#guests.delete(peer);
  }

  /** Ends those whose lease is over. */
  takeDue(now: number): SessionKey[] {
    return [...this.#expiries.allDue(now)].filter((peer) => this.#guests.delete(peer));
  }

  deadline(): number | undefined {
    return this.#expiries.next();
  }

  /** What the host is told. */
  told(now: number): ExitGuest[] {
    const guests = this.all();
    this.#toldUntil = guests.reduce((first, { leaseUntil }) => Math.min(first, leaseUntil), Infinity);
    return guests.map(({ sessionKey, identity, addresses, leaseUntil }) => ({
      sessionKey,
      identity,
      addresses,
      lifetimeMs: leaseUntil - now,
    }));
  }

  status(now: number): GuestStatus[] {
    return this.all().map(({ identity, addresses, since, leaseUntil }) => ({
      peerId: encodePeerId(identity),
      addresses,
      sinceMs: now - since,
      expiresInMs: leaseUntil - now,
    }));
  }
}
