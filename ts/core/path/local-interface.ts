// What a node can send from: one entry for each address of its interfaces.

import type { LocalSource } from '../../contract/path-control.js';
import type { SocketAddress } from '../../wire/socket-address.js';
import { isIPv4 } from '../../wire/socket-address.js';

export interface LocalInterface {
  readonly source: LocalSource;
  /** The engine's port: others send to `source.ip` and it. */
  readonly port: number;
  /** Paths of a lower rank are used first; by default all are equal. */
  readonly rank: number;
}

/** Whether a datagram can go from one to the other: both are of one family. */
export function reaches({ source }: LocalInterface, { ip }: SocketAddress): boolean {
  return isIPv4(source.ip) === isIPv4(ip);
}
