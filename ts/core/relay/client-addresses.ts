// Where a relay's clients are: what a client says, by where its packets come from, holds once it has answered a
// challenge from there. Nobody is sent anything to an address he has not proven to receive at.

import { sameSocketAddress, type SocketAddress } from '../../wire/socket-address.js';
import type { Primitives } from '../../contract/primitives.js';
import type { RequestTable } from '../runtime/request-table.js';
import type { Turn } from '../runtime/turn.js';
import type { Client } from './relay-client.js';

/** What the relay lends. */
export interface ClientAddressesHost {
  readonly primitives: Primitives;
  readonly requests: RequestTable;
  /** Whether it is one of the relay's own, which no client can be at; counted then. */
  refuses(address: SocketAddress): boolean;
  /** The client is at its address: it may be sent to again. */
  settled(client: Client, turn: Turn): void;
  /** It has proven to receive at another one, which is its address from now on. */
  moved(client: Client, address: SocketAddress, turn: Turn): void;
}

export class ClientAddresses {
  readonly #host: ClientAddressesHost;

  constructor(host: ClientAddressesHost) {
    this.#host = host;
  }

  /** Its session is here now: it is challenged, unless it was admitted from here. */
  sessionAt(client: Client, address: SocketAddress, turn: Turn): void {
    const settled = this.#host.refuses(address) || sameSocketAddress(address, client.address);
    client.challenged = settled ? undefined : address;
    if (settled) this.#host.settled(client, turn);
    const { provenAddress } = client;
    client.provenAddress = undefined;
    if (
      client.challenged !== undefined &&
      provenAddress !== undefined &&
      sameSocketAddress(provenAddress, address)
    )
      this.proven(client, address, turn);
    if (client.challenged !== undefined && !client.challenging) this.#challenge(client, address, turn);
  }

  /** It says something from where it has not proven to be: it is challenged once more, unless it is already. */
  challengeAgain(client: Client, turn: Turn): void {
    if (client.challenged !== undefined && !client.challenging)
      this.#challenge(client, client.challenged, turn);
  }

  /** An answer came from there, to a challenge or to an admission. */
  proven(client: Client, address: SocketAddress, turn: Turn): void {
    client.challenged = undefined;
    this.#host.settled(client, turn);
    if (!sameSocketAddress(client.address, address)) this.#host.moved(client, address, turn);
  }

  /** One challenge at a time: a client that keeps moving makes no more of them. */
  #challenge(client: Client, address: SocketAddress, turn: Turn): void {
    const nonce = turn.random(16);
    client.challenging = true;
    this.#host.requests.send(client.key, { type: 'address-challenge', nonce }, turn, (answer, later) => {
      client.challenging = false;
      const { challenged } = client;
      if (challenged === undefined) return;
      // Events come in order: had the answer come from elsewhere, `challenged` would name that place.
      if (!sameSocketAddress(challenged, address)) this.#challenge(client, challenged, later);
      else if (answer?.type === 'address-answer' && this.#host.primitives.equal(answer.nonce, nonce))
        this.proven(client, address, later);
      // Else it is challenged again when it says something more from there.
    });
  }
}
