// Where this node has sent to: a NAT or firewall may let in who is sent to, so what comes in from there shows
// nothing of whether it would let in anybody else.

import type { SessionKey } from '../../contract/engine.js';
import { formatIp, formatSocketAddress, type SocketAddress } from '../../wire/socket-address.js';
import { BoundedTable } from '../runtime/bounded-table.js';

/** No filter remembers for longer (RFC 4787, REQ-5, asks for 2 min; many have 5). */
const REMEMBERED_MS = 600_000;
/** Addresses, and addresses with ports, and how many one member may make us remember. */
export const SENT_BOUNDS = { total: 8192, shares: { member: 1024 } } as const;

interface Sent {
  readonly firstAt: number;
  lastAt: number;
}

export class SentAddresses {
  readonly #sent = new BoundedTable<string, Sent, 'member'>(() => SENT_BOUNDS);
  /** Until then something may have been sent where it is not remembered. */
  #incompleteUntil = -Infinity;

  add(member: SessionKey, address: SocketAddress, now: number): void {
    this.#add(member, [formatIp(address.ip), formatSocketAddress(address)], now);
  }

  /** It was sent to so many of its ports that they are not told apart. */
  addHost(member: SessionKey, ip: Uint8Array, now: number): void {
    this.#add(member, [formatIp(ip), anyPortOf(ip)], now);
  }

  #add(member: SessionKey, keys: readonly string[], now: number): void {
    for (const key of keys) {
      const known = this.#sent.get(key);
      if (known !== undefined && now - known.lastAt < REMEMBERED_MS) {
        known.lastAt = now;
        continue;
      }
      const sent = { firstAt: now, lastAt: now };
      if (this.#sent.set(key, sent, { member }) === undefined) continue;
      this.#forgetOld(now);
      if (this.#sent.set(key, sent, { member }) !== undefined) this.#incompleteUntil = now + REMEMBERED_MS;
    }
  }

  /**
   * Since when it has been sent there: to this port, or to any.
   * @returns undefined = not lately; -Infinity = it may have been, and is not remembered
   */
  since(address: SocketAddress, ports: 'this' | 'any', now: number): number | undefined {
    const sent = this.#sent.get(ports === 'any' ? formatIp(address.ip) : formatSocketAddress(address));
    if (sent !== undefined && now - sent.lastAt < REMEMBERED_MS) return sent.firstAt;
    const all = this.#sent.get(anyPortOf(address.ip));
    if (all !== undefined && now - all.lastAt < REMEMBERED_MS) return all.firstAt;
    return now < this.#incompleteUntil ? -Infinity : undefined;
  }

  #forgetOld(now: number): void {
    for (const [key, { lastAt }] of [...this.#sent])
      if (now - lastAt >= REMEMBERED_MS) this.#sent.delete(key);
  }
}

const anyPortOf = (ip: Uint8Array): string => `${formatIp(ip)} *`;
