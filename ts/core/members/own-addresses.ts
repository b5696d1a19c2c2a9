// Which overlay address this node has in each of its networks, and who vouches for how long it has: kept
// across restarts, said in its record.

import { sameBytes, toHex } from '../../wire/bytes.js';
import type { Primitives } from '../../contract/primitives.js';
import {
  decodeTenure,
  encodedTenure,
  isTenureBy,
  MAX_ROUND,
  MAX_TENURES,
  type AddressTenure,
} from '../protocol/address-tenure.js';
import { decodeCbor, encodeCbor, isInteger } from '../protocol/cbor.js';
import type { TenureGrant } from '../protocol/control-message.js';
import type { RecordAddress } from '../protocol/peer-record.js';
import type { Turn } from '../runtime/turn.js';

const ADDRESS_PREFIX = 'node/address/';
const MAX_STORED_BYTES = 1024;
const FIRST: RecordAddress = { round: 0, tenures: [] };

/** The round of the address that a store says its node has in a network (blinded id, hex). */
export function storedRound(stored: ReadonlyMap<string, Uint8Array>, network: string): number {
  const value = stored.get(ADDRESS_PREFIX + network);
  return (value && decodeAddress(value)?.round) ?? FIRST.round;
}

export class OwnAddresses {
  readonly #primitives: Primitives;
  readonly #identity: Uint8Array;
  /** By network (blinded id, hex). */
  readonly #addresses = new Map<string, RecordAddress>();

  constructor(primitives: Primitives, identity: Uint8Array) {
    this.#primitives = primitives;
    this.#identity = identity;
  }

  /** @param networks (hex) that are joined; what is kept of others is forgotten. */
  restore(restored: ReadonlyMap<string, Uint8Array>, networks: ReadonlySet<string>, turn: Turn): void {
    for (const [key, value] of restored) {
      if (!key.startsWith(ADDRESS_PREFIX)) continue;
      const network = key.slice(ADDRESS_PREFIX.length);
      const address = decodeAddress(value);
      if (address !== undefined && networks.has(network)) this.#addresses.set(network, address);
      else turn.emit({ type: 'persist', key, value: undefined });
    }
  }

  of(network: string): RecordAddress {
    return this.#addresses.get(network) ?? FIRST;
  }

  /** Another address from now on: nobody has vouched for it yet. */
  move(network: string, round: number, turn: Turn): void {
    this.#keep(network, { round, tenures: [] }, turn);
  }

  /** A bootstrap of the network vouches. @returns whether that is news, and true. */
  vouched(issuer: Uint8Array, { network, round, tenure }: TenureGrant, turn: Turn): boolean {
    const id = toHex(network);
    const { round: present, tenures } = this.of(id);
    const subject = { identity: this.#identity, network, round };
    if (round !== present || tenure.until * 1000 <= turn.step.wallClock) return false;
    if (!isTenureBy(this.#primitives, issuer, subject, tenure)) return false;
    const others = tenures.filter(({ issuer: other }) => !sameBytes(other, tenure.issuer));
    const kept = [...others, tenure].toSorted((a, b) => a.since - b.since).slice(0, MAX_TENURES);
    if (!kept.includes(tenure)) return false;
    this.#keep(id, { round, tenures: kept }, turn);
    return true;
  }

  /** Lets go of what has run out. @returns whether anything has. */
  expire(turn: Turn): boolean {
    let changed = false;
    for (const [network, { round, tenures }] of this.#addresses) {
      const left = tenures.filter(({ until }) => until * 1000 > turn.step.wallClock);
      if (left.length === tenures.length) continue;
      this.#keep(network, { round, tenures: left }, turn);
      changed = true;
    }
    return changed;
  }

  forget(network: string, turn: Turn): void {
    if (this.#addresses.delete(network))
      turn.emit({ type: 'persist', key: ADDRESS_PREFIX + network, value: undefined });
  }

  #keep(network: string, address: RecordAddress, turn: Turn): void {
    this.#addresses.set(network, address);
    const value = encodeCbor([address.round, address.tenures.map(encodedTenure)]);
    turn.emit({ type: 'persist', key: ADDRESS_PREFIX + network, value });
  }
}

function decodeAddress(bytes: Uint8Array): RecordAddress | undefined {
  const stored = decodeCbor(bytes, MAX_STORED_BYTES);
  if (!Array.isArray(stored) || stored.length !== 2) return undefined;
  const [round, encoded] = stored as unknown[];
  if (!isInteger(round, 0, MAX_ROUND) || !Array.isArray(encoded) || encoded.length > MAX_TENURES)
    return undefined;
  const tenures = encoded.map(decodeTenure).filter((tenure): tenure is AddressTenure => tenure !== undefined);
  return tenures.length === encoded.length ? { round, tenures } : undefined;
}
