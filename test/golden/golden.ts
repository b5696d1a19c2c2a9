// The golden packets' file format, and its translation into the types of ts/wire.

import { readFileSync } from 'node:fs';
import type { LegAction } from '../../ts/wire/leg.js';
import type { LegEntry } from '../../ts/wire/leg-entry.js';
import type { ForwardingTable } from '../../ts/wire/forwarding-table.js';
import type { AccountCapacity, AccountKind, Rate } from '../../ts/wire/limits.js';
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
  readonly identity: number;
  readonly network: number;
  readonly limits: number;
}

/** A change of limits; rates in the units of `struct omerta_rate`. */
export type GoldenSetting =
  | ({ readonly set: 'limits'; readonly index: number; readonly byteCap: string } & Rate)
  | ({ readonly set: AccountKind; readonly index: number } & Rate)
  | { readonly set: 'reset'; readonly kind: AccountKind; readonly index: number }
  | ({ readonly set: 'host' } & Rate)
  | ({ readonly set: 'prefix'; readonly ipv4Bits: number; readonly ipv6Bits: number } & Rate)
  | { readonly set: 'fair'; readonly factor: number; readonly burst: number };

/** What an account has been charged. */
export interface GoldenAccount {
  readonly kind: AccountKind;
  readonly index: number;
  readonly demand: number;
  readonly refused: number;
  readonly packets: number;
  readonly bytes: number;
}

export interface GoldenPacket {
  /** What the packet shows, in a few words. */
  readonly shows: string;
  /** Changes to limits and table before the packet. */
  readonly settings?: readonly GoldenSetting[];
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
  readonly settings: readonly GoldenSetting[];
  readonly legs: readonly GoldenLeg[];
  readonly packets: readonly GoldenPacket[];
  /** What the legs have counted in the end. */
  readonly counters: readonly { readonly id: number; readonly packets: number; readonly bytes: number }[];
  /** What the accounts were charged in the end. */
  readonly accounts: readonly GoldenAccount[];
}

/** Accounts and classes a table has when it runs the packets. */
export const GOLDEN_ACCOUNTS: AccountCapacity = { identities: 8, networks: 8, classes: 8 };
/** The key of the prefix buckets. */
export const GOLDEN_PREFIX_KEY = 0x9e3779b97f4a7c15n;

export function applySetting(table: ForwardingTable, setting: GoldenSetting): void {
  if (setting.set === 'fair') {
    table.setFairShare(setting);
    return;
  }
  if (setting.set === 'reset') {
    table.resetAccount(setting.kind, setting.index);
    return;
  }
  const { byteInterval, packetInterval, burst } = setting;
  const rate = { byteInterval, packetInterval, burst };
  switch (setting.set) {
    case 'limits':
      table.setLimits(setting.index, { rate, byteCap: BigInt(setting.byteCap) });
      return;
    case 'host':
      table.setHostRate(rate);
      return;
    case 'prefix':
      table.setPrefixRate({ ...setting, rate }, GOLDEN_PREFIX_KEY);
      return;
    default:
      table.setRate(setting.set, setting.index, rate);
  }
}

export const GOLDEN_FILE = 'test/golden/forwarding.json';
export const LEG_HOMES_FILE = 'test/golden/leg-homes.json';

/** What native/wire/include/omerta/leg_slots.h makes of an id. */
export interface GoldenLegHome {
  readonly id: number;
  readonly slots: number;
  readonly home: number;
}

export function readLegHomes(): GoldenLegHome[] {
  return JSON.parse(readFileSync(LEG_HOMES_FILE, 'utf8')) as GoldenLegHome[];
}

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
    charging: { identity: leg.identity, network: leg.network, limits: leg.limits },
  };
}
