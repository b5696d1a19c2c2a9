// The golden packets' file format, and its translation into the types of ts/wire.

import { readFileSync } from 'node:fs';
import type { LegAction } from '../../ts/wire/leg.js';
import type { LegEntry } from '../../ts/wire/leg-entry.js';
import { parseSocketAddress, type SocketAddress } from '../../ts/wire/socket-address.js';
import type { DropReason, Verdict } from '../../ts/wire/verdict.js';

/** A leg as JSON: bytes in hex, addresses as text, 64-bit numbers as decimal strings. */
export interface GoldenLeg {
  readonly id: number;
  readonly action: LegAction;
  readonly epoch: number;
  readonly key: string;
  /** null accepts any source. */
  readonly source: string | null;
  readonly next: {
    readonly address: string;
    readonly id: number;
    readonly epoch: number;
    readonly key: string;
  } | null;
  readonly expiresAt: string;
  readonly rateInterval: number;
  readonly rateBurst: number;
}

export interface GoldenPacket {
  /** What the packet shows, in a few words. */
  readonly shows: string;
  /** Changes to the table before the packet. */
  readonly remove?: readonly number[];
  readonly install?: readonly GoldenLeg[];
  readonly now: string;
  readonly from: string;
  /** The datagram; `zeros` zero bytes follow it (large datagrams would bloat the file). */
  readonly hex: string;
  readonly zeros?: number;
  readonly verdict: Verdict;
  readonly reason: DropReason;
  /** The leg it came on (control, deliver, forward). */
  readonly leg?: number;
  /** Where it goes (forward). */
  readonly to?: string;
  /** The datagram afterwards, without the zeros; absent = unchanged. */
  readonly out?: string;
}

export interface GoldenSequence {
  readonly name: string;
  readonly legs: readonly GoldenLeg[];
  readonly packets: readonly GoldenPacket[];
  /** What the legs have counted in the end. */
  readonly counters: readonly { readonly id: number; readonly packets: number; readonly bytes: number }[];
}

export const GOLDEN_FILE = 'test/golden/forwarding.json';

export function readGolden(): GoldenSequence[] {
  return JSON.parse(readFileSync(GOLDEN_FILE, 'utf8')) as GoldenSequence[];
}

export function socketAddress(text: string): SocketAddress {
  const address = parseSocketAddress(text);
  if (address === undefined) throw new Error(`golden: ${text} is no socket address`);
  return address;
}

export function bytesOf(hex: string, zeros = 0): Uint8Array {
  const bytes = new Uint8Array(hex.length / 2 + zeros);
  bytes.set(Buffer.from(hex, 'hex'));
  return bytes;
}

export function hexOf(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('hex');
}

export function entryOf(leg: GoldenLeg): LegEntry {
  return {
    id: leg.id,
    action: leg.action,
    epoch: leg.epoch,
    key: bytesOf(leg.key),
    source: leg.source === null ? undefined : socketAddress(leg.source),
    next:
      leg.next === null
        ? undefined
        : {
            address: socketAddress(leg.next.address),
            id: leg.next.id,
            epoch: leg.next.epoch,
            key: bytesOf(leg.next.key),
          },
    expiresAt: BigInt(leg.expiresAt),
    rateInterval: leg.rateInterval,
    rateBurst: leg.rateBurst,
  };
}
