// How what is sent to peers is shaped, as an engine does it for each packet. Peers of whom nothing is said are
// sent to as things come, and cost nothing.

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
   * the IP header. Handshakes, keepalives, control and path frames keep their sizes.
   */
  readonly paddedSizes: readonly number[];
  /**
   * Bytes of padding for 100 bytes of data, 1–100,000; undefined = as many as it takes. Of padding 128 KiB are there
   * before any data was sent, and at most 1 MiB is saved up. What is not afforded goes out as WireGuard pads it.
   */
  readonly paddingBudget: number | undefined;
}

export interface ShapingCounts {
  /** Bytes of IP packets sent, as WireGuard pads them, and what they were padded with beyond that. */
  readonly dataBytes: number;
  readonly paddingBytes: number;
  /** Not padded for want of budget. */
  readonly unpaddedPackets: number;
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
}
