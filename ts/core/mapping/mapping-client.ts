// One way of asking a gateway for a mapping, as the port mapper sees it.

import type { Step } from '../../contract/step.js';
import type { GatewayPage } from './ssdp.js';

export const MAPPING_PROTOCOLS = ['pcp', 'nat-pmp', 'upnp'] as const;
export type MappingProtocol = (typeof MAPPING_PROTOCOLS)[number];

/** Why a gateway gave none. */
export type MappingFailure =
  /** Nothing was answered. */
  | 'unanswered'
  /** The gateway says that nobody listens there. */
  | 'not-offered'
  | 'unsupported-version'
  | 'not-authorized'
  | 'no-resources'
  /** The gateway has no address itself at present. */
  | 'network-failure'
  /** Something between this machine and the gateway translates addresses. */
  | 'address-mismatch'
  | 'refused'
  /** What was given is no address and port that anybody could send to. */
  | 'bad-address'
  /** It is there, and has no service that maps ports. */
  | 'no-service'
  /** An answer could not be read. */
  | 'malformed';

/** Whom a mapping is wanted of, and of what. */
export interface MapperUplink {
  /** 16 bytes: IPv4, or IPv6, whose firewall is to let packets in to the own address as it is. */
  readonly gateway: Uint8Array;
  /** Own address towards it, 16 bytes. */
  readonly local: Uint8Array;
  /** UDP port, here. */
  readonly port: number;
}

/** What is wanted of the gateway's page. */
export interface GatewayRequest {
  readonly page: GatewayPage;
  /** Undefined: a page is read, with GET; else an action, with POST. */
  readonly action: { readonly name: string; readonly body: string } | undefined;
}

/** What came of it. */
export interface GatewayAnswer {
  readonly status: number;
  /** At most MAX_GATEWAY_PAGE bytes. */
  readonly body: string;
}

export type MapperEffect =
  /** A datagram to the gateway's MAPPING_PORT, from the uplink's own address. */
  | { readonly type: 'send'; readonly bytes: Uint8Array }
  /** A search, to the gateway's SSDP_PORT and to the group on its network. */
  | { readonly type: 'search' }
  /** A page of the gateway's, and of no other host; the outcome is told under this number. */
  | { readonly type: 'fetch'; readonly fetch: number; readonly request: GatewayRequest };

/** One step: its time and randomness, and what comes of it. */
export class MapperTurn {
  readonly effects: MapperEffect[] = [];

  constructor(readonly step: Step) {}

  get now(): number {
    return this.step.now;
  }

  emit(effect: MapperEffect): void {
    this.effects.push(effect);
  }
}

export interface Grant {
  /** 16 bytes, and a port; of IPv6 the own ones. */
  readonly externalIp: Uint8Array;
  readonly externalPort: number;
  /** Seconds it lasts unless it is renewed. */
  readonly lifetimeSeconds: number;
}

/** Who asked. */
export interface MappingUser {
  granted(grant: Grant, turn: MapperTurn): void;
  failed(reason: MappingFailure, turn: MapperTurn): void;
  /** The gateway has forgotten what it gave. */
  forgotten(turn: MapperTurn): void;
  released(turn: MapperTurn): void;
}

export interface MappingClient {
  readonly protocol: MappingProtocol;
  /** Asks for a mapping, or for the present one to last longer. The outcome is told to the user. */
  request(turn: MapperTurn): void;
  /** Gives up what was given. */
  release(turn: MapperTurn): void;
  /** From the gateway's MAPPING_PORT. */
  handleDatagram(bytes: Uint8Array, turn: MapperTurn): void;
  /** Nobody listens on the gateway's MAPPING_PORT. */
  handleRefused(turn: MapperTurn): void;
  /** An answer to a search, from the gateway. */
  handleSearchAnswer(bytes: Uint8Array, turn: MapperTurn): void;
  /** Undefined: nothing that could be read came. */
  handleFetched(fetch: number, answer: GatewayAnswer | undefined, turn: MapperTurn): void;
  handleTimeout(turn: MapperTurn): void;
  /** Monotonic ms. */
  deadline(): number | undefined;
}
