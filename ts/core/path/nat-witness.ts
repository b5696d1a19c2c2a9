// What paths show of the NAT or firewall in front of this node.

import type { LocalSource } from '../../contract/path-control.js';
import { isIPv4, type SocketAddress } from '../../wire/socket-address.js';

export type Family = 'ipv4' | 'ipv6';

export const familyOf = ({ ip }: SocketAddress): Family => (isIPv4(ip) ? 'ipv4' : 'ipv6');

/** What this node had sent to a sender before something of his came in, or did not. */
export type SentBefore =
  /** Nothing, at any port of his address. */
  | 'nothing'
  /** Something to another port of it. */
  | 'other-port';

/** Who a NAT or firewall lets in. */
export interface FilteringWitness {
  /** What is worth trying; undefined = nothing. */
  readonly wanted: SentBefore | undefined;
  /** One more try begins. */
  tried(): void;
  /** Something came in. */
  arrived(before: SentBefore): void;
  /** Something did not, though its sender was reached when it had been sent to. */
  refused(before: SentBefore): void;
}

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
  filtering(local: LocalSource | undefined, family: Family): FilteringWitness;
  /** Whether it gives another port to another destination; undefined = not known. */
  dependsOnDestination(family: Family, now: number): boolean | undefined;
  /** Whether it gives each destination a port that cannot be foreseen, as far as is known: one observer alone may not tell. */
  mayGiveRandomPorts(family: Family, now: number): boolean;
  /** Whether it lets in another port of an address that was sent to: the ports of others need not be guessed. */
  admitsOtherPorts(family: Family): boolean;
  /** Somebody behind the same outer address was reached by it, or was not. */
  hairpinned(local: LocalSource | undefined, family: Family, worked: boolean): void;
}
