// A mapping by NAT-PMP (RFC 6886): the gateway's address, then the port.

import { DatagramRetry } from './datagram-retry.js';
import type {
  MapperTurn,
  MapperUplink,
  MappingClient,
  MappingFailure,
  MappingUser,
} from './mapping-client.js';
import { decodeNatPmpResponse, encodeExternalAddressRequest, encodeNatPmpMapRequest } from './nat-pmp.js';
import { WANTED_LIFETIME_SECONDS } from './pcp-client.js';
import { ServerEpoch } from './server-epoch.js';

type Stage = 'address' | 'map' | 'releasing';

export class NatPmpClient implements MappingClient {
  readonly protocol = 'nat-pmp';
  readonly #uplink: MapperUplink;
  readonly #user: MappingUser;
  readonly #retry = new DatagramRetry();
  readonly #epoch = new ServerEpoch('nat-pmp');
  #stage: Stage = 'address';
  #externalIp: Uint8Array | undefined;
  #suggestedPort: number;
  #asked = false;

  constructor(uplink: MapperUplink, user: MappingUser) {
    this.#uplink = uplink;
    this.#user = user;
    this.#suggestedPort = uplink.port;
  }

  request(turn: MapperTurn): void {
    this.#begin('address', turn);
  }

  release(turn: MapperTurn): void {
    if (this.#asked) this.#begin('releasing', turn);
    else this.#user.released(turn);
  }

  handleDatagram(bytes: Uint8Array, turn: MapperTurn): void {
    const response = decodeNatPmpResponse(bytes);
    if (response === undefined) return;
    // Responses have no nonce: what was not asked for shows at most that the gateway began anew.
    const isAsked = this.#retry.isUnderWay;
    const isForgotten = this.#epoch.heard(response.epochSeconds, turn.now);
    if (!isAsked) {
      if (isForgotten) this.#user.forgotten(turn);
      return;
    }
    if (response.opcode === 'failed') {
      if (response.of === (this.#stage === 'address' ? 'address' : 'map')) this.#over(response.result, turn);
    } else if (response.opcode === 'address') {
      if (this.#stage !== 'address') return;
      this.#externalIp = response.externalIp;
      this.#begin('map', turn);
    } else if (response.internalPort === this.#uplink.port) {
      this.#mapped(response.externalPort, response.lifetimeSeconds, turn);
    }
  }

  handleRefused(turn: MapperTurn): void {
    if (this.#retry.isUnderWay) this.#over('not-offered', turn);
  }

  handleSearchAnswer(): void {
    // There is nothing to search for.
  }

  handleFetched(): void {
    // Nothing is fetched.
  }

  handleTimeout(turn: MapperTurn): void {
    const due = this.#retry.due(turn.now);
    if (due === 'again') this.#send(turn);
    if (due === 'over') this.#over('unanswered', turn);
  }

  deadline(): number | undefined {
    return this.#retry.deadline();
  }

  #mapped(externalPort: number, lifetimeSeconds: number, turn: MapperTurn): void {
    if (this.#stage === 'releasing') {
      // A late answer to a request is no answer to this one.
      if (lifetimeSeconds === 0) this.#over('refused', turn);
      return;
    }
    if (this.#stage !== 'map' || this.#externalIp === undefined || lifetimeSeconds === 0) return;
    this.#retry.end();
    this.#suggestedPort = externalPort;
    this.#user.granted({ externalIp: this.#externalIp, externalPort, lifetimeSeconds }, turn);
  }

  #begin(stage: Stage, turn: MapperTurn): void {
    this.#stage = stage;
    this.#retry.begin(turn.now);
    this.#send(turn);
  }

  #send(turn: MapperTurn): void {
    turn.emit({ type: 'send', bytes: this.#message() });
  }

  #message(): Uint8Array {
    if (this.#stage === 'address') return encodeExternalAddressRequest();
    this.#asked = true;
    const isOver = this.#stage === 'releasing';
    return encodeNatPmpMapRequest({
      internalPort: this.#uplink.port,
      suggestedPort: isOver ? 0 : this.#suggestedPort,
      lifetimeSeconds: isOver ? 0 : WANTED_LIFETIME_SECONDS,
    });
  }

  #over(reason: MappingFailure, turn: MapperTurn): void {
    this.#retry.end();
    if (this.#stage === 'releasing') this.#user.released(turn);
    else this.#user.failed(reason, turn);
  }
}
