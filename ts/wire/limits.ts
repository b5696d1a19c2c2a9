// Limits and accounts in the engine's units, and their bytes: native/wire/include/omerta/limits.h,
// which says what they mean. Integers are little-endian.
//
// rate, 12 bytes
//  0   byte interval u32, ns per 65,536 bytes · packet interval u32, ns · burst u32, ns
// limits, 24 bytes
//  0   rate [12] · zero u32 · byte cap u64
// policy, 64 bytes
//  0   host rate [12] · fair factor u32 · prefix rate [12] · fair burst u32
// 32   IPv6 prefix mask [8] · IPv4 prefix mask [4] · zero u32 · prefix key u64 · zero u64
// account, 64 bytes
//  0   rate [12] · zero u32 · theoretical arrival u64 · fair arrival u64 · demand u64 · refused u64
// 48   packets u64 · bytes u64

import type { LegCharging } from './leg.js';
import { isIPv4, type SocketAddress } from './socket-address.js';

export const RATE_SIZE = 12;
export const LIMITS_SIZE = 24;
export const POLICY_SIZE = 64;
export const ACCOUNT_SIZE = 64;

const U32_MAX = 0xffffffff;
const U64_MAX = 2n ** 64n - 1n;

/** One bucket for bytes and datagrams: a datagram is charged by whichever is dearer. */
export interface Rate {
  /** ns per 65,536 bytes of whole frames; 0 = bytes cost nothing. */
  readonly byteInterval: number;
  /** ns per datagram; 0 = datagrams cost nothing. */
  readonly packetInterval: number;
  /** ns the theoretical arrival time may be ahead of now. */
  readonly burst: number;
}

/** No limit. */
export const NO_RATE: Rate = { byteInterval: 0, packetInterval: 0, burst: 0 };

/** A class of limits: what each leg that names it may. */
export interface Limits {
  readonly rate: Rate;
  /** What a leg may carry in all; 0 = no cap. */
  readonly byteCap: bigint;
}

export const NO_LIMITS: Limits = { rate: NO_RATE, byteCap: 0n };

/** The rate of each source prefix. */
export interface PrefixRate {
  readonly rate: Rate;
  /** Leading bits that share a bucket, 0–32. */
  readonly ipv4Bits: number;
  /** 0–64. */
  readonly ipv6Bits: number;
}

/** What an identity may take of the host while it is saturated. */
export interface FairShare {
  /** n · 65536 for an nth of the host's rate; 0 = no identity is held back. */
  readonly factor: number;
  /** ns. */
  readonly burst: number;
}

export type AccountKind = 'identity' | 'network';

/** What an account was charged. */
export interface AccountCounters {
  /** ns of host time asked for. */
  readonly demand: bigint;
  /** Datagrams its own limit refused. */
  readonly refused: bigint;
  /** Of legs that are gone. */
  readonly packets: bigint;
  readonly bytes: bigint;
}

/** What the host was charged. */
export interface HostCounters {
  /** ns on the engine's clock. */
  readonly theoreticalArrival: bigint;
  /** Datagrams its rate refused. */
  readonly refused: bigint;
}

/** How many accounts and classes there are, index 0 included. */
export interface AccountCapacity {
  readonly identities: number;
  /** At most 65,536. */
  readonly networks: number;
  /** At most 65,536. */
  readonly classes: number;
}

const PREFIX_BUCKET_BITS = 16n;

/** @throws RangeError naming `field`. */
export function requireIndex(field: string, index: number, count: number): void {
  if (!Number.isInteger(index) || index < 0 || index >= count) {
    throw new RangeError(`${field}: ${index} given, there are 0 to ${count - 1}`);
  }
}

/** @throws RangeError naming the account or class there is none of. */
export function requireAccounts(charging: LegCharging, accounts: AccountCapacity): void {
  requireIndex('identity', charging.identity, accounts.identities);
  requireIndex('network', charging.network, accounts.networks);
  requireIndex('limits', charging.limits, accounts.classes);
}

function requireU32(field: string, value: number): void {
  if (!Number.isInteger(value) || value < 0 || value > U32_MAX) {
    throw new RangeError(`${field}: ${value} given, must be an integer from 0 to 2^32-1`);
  }
}

/** @throws RangeError naming the field that is out of its range. */
export function encodeRate(rate: Rate, field = 'rate'): Uint8Array {
  const bytes = new Uint8Array(RATE_SIZE);
  const view = new DataView(bytes.buffer);
  const values = [rate.byteInterval, rate.packetInterval, rate.burst];
  ['byteInterval', 'packetInterval', 'burst'].forEach((name, at) => {
    const value = values[at] ?? 0;
    requireU32(`${field}.${name}`, value);
    view.setUint32(at * 4, value, true);
  });
  return bytes;
}

/** @throws RangeError naming the field that is out of its range. */
export function encodeLimits({ rate, byteCap }: Limits): Uint8Array {
  if (byteCap < 0n || byteCap > U64_MAX) {
    throw new RangeError(`limits.byteCap: ${byteCap} given, must be from 0 to 2^64-1`);
  }
  const bytes = new Uint8Array(LIMITS_SIZE);
  bytes.set(encodeRate(rate, 'limits.rate'));
  new DataView(bytes.buffer).setBigUint64(16, byteCap, true);
  return bytes;
}

/** The leading `bits` of an address of `size` bytes. */
function leadingMask(bits: number, size: number): Uint8Array {
  return Uint8Array.from({ length: size }, (_, i) => 0xff00 >> Math.min(8, Math.max(0, bits - i * 8)));
}

/** @throws RangeError naming the field that is out of its range. */
export function requirePrefixRate({ rate, ipv4Bits, ipv6Bits }: PrefixRate): void {
  encodeRate(rate, 'prefix.rate');
  for (const [name, bits, most] of [
    ['ipv4Bits', ipv4Bits, 32],
    ['ipv6Bits', ipv6Bits, 64],
  ] as const) {
    if (!Number.isInteger(bits) || bits < 0 || bits > most) {
      throw new RangeError(`prefix.${name}: ${bits} given, must be an integer from 0 to ${most}`);
    }
  }
}

/** The masks of a prefix rate as they lie in a policy. */
export function prefixMasks({ ipv4Bits, ipv6Bits }: PrefixRate): { ipv4: Uint8Array; ipv6: Uint8Array } {
  return { ipv4: leadingMask(ipv4Bits, 4), ipv6: leadingMask(ipv6Bits, 8) };
}

/** The bucket an address's prefix has under a secret odd key (multiply-shift hashing). */
export function prefixBucket(prefix: PrefixRate, key: bigint, { ip }: SocketAddress): number {
  const { ipv4, ipv6 } = prefixMasks(prefix);
  const [address, mask] = isIPv4(ip) ? [ip.subarray(12), ipv4] : [ip.subarray(0, 8), ipv6];
  // Little-endian, as an engine loads it.
  const word = mask.reduceRight((sum, bits, i) => sum * 256n + BigInt((address[i] ?? 0) & bits), 0n);
  return Number(((word * key) & U64_MAX) >> (64n - PREFIX_BUCKET_BITS));
}

/** A rate as people configure it; both numbers absent = no limit. */
export interface RateLimit {
  readonly bytesPerSecond?: number | undefined;
  readonly packetsPerSecond?: number | undefined;
  /** How much may come at once, in ms of the rate; default 100, and never less than one GSO batch. */
  readonly burstMs?: number | undefined;
}

/** 65,536 bytes in 2^32 ns, and a datagram in as long: the slowest the engine's 32 bits can express. */
export const LOWEST_BYTES_PER_SECOND = 15_259;
export const LOWEST_PACKETS_PER_SECOND = 0.24;
/** The longest burst 32 bits of ns can express. */
export const LONGEST_BURST_MS = 4294;
const DEFAULT_BURST_MS = 100;
/** Datagrams that arrive as one coalesced buffer of at most 65,536 bytes. */
const BATCH_PACKETS = 64;

function intervalOf(field: string, units: number, perSecond: number | undefined, lowest: number): number {
  if (perSecond === undefined) return 0;
  // Rounded up, so that nobody ever gets more than was asked for.
  const interval = Math.ceil((units * 1e9) / perSecond);
  if (interval >= 1 && interval <= U32_MAX) return interval;
  throw new RangeError(`${field}: ${perSecond} given, must be at least ${lowest}`);
}

/**
 * A rate in the engine's units.
 * @throws RangeError naming the field under `field` that is out of its range.
 */
export function rateOf(limit: RateLimit | undefined, field: string): Rate {
  if (limit === undefined) return NO_RATE;
  const { bytesPerSecond, packetsPerSecond, burstMs } = limit;
  const byteInterval = intervalOf(`${field}.bytesPerSecond`, 65_536, bytesPerSecond, LOWEST_BYTES_PER_SECOND);
  const packetInterval = intervalOf(
    `${field}.packetsPerSecond`,
    1,
    packetsPerSecond,
    LOWEST_PACKETS_PER_SECOND,
  );
  if (byteInterval === 0 && packetInterval === 0) return NO_RATE;
  if (burstMs !== undefined && !(burstMs > 0 && burstMs <= LONGEST_BURST_MS)) {
    throw new RangeError(
      `${field}.burstMs: ${burstMs} given, must be above 0 and at most ${LONGEST_BURST_MS}`,
    );
  }
  const batch = Math.max(byteInterval, BATCH_PACKETS * packetInterval);
  const burst = burstMs === undefined ? Math.max(DEFAULT_BURST_MS * 1e6, batch) : Math.floor(burstMs * 1e6);
  return { byteInterval, packetInterval, burst: Math.min(burst, U32_MAX) };
}

/** What each leg of a class may. */
export interface LegLimits {
  readonly rate?: RateLimit | undefined;
  /** Bytes of whole frames it may carry in all; undefined = no cap. */
  readonly byteCap?: number | undefined;
}

/** @throws RangeError naming the field that is out of its range. */
export function limitsOf({ rate, byteCap }: LegLimits): Limits {
  if (byteCap !== undefined && !(Number.isSafeInteger(byteCap) && byteCap >= 1)) {
    throw new RangeError(`limits.byteCap: ${byteCap} given, must be a whole number of at least 1`);
  }
  return { rate: rateOf(rate, 'limits.rate'), byteCap: BigInt(byteCap ?? 0) };
}

/** What each source prefix may send. */
export interface PrefixLimit extends RateLimit {
  /** Leading bits that count as one source; default 32. */
  readonly ipv4Bits?: number | undefined;
  /** Default 64. */
  readonly ipv6Bits?: number | undefined;
}

/** @throws RangeError naming the field that is out of its range. */
export function prefixRateOf(limit: PrefixLimit | undefined): PrefixRate {
  const prefix = {
    rate: rateOf(limit, 'prefix'),
    ipv4Bits: limit?.ipv4Bits ?? 32,
    ipv6Bits: limit?.ipv6Bits ?? 64,
  };
  requirePrefixRate(prefix);
  return prefix;
}
