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
  /** The same for messages of the control plane; undefined: `rank`. */
  readonly controlRank?: number | undefined;
}

/** Priorities are below it: what is metered comes after all that is not. */
const METERED_RANK = 1000;
export const MAX_INTERFACE_PRIORITY = METERED_RANK - 1;

/** @param priority 0–999, lower first */
export function interfaceRank(priority: number, metered: boolean): number {
  return priority + (metered ? METERED_RANK : 0);
}

export const isMetered = (rank: number): boolean => rank >= METERED_RANK;

/** What a datagram to there can be sent from: each interface of its family, or what routing chooses where none is known. */
export function sourcesFor(
  { ip }: SocketAddress,
  interfaces: readonly LocalInterface[],
): (LocalSource | undefined)[] {
  if (interfaces.length === 0) return [undefined];
  return interfaces.filter(({ source }) => isIPv4(source.ip) === isIPv4(ip)).map(({ source }) => source);
}

/** Whether it can be sent from no more. */
export function isGone(local: LocalSource | undefined, interfaces: readonly LocalInterface[]): boolean {
  return local !== undefined && interfaceOf(local, interfaces) === undefined;
}

export const interfaceOf = (
  local: LocalSource,
  interfaces: readonly LocalInterface[],
): LocalInterface | undefined => interfaces.find(({ source }) => sameBytes(source.ip, local.ip));

/** What routing most likely chooses: those that default routes lead out by come first. */
export const routedInterface = (
  { ip }: SocketAddress,
  interfaces: readonly LocalInterface[],
): LocalInterface | undefined => interfaces.find(({ source }) => isIPv4(source.ip) === isIPv4(ip));
