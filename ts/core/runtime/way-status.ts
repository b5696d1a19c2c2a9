// What a node tells of each way to a member, and why it is not the one in use: codes, which the shell words.

/** What the operator's rules say against a way. */
export const RULINGS = ['direct-only', 'relay-only', 'forbidden', 'not-pinned'] as const;
export type Ruling = (typeof RULINGS)[number];

/** Why a way is not the one in use. */
export const WAY_REASONS = [
  ...RULINGS,
  /** No probe has been answered yet. */
  'untried',
  /** None was, and it was given up. */
  'unanswered',
  /** Probes were answered and are no longer. */
  'dead',
  /** Addresses that have not answered may be sent no more at present. */
  'held-back',
  /** The one in use is preferred by the operator. */
  'not-preferred',
  /** It leaves by a metered interface, the one in use does not. */
  'metered',
  /** The interface of the one in use has a higher priority. */
  'priority',
  /** It takes smaller datagrams than packets inside need, the one in use does not. */
  'mtu',
  /** It loses more. */
  'loss',
  /** The one in use is direct. */
  'relayed',
  'slower',
  /** It is better by so little that a change is not worth it. */
  'no-gain',
] as const;
export type WayReason = (typeof WAY_REASONS)[number];

export interface WayStatus {
  readonly kind: 'direct' | 'relay';
  /** `ip:port` of a direct one. */
  readonly address: string | undefined;
  /** Of the relay, `omerta1…`. */
  readonly relayPeerId: string | undefined;
  /** The interface it leaves by, as far as is known. */
  readonly interface: string | undefined;
  /** `proven`: its last probe, or one shortly before, was answered. */
  readonly state: 'untried' | 'proven' | 'dead' | 'failed';
  /** `duplicate`: takes a copy of everything, because the active one is silent; `kept`: listened to, and probed if it may be. */
  readonly role: 'active' | 'duplicate' | 'standby' | 'kept' | 'none';
  /** Messages of the control plane go by it, and data by another. */
  readonly control?: boolean | undefined;
  /** Of the data, in proportion to the other ways it is split over; undefined = it is not split, or not over this one. */
  readonly share?: number | undefined;
  readonly rttMs: number | undefined;
  /** 0–1, of probes and, where the peer has reported on it, of data. */
  readonly loss: number | undefined;
  /** Bytes of UDP payload it is known to take. */
  readonly plpmtu: number | undefined;
  /** Why it is not in use; undefined = it is. */
  readonly reason: WayReason | undefined;
}

/** Why a member is not reached directly. */
export const INDIRECT_REASONS = [
  /** The operator's rules let data go over relays alone. */
  'relay-only',
  /** This node's engine keeps no paths. */
  'engine',
  /** The member's record does not name the capability. */
  'member-cannot',
  /** The member does not want it. */
  'member-refuses',
  /** There is no session with the member yet, in which the two agree on direct paths. */
  'no-session',
  /** It is being found out. */
  'seeking',
  /** Each address that the rules permit was tried and none answered. */
  'unanswered',
  /** The same, and a NAT gives each destination another port that cannot be foreseen: this node's, the member's, both. */
  'own-nat',
  'member-nat',
  'both-nats',
  /** One works, and a way over a relay is better. */
  'relay-better',
] as const;
export type IndirectReason = (typeof INDIRECT_REASONS)[number];

/** How a port search ended (path/port-search.ts). */
export const PORT_SEARCH_ENDS = [
  /** A path was found by it. */
  'found',
  /** All that it may cost was spent. */
  'not-found',
  /** The member's NAT gives each destination another port too: nothing can be found. */
  'both-random',
  /** The member takes part in none, or in none with this node. */
  'refused',
  /** It takes part in another one. */
  'busy',
  'unanswered',
  /** Another path works, the operator decided otherwise, or the network is another one. */
  'overtaken',
  /** Searches of the last minutes have spent what may go to addresses that have not answered. */
  'held-back',
] as const;
export type PortSearchEnd = (typeof PORT_SEARCH_ENDS)[number];

/** The port search with one member that runs, or the last one. */
export interface PortSearchStatus {
  /** `ports`: this node opened local ports, behind a NAT that gives any; `probes`: it probed ports of the member's NAT. */
  readonly role: 'ports' | 'probes';
  readonly sent: number;
  /** Packets it may send. */
  readonly of: number;
  /** Undefined = it runs. */
  readonly end: PortSearchEnd | undefined;
  /** Since it began, or since it ended. */
  readonly sinceMs: number;
  /** Before there can be another one; undefined while it runs. */
  readonly againInMs: number | undefined;
}
