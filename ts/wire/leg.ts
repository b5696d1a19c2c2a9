// One entry of the forwarding table (`struct omerta_leg` of native/wire/include/omerta/wire.h).
// TypeScript writes entries; an engine applies them.

import type { SocketAddress } from './socket-address.js';

/** What an engine does with an authentic frame on this leg. */
export type LegAction = 'forward' | 'deliver' | 'control';

/** The id and SipHash key of one direction of a leg; both are chosen by the leg's receiver. */
export interface LegKey {
  /** Random, 1 – 2^32−1; 0 is the contact leg. */
  readonly id: number;
  /** 16 bytes. */
  readonly key: Uint8Array;
  /** Epoch of `key`, 0–15. */
  readonly epoch: number;
}

/** How a node sends on a leg: the relay's address and the key the relay gave out. */
export interface LegTarget extends LegKey {
  readonly address: SocketAddress;
}

export interface Leg extends LegKey {
  readonly action: LegAction;
  /** The proven address frames must come from; undefined accepts any (contact leg only). */
  readonly source: SocketAddress | undefined;
  /**
   * forward: where the frame goes next, and under which id and key.
   * deliver: the way back, used when this leg becomes a peer's endpoint.
   * control: undefined.
   */
  readonly next: LegTarget | undefined;
  /** Milliseconds from installation until the leg expires; undefined = never. */
  readonly lifetimeMs: number | undefined;
  /** Who pays for it, and how much it may; see LegCharging. */
  readonly charging: LegCharging;
}

/** The accounts a leg's frames are charged to and the class of limits it is held to, by index. */
export interface LegCharging {
  readonly identity: number;
  readonly network: number;
  readonly limits: number;
}

/** Charged to nobody: account 0 of each kind, class 0. */
export const UNCHARGED: LegCharging = { identity: 0, network: 0, limits: 0 };
