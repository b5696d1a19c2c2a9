// A mapping by UPnP (IGD:1, IGD:2): search, description, external address, mapping. Everything is asked of the
// gateway; nothing it or anybody else says leads to another host.

import { randomU32 } from '../../wire/bytes.js';
import { formatIp } from '../../wire/socket-address.js';
import {
  addMappingAction,
  deleteMappingAction,
  externalAddressAction,
  externalAddressOf,
  IgdError,
  igdErrorCode,
  igdServices,
  soapAction,
  soapBody,
  type IgdAction,
  type IgdService,
} from './igd.js';
import type {
  GatewayAnswer,
  GatewayRequest,
  MapperTurn,
  MapperUplink,
  MappingClient,
  MappingFailure,
  MappingUser,
} from './mapping-client.js';
import { decodeSearchAnswer, type GatewayPage } from './ssdp.js';

/** Waits after each search. */
const SEARCH_WAITS_MS = [1000, 1500];
/** For a page that does not come: whoever fetches gives up before. */
const FETCH_MS = 10_000;
/** Shorter than with the other two: no epoch tells that the gateway began anew. */
const LEASE_SECONDS = 3600;
/** Ports that are tried when another machine has the one that is wanted. */
const MOST_PORTS = 5;
const FIRST_PORT = 1024;

type Stage = 'idle' | 'searching' | 'describing' | 'addressing' | 'mapping' | 'releasing';

export class IgdClient implements MappingClient {
  readonly protocol = 'upnp';
  readonly #uplink: MapperUplink;
  readonly #user: MappingUser;
  #stage: Stage = 'idle';
  #searches = 0;
  #at: number | undefined;
  #fetch = 0;
  #described: GatewayPage | undefined;
  /** Those not tried yet, the present one first. */
  #services: readonly IgdService[] = [];
  #externalIp: Uint8Array | undefined;
  #externalPort: number;
  #ports = 0;
  #leaseSeconds = LEASE_SECONDS;
  /** What was given, and by which service. */
  #given: { readonly service: IgdService; readonly externalPort: number } | undefined;

  constructor(uplink: MapperUplink, user: MappingUser) {
    this.#uplink = uplink;
    this.#user = user;
    this.#externalPort = uplink.port;
  }

  request(turn: MapperTurn): void {
    this.#ports = 0;
    if (this.#given !== undefined && this.#services.length > 0) {
      this.#act('addressing', externalAddressAction, turn);
      return;
    }
    this.#stage = 'searching';
    this.#searches = 0;
    this.#search(turn);
  }

  release(turn: MapperTurn): void {
    const [service] = this.#services;
    if (this.#stage === 'mapping' && service !== undefined)
      this.#given = { service, externalPort: this.#externalPort };
    if (this.#given === undefined) {
      this.#at = undefined;
      this.#user.released(turn);
      return;
    }
    this.#services = [this.#given.service];
    this.#act('releasing', deleteMappingAction(this.#given.externalPort), turn);
  }

  handleDatagram(): void {
    // Of the other protocols.
  }

  handleRefused(): void {
    // Of the other protocols.
  }

  handleSearchAnswer(bytes: Uint8Array, turn: MapperTurn): void {
    if (this.#stage !== 'searching') return;
    const page = decodeSearchAnswer(bytes, this.#uplink.gateway);
    if (page === undefined) return;
    this.#described = page;
    this.#stage = 'describing';
    this.#get({ page, action: undefined }, turn);
  }

  handleFetched(fetch: number, answer: GatewayAnswer | undefined, turn: MapperTurn): void {
    if (fetch !== this.#fetch || this.#at === undefined) return;
    this.#at = undefined;
    if (this.#stage === 'releasing') {
      this.#stage = 'idle';
      this.#user.released(turn);
    } else if (answer === undefined) this.#failed('unanswered', turn);
    else if (this.#stage === 'describing') this.#describe(answer, turn);
    else if (this.#stage === 'addressing') this.#addressed(answer, turn);
    else if (this.#stage === 'mapping') this.#answered(answer, turn);
  }

  handleTimeout(turn: MapperTurn): void {
    if (this.#at === undefined || this.#at > turn.now) return;
    if (this.#stage === 'searching') this.#search(turn);
    else this.handleFetched(this.#fetch, undefined, turn);
  }

  deadline(): number | undefined {
    return this.#at;
  }

  #search(turn: MapperTurn): void {
    const wait = SEARCH_WAITS_MS[this.#searches++];
    if (wait === undefined) {
      this.#failed('unanswered', turn);
      return;
    }
    this.#at = turn.now + wait;
    turn.emit({ type: 'search' });
  }

  #describe({ status, body }: GatewayAnswer, turn: MapperTurn): void {
    if (status !== 200 || this.#described === undefined) {
      this.#failed('malformed', turn);
      return;
    }
    this.#services = igdServices(body, this.#described, this.#uplink.gateway);
    this.#tryService('no-service', turn);
  }

  #tryService(reason: MappingFailure, turn: MapperTurn): void {
    if (this.#services.length === 0) this.#failed(reason, turn);
    else this.#act('addressing', externalAddressAction, turn);
  }

  #addressed({ status, body }: GatewayAnswer, turn: MapperTurn): void {
    const ip = status === 200 ? externalAddressOf(body) : undefined;
    if (ip === undefined) {
      // A service that is not connected: another one may be.
      this.#services = this.#services.slice(1);
      this.#tryService('network-failure', turn);
      return;
    }
    this.#externalIp = ip;
    this.#map(turn);
  }

  #map(turn: MapperTurn): void {
    const mapping = {
      externalPort: this.#externalPort,
      internalPort: this.#uplink.port,
      client: formatIp(this.#uplink.local),
      leaseSeconds: this.#leaseSeconds,
    };
    this.#act('mapping', addMappingAction(mapping), turn);
  }

  #answered({ status, body }: GatewayAnswer, turn: MapperTurn): void {
    const [service] = this.#services;
    if (status === 200 && this.#externalIp !== undefined && service !== undefined) {
      this.#given = { service, externalPort: this.#externalPort };
      this.#stage = 'idle';
      this.#user.granted(
        { externalIp: this.#externalIp, externalPort: this.#externalPort, lifetimeSeconds: LEASE_SECONDS },
        turn,
      );
      return;
    }
    const code = igdErrorCode(body);
    if (code === IgdError.onlyPermanentLeases && this.#leaseSeconds > 0) {
      this.#leaseSeconds = 0;
      this.#map(turn);
    } else if (code === IgdError.conflict && ++this.#ports < MOST_PORTS) {
      // Another machine has it, or had it before the gateway forgot ours.
      this.#externalPort =
        FIRST_PORT + (randomU32((length) => turn.step.random(length)) % (65_536 - FIRST_PORT));
      this.#map(turn);
    } else if (code === IgdError.conflict) this.#failed('no-resources', turn);
    else if (code === IgdError.notAuthorized) this.#failed('not-authorized', turn);
    else this.#failed('refused', turn);
  }

  #act(stage: Stage, action: IgdAction, turn: MapperTurn): void {
    const [service] = this.#services;
    if (service === undefined) return;
    this.#stage = stage;
    const said = { name: soapAction(service, action), body: soapBody(service, action) };
    this.#get({ page: service.control, action: said }, turn);
  }

  #get(request: GatewayRequest, turn: MapperTurn): void {
    this.#at = turn.now + FETCH_MS;
    turn.emit({ type: 'fetch', fetch: ++this.#fetch, request });
  }

  #failed(reason: MappingFailure, turn: MapperTurn): void {
    this.#stage = 'idle';
    this.#at = undefined;
    this.#services = [];
    this.#user.failed(reason, turn);
  }
}
