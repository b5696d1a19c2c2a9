// Where others see this node: relays say it when it registers, members in each answer to a probe. Each of them
// is one witness, whatever it says and however often.

import type { LocalSource } from '../../contract/path-control.js';
import { formatIp, formatSocketAddress, isIPv4, type SocketAddress } from '../../wire/socket-address.js';
import { BoundedTable } from '../runtime/bounded-table.js';

export interface Observation {
  /** Session key of whoever saw it. */
  readonly observer: string;
  /** Where what it saw was sent to. */
  readonly to: SocketAddress;
  /** What it was sent from; undefined = whichever routing chose. */
  readonly local: LocalSource | undefined;
  readonly seen: SocketAddress;
  /** Monotonic ms. */
  readonly at: number;
}

/** An observer is seen from each of a node's addresses, and at more than one of its own. */
export const OBSERVATION_BOUNDS = { total: 512, shares: { observer: 8 } } as const;

export class Observations {
  readonly #newest = new BoundedTable<string, Observation, 'observer'>(() => OBSERVATION_BOUNDS);

  /** Keeps it in place of an earlier one of the same ends. @returns where it was seen then. */
  add(observation: Observation): SocketAddress | undefined {
    const { observer, to, local } = observation;
    const key = `${observer} ${local === undefined ? '' : formatIp(local.ip)} ${formatSocketAddress(to)}`;
    const before = this.#newest.get(key);
    if (before === undefined) this.#makeRoom(observer);
    this.#newest.set(key, observation, { observer });
    return before?.seen;
  }

  forget(observer: string): void {
    for (const [key, { observer: of }] of [...this.#newest]) if (of === observer) this.#newest.delete(key);
  }

  clear(): void {
    for (const key of [...this.#newest.keys()]) this.#newest.delete(key);
  }

  /** Those made from `local` (undefined: from whichever routing chose) since a time, the newest first. */
  of(family: 'ipv4' | 'ipv6', local: Uint8Array | undefined, since: number): Observation[] {
    const from = local === undefined ? '' : formatIp(local);
    return [...this.#newest.values()]
      .filter(
        (each) =>
          each.at >= since &&
          isIPv4(each.seen.ip) === (family === 'ipv4') &&
          (each.local === undefined ? '' : formatIp(each.local.ip)) === from,
      )
      .toSorted((a, b) => b.at - a.at);
  }

  /** The oldest goes first: of this observer when it has many, else of all. */
  #makeRoom(observer: string): void {
    const crowded = this.#newest.crowded({ observer });
    if (crowded === undefined) return;
    const all = [...this.#newest].filter(([, each]) => crowded === 'total' || each.observer === observer);
    const [oldest] = all.toSorted(([, a], [, b]) => a.at - b.at);
    if (oldest !== undefined) this.#newest.delete(oldest[0]);
  }
}
