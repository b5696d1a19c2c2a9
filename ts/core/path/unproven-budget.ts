// How much is sent to addresses that have not answered. Whoever names an address in a contact may be naming
// a victim: so few packets go to one address, few to one host, and few at one member's word, however often it
// is named and by however many.

import type { SessionKey } from '../../contract/engine.js';
import { formatIp, formatSocketAddress, isIPv4, type SocketAddress } from '../../wire/socket-address.js';
import { BoundedTable } from '../runtime/bounded-table.js';

/** What is counted is forgotten after so long. */
const WINDOW_MS = 60_000;
/** Probes within it, of 80 bytes of UDP payload each. */
export const PROBES_PER_ADDRESS = 12;
/** To all ports of one IPv4 address or IPv6 /64. */
export const PROBES_PER_HOST = 192;
export const PROBES_PER_MEMBER = 384;
/** To an address that the member has answered from in this session, and does not any more: it spends nothing of the above. */
export const PROBES_PER_LOST_ADDRESS = 120;
/** The same to all ports of a host: whoever was at many of them has left them all. */
export const PROBES_PER_LOST_HOST = 480;
/**
 * Of what may go to an address and to a host, at one member's word: a member that names where another one is
 * leaves him enough to be found there.
 */
export const ADDRESS_SHARE = 8;
export const HOST_SHARE = 128;
/** In how long the packets of port searches are counted (port-search.ts). */
const SEARCH_WINDOW_MS = 600_000;
/** Of what one search may send, so much may go out for all of them within it. */
const SEARCHES = 4;
/** How long it is known how much of it a member had, and the host it is searched at. */
const SHARING_WINDOW_MS = 86_400_000;
/** Beside the packets of a search: probes of the paths it found. */
const SEARCH_SLACK = 32;
/** Addresses, hosts and members counted, and what one member may make us count. */
export const COUNTED_BOUNDS = { total: 8192, shares: { member: 512 } } as const;

/** Under which the packets of all searches are counted. */
const ALL = 'all';

interface Count {
  sent: number;
  readonly until: number;
}

/** How many packets went out under each of many keys, within a window of time from the first of a key. */
class PacketCounts {
  readonly #counts = new BoundedTable<string, Count, 'member'>(() => COUNTED_BOUNDS);
  readonly #windowMs: number;

  constructor(windowMs: number) {
    this.#windowMs = windowMs;
  }

  /** Counts one more under each of these keys, if each has room for it. */
  take(member: SessionKey, now: number, limits: readonly (readonly [key: string, most: number])[]): boolean {
    const counts = limits.map(([key]) => this.#count(key, member, now));
    const allowed = counts.every(
      (count, index) => count !== undefined && count.sent < (limits[index]?.[1] ?? 0),
    );
    if (allowed) for (const count of counts) if (count !== undefined) count.sent++;
    return allowed;
  }

  /** Counted under this key. */
  sent(key: string, now: number): number {
    const known = this.#counts.get(key);
    return known !== undefined && known.until > now ? known.sent : 0;
  }

  /** Undefined = there is no room to count it. */
  #count(key: string, member: SessionKey, now: number): Count | undefined {
    const known = this.#counts.get(key);
    if (known !== undefined && known.until > now) return known;
    this.#counts.delete(key);
    const fresh: Count = { sent: 0, until: now + this.#windowMs };
    if (this.#counts.set(key, fresh, { member }) === undefined) return fresh;
    // They came in in the order they end in.
    for (const [other, { until }] of this.#counts) {
      if (until > now) break;
      this.#counts.delete(other);
    }
    return this.#counts.set(key, fresh, { member }) === undefined ? fresh : undefined;
  }
}

export class UnprovenBudget {
  readonly #probes = new PacketCounts(WINDOW_MS);
  readonly #searches = new PacketCounts(SEARCH_WINDOW_MS);
  readonly #shares = new PacketCounts(SHARING_WINDOW_MS);
  /** Probes to addresses that had not answered, and those that were not sent for this budget. */
  sent = 0;
  refused = 0;
  /** Packets of port searches. */
  searched = 0;

  /** Whether one more probe may go to `address`, which `member` is said to be at; counts it then. */
  take(member: SessionKey, address: SocketAddress, now: number): boolean {
    const [to, host] = [`a ${formatSocketAddress(address)}`, `h ${hostOf(address)}`];
    const allowed = this.#probes.take(member, now, [
      [to, PROBES_PER_ADDRESS],
      [host, PROBES_PER_HOST],
      [`m ${member}`, PROBES_PER_MEMBER],
      [`${to} ${member}`, ADDRESS_SHARE],
      [`${host} ${member}`, HOST_SHARE],
    ]);
    if (allowed) this.sent++;
    else this.refused++;
    return allowed;
  }

  /** The same for an address that `member` has answered from before. */
  takeLost(member: SessionKey, address: SocketAddress, now: number): boolean {
    return this.#probes.take(member, now, [
      [`l ${formatSocketAddress(address)} ${member}`, PROBES_PER_LOST_ADDRESS],
      [`lh ${hostOf(address)} ${member}`, PROBES_PER_LOST_HOST],
    ]);
  }

  /**
   * The same for one packet of a port search, which spends nothing of the above: to one host, at one member's word, and
   * in all.
   * @param most packets of one search
   */
  takeSearch(member: SessionKey, address: SocketAddress, most: number, now: number): boolean {
    const each = most + SEARCH_SLACK;
    const allowed = this.#searches.take(member, now, [
      [ALL, SEARCHES * each],
      [`h ${hostOf(address)}`, each],
      [`m ${member}`, each],
    ]);
    if (!allowed) return false;
    this.searched++;
    this.#shares.take(
      member,
      now,
      sharesOf(member, address).map((key) => [key, Infinity]),
    );
    return true;
  }

  /**
   * Whether a search with `member`, which sends packets to `address`, may begin. Whoever has had of it within a day, by
   * identity or by address, leaves as much more to others as he has had, and one search: those who ask again and again do
   * not have all.
   * @param address undefined = not known yet
   * @param most packets of one search
   */
  maySearch(member: SessionKey, address: SocketAddress | undefined, most: number, now: number): boolean {
    const had = Math.max(...sharesOf(member, address).map((key) => this.#shares.sent(key, now)));
    const left = SEARCHES * (most + SEARCH_SLACK) - this.#searches.sent(ALL, now);
    return left >= Math.min(had + most, SEARCHES * most);
  }
}

const sharesOf = (member: SessionKey, address: SocketAddress | undefined): string[] => [
  `m ${member}`,
  ...(address === undefined ? [] : [`h ${hostOf(address)}`]),
];

function hostOf({ ip }: SocketAddress): string {
  if (isIPv4(ip)) return formatIp(ip);
  const prefix = ip.slice();
  prefix.fill(0, 8);
  return formatIp(prefix);
}
