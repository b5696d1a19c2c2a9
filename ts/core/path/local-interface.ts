// What a node can send from: one entry for each address of its interfaces.

import type { LocalSource } from '../../contract/path-control.js';
import { sameBytes } from '../../wire/bytes.js';
import { isIPv4, type SocketAddress } from '../../wire/socket-address.js';

export interface LocalInterface {
  readonly source: LocalSource;
  /** As the machine calls it; undefined = not known. */
  readonly name?: string | undefined;
  /** The engine's port: others send to `source.ip` and it. */
  readonly port: number;
  /** Paths of a lower rank are used first; by default all are equal. */
  readonly rank: number;
}

/** Of an interface nobody named. */
export const DEFAULT_RANK = 0;

/** What a datagram to there can be sent from: each interface of its family, or what routing chooses where none is known. */
export function sourcesFor(
  { ip }: SocketAddress,
  interfaces: readonly LocalInterface[],
): { readonly local: LocalSource | undefined; readonly rank: number }[] {
  if (interfaces.length === 0) return [{ local: undefined, rank: DEFAULT_RANK }];
  return interfaces
    .filter(({ source }) => isIPv4(source.ip) === isIPv4(ip))
    .map(({ source, rank }) => ({ local: source, rank }));
}

export function rankOf(local: LocalSource | undefined, interfaces: readonly LocalInterface[]): number {
  return interfaceOf(local, interfaces)?.rank ?? DEFAULT_RANK;
}

/** Whether it can be sent from no more. */
export function isGone(local: LocalSource | undefined, interfaces: readonly LocalInterface[]): boolean {
  return local !== undefined && interfaceOf(local, interfaces) === undefined;
}

const interfaceOf = (
  local: LocalSource | undefined,
  interfaces: readonly LocalInterface[],
): LocalInterface | undefined => local && interfaces.find(({ source }) => sameBytes(source.ip, local.ip));
