// `struct omerta_leg` of native/wire/include/omerta/wire.h: a leg in the units an engine counts in,
// and its 128 bytes. Integers are little-endian, ports big-endian.
//
//  0   leg id u32 · action u8 · flags u8 · epoch u8 · next epoch u8
//  8   source ip [16]
// 24   next ip [16]
// 40   source port u16 · next port u16 · next leg id u32
// 48   key [16]
// 64   next key [16]
// 80   expires at u64, ns
// 88   identity u32 · network u16 · limits u16 (indexes, see limits.ts)
// 96   theoretical arrival u64 · packets u64 · bytes u64 · last used u64 (the engine's own)

import type { Leg, LegAction, LegCharging, LegKey, LegTarget } from './leg.js';
import { CONTACT_LEG } from './frame.js';
import type { SocketAddress } from './socket-address.js';

export const LEG_ENTRY_SIZE = 128;
/** Offset of the indexes of accounts and limits. */
export const LEG_ENTRY_ACCOUNTS = 88;
/** Offset of the engine's own fields; a table that replaces an entry keeps them. */
export const LEG_ENTRY_COUNTERS = 96;

/** A leg with its lifetime in the engine's units. */
export interface LegEntry extends LegKey {
  readonly action: LegAction;
  /** Undefined accepts any source. */
  readonly source: SocketAddress | undefined;
  readonly next: LegTarget | undefined;
  /** ns on the engine's clock; 0 = never. */
  readonly expiresAt: bigint;
  readonly charging: LegCharging;
}

export interface LegCounters {
  readonly id: number;
  /** The accounts it is charged to. */
  readonly identity: number;
  readonly network: number;
  readonly packets: bigint;
  readonly bytes: bigint;
  /** ns on the engine's clock of the last accepted frame; 0 = never. */
  readonly lastUsed: bigint;
}

const ACTIONS: Readonly<Record<LegAction, number>> = { forward: 1, deliver: 2, control: 3 };
const FLAG_ANY_SOURCE = 0x01;
const U32_MAX = 0xffffffff;

function requireKey(field: string, { id, key, epoch }: LegKey): void {
  if (!Number.isInteger(id) || id < 0 || id > U32_MAX) {
    throw new RangeError(`${field}.id: ${id} given, must be an integer from 0 to 2^32-1`);
  }
  if (key.length !== 16) throw new RangeError(`${field}.key: ${key.length} bytes given, must be 16`);
  if (!Number.isInteger(epoch) || epoch < 0 || epoch > 15) {
    throw new RangeError(`${field}.epoch: ${epoch} given, must be an integer from 0 to 15`);
  }
}

function requireAddress(field: string, { ip, port }: SocketAddress): void {
  if (ip.length !== 16)
    throw new RangeError(`${field}.ip: ${ip.length} bytes given, must be 16 (canonical form)`);
  if (!Number.isInteger(port) || port < 0 || port > 65535) {
    throw new RangeError(`${field}.port: ${port} given, must be an integer from 0 to 65535`);
  }
}

function requireCharging({ identity, network, limits }: LegCharging): void {
  for (const [name, value, most] of [
    ['identity', identity, U32_MAX],
    ['network', network, 0xffff],
    ['limits', limits, 0xffff],
  ] as const) {
    if (!Number.isInteger(value) || value < 0 || value > most) {
      throw new RangeError(`charging.${name}: ${value} given, must be an integer from 0 to ${most}`);
    }
  }
}

/**
 * A leg in the engine's units; `now` is ns on the engine's clock, from which its lifetime runs.
 * @throws RangeError naming the field that is missing or out of its range.
 */
export function legEntry(leg: Leg, now: bigint): LegEntry {
  const { id, key, epoch, action, source, next, lifetimeMs, charging } = leg;
  if (source === undefined && id !== CONTACT_LEG) {
    throw new RangeError('source: missing; only the contact leg (id 0) accepts any source');
  }
  if (lifetimeMs !== undefined && !(lifetimeMs >= 0 && lifetimeMs <= Number.MAX_SAFE_INTEGER)) {
    throw new RangeError(`lifetimeMs: ${lifetimeMs} given, must be 0 or more, or undefined for never`);
  }
  const expiresAt = lifetimeMs === undefined ? 0n : now + BigInt(Math.round(lifetimeMs)) * 1_000_000n;
  return { id, key, epoch, action, source, next, expiresAt, charging };
}

/**
 * The 128 bytes of an entry, counters zero; `bytes`, where they are written, is zero.
 * @throws RangeError naming the field that is missing or out of its range.
 */
export function encodeLegEntry(entry: LegEntry, bytes = new Uint8Array(LEG_ENTRY_SIZE)): Uint8Array {
  requireKey('leg', entry);
  const view = new DataView(bytes.buffer, bytes.byteOffset, LEG_ENTRY_SIZE);
  view.setUint32(0, entry.id, true);
  bytes[4] = ACTIONS[entry.action];
  bytes[6] = entry.epoch;
  bytes.set(entry.key, 48);
  if (entry.source === undefined) {
    bytes[5] = FLAG_ANY_SOURCE;
  } else {
    requireAddress('source', entry.source);
    bytes.set(entry.source.ip, 8);
    view.setUint16(40, entry.source.port);
  }
  if (entry.next !== undefined) {
    requireKey('next', entry.next);
    requireAddress('next.address', entry.next.address);
    bytes[7] = entry.next.epoch;
    bytes.set(entry.next.address.ip, 24);
    view.setUint16(42, entry.next.address.port);
    view.setUint32(44, entry.next.id, true);
    bytes.set(entry.next.key, 64);
  } else if (entry.action === 'forward') {
    throw new RangeError('next: missing; a forward leg needs the leg its frames go on by');
  }
  view.setBigUint64(80, entry.expiresAt, true);
  requireCharging(entry.charging);
  view.setUint32(LEG_ENTRY_ACCOUNTS, entry.charging.identity, true);
  view.setUint16(LEG_ENTRY_ACCOUNTS + 4, entry.charging.network, true);
  view.setUint16(LEG_ENTRY_ACCOUNTS + 6, entry.charging.limits, true);
  return bytes;
}
