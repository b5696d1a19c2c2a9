// Has the gateway of a network let UDP packets in to this node, by a mapping (IPv4) or a hole in its firewall (IPv6): asks by one protocol after the other, renews
// what it was given at half of its time, asks again when the gateway has forgotten it or the network is another
// one, and gives it up at the end. Sans-IO: time, randomness and what arrives are arguments, effects are data.
//
//   asking (PCP, then NAT-PMP, then UPnP) ──granted──► mapped ──half of its time──► asking, mapped as before
//      ▲      │ none of them                             │ run out, other network
//      └──────┴── 5 min, doubling to 1 h ◄───────────────┘

import type { Step } from '../../contract/step.js';
import { randomU32, sameBytes } from '../../wire/bytes.js';
import { Reach, reachOf } from '../../wire/reach.js';
import {
  formatIp,
  formatSocketAddress,
  isIPv4,
  sameSocketAddress,
  type SocketAddress,
} from '../../wire/socket-address.js';
import { earliest } from '../runtime/earliest.js';
import { isDue } from '../runtime/is-due.js';
import { IgdClient } from './igd-client.js';
import {
  MapperTurn,
  type GatewayAnswer,
  type Grant,
  type MapperEffect,
  type MapperUplink,
  type MappingClient,
  type MappingFailure,
  type MappingProtocol,
  type MappingUser,
} from './mapping-client.js';
import { NatPmpClient } from './nat-pmp-client.js';
import { MAPPING_PORT } from './pcp.js';
import { PcpClient } from './pcp-client.js';

/** A gateway that promises more is not believed. */
const LONGEST_LIFETIME_SECONDS = 86_400;
/** RFC 6887, section 11.2.1: requests for renewal are no closer. */
const LEAST_RENEWAL_MS = 4000;
/** Between two questions that others bring about. */
const LEAST_BETWEEN_MS = 5000;
/** After an announcement to all hosts each waits for up to so long (RFC 6887, section 14.1.3). */
const SPREAD_MS = 5000;
const FIRST_PAUSE_MS = 300_000;
const LONGEST_PAUSE_MS = 3_600_000;

/** What a protocol came to. */
export interface MappingAttempt {
  readonly protocol: MappingProtocol;
  readonly failure: MappingFailure;
}

export interface PortMappingStatus {
  /** `no-gateway`: there is no gateway, or none that translates; `none`: it gives no mapping. */
  readonly state: 'off' | 'no-gateway' | 'asking' | 'mapped' | 'none';
  readonly protocol: MappingProtocol | undefined;
  readonly gateway: string | undefined;
  /** `ip:port`, here and outside. */
  readonly internal: string | undefined;
  readonly external: string | undefined;
  readonly expiresInSeconds: number | undefined;
  /** What was tried in vain since the network is what it is. */
  readonly attempts: readonly MappingAttempt[];
}

interface Mapping {
  readonly external: SocketAddress;
  readonly expiresAt: number;
}

export class PortMapper implements MappingUser {
  readonly #protocols: readonly MappingProtocol[];
  #uplink: MapperUplink | undefined;
  #client: MappingClient | undefined;
  /** Of the protocols, the next one to be tried. */
  #place = 0;
  #attempts: MappingAttempt[] = [];
  #mapping: Mapping | undefined;
  /** When the client is to ask (again), or the search begins anew. */
  #askAt: number | undefined;
  #askedAt = -Infinity;
  #pauseMs = FIRST_PAUSE_MS;
  /** Why what was granted is given back. */
  #rejected: MappingFailure | undefined;
  #announced = false;
  #state: 'off' | 'running' | 'releasing' = 'running';

  /** @param protocols in the order they are tried in; none = off */
  constructor(protocols: readonly MappingProtocol[]) {
    this.#protocols = protocols;
    if (protocols.length === 0) this.#state = 'off';
  }

  /** What this node can be sent to from outside. */
  get mapped(): SocketAddress | undefined {
    return this.#mapping?.external;
  }

  /** Whether nothing of ours is left at the gateway, as far as can be known. */
  get isReleased(): boolean {
    return this.#state === 'off';
  }

  status(now: number): PortMappingStatus {
    const uplink = this.#uplink;
    const mapping = this.#mapping;
    return {
      state: this.#stateTold(),
      protocol: mapping === undefined ? undefined : this.#client?.protocol,
      gateway: uplink && formatIp(uplink.gateway),
      internal: uplink && formatSocketAddress({ ip: uplink.local, port: uplink.port }),
      external: mapping && formatSocketAddress(mapping.external),
      expiresInSeconds: mapping && Math.max(0, Math.round((mapping.expiresAt - now) / 1000)),
      attempts: this.#attempts,
    };
  }

  /** The network is this one from now on; undefined = none with a gateway that translates. */
  setUplink(uplink: MapperUplink | undefined, step: Step): readonly MapperEffect[] {
    const turn = new MapperTurn(step);
    if (this.#state !== 'running' || sameUplink(this.#uplink, uplink)) return turn.effects;
    this.#uplink = uplink;
    this.#pauseMs = FIRST_PAUSE_MS;
    this.#restart(turn);
    return turn.effects;
  }

  /** Something makes it likely that the gateway is another one or has forgotten: relays see another address. */
  recheck(step: Step): void {
    if (this.#state !== 'running' || this.#uplink === undefined || this.#isAsking) return;
    this.#askAt = Math.max(step.now, this.#askedAt + LEAST_BETWEEN_MS);
  }

  /** Gives up what was given, and asks for nothing more. */
  release(step: Step): readonly MapperEffect[] {
    const turn = new MapperTurn(step);
    this.#askAt = undefined;
    if (this.#state !== 'running') return turn.effects;
    this.#state = 'releasing';
    if (this.#client === undefined) this.released(turn);
    else this.#client.release(turn);
    return turn.effects;
  }

  /** Something arrived from `from`, at the socket whose datagrams go to the gateway's MAPPING_PORT. */
  handleDatagram(from: SocketAddress, bytes: Uint8Array, step: Step): readonly MapperEffect[] {
    const turn = new MapperTurn(step);
    if (this.#isGateway(from.ip) && from.port === MAPPING_PORT) this.#client?.handleDatagram(bytes, turn);
    return turn.effects;
  }

  /** Something arrived at ANNOUNCE_PORT, where gateways tell all hosts that they have forgotten. */
  handleAnnouncement(from: SocketAddress, bytes: Uint8Array, step: Step): readonly MapperEffect[] {
    if (this.#isAsking) return [];
    this.#announced = true;
    try {
      return this.handleDatagram(from, bytes, step);
    } finally {
      this.#announced = false;
    }
  }

  /** The gateway says (ICMP) that nobody listens on its MAPPING_PORT. */
  handleRefused(step: Step): readonly MapperEffect[] {
    const turn = new MapperTurn(step);
    this.#client?.handleRefused(turn);
    return turn.effects;
  }

  /** Something arrived at the socket a search went out by. */
  handleSearchAnswer(from: SocketAddress, bytes: Uint8Array, step: Step): readonly MapperEffect[] {
    const turn = new MapperTurn(step);
    if (this.#isGateway(from.ip)) this.#client?.handleSearchAnswer(bytes, turn);
    return turn.effects;
  }

  /** @param answer undefined: none came, or none that could be read */
  handleFetched(fetch: number, answer: GatewayAnswer | undefined, step: Step): readonly MapperEffect[] {
    const turn = new MapperTurn(step);
    this.#client?.handleFetched(fetch, answer, turn);
    return turn.effects;
  }

  handleTimeout(step: Step): readonly MapperEffect[] {
    const turn = new MapperTurn(step);
    if (isDue(this.#client?.deadline(), turn.now)) this.#client?.handleTimeout(turn);
    if (this.#mapping !== undefined && this.#mapping.expiresAt <= turn.now) {
      this.#mapping = undefined;
      if (this.#state === 'running') this.#restart(turn);
    }
    if (isDue(this.#askAt, turn.now)) {
      this.#askAt = undefined;
      if (this.#mapping === undefined) this.#restart(turn);
      else this.#ask(turn);
    }
    return turn.effects;
  }

  deadline(): number | undefined {
    return earliest(this.#client?.deadline(), this.#askAt, this.#mapping?.expiresAt);
  }

  // MappingUser

  granted({ externalIp, externalPort, lifetimeSeconds }: Grant, turn: MapperTurn): void {
    if (!this.#isUsable({ ip: externalIp, port: externalPort })) {
      this.#rejected = 'bad-address';
      this.#mapping = undefined;
      this.#client?.release(turn);
      return;
    }
    const lifetimeMs = Math.min(lifetimeSeconds, LONGEST_LIFETIME_SECONDS) * 1000;
    this.#mapping = {
      external: { ip: externalIp, port: externalPort },
      expiresAt: turn.now + lifetimeMs,
    };
    this.#pauseMs = FIRST_PAUSE_MS;
    this.#askAt = turn.now + Math.max(lifetimeMs / 2, LEAST_RENEWAL_MS);
  }

  failed(failure: MappingFailure, turn: MapperTurn): void {
    const { expiresAt } = this.#mapping ?? {};
    if (expiresAt !== undefined) {
      // At three quarters of its time, at seven eighths, and so on.
      this.#askAt = turn.now + Math.max((expiresAt - turn.now) / 2, LEAST_RENEWAL_MS);
      return;
    }
    if (this.#client !== undefined) this.#attempts.push({ protocol: this.#client.protocol, failure });
    this.#next(turn);
  }

  forgotten(turn: MapperTurn): void {
    if (this.#state !== 'running' || this.#mapping === undefined) return;
    const spread = this.#announced
      ? (randomU32((length) => turn.step.random(length)) / 2 ** 32) * SPREAD_MS
      : 0;
    const at = Math.max(turn.now + spread, this.#askedAt + LEAST_BETWEEN_MS);
    this.#askAt = Math.min(this.#askAt ?? at, at);
  }

  released(turn: MapperTurn): void {
    const rejected = this.#rejected;
    this.#rejected = undefined;
    if (this.#state === 'releasing') {
      this.#state = 'off';
      this.#mapping = undefined;
      this.#client = undefined;
    } else if (rejected !== undefined) this.failed(rejected, turn);
  }

  /** A NAT gives an address others can send to; a firewall of IPv6 leaves it as it is. */
  #isUsable(external: SocketAddress): boolean {
    const { gateway, local, port } = this.#uplink ?? {};
    if (gateway === undefined || local === undefined || port === undefined) return false;
    if (!isIPv4(gateway)) return sameSocketAddress(external, { ip: local, port });
    return isIPv4(external.ip) && external.port !== 0 && reachOf(external.ip) === Reach.network;
  }

  get #isAsking(): boolean {
    return this.#client?.deadline() !== undefined;
  }

  #stateTold(): PortMappingStatus['state'] {
    if (this.#state !== 'running') return 'off';
    if (this.#uplink === undefined) return 'no-gateway';
    if (this.#mapping !== undefined) return 'mapped';
    return this.#client === undefined ? 'none' : 'asking';
  }

  #isGateway(ip: Uint8Array): boolean {
    return this.#uplink !== undefined && sameBytes(ip, this.#uplink.gateway);
  }

  #restart(turn: MapperTurn): void {
    this.#client = undefined;
    this.#mapping = undefined;
    this.#askAt = undefined;
    this.#rejected = undefined;
    this.#place = 0;
    this.#attempts = [];
    if (this.#uplink !== undefined) this.#next(turn);
  }

  /** Asks by the next protocol, or later by the first again. */
  #next(turn: MapperTurn): void {
    const protocol = this.#protocols[this.#place++];
    if (protocol === undefined || this.#uplink === undefined) {
      this.#client = undefined;
      this.#askAt = turn.now + this.#pauseMs;
      this.#pauseMs = Math.min(2 * this.#pauseMs, LONGEST_PAUSE_MS);
      return;
    }
    this.#client = this.#clientOf(protocol, this.#uplink);
    this.#ask(turn);
  }

  #ask(turn: MapperTurn): void {
    this.#askedAt = turn.now;
    this.#client?.request(turn);
  }

  #clientOf(protocol: MappingProtocol, uplink: MapperUplink): MappingClient {
    switch (protocol) {
      case 'pcp':
        return new PcpClient(uplink, this);
      case 'nat-pmp':
        return new NatPmpClient(uplink, this);
      case 'upnp':
        return new IgdClient(uplink, this);
    }
  }
}

function sameUplink(a: MapperUplink | undefined, b: MapperUplink | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  return sameBytes(a.gateway, b.gateway) && sameBytes(a.local, b.local) && a.port === b.port;
}
