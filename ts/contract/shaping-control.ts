// How what is sent to peers is shaped, as an engine does it for each packet: how long packets are, and when they
// leave. Peers of whom nothing is said are sent to as things come, and cost nothing.
//
// A ceiling bounds what leaves by one interface. While there is more, packets wait, and leave by weight: networks
// share the ceiling, and the peers of a network what it gets (start-time fair queueing). Handshakes, control and path
// frames never wait, but count against it.

import type { SessionKey } from './engine.js';

/** Sizes of one peer at most, and the longest packet that is padded, bytes. */
export const MAX_PADDED_SIZES = 8;
export const MAX_PADDED_SIZE = 2048;

export interface PeerShaping {
  readonly peer: SessionKey;
  /**
   * An IP packet is padded to the first of these it is not longer than; ascending, at most MAX_PADDED_SIZES, bytes
   * of the inner packet. Never beyond the inner MTU, what the path in use takes, or MAX_PADDED_SIZE: a size that is
   * more stands for the least of these. Empty = packets are padded as WireGuard does, to a multiple of 16. The
   * padding is zeros behind the packet inside the sealed message, which every WireGuard peer removes by the length in
   * the IP header. Messages of the control plane are padded likewise; handshakes, keepalives, pings, suite and path
   * frames keep their sizes.
   */
  readonly paddedSizes: readonly number[];
  /**
   * Bytes of padding for 100 bytes of data, 1–100,000; undefined = as many as it takes. Of padding 128 KiB are there
   * before any data was sent, and at most 1 MiB is saved up. What is not afforded goes out as WireGuard pads it.
   */
  readonly paddingBudget: number | undefined;
  /** Undefined: its packets leave at once, whatever ceilings there are. */
  readonly queue?: PeerQueue | undefined;
}

/** How the packets of a peer wait; for one peer at most 4 MiB, for all 64 MiB, and no packet for more than a second. */
export interface PeerQueue {
  /** Of the peers of a network, and of networks, relative to each other; 1 to MAX_WEIGHT. */
  readonly weight: number;
  readonly networkWeight: number;
  /** Tells networks apart: lower-case hex, of which 16 digits count. */
  readonly network: string;
  /**
   * So many ms after each other its packets leave, one at a time and not before: where none waits, a cover, which is a
   * frame of the padded size that the receiver counts and drops. What comes faster waits, and is dropped if it waits too
   * long. Covers are padding as far as the budget is concerned. Undefined = packets leave as the ceiling lets them.
   */
  readonly slotMs: number | undefined;
}

export const MAX_WEIGHT = 1000;
/** Shortest time between two packets at a constant rate, ms. */
export const LEAST_SLOT_MS = 1;

/** Of one interface, by its name. */
export interface Ceiling {
  readonly interface: string;
  /** Of IP packets, 1,000 to 10^11. 10 ms of it may leave at once. */
  readonly bytesPerSecond: number;
}

export interface CeilingCounts {
  readonly sentBytes: number;
  readonly waitingBytes: number;
}

export interface ShapingCounts {
  /** Bytes of IP packets sent, as WireGuard pads them, and what they were padded with beyond that. */
  readonly dataBytes: number;
  readonly paddingBytes: number;
  /** Not padded for want of budget. */
  readonly unpaddedPackets: number;
  /** Packets that held nothing, and slots left empty for want of budget. */
  readonly covers: number;
  readonly coversLeftOut: number;
  /** Packets that had to wait; dropped because there was no room, or because they waited too long (RFC 8289). */
  readonly queuedPackets: number;
  readonly droppedFull: number;
  readonly droppedLate: number;
  /** Told of congestion (RFC 3168) instead of being dropped. */
  readonly markedPackets: number;
  readonly waitingBytes: number;
}

export interface ShapingEffect {
  readonly type: 'set-shaping';
  readonly shaping: PeerShaping;
}

export interface ShapingControl {
  /**
   * Replaces what was said of these peers; who is no peer is left out, and a peer that is removed is forgotten.
   * @throws EngineError BAD_ARGUMENT; then nothing was changed.
   */
  setShaping(shaping: readonly PeerShaping[]): void;
  /** Undefined: nothing is said of the peer. */
  shapingCounts(peer: SessionKey): ShapingCounts | undefined;
  /**
   * From now on these are all ceilings there are. An interface need not be there yet.
   * @throws EngineError BAD_ARGUMENT; then nothing was changed.
   */
  setCeilings(ceilings: readonly Ceiling[]): void;
  /** In the order they were set. */
  ceilingCounts(): readonly CeilingCounts[];
}
