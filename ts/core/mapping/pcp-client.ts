// A mapping by PCP (RFC 6887).

import { DatagramRetry } from './datagram-retry.js';
import type { MapperTurn, MapperUplink, MappingClient, MappingUser } from './mapping-client.js';
import {
  answersPcpRequest,
  anyAddress,
  decodePcpResponse,
  encodePcpMapRequest,
  isOtherVersion,
  PCP_NONCE_SIZE,
  type PcpMapRequest,
} from './pcp.js';
import { ServerEpoch } from './server-epoch.js';

/** What is asked for; the gateway may give less. */
export const WANTED_LIFETIME_SECONDS = 7200;

export class PcpClient implements MappingClient {
  readonly protocol = 'pcp';
  readonly #uplink: MapperUplink;
  readonly #user: MappingUser;
  readonly #retry = new DatagramRetry();
  readonly #epoch = new ServerEpoch('pcp');
  #nonce: Uint8Array | undefined;
  #suggestedPort: number;
  #suggestedIp: Uint8Array;
  #releasing = false;

  constructor(uplink: MapperUplink, user: MappingUser) {
    this.#uplink = uplink;
    this.#user = user;
    this.#suggestedPort = uplink.port;
    this.#suggestedIp = anyAddress(uplink.gateway);
  }

  request(turn: MapperTurn): void {
    this.#nonce ??= turn.step.random(PCP_NONCE_SIZE);
    this.#retry.begin(turn.now);
    this.#send(turn);
  }

  release(turn: MapperTurn): void {
    if (this.#nonce === undefined) {
      this.#user.released(turn);
      return;
    }
    this.#releasing = true;
    this.#retry.begin(turn.now);
    this.#send(turn);
  }

  handleDatagram(bytes: Uint8Array, turn: MapperTurn): void {
    if (isOtherVersion(bytes)) {
      this.#failed('unsupported-version', turn);
      return;
    }
    const response = decodePcpResponse(bytes);
    if (response === undefined) return;
    const own = response.opcode === 'map' && this.#nonce !== undefined && this.#retry.isUnderWay;
    if (response.opcode === 'map' && !(own && answersPcpRequest(response, this.#request()))) return;
    const isForgotten = this.#epoch.heard(response.epochSeconds, turn.now);
    if (response.opcode === 'announce') {
      if (isForgotten) this.#user.forgotten(turn);
      return;
    }
    if (this.#releasing) {
      this.#retry.end();
      this.#user.released(turn);
    } else if (response.result !== 'success') {
      this.#failed(response.result, turn);
    } else if (response.lifetimeSeconds > 0) {
      this.#retry.end();
      this.#suggestedPort = response.externalPort;
      this.#suggestedIp = response.externalIp;
      this.#user.granted(response, turn);
    }
  }

  handleRefused(turn: MapperTurn): void {
    this.#failed('not-offered', turn);
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

  #request(): PcpMapRequest {
    return {
      client: this.#uplink.local,
      nonce: this.#nonce ?? new Uint8Array(PCP_NONCE_SIZE),
      internalPort: this.#uplink.port,
      // Section 15.1: what is deleted is named by nonce and internal port.
      suggestedPort: this.#releasing ? 0 : this.#suggestedPort,
      suggestedIp: this.#releasing ? anyAddress(this.#uplink.gateway) : this.#suggestedIp,
      lifetimeSeconds: this.#releasing ? 0 : WANTED_LIFETIME_SECONDS,
    };
  }

  #send(turn: MapperTurn): void {
    turn.emit({ type: 'send', bytes: encodePcpMapRequest(this.#request()) });
  }

  #failed(reason: Parameters<MappingUser['failed']>[0], turn: MapperTurn): void {
    if (!this.#retry.isUnderWay) return;
    this.#retry.end();
    this.#over(reason, turn);
  }

  #over(reason: Parameters<MappingUser['failed']>[0], turn: MapperTurn): void {
    if (this.#releasing) this.#user.released(turn);
    else this.#user.failed(reason, turn);
  }
}
