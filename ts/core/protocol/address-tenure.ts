// Address tenure (docs/protocol.md, "Overlay addresses"): since when an identity has had one of its overlay
// addresses in a network, as a bootstrap of that network has seen it. The identity puts it into its record,
// where every member can check it: a network's bootstraps are named in its invite.

import { concat, sameBytes, utf8, viewOf } from '../../wire/bytes.js';
import type { Primitives } from '../../contract/primitives.js';
import { isBytes, isInteger } from './cbor.js';

/** The last round of hashing that an address may come of. */
export const MAX_ROUND = 255;
/** Of one network in a record: half of the bootstraps an invite names. */
export const MAX_TENURES = 4;
/** What a bootstrap signs lasts so long; who stays away longer begins anew. */
export const TENURE_SECONDS = 30 * 24 * 3600;
/** Bytes of an issuer's identity that tell which one of few it is. */
const ISSUER_SIZE = 4;
const LABEL = utf8('omerta address tenure v1');

/** What a tenure is of. */
export interface TenureSubject {
  readonly identity: Uint8Array;
  /** Blinded id. */
  readonly network: Uint8Array;
  /** Of the hashing its address comes of. */
  readonly round: number;
}

export interface AddressTenure {
  /** The first four bytes of the bootstrap's identity. */
  readonly issuer: Uint8Array;
  /** Seconds since 1970, by the bootstrap's clock. */
  readonly since: number;
  readonly until: number;
  /** Ed25519, by the bootstrap's identity. */
  readonly signature: Uint8Array;
}

/** @param sign an Ed25519 signature by the issuer. */
export function signTenure(
  issuer: Uint8Array,
  subject: TenureSubject,
  { since, until }: Pick<AddressTenure, 'since' | 'until'>,
  sign: (message: Uint8Array) => Uint8Array,
): AddressTenure {
  const signature = sign(signed(issuer, subject, since, until));
  return { issuer: issuer.slice(0, ISSUER_SIZE), since, until, signature };
}

/** Whether this bootstrap has signed it of this subject. Its end is the caller's to look at. */
export function isTenureBy(
  primitives: Primitives,
  issuer: Uint8Array,
  subject: TenureSubject,
  { issuer: hint, since, until, signature }: AddressTenure,
): boolean {
  if (!sameBytes(hint, issuer.subarray(0, ISSUER_SIZE))) return false;
  return primitives.ed25519Verify(issuer, signed(issuer, subject, since, until), signature);
}

/**
 * Since when an address counts as held: since so many of the network's bootstraps vouch for it as are half of
 * them, rounded up. Fewer cannot make anybody older than he is.
 * @returns seconds since 1970; Infinity = fewer do.
 */
export function heldSince(
  primitives: Primitives,
  issuers: readonly Uint8Array[],
  subject: TenureSubject,
  tenures: readonly AddressTenure[],
  wallClock: number,
): number {
  const valid = tenures.filter(({ until }) => until * 1000 > wallClock);
  const seen = issuers
    .map((issuer) =>
      valid
        .filter((tenure) => isTenureBy(primitives, issuer, subject, tenure))
        .reduce((earliest, { since }) => Math.min(earliest, since), Infinity),
    )
    .toSorted((a, b) => a - b);
  return seen[Math.ceil(issuers.length / 2) - 1] ?? Infinity;
}

export const encodedTenure = ({ issuer, since, until, signature }: AddressTenure): unknown[] => [
  issuer,
  since,
  until,
  signature,
];

/** Undefined for what is none. */
export function decodeTenure(value: unknown): AddressTenure | undefined {
  if (!Array.isArray(value) || value.length !== 4) return undefined;
  const [issuer, since, until, signature] = value as unknown[];
  if (!isBytes(issuer, ISSUER_SIZE) || !isBytes(signature, 64)) return undefined;
  if (!isInteger(since, 0, Number.MAX_SAFE_INTEGER) || !isInteger(until, 0, Number.MAX_SAFE_INTEGER))
    return undefined;
  return { issuer, since, until, signature };
}

function signed(
  issuer: Uint8Array,
  { identity, network, round }: TenureSubject,
  since: number,
  until: number,
): Uint8Array {
  const rest = new Uint8Array(1 + 8 + 8);
  rest[0] = round;
  viewOf(rest).setBigUint64(1, BigInt(since), true);
  viewOf(rest).setBigUint64(9, BigInt(until), true);
  return concat(LABEL, issuer, identity, network, rest);
}
