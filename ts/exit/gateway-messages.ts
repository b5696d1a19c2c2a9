// What the daemon and the thread of its gateway say to each other.

import type { MessagePort } from 'node:worker_threads';
import type { ExitRule } from '../contract/exit-control.js';

/** Guests of one kind, and where what they send goes. */
export interface GuestRules {
  readonly addresses: readonly string[];
  readonly rules: readonly ExitRule[];
}

export const NOWHERE: readonly ExitRule[] = [
  { prefix: '0.0.0.0/0', denied: true },
  { prefix: '::/0', denied: true },
];

export type ToGateway =
  /** Those of the exit, and those of LANs that are advertised. */
  | { readonly type: 'guests'; readonly exit: GuestRules; readonly lan: GuestRules }
  /** Another helper opens sockets. */
  | { readonly type: 'channel'; readonly channel: number }
  /** A datagram or ping of a guest (NativeAddon.receiveDatagram). */
  | { readonly type: 'datagram'; readonly datagram: Uint8Array };

export type FromGateway =
  /** The thread has the sockets of connections, and closes them as it ends. */
  { readonly type: 'ready' } | { readonly type: 'counts'; readonly counts: GatewayCounts };

/** Given to the thread as it begins. */
export interface GatewayStart {
  readonly channel: number;
  /** Where it takes connections of guests: descriptors in the private network. */
  readonly tcp: readonly number[];
  /** By which it answers pings and says what went no further: raw sockets in the private network. */
  readonly icmp4: number | undefined;
  readonly icmp6: number | undefined;
  /** Own inner addresses: pings of those the kernel answers. */
  readonly own: readonly string[];
  /** As DatagramReaderStart has it. */
  readonly pending: SharedArrayBuffer;
}

/** Given to the thread that waits for datagrams. */
export interface DatagramReaderStart {
  /** Where they come: descriptors in the private network, of datagrams and of pings. */
  readonly sockets: readonly number[];
  readonly port: MessagePort;
  /** One Int32: datagrams handed over that the gateway has not taken yet. */
  readonly pending: SharedArrayBuffer;
}

/** So many, and the kernel keeps or drops what comes then: a guest that sends faster than it is carried takes no memory. */
export const MAX_PENDING_DATAGRAMS = 1024;

/** What goes through it, told once a second. */
export interface GatewayCounts {
  readonly tcp: number;
  /** Identifiers of pings are among them. */
  readonly udp: number;
  /** At a bound, of who is no guest, or to where nothing is forwarded. */
  readonly refused: number;
}
