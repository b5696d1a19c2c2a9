// What one client may have of a bound that all share, so that none has it all; and who is not let in for a while, because
// he gives wrong passwords. Clients are told apart by address, of IPv6 by /64; on the loopback address they are all the
// machine's own programs, which share it as they like.

import { toHex } from '../wire/bytes.js';
import { isIPv4, parseIp } from '../wire/socket-address.js';
import { isLoopback } from './denied-ranges.js';

function keyOf(address: string): string {
  const ip = parseIp(address.replace(/%.*$/, ''));
  if (ip === undefined) return address;
  return toHex(isIPv4(ip) ? ip : ip.subarray(0, 8));
}

export class ClientShares {
  readonly #held = new Map<string, number>();

  /** @param most of one client */
  constructor(private readonly most: number) {}

  /** One more. @returns what gives it back; undefined = the client has its share */
  take(address: string): (() => void) | undefined {
    if (isLoopback(address)) return () => undefined;
    const key = keyOf(address);
    const held = this.#held.get(key) ?? 0;
    if (held >= this.most) return undefined;
    this.#held.set(key, held + 1);
    let isHeld = true;
    return () => {
      if (!isHeld) return;
      isHeld = false;
      const left = (this.#held.get(key) ?? 1) - 1;
      if (left > 0) this.#held.set(key, left);
      else this.#held.delete(key);
    };
  }
}

/** Wrong passwords in a row that are taken. */
export const MAX_GUESSES = 5;
/** Since the last of them. */
export const BARRED_MS = 60_000;
/** Clients that are remembered. */
const MAX_CLIENTS = 1024;

export class PasswordGuesses {
  readonly #wrong = new Map<string, { readonly count: number; readonly at: number }>();

  /** @param now monotonic ms */
  constructor(private readonly now: () => number) {}

  isBarred(address: string): boolean {
    const wrong = this.#wrong.get(keyOf(address));
    return wrong !== undefined && wrong.count >= MAX_GUESSES && this.now() - wrong.at < BARRED_MS;
  }

  wrong(address: string): void {
    const key = keyOf(address);
    const known = this.#wrong.get(key);
    const count = known !== undefined && this.now() - known.at < BARRED_MS ? known.count + 1 : 1;
    this.#wrong.delete(key);
    this.#wrong.set(key, { count, at: this.now() });
    const [oldest] = this.#wrong.keys();
    if (this.#wrong.size > MAX_CLIENTS && oldest !== undefined) this.#wrong.delete(oldest);
  }

  right(address: string): void {
    this.#wrong.delete(keyOf(address));
  }
}
