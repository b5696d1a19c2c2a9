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
import { sameSocketAddress, type SocketAddress } from './socket-address.js';
import type { Decision, DropReason, Verdict } from './verdict.js';

/** Leg id → what becomes of a frame on that leg. `now` is always ns on one monotonic clock. */
export interface ForwardingTable {
  readonly size: number;
  /**
   * Adds a leg, or replaces the one with its id and keeps that one's counters. False when the table
   * is full; then nothing changed.
   * @throws RangeError naming the field of the entry that is out of its range.
   */
  install(entry: LegEntry): boolean;
  /** False when there was none. */
  remove(id: number): boolean;
  /** Judges a datagram; counts an accepted frame, and rewrites a forwarded one in place. */
  judge(from: SocketAddress, datagram: Uint8Array, now: bigint): Decision;
  counters(id: number): LegCounters | undefined;
  /** Counters of every leg, in no order. */
  legs(): LegCounters[];
}

interface Slot {
  entry: LegEntry;
  theoreticalArrival: bigint;
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

  constructor(capacity: number) {
    if (!Number.isInteger(capacity) || capacity < 1) {
      throw new RangeError(`capacity: ${capacity} given, must be an integer of at least 1`);
    }
    this.#capacity = capacity;
  }

  get size(): number {
    return this.#slots.size;
  }

  install(entry: LegEntry): boolean {
    encodeLegEntry(entry); // refuses what an engine could not hold
    const present = this.#slots.get(entry.id);
    if (present !== undefined) {
      present.entry = entry;
      return true;
    }
    if (this.#slots.size >= this.#capacity) return false;
    this.#slots.set(entry.id, { entry, theoreticalArrival: 0n, packets: 0n, bytes: 0n, lastUsed: 0n });
    return true;
  }

  remove(id: number): boolean {
    return this.#slots.delete(id);
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
    if (entry.rateInterval !== 0) {
      const cost = (BigInt(datagram.length) * BigInt(entry.rateInterval)) / 65536n;
      const arrival = max(slot.theoreticalArrival, now) + cost;
      if (arrival - now > BigInt(entry.rateBurst)) return drop('rate_limited');
      slot.theoreticalArrival = arrival;
    }

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
    return slot === undefined
      ? undefined
      : { id, packets: slot.packets, bytes: slot.bytes, lastUsed: slot.lastUsed };
  }

  legs(): LegCounters[] {
    return [...this.#slots].map(([id, { packets, bytes, lastUsed }]) => ({ id, packets, bytes, lastUsed }));
  }
}
