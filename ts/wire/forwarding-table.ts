// The forwarding table as the protocol describes it: the model every engine is compared with.
// Written to be read beside docs/protocol.md, "Verdict"; speed is the engines' business.

import {
  FRAME_MAGIC,
  FRAME_MAX_SIZE,
  FRAME_MIN_SIZE,
  FrameKind,
  frameTagMatches,
  isFrameKind,
  writeFrameTag,
} from './frame.js';
import { encodeLegEntry, type LegCounters, type LegEntry } from './leg-entry.js';
import { LegWindow } from './leg-window.js';
import {
  NO_LIMITS,
  NO_RATE,
  encodeLimits,
  encodeRate,
  prefixBucket,
  requirePrefixRate,
  type AccountCapacity,
  type AccountCounters,
  type AccountKind,
  type FairShare,
  type HostCounters,
  type Limits,
  type PrefixRate,
  type Rate,
} from './limits.js';
import { sameSocketAddress, type SocketAddress } from './socket-address.js';
import type { Decision, DropReason, Verdict } from './verdict.js';

/** Leg id → what becomes of a frame on that leg. `now` is always ns on one monotonic clock. */
export interface ForwardingTable {
  readonly size: number;
  /**
   * Adds a leg, or replaces the one with its id and keeps that one's counters. False when the table
   * is full; then nothing changed.
   * @throws RangeError naming the field of the entry that is out of its range, or the account or class
   * of limits there is none of.
   */
  install(entry: LegEntry): boolean;
  /** False when there was none. */
  remove(id: number): boolean;
  /** Judges a datagram; counts an accepted frame, and rewrites a forwarded one in place. */
  judge(from: SocketAddress, datagram: Uint8Array, now: bigint): Decision;
  counters(id: number): LegCounters | undefined;
  /** Counters of every leg, in no order. */
  legs(): LegCounters[];

  // Limits and accounts. @throws RangeError naming the index or field that is out of its range.

  setLimits(index: number, limits: Limits): void;
  /** Changes an account's rate; what it was charged stays. */
  setRate(kind: AccountKind, index: number, rate: Rate): void;
  /** Forgets what an account was charged: it is another's now. */
  resetAccount(kind: AccountKind, index: number): void;
  setHostRate(rate: Rate): void;
  /** `key` is the odd secret that spreads prefixes over buckets. */
  setPrefixRate(prefix: PrefixRate, key: bigint): void;
  setFairShare(share: FairShare): void;
  account(kind: AccountKind, index: number): AccountCounters;
  host(): HostCounters;
}

/** Without accounts and classes of its own: everything is charged to number 0. */
export const NO_ACCOUNTS: AccountCapacity = { identities: 1, networks: 1, classes: 1 };

/** A theoretical arrival time, and the rate it is kept by. */
class Bucket {
  rate = NO_RATE;
  theoreticalArrival = 0n;

  /** What a datagram costs, ns; undefined = there is no limit. */
  cost(size: number): bigint | undefined {
    const { byteInterval, packetInterval } = this.rate;
    if (byteInterval === 0 && packetInterval === 0) return undefined;
    return max((BigInt(size) * BigInt(byteInterval)) / 65536n, BigInt(packetInterval));
  }

  /** Whether a datagram at `now` can be charged `cost`. */
  conforms(cost: bigint | undefined, now: bigint, burst = BigInt(this.rate.burst)): boolean {
    return cost === undefined || max(this.theoreticalArrival, now) + cost - now <= burst;
  }

  take(cost: bigint | undefined, now: bigint): void {
    if (cost !== undefined) this.theoreticalArrival = max(this.theoreticalArrival, now) + cost;
  }
}

class Account extends Bucket {
  readonly fair = new Bucket();
  demand = 0n;
  refused = 0n;
  packets = 0n;
  bytes = 0n;
}

interface Slot {
  entry: LegEntry;
  readonly bucket: Bucket;
  readonly window: LegWindow;
  packets: bigint;
  bytes: bigint;
  lastUsed: bigint;
}

const u32 = (bytes: Uint8Array, at: number): number =>
  new DataView(bytes.buffer, bytes.byteOffset, bytes.length).getUint32(at, true);
const max = (a: bigint, b: bigint): bigint => (a > b ? a : b);
const drop = (reason: DropReason): Decision => ({ verdict: 'drop', reason, leg: undefined, next: undefined });
const accept = (verdict: Verdict, leg?: number, next?: SocketAddress): Decision => ({
  verdict,
  reason: 'none',
  leg,
  next,
});

const WIREGUARD_SIZES: Readonly<Record<number, (size: number) => boolean>> = {
  1: (size) => size === 148,
  2: (size) => size === 92,
  3: (size) => size === 64,
  4: (size) => size >= 32,
};

/** What a datagram is by its first bytes and size; undefined = an Omerta frame, to be judged. */
export function classify(datagram: Uint8Array): Decision | undefined {
  const size = datagram.length;
  const first = datagram[0];
  if (first === undefined) return drop('empty');
  if (first === FRAME_MAGIC) {
    if (size < FRAME_MIN_SIZE) return drop('frame_too_short');
    if (size > FRAME_MAX_SIZE) return drop('frame_too_long');
    if (!isFrameKind(datagram[1] ?? 0)) return drop('unknown_kind');
    if (((datagram[3] ?? 0) & 0xf0) !== 0) return drop('reserved_flags');
    return undefined;
  }
  const sizeIsRight = WIREGUARD_SIZES[first];
  if (sizeIsRight !== undefined) {
    // The type is a little-endian u32: its three upper bytes are zero.
    return size >= 4 && u32(datagram, 0) === first && sizeIsRight(size)
      ? accept('wireguard')
      : drop('malformed_wireguard');
  }
  if (first === 0) {
    const isBinding = size >= 20 && datagram[1] === 0x01 && u32(datagram, 4) === 0x42a41221;
    return isBinding ? accept('stun') : drop('malformed_stun');
  }
  return drop('unknown_protocol');
}

export class ForwardingTableModel implements ForwardingTable {
  readonly #slots = new Map<number, Slot>();
  readonly #capacity: number;
  readonly #limits: Limits[];
  readonly #accounts: Readonly<Record<AccountKind, readonly Account[]>>;
  readonly #host = new Account();
  readonly #prefixes = new Map<number, Bucket>();
  #prefix: PrefixRate = { rate: NO_RATE, ipv4Bits: 32, ipv6Bits: 64 };
  #prefixKey = 1n;
  #fair: FairShare = { factor: 0, burst: 0 };

  constructor(capacity: number, accounts: AccountCapacity = NO_ACCOUNTS) {
    if (!Number.isInteger(capacity) || capacity < 1) {
      throw new RangeError(`capacity: ${capacity} given, must be an integer of at least 1`);
    }
    this.#capacity = capacity;
    this.#limits = Array.from({ length: accounts.classes }, () => NO_LIMITS);
    this.#accounts = {
      identity: Array.from({ length: accounts.identities }, () => new Account()),
      network: Array.from({ length: accounts.networks }, () => new Account()),
    };
  }

  get size(): number {
    return this.#slots.size;
  }

  install(entry: LegEntry): boolean {
    encodeLegEntry(entry); // refuses what an engine could not hold
    this.#limitsAt(entry.charging.limits);
    this.#account('identity', entry.charging.identity);
    this.#account('network', entry.charging.network);
    const present = this.#slots.get(entry.id);
    if (present !== undefined) {
      this.#settle(present, 1n);
      present.entry = entry;
      this.#settle(present, -1n);
      return true;
    }
    if (this.#slots.size >= this.#capacity) return false;
    this.#slots.set(entry.id, {
      entry,
      bucket: new Bucket(),
      window: new LegWindow(),
      packets: 0n,
      bytes: 0n,
      lastUsed: 0n,
    });
    return true;
  }

  remove(id: number): boolean {
    const slot = this.#slots.get(id);
    if (slot !== undefined) this.#settle(slot, 1n);
    return this.#slots.delete(id);
  }

  /** Adds a leg's counts to its accounts, or takes them back. */
  #settle({ entry: { charging }, packets, bytes }: Slot, sign: 1n | -1n): void {
    for (const account of [
      this.#account('identity', charging.identity),
      this.#account('network', charging.network),
    ]) {
      account.packets = BigInt.asUintN(64, account.packets + sign * packets);
      account.bytes = BigInt.asUintN(64, account.bytes + sign * bytes);
    }
  }

  setLimits(index: number, limits: Limits): void {
    encodeLimits(limits);
    this.#limitsAt(index);
    this.#limits[index] = limits;
  }

  setRate(kind: AccountKind, index: number, rate: Rate): void {
    encodeRate(rate);
    this.#account(kind, index).rate = rate;
  }

  resetAccount(kind: AccountKind, index: number): void {
    const account = this.#account(kind, index);
    account.theoreticalArrival = account.fair.theoreticalArrival = 0n;
    account.demand = account.refused = account.packets = account.bytes = 0n;
  }

  setHostRate(rate: Rate): void {
    encodeRate(rate);
    this.#host.rate = rate;
  }

  setPrefixRate(prefix: PrefixRate, key: bigint): void {
    requirePrefixRate(prefix);
    this.#prefix = prefix;
    this.#prefixKey = key;
  }

  setFairShare(share: FairShare): void {
    this.#fair = share;
  }

  account(kind: AccountKind, index: number): AccountCounters {
    const { demand, refused, packets, bytes } = this.#account(kind, index);
    return { demand, refused, packets, bytes };
  }

  host(): HostCounters {
    const { theoreticalArrival, refused } = this.#host;
    return { theoreticalArrival, refused };
  }

  #limitsAt(index: number): Limits {
    const limits = this.#limits[index];
    if (limits === undefined) {
      throw new RangeError(`limits: ${index} given, there are 0 to ${this.#limits.length - 1}`);
    }
    return limits;
  }

  #account(kind: AccountKind, index: number): Account {
    const account = this.#accounts[kind][index];
    if (account === undefined) {
      throw new RangeError(`${kind}: ${index} given, there are 0 to ${this.#accounts[kind].length - 1}`);
    }
    return account;
  }

  #prefixBucket(from: SocketAddress): Bucket {
    const index = prefixBucket(this.#prefix, this.#prefixKey, from);
    const bucket = this.#prefixes.get(index) ?? new Bucket();
    this.#prefixes.set(index, bucket);
    bucket.rate = this.#prefix.rate;
    return bucket;
  }

  /** Charges an accepted frame, or tells which limit refuses it; then it is charged to none. */
  #admit(slot: Slot, from: SocketAddress, size: number, now: bigint): DropReason {
    const { action, charging } = slot.entry;
    const { rate, byteCap } = this.#limitsAt(charging.limits);
    slot.bucket.rate = rate;
    if (byteCap !== 0n && slot.bytes + BigInt(size) > byteCap) return 'byte_cap';
    const cost = slot.bucket.cost(size);
    if (!slot.bucket.conforms(cost, now)) return 'rate_limited';
    if (action === 'forward') {
      const refusal = this.#charge(slot, from, size, now);
      if (refusal !== 'none') return refusal;
    }
    slot.bucket.take(cost, now);
    return 'none';
  }

  #charge({ entry: { charging } }: Slot, from: SocketAddress, size: number, now: bigint): DropReason {
    const identity = this.#account('identity', charging.identity);
    const network = this.#account('network', charging.network);
    const prefix = this.#prefixBucket(from);
    const host = this.#host;
    const costs = [identity, network, prefix, host].map((bucket) => bucket.cost(size));
    const [identityCost, networkCost, prefixCost, hostCost] = costs;
    const refuse = (account: Account, reason: DropReason): DropReason => {
      account.refused += 1n;
      return reason;
    };
    if (!identity.conforms(identityCost, now)) return refuse(identity, 'identity_rate');
    if (!network.conforms(networkCost, now)) return refuse(network, 'network_rate');
    if (!prefix.conforms(prefixCost, now)) return 'prefix_rate';
    identity.demand += hostCost ?? 0n;
    const fairCost =
      this.#fair.factor === 0 ? undefined : ((hostCost ?? 0n) * BigInt(this.#fair.factor)) / 65536n;
    if (!identity.fair.conforms(fairCost, now, BigInt(this.#fair.burst)))
      return refuse(identity, 'fair_share');
    if (!host.conforms(hostCost, now)) return refuse(host, 'host_rate');
    identity.take(identityCost, now);
    network.take(networkCost, now);
    prefix.take(prefixCost, now);
    identity.fair.take(fairCost, now);
    host.take(hostCost, now);
    return 'none';
  }

  judge(from: SocketAddress, datagram: Uint8Array, now: bigint): Decision {
    const other = classify(datagram);
    if (other !== undefined) return other;

    const slot = this.#slots.get(u32(datagram, 4));
    if (slot === undefined) return drop('unknown_leg');
    const { entry } = slot;
    const [, kind = 0, hopLimit = 0, epoch = 0] = datagram;

    if ((entry.action === 'control') === (kind === FrameKind.forward)) return drop('wrong_kind');
    if (epoch !== entry.epoch) return drop('wrong_key_epoch');
    if (entry.source !== undefined && !sameSocketAddress(entry.source, from)) return drop('wrong_source');
    if (!frameTagMatches(entry.key, datagram)) return drop('bad_tag');
    if (entry.expiresAt !== 0n && now >= entry.expiresAt) return drop('expired');
    if (entry.action === 'forward' && hopLimit < 2) return drop('hop_limit');
    if (entry.action !== 'control' && !slot.window.takes(datagram.subarray(16, 32), datagram.subarray(8, 16)))
      return drop('repeated');
    const refusal = this.#admit(slot, from, datagram.length, now);
    if (refusal !== 'none') return drop(refusal);

    slot.packets += 1n;
    slot.bytes += BigInt(datagram.length);
    slot.lastUsed = now;
    const { next } = entry;
    if (entry.action !== 'forward' || next === undefined) return accept(entry.action, entry.id);
    datagram[2] = hopLimit - 1;
    datagram[3] = next.epoch;
    new DataView(datagram.buffer, datagram.byteOffset, datagram.length).setUint32(4, next.id, true);
    writeFrameTag(next.key, datagram);
    return accept('forward', entry.id, next.address);
  }

  counters(id: number): LegCounters | undefined {
    const slot = this.#slots.get(id);
    return slot === undefined ? undefined : countersOf(slot);
  }

  legs(): LegCounters[] {
    return [...this.#slots.values()].map(countersOf);
  }
}

function countersOf({ entry: { id, charging }, packets, bytes, lastUsed }: Slot): LegCounters {
  return { id, identity: charging.identity, network: charging.network, packets, bytes, lastUsed };
}
