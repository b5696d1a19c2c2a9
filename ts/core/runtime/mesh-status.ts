// What a MeshNode tells the CLI, the status page and the metrics: plain data, no secrets.

import type { SocketAddress } from '../../wire/socket-address.js';
import type { RateLimit } from '../../wire/limits.js';
import { REFUSALS, type Refusal } from '../protocol/refusal.js';
import type { ExitStatus, RouteStatus } from './exit-change.js';
import type { NatStatus } from './nat-status.js';
import type { IndirectReason, PortSearchStatus, WayStatus } from './way-status.js';

/** Why a bootstrap does not hold our registration: a refusal is one of the registration. */
export const UPLINK_ERRORS = [
  /** No answer to the request for admission. */
  'unanswered',
  /** The session key in the invite is not a usable X25519 key. */
  'bad-key',
  /** Admission refused by policy, or because a limit is reached. */
  'not-admitted',
  'no-room',
  /** Admitted, but no handshake was answered. */
  'no-session',
  'register-unanswered',
  ...REFUSALS,
] as const;
export type UplinkError = (typeof UPLINK_ERRORS)[number];

/** Where an uplink is: `registered` means the directory and circuits are at hand. */
export type UplinkState = 'admitting' | 'connecting' | 'registering' | 'registered' | 'probing' | 'backoff';

export interface MemberStatus {
  readonly peerId: string;
  readonly name: string;
  readonly ipv6: string;
  /** Undefined when another member has held the same address for longer, or nobody knows who has. */
  readonly ipv4: string | undefined;
  /** Lower-case hex; the key of the engine's peer table. */
  readonly sessionKey: string;
  readonly path: 'relay' | 'direct' | 'none';
  /** Bytes of UDP payload that the path in use takes; undefined = not known. */
  readonly pathMtu: number | undefined;
  /** The longest packet inside that a datagram by it has room for; IPv6 packets of 1280 bytes are carried whatever it is. */
  readonly innerMtu: number | undefined;
  /** The relay in use; undefined unless `path` is `relay`. */
  readonly relayPeerId: string | undefined;
  /** Why there is no circuit although one is sought. */
  readonly refused: Refusal | 'unanswered' | 'forbidden' | undefined;
  /** Ways that are known to it, at most 32, those in use first. */
  readonly ways: readonly WayStatus[];
  /** Why it is not reached directly; undefined = it is. */
  readonly indirect: IndirectReason | undefined;
  /** The search for ports with it that runs, or the last one; undefined = there was none. */
  readonly search: PortSearchStatus | undefined;
  /** Nothing is sent to it and nothing taken: no way that works may carry data. */
  readonly barred: boolean;
  /** How what is sent to it is shaped; undefined = it is not. */
  readonly shaping?: ShapingStatus | undefined;
}

export interface ShapingStatus {
  readonly padding: 'off' | 'buckets' | 'constant' | 'constant-rate';
  /** Bytes of padding for 100 bytes of data; undefined = as many as it takes. */
  readonly paddingBudget: number | undefined;
  /** Of `constant-rate`. */
  readonly packetsPerSecond: number | undefined;
  /** Among the members of its network. */
  readonly weight: number;
}

export interface NetworkStatus {
  readonly name: string;
  /** Blinded id, lower-case hex. */
  readonly blindedId: string;
  readonly ipv6: string;
  readonly ipv4: string;
  /** Above 0: this node took another IPv4 address, because somebody had had an earlier one for longer. */
  readonly addressRound: number;
  /** Peer ids of others who say that `ipv4` is theirs. */
  readonly addressContenders: readonly string[];
  readonly members: readonly MemberStatus[];
}

export interface BootstrapStatus {
  readonly peerId: string;
  /** The address in use, `ip:port`. */
  readonly address: string;
  readonly state: UplinkState;
  /** Our own address as the bootstrap sees it. */
  readonly observedAddress: string | undefined;
  /** Seconds a registration lasts without renewal. */
  readonly leaseSeconds: number | undefined;
  readonly lastPongAgeMs: number | undefined;
  /** It has said that it will go: the seconds until then; undefined = it has not. */
  readonly drainsInSeconds: number | undefined;
  /** Why the last attempt failed. */
  readonly lastError: UplinkError | undefined;
}

export interface CircuitStatus {
  /** Lower-case hex. */
  readonly id: string;
  readonly callerPeerId: string;
  readonly calleePeerId: string;
  /** Blinded id, lower-case hex. */
  readonly network: string;
  /** Peer ids of the relays between the caller and this one; empty when the caller is our client. */
  readonly previousRelays: readonly string[];
  /** `standing`: set up under the callee's standing policy. */
  readonly consent: 'asked' | 'standing';
  /** Peer id of the relay that carries it on; undefined when the callee is our client. */
  readonly nextRelay: string | undefined;
  /** Forward legs: what the caller and what the callee sends to. Empty while half-open. */
  readonly legs: readonly number[];
  readonly ageMs: number;
  readonly expiresInMs: number;
}

/** A WireGuard server whose stock clients this relay relays. */
export interface WireguardBindingStatus {
  /** The client that asked for it; undefined = named by the operator. */
  readonly peerId: string | undefined;
  /** X25519, lower-case hex. */
  readonly publicKey: string;
  readonly address: SocketAddress;
}

/** A relay by which stock WireGuard clients reach this node, or why not. */
export interface WireguardReachStatus {
  readonly relayPeerId: string;
  /** What clients put as endpoint, `ip:port`. */
  readonly address: string;
  readonly state: 'asking' | 'bound' | 'unanswered' | Refusal;
}

/** Our standing policy at a relay, or why it is not held there. */
export interface StandingPolicyStatus {
  readonly relayPeerId: string;
  /** `ip:port`. */
  readonly address: string;
  readonly state: 'asking' | 'held' | 'withdrawn' | 'unanswered' | Refusal;
  readonly serial: number;
  /** Seconds since 1970; a policy that goes on is renewed before. */
  readonly notAfter: number;
  /** Circuits that can be set up before this node has answered one. */
  readonly preparedLegs: number;
}

/** Who is charged for what this relay relays. */
export interface AccountUse {
  /** A peer id, or a network's blinded id. */
  readonly name: string;
  /** Its index in the engine. */
  readonly index: number;
  readonly quotaClass: string;
  /** Circuits and bindings charged to it at present. */
  readonly uses: number;
  readonly limit: RateLimit | undefined;
}

/** A relay that will go. */
export interface DrainStatus {
  readonly endsInSeconds: number;
  /** Nobody is left that could leave, or the time is up. */
  readonly done: boolean;
  /** Registered clients that have not left, other relays aside. */
  readonly clients: number;
  /** Of these, those that have no other relay. */
  readonly staying: number;
  readonly circuits: number;
}

export interface RelayStatus {
  /** Undefined = it takes on whom its rules let in. */
  readonly drain: DrainStatus | undefined;
  readonly registrations: number;
  /** Standing policies in force. */
  readonly standingPolicies: number;
  readonly admissions: number;
  readonly halfOpen: number;
  /** Those that are half-open included. */
  readonly circuits: readonly CircuitStatus[];
  /** How many of each there may be. */
  readonly limits: Readonly<Record<'admissions' | 'registrations' | 'circuits', number>>;
  /** In the order the engine has them. */
  readonly wireguard: readonly WireguardBindingStatus[];
  readonly accounts: { readonly identities: readonly AccountUse[]; readonly networks: readonly AccountUse[] };
  /** Refusals and silent drops since start, by reason, those of zero included. */
  readonly refusals: Readonly<Record<string, number>>;
}

/** What the gateway lets everybody in at, and what it is worth. */
export interface MappedStatus {
  /** `ip:port`. */
  readonly address: string;
  /** `private`: a second NAT is behind the gateway; `unconfirmed`: relays see another address, nobody is told. */
  readonly reach: 'public' | 'private' | 'unconfirmed';
}

export interface MeshStatus {
  readonly peerId: string;
  readonly name: string;
  readonly sessionKey: string;
  readonly networks: readonly NetworkStatus[];
  readonly bootstraps: readonly BootstrapStatus[];
  /** What is between each of this node's addresses and the others. */
  readonly nat: readonly NatStatus[];
  /** Empty unless this node has stock WireGuard clients relayed. */
  readonly wireguard: readonly WireguardReachStatus[];
  /** `waiting`: no relay has answered yet; `blocked`: none has for so long that UDP seems to be blocked. */
  readonly udp: 'answered' | 'waiting' | 'blocked';
  /** Undefined without a port mapping. */
  readonly mapped: MappedStatus | undefined;
  /** Empty unless this node has a standing policy. */
  readonly standingPolicies: readonly StandingPolicyStatus[];
  /** Undefined when this node is not a relay. */
  readonly relay: RelayStatus | undefined;
  readonly exit: ExitStatus;
  readonly routes: RouteStatus;
  /** Control frames and records that were not as they should be, by reason, zero ones included. */
  readonly drops: Readonly<Record<string, number>>;
}
