// Whether an exit forwards to an address: as the engine judges packets (native/session/exit_rules.cc), for connections that
// the gateway makes.

import type { ExitRule } from '../contract/exit-control.js';
import { containsIp, parsePrefix, type Prefix } from '../wire/prefix.js';
import { parseIp } from '../wire/socket-address.js';

/** Prefixes of IPv6 that have an IPv4 address inside, and where (RFC 6052, RFC 3056). */
const EMBEDDING = [
  ['64:ff9b::/96', 12],
  ['2002::/16', 2],
] as const;

export class Permitted {
  readonly #rules: readonly (Prefix & { readonly denied: boolean })[];
  readonly #embedding = EMBEDDING.flatMap(([text, at]) => {
    const prefix = parsePrefix(text);
    return prefix === undefined ? [] : [{ prefix, at }];
  });

  /** The longest prefix that holds an address decides, of equal ones the last. */
  constructor(rules: readonly ExitRule[]) {
    this.#rules = rules.flatMap(({ prefix, denied }) => {
      const parsed = parsePrefix(prefix);
      return parsed === undefined ? [] : [{ ...parsed, denied }];
    });
  }

  permits(address: string): boolean {
    const ip = parseIp(address);
    if (ip === undefined || !this.#lookUp(ip)) return false;
    return this.#embedding.every(({ prefix, at }) => {
      if (!containsIp(prefix, ip)) return true;
      const inside = new Uint8Array(16);
      inside.set([0xff, 0xff], 10);
      inside.set(ip.subarray(at, at + 4), 12);
      return this.#lookUp(inside);
    });
  }

  #lookUp(ip: Uint8Array): boolean {
    let length = -1;
    let denied = false;
    for (const rule of this.#rules)
      if (rule.length >= length && containsIp(rule, ip)) ({ length, denied } = rule);
    return !denied;
  }
}
