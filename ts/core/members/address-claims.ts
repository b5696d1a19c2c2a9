// Whose an overlay address is when several say it is theirs: whoever has had it for longest keeps it, by what
// the network's bootstraps have signed, and nothing an identity or a record can be searched for decides it.
// Where nobody vouches for either, it stays with whoever this node knew it of first. So it does between members
// of different networks: each network's bootstraps vouch for its own, and nothing they say takes from another's.

import { sameBytes } from '../../wire/bytes.js';
import { decodeCbor, encodeCbor, isBytes, isInteger } from '../protocol/cbor.js';
import type { Turn } from '../runtime/turn.js';

const HOLDER_PREFIX = 'node/holder/';
/** Longer than it takes to read a directory: whoever came first in it was perhaps not first. */
const HELD_AFTER_MS = 600_000;

/** Somebody whose overlay address this is, as he says. */
export interface Claim {
  readonly identity: Uint8Array;
  /** In which it is his: blinded id, hex. */
  readonly network: string;
  /** Seconds since 1970, as the network's bootstraps vouch for: asked only when two claim one address. */
  readonly heldSince: () => number;
  /** Monotonic ms since when this node knows of it; Infinity = by nobody who keeps a directory. */
  since: number;
}

export class AddressClaims {
  readonly #self: Uint8Array;
  readonly #isReserved: (address: string) => boolean;
  readonly #most: number;
  readonly #claims = new Map<string, Claim[]>();
  /** IPv4 address → who held it in a former life of this node, until its record ran out. */
  readonly #heldBefore = new Map<string, { readonly identity: Uint8Array; readonly notAfter: number }>();

  /**
   * @param isReserved whether the operator gave an address to somebody who is no member.
   * @param most holders remembered.
   */
  constructor(self: Uint8Array, isReserved: (address: string) => boolean, most: number) {
    this.#self = self;
    this.#isReserved = isReserved;
    this.#most = most;
  }

  of(address: string): readonly Claim[] {
    return this.#claims.get(address) ?? [];
  }

  /** Puts in a claim, in the place of an earlier one of this identity there. @returns whether it is a new one. */
  put(address: string, claim: Claim): boolean {
    const present = this.of(address);
    const own = present.find((other) => isOf(other, claim.identity, claim.network));
    const since = Math.min(own?.since ?? Infinity, claim.since);
    const others = present.filter((other) => other !== own);
    this.#claims.set(address, [...others, { ...claim, since }]);
    return own === undefined;
  }

  /** @returns whether there was one. */
  release(address: string, identity: Uint8Array, network: string): boolean {
    const present = this.of(address);
    const left = present.filter((claim) => !isOf(claim, identity, network));
    if (left.length === 0) this.#claims.delete(address);
    else this.#claims.set(address, left);
    return left.length < present.length;
  }

  /** The member that has it; undefined: the operator gave it to somebody outside, or it is not known whose it is. */
  holder(address: string): Uint8Array | undefined {
    const claims = this.of(address);
    // Another who has had it for longer gets it when this node has taken another one.
    if (claims.some(({ identity }) => sameBytes(identity, this.#self))) return this.#self;
    if (this.#isReserved(address)) return undefined;
    const before = this.#heldBefore.get(address)?.identity;
    // Of which network he is, and who vouches for him, is known when his record has been read again.
    if (before !== undefined && !claims.some(({ identity }) => sameBytes(identity, before))) return before;
    if (claims.length < 2) return claims[0]?.identity;
    const network = networkBefore(claims, before);
    if (network === undefined) return before;
    const longest = firstBy(
      claims.filter((claim) => claim.network === network),
      ({ heldSince }) => heldSince(),
    );
    if (longest.length === 1) return longest[0]?.identity;
    if (before !== undefined) return before;
    const first = firstBy(longest, ({ since }) => since);
    return first.length === 1 ? first[0]?.identity : undefined;
  }

  /**
   * Who has had this node's own address in a network for longer; `reserved`: it is somebody's who is no member.
   * A member of another network may only have it for longer while nobody has vouched for this node: those who
   * vouch there could make anything up.
   */
  longerThanOwn(address: string, network: string): Uint8Array | 'reserved' | undefined {
    if (this.#isReserved(address)) return 'reserved';
    const claims = this.of(address);
    const own = claims.find((claim) => isOf(claim, this.#self, network));
    if (own === undefined || claims.length < 2) return undefined;
    const isNew = own.heldSince() === Infinity;
    const comparable = claims.filter((claim) => claim.network === network || isNew);
    const [longest, another] = firstBy(comparable, ({ heldSince }) => heldSince());
    return another === undefined && longest !== own ? longest?.identity : undefined;
  }

  /** Whether there is nobody but the one who claims it. */
  isUncontested(address: string): boolean {
    const [claim] = this.of(address);
    const holder = this.holder(address);
    return claim !== undefined && holder !== undefined && sameBytes(claim.identity, holder);
  }

  isFree(address: string): boolean {
    return this.of(address).length === 0 && !this.#isReserved(address) && !this.#heldBefore.has(address);
  }

  /** Its holder is remembered across a restart of this node, until his record runs out. */
  keep(address: string, identity: Uint8Array, notAfter: number, turn: Turn): void {
    const claim = this.of(address).find((other) => sameBytes(other.identity, identity));
    if (claim === undefined || claim.since > turn.now - HELD_AFTER_MS) return;
    const before = this.#heldBefore.get(address);
    if (before === undefined ? this.#heldBefore.size >= this.#most : before.notAfter >= notAfter) return;
    const holder = this.holder(address);
    if (holder === undefined || !sameBytes(holder, identity)) return;
    this.#heldBefore.set(address, { identity, notAfter });
    turn.emit({ type: 'persist', key: HOLDER_PREFIX + address, value: encodeCbor([identity, notAfter]) });
  }

  /** Its holder has another address now. */
  leave(address: string, identity: Uint8Array, turn: Turn): void {
    if (this.of(address).some((claim) => sameBytes(claim.identity, identity))) return; // not in another network
    const before = this.#heldBefore.get(address);
    if (before !== undefined && sameBytes(before.identity, identity)) this.#forget(address, turn);
  }

  /** @returns addresses whose former holder is remembered no longer. */
  expire(turn: Turn): string[] {
    const expired = [...this.#heldBefore].filter(
      ([, { notAfter }]) => notAfter * 1000 <= turn.step.wallClock,
    );
    for (const [address] of expired) this.#forget(address, turn);
    return expired.map(([address]) => address);
  }

  /** Takes up who held which IPv4 address. */
  restore(restored: ReadonlyMap<string, Uint8Array>, turn: Turn): void {
    for (const [key, value] of restored) {
      if (!key.startsWith(HOLDER_PREFIX)) continue;
      const stored = decodeCbor(value, 64);
      const [identity, notAfter] = Array.isArray(stored) ? (stored as unknown[]) : [];
      const valid = isBytes(identity, 32) && isInteger(notAfter, 0, Number.MAX_SAFE_INTEGER);
      if (valid && notAfter * 1000 > turn.step.wallClock && this.#heldBefore.size < this.#most)
        this.#heldBefore.set(key.slice(HOLDER_PREFIX.length), { identity, notAfter });
      else turn.emit({ type: 'persist', key, value: undefined });
    }
  }

  #forget(address: string, turn: Turn): void {
    this.#heldBefore.delete(address);
    turn.emit({ type: 'persist', key: HOLDER_PREFIX + address, value: undefined });
  }
}

const isOf = (claim: Claim, identity: Uint8Array, network: string): boolean =>
  claim.network === network && sameBytes(claim.identity, identity);

/** The network whose address it is: the one of who held it before, else that this node knew it of first. */
function networkBefore(claims: readonly Claim[], before: Uint8Array | undefined): string | undefined {
  const networks = new Set(claims.map(({ network }) => network));
  if (networks.size === 1) return claims[0]?.network;
  const candidates =
    before === undefined
      ? firstBy(claims, ({ since }) => since)
      : claims.filter(({ identity }) => sameBytes(identity, before));
  return new Set(candidates.map(({ network }) => network)).size === 1 ? candidates[0]?.network : undefined;
}

/** Those whose value is the least. */
function firstBy(claims: readonly Claim[], value: (claim: Claim) => number): Claim[] {
  const values = claims.map(value);
  const least = Math.min(...values);
  return claims.filter((_, index) => values[index] === least);
}
