// What of this host a datagram is sent from or came to, as text.

import type { LocalSource } from '../../contract/path-control.js';
import { formatIp, parseIp, type SocketAddress } from '../../wire/socket-address.js';

/**
 * One of the host's addresses, with the interface's name behind `%` when it is link-local, and behind `#` the port when
 * that is not the engine's own.
 */
export type LocalAddress = string;

/** Asked of a remote and the address it is sent to from (sticky source): whether that is to be forgotten. */
export type IsForgotten = (remote: SocketAddress, local: LocalAddress) => boolean;

export function localOf({ ip, port }: LocalSource): LocalAddress {
  return port === undefined ? formatIp(ip) : `${formatIp(ip)}#${port}`;
}

export function sourceAt(local: LocalAddress): LocalSource | undefined {
  const [address = '', port] = local.split('#');
  const ip = parseIp(address.replace(/%.*$/, ''));
  return ip && { ip, interface: 0, ...(port !== undefined && { port: Number(port) }) };
}
