// What a node has found out of the NAT or firewall in front of each of its addresses, as it tells it: in the
// terms of RFC 4787 (UDP behaviour) and RFC 5780 (how it is found out). Plain data; words for a person are
// made of the codes elsewhere.

/** What a mapping (RFC 4787, section 4.1) or a filter (section 5) goes by. */
export const DEPENDENCES = [
  'endpoint-independent',
  'address-dependent',
  'address-and-port-dependent',
] as const;
export type Dependence = (typeof DEPENDENCES)[number];

/** Whether addresses are translated on the way out. */
export const TRANSLATIONS = [
  /** Others see an address this machine has; which does not mean that they can send there. */
  'none',
  /** IPv4 behind IPv4 (RFC 3022). */
  'nat44',
  /** IPv6 behind IPv6, many addresses behind one, as IPv4 has it. */
  'nat66',
  /** The prefix alone is another one (RFC 6296): each address keeps one of its own, and its ports. */
  'nptv6',
] as const;
export type Translation = (typeof TRANSLATIONS)[number];

/** The outer port of a new mapping (RFC 4787, section 4.2). */
export const PORT_ALLOCATIONS = ['preserving', 'sequential', 'random'] as const;
export type PortAllocation = (typeof PORT_ALLOCATIONS)[number];

/** Why something is not known. */
export const NAT_UNKNOWNS = [
  /** Nobody has said yet where it sees this address. */
  'not-observed',
  /** One relay or member alone has; it takes two at different IPv4 addresses or IPv6 sites (/48). */
  'one-observer',
  /** It depends on the address; whether on the port too, only two ports of one address could tell. */
  'no-second-port',
  /** It was seen, but from which of several addresses of this machine is not known. */
  'which-address',
  /** All destinations see one port: which one the next would see has not been shown. */
  'one-mapping',
  /** No member has sent here yet before it was sent to. */
  'not-tried',
  /** Who sent here before it was sent to did not get through; whether another port of a known address would is not tried. */
  'no-second-try',
  /** Nobody else behind the same outer address has been met. */
  'nobody-inside',
  /** No path has been quiet for long enough. */
  'not-quiet',
] as const;
export type NatUnknown = (typeof NAT_UNKNOWNS)[number];

/** Something that was found out, or why it was not. */
export type Finding<T> = { readonly value: T } | { readonly unknown: NatUnknown };

/** How long something lives without a packet: bounds as far as they were seen. */
export interface LifetimeBounds {
  /** A packet came in after so many ms of silence. */
  readonly atLeastMs: number | undefined;
  /** After so many ms the outer address was another one. */
  readonly belowMs: number | undefined;
}

/** One family of one interface. */
export interface NatStatus {
  readonly family: 'ipv4' | 'ipv6';
  /** Name of the interface; undefined = not known: whichever routing chooses. */
  readonly interface: string | undefined;
  /** `ip:port` this machine sends from. */
  readonly local: string | undefined;
  /** Where it was seen, `ip:port` each, the newest first. */
  readonly seen: readonly string[];
  /** Relays and members at different addresses that have said so. */
  readonly observers: number;
  readonly translation: Finding<Translation>;
  readonly mapping: Finding<Dependence>;
  /** Whether the outer port is the inner one. */
  readonly preservesPort: Finding<boolean>;
  readonly ports: Finding<PortAllocation>;
  /** Who is let in, by a NAT or a firewall. */
  readonly filtering: Finding<Dependence>;
  /** Whether two behind it reach each other by their outer addresses. */
  readonly hairpinning: Finding<boolean>;
  readonly lifetime: LifetimeBounds;
}

/** The value of a finding; undefined = not known. */
export function found<T>(finding: Finding<T>): T | undefined {
  return 'value' in finding ? finding.value : undefined;
}
