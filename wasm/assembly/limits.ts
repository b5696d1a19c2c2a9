// Limits and accounts (native/wire/include/omerta/limits.h, which says what they mean and in which
// order they are asked). One thread: what conforms is charged at once.

import { Action, Leg } from './leg-entry';
import { Reason } from './verdict';

/** Fields by offset. A rate is three u32, at the start of limits and accounts. */
export const enum Rate {
  ByteInterval = 0,
  PacketInterval = 4,
  Burst = 8,
}

const enum Limits {
  ByteCap = 16,
  Size = 24,
}

const enum Account {
  TheoreticalArrival = 16,
  FairArrival = 24,
  Demand = 32,
  Refused = 40,
  Packets = 48,
  Bytes = 56,
  Size = 64,
}

const enum Policy {
  Host = 0,
  FairFactor = 12,
  Prefix = 16,
  FairBurst = 28,
  PrefixMask6 = 32,
  PrefixMask4 = 40,
  PrefixKey = 48,
  Size = 64,
}

const PREFIX_BUCKET_BITS: u64 = 16;

let identities: usize = 0;
let networks: usize = 0;
let limits: usize = 0;
let host: usize = 0;
let policy: usize = 0;
let prefixes: usize = 0;

/** Bytes of memory for so many of each. */
export function accountBytes(identityCount: u32, networkCount: u32, classCount: u32): usize {
  return (
    (usize(identityCount) + usize(networkCount) + 1) * Account.Size +
    usize(classCount) * Limits.Size +
    Policy.Size +
    (usize(8) << usize(PREFIX_BUCKET_BITS))
  );
}

/** Takes zeroed memory of that size at `start`. */
export function createAccounts(start: usize, identityCount: u32, networkCount: u32): void {
  policy = start;
  host = policy + Policy.Size;
  identities = host + Account.Size;
  networks = identities + usize(identityCount) * Account.Size;
  prefixes = networks + usize(networkCount) * Account.Size;
  limits = prefixes + (usize(8) << usize(PREFIX_BUCKET_BITS));
}

export function limitsAddress(index: u32): usize {
  return limits + usize(index) * Limits.Size;
}

export function identityAddress(index: u32): usize {
  return identities + usize(index) * Account.Size;
}

export function networkAddress(index: u32): usize {
  return networks + usize(index) * Account.Size;
}

export function hostAddress(): usize {
  return host;
}

export function policyAddress(): usize {
  return policy;
}

/** Adds a leg's counts to its accounts (sign 1), or takes them back (-1). */
export function settle(leg: usize, sign: u64): void {
  const packets = sign * load<u64>(leg, Leg.Packets);
  const bytes = sign * load<u64>(leg, Leg.Bytes);
  const identity = identityAddress(load<u32>(leg, Leg.Identity));
  const network = networkAddress(load<u16>(leg, Leg.Network));
  store<u64>(identity, load<u64>(identity, Account.Packets) + packets, Account.Packets);
  store<u64>(identity, load<u64>(identity, Account.Bytes) + bytes, Account.Bytes);
  store<u64>(network, load<u64>(network, Account.Packets) + packets, Account.Packets);
  store<u64>(network, load<u64>(network, Account.Bytes) + bytes, Account.Bytes);
}

function limited(rate: usize): bool {
  return (load<u32>(rate, Rate.ByteInterval) | load<u32>(rate, Rate.PacketInterval)) != 0;
}

/** What a datagram is charged under a rate, ns. */
function cost(rate: usize, size: u32): u64 {
  const bytes = (u64(size) * u64(load<u32>(rate, Rate.ByteInterval))) >> 16;
  return max(bytes, u64(load<u32>(rate, Rate.PacketInterval)));
}

/** The theoretical arrival time after a datagram. */
function after(arrival: usize, charge: u64, now: u64): u64 {
  return max(load<u64>(arrival), now) + charge;
}

function conforms(rate: usize, arrival: usize, charge: u64, now: u64): bool {
  return !limited(rate) || after(arrival, charge, now) - now <= u64(load<u32>(rate, Rate.Burst));
}

function take(rate: usize, arrival: usize, charge: u64, now: u64): void {
  if (limited(rate)) store<u64>(arrival, after(arrival, charge, now));
}

function refuse(account: usize, reason: Reason): Reason {
  store<u64>(account, load<u64>(account, Account.Refused) + 1, Account.Refused);
  return reason;
}

/** The theoretical arrival time of the prefix of the source address at `source`. */
function prefixBucket(source: usize): usize {
  const high = load<u64>(source);
  const v4 = high == 0 && load<u32>(source, 8) == 0xffff0000;
  const prefix = v4
    ? u64(load<u32>(source, 12) & load<u32>(policy, Policy.PrefixMask4))
    : high & load<u64>(policy, Policy.PrefixMask6);
  const bucket = (prefix * load<u64>(policy, Policy.PrefixKey)) >> (64 - PREFIX_BUCKET_BITS);
  return prefixes + (usize(bucket) << 3);
}

function charge(leg: usize, source: usize, size: u32, now: u64): Reason {
  const identity = identityAddress(load<u32>(leg, Leg.Identity));
  const network = networkAddress(load<u16>(leg, Leg.Network));
  const prefixRate = policy + Policy.Prefix;
  const hostRate = policy + Policy.Host;
  const prefix = prefixBucket(source);
  const identityCost = cost(identity, size);
  const networkCost = cost(network, size);
  const prefixCost = cost(prefixRate, size);
  const hostCost = cost(hostRate, size);
  if (!conforms(identity, identity + Account.TheoreticalArrival, identityCost, now)) {
    return refuse(identity, Reason.IdentityRate);
  }
  if (!conforms(network, network + Account.TheoreticalArrival, networkCost, now)) {
    return refuse(network, Reason.NetworkRate);
  }
  if (!conforms(prefixRate, prefix, prefixCost, now)) return Reason.PrefixRate;
  store<u64>(identity, load<u64>(identity, Account.Demand) + hostCost, Account.Demand);
  const fairFactor = u64(load<u32>(policy, Policy.FairFactor));
  const fair = after(identity + Account.FairArrival, (hostCost * fairFactor) >> 16, now);
  if (fairFactor != 0 && fair - now > u64(load<u32>(policy, Policy.FairBurst))) {
    return refuse(identity, Reason.FairShare);
  }
  if (!conforms(hostRate, host + Account.TheoreticalArrival, hostCost, now)) {
    return refuse(host, Reason.HostRate);
  }
  take(identity, identity + Account.TheoreticalArrival, identityCost, now);
  take(network, network + Account.TheoreticalArrival, networkCost, now);
  take(prefixRate, prefix, prefixCost, now);
  if (fairFactor != 0) store<u64>(identity, fair, Account.FairArrival);
  take(hostRate, host + Account.TheoreticalArrival, hostCost, now);
  return Reason.None;
}

/** Charges a frame that was judged good and counts it on its leg, or tells which limit refuses it. */
export function admit(leg: usize, source: usize, size: u32, now: u64): Reason {
  const own = limitsAddress(load<u16>(leg, Leg.Limits));
  const byteCap = load<u64>(own, Limits.ByteCap);
  const bytes = load<u64>(leg, Leg.Bytes) + u64(size);
  if (byteCap != 0 && bytes > byteCap) return Reason.ByteCap;
  const ownCost = cost(own, size);
  if (!conforms(own, leg + Leg.TheoreticalArrival, ownCost, now)) return Reason.RateLimited;
  if (load<u8>(leg, Leg.Action) == Action.Forward) {
    const reason = charge(leg, source, size, now);
    if (reason != Reason.None) return reason;
  }
  take(own, leg + Leg.TheoreticalArrival, ownCost, now);
  store<u64>(leg, load<u64>(leg, Leg.Packets) + 1, Leg.Packets);
  store<u64>(leg, bytes, Leg.Bytes);
  store<u64>(leg, now, Leg.LastUsed);
  return Reason.None;
}
