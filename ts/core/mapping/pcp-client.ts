// A mapping by PCP (RFC 6887).

import { isIPv4 } from '../../wire/socket-address.js';
import { DatagramClient, WANTED_LIFETIME_SECONDS } from './datagram-client.js';
import type { MapperTurn, MapperUplink, MappingUser } from './mapping-client.js';
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

export class PcpClient extends DatagramClient {
  readonly protocol = 'pcp';
  readonly #epoch = new ServerEpoch('pcp');
  #nonce: Uint8Array | undefined;
  #suggestedPort: number;
  #suggestedIp: Uint8Array;

  constructor(uplink: MapperUplink, user: MappingUser) {
    super(uplink, user);
    this.#suggestedPort = uplink.port;
    // A firewall opens a port at the address that there is (RFC 6887, section 11.3).
    this.#suggestedIp = isIPv4(uplink.gateway) ? anyAddress(uplink.gateway) : uplink.local;
  }

  request(turn: MapperTurn): void {
    this.#nonce ??= turn.step.random(PCP_NONCE_SIZE);
    this.begin(turn);
  }

  handleDatagram(bytes: Uint8Array, turn: MapperTurn): void {
    if (isOtherVersion(bytes)) {
      this.over('unsupported-version', turn);
      return;
    }
    const response = decodePcpResponse(bytes);
    if (response === undefined) return;
    const own = response.opcode === 'map' && this.#nonce !== undefined && this.retry.isUnderWay;
    if (response.opcode === 'map' && !(own && answersPcpRequest(response, this.#request()))) return;
    const isForgotten = this.#epoch.heard(response.epochSeconds, turn.now);
    if (response.opcode === 'announce') {
      if (isForgotten) this.user.forgotten(turn);
      return;
    }
    if (this.releasing) {
      this.retry.end();
      this.user.released(turn);
    } else if (response.result !== 'success') {
      this.over(response.result, turn);
    } else if (response.lifetimeSeconds > 0) {
      this.retry.end();
      this.#suggestedPort = response.externalPort;
      this.#suggestedIp = response.externalIp;
      this.user.granted(response, turn);
    }
  }

  protected get hasAsked(): boolean {
    return this.#nonce !== undefined;
  }

  protected message(): Uint8Array {
    return encodePcpMapRequest(this.#request());
  }

  #request(): PcpMapRequest {
    return {
      client: this.uplink.local,
      nonce: this.#nonce ?? new Uint8Array(PCP_NONCE_SIZE),
      internalPort: this.uplink.port,
      // Section 15.1: what is deleted is named by nonce and internal port.
      suggestedPort: this.releasing ? 0 : this.#suggestedPort,
      suggestedIp: this.releasing ? anyAddress(this.uplink.gateway) : this.#suggestedIp,
      lifetimeSeconds: this.releasing ? 0 : WANTED_LIFETIME_SECONDS,
    };
  }
}
