// What paths show of the NAT or firewall in front of this node.

import type { LocalSource } from '../../contract/path-control.js';
import { isIPv4, type SocketAddress } from '../../wire/socket-address.js';

export type Family = 'ipv4' | 'ipv6';

export const familyOf = ({ ip }: SocketAddress): Family => (isIPv4(ip) ? 'ipv4' : 'ipv6');

/** `local` is what was sent from, or came to; undefined = whichever routing chose. */
export interface NatWitness {
  /** A member says where it saw a probe come from. */
  memberObserved(observation: {
    readonly observer: string;
    readonly to: SocketAddress;
    readonly local: LocalSource | undefined;
    readonly seen: SocketAddress;
    readonly at: number;
  }): void;
  /**
   * After so many ms in which nothing went to somebody, something of his came in; or what went there came from another
   * outer address than before.
   */
  silence(local: LocalSource | undefined, family: Family, ms: number, outcome: 'kept' | 'forgotten'): void;
  /** Somebody behind the same outer address was reached by it, or was not. */
  hairpinned(local: LocalSource | undefined, family: Family, worked: boolean): void;
}
