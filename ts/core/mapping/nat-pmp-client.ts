// A mapping by NAT-PMP (RFC 6886): the gateway's address, then the port.

import { DatagramClient, WANTED_LIFETIME_SECONDS } from './datagram-client.js';
import type { MapperTurn, MapperUplink, MappingUser } from './mapping-client.js';
import { decodeNatPmpResponse, encodeExternalAddressRequest, encodeNatPmpMapRequest } from './nat-pmp.js';
import { ServerEpoch } from './server-epoch.js';

export class NatPmpClient extends DatagramClient {
  readonly protocol = 'nat-pmp';
  readonly #epoch = new ServerEpoch('nat-pmp');
  #stage: 'address' | 'map' = 'address';
  #externalIp: Uint8Array | undefined;
  #suggestedPort: number;
  protected hasAsked = false;

  constructor(uplink: MapperUplink, user: MappingUser) {
    super(uplink, user);
    this.#suggestedPort = uplink.port;
  }

  request(turn: MapperTurn): void {
    this.#stage = 'address';
    this.begin(turn);
  }

  override release(turn: MapperTurn): void {
    this.#stage = 'map';
    super.release(turn);
  }

  handleDatagram(bytes: Uint8Array, turn: MapperTurn): void {
    const response = decodeNatPmpResponse(bytes);
    if (response === undefined) return;
    // Responses have no nonce: what was not asked for shows at most that the gateway began anew.
    const isAsked = this.retry.isUnderWay;
    const isForgotten = this.#epoch.heard(response.epochSeconds, turn.now);
    if (!isAsked) {
      if (isForgotten) this.user.forgotten(turn);
      return;
    }
    if (response.opcode === 'failed') {
      if (response.of === this.#stage) this.over(response.result, turn);
    } else if (response.opcode === 'address') {
      if (this.#stage !== 'address') return;
      this.#externalIp = response.externalIp;
      this.#stage = 'map';
      this.begin(turn);
    } else if (response.internalPort === this.uplink.port) {
      this.#mapped(response.externalPort, response.lifetimeSeconds, turn);
    }
  }

  protected message(): Uint8Array {
    if (this.#stage === 'address') return encodeExternalAddressRequest();
    this.hasAsked = true;
    return encodeNatPmpMapRequest({
      internalPort: this.uplink.port,
      suggestedPort: this.releasing ? 0 : this.#suggestedPort,
      lifetimeSeconds: this.releasing ? 0 : WANTED_LIFETIME_SECONDS,
    });
  }

  #mapped(externalPort: number, lifetimeSeconds: number, turn: MapperTurn): void {
    if (this.releasing) {
      // A late answer to a request is no answer to this one.
      if (lifetimeSeconds === 0) this.over('refused', turn);
      return;
    }
    if (this.#stage !== 'map' || this.#externalIp === undefined || lifetimeSeconds === 0) return;
    this.retry.end();
    this.#suggestedPort = externalPort;
    this.user.granted({ externalIp: this.#externalIp, externalPort, lifetimeSeconds }, turn);
  }
}
