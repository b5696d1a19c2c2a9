// What the daemon and the thread of its gateway say to each other.

import type { ExitRule } from '../contract/exit-control.js';

/** Where it takes what guests send: descriptors in the private network; undefined = not this family. */
export interface GatewaySockets {
  readonly tcp: readonly number[];
  readonly udp4: number | undefined;
  readonly udp6: number | undefined;
}

export type ToGateway =
  | { readonly type: 'guests'; readonly addresses: readonly string[]; readonly rules: readonly ExitRule[] }
  /** Another helper opens sockets. */
  | { readonly type: 'channel'; readonly channel: number }
  /** A datagram of a guest (NativeAddon.receiveDatagram). */
  | { readonly type: 'datagram'; readonly datagram: Uint8Array };

/** Given to the thread as it begins. */
export interface GatewayStart extends GatewaySockets {
  readonly channel: number;
}

/** What goes through it, told once a second. */
export interface GatewayCounts {
  readonly tcp: number;
  readonly udp: number;
  /** At a bound, of who is no guest, or to where nothing is forwarded. */
  readonly refused: number;
}
