// What PCP and NAT-PMP have in common: a request is a datagram to the gateway's MAPPING_PORT, sent again until it
// is answered, given up, or nobody listens there.

import { DatagramRetry } from './datagram-retry.js';
import type {
  MapperTurn,
  MapperUplink,
  MappingClient,
  MappingFailure,
  MappingProtocol,
  MappingUser,
} from './mapping-client.js';

/** Seconds that are asked for; the gateway may give less. */
export const WANTED_LIFETIME_SECONDS = 7200;

export abstract class DatagramClient implements MappingClient {
  abstract readonly protocol: MappingProtocol;
  protected readonly uplink: MapperUplink;
  protected readonly user: MappingUser;
  protected readonly retry = new DatagramRetry();
  /** What was given is being given up. */
  protected releasing = false;

  constructor(uplink: MapperUplink, user: MappingUser) {
    this.uplink = uplink;
    this.user = user;
  }

  abstract request(turn: MapperTurn): void;
  abstract handleDatagram(bytes: Uint8Array, turn: MapperTurn): void;
  /** Whether the gateway has been asked for a mapping: else there is none to be given up. */
  protected abstract get hasAsked(): boolean;
  /** The request that is under way. */
  protected abstract message(): Uint8Array;

  release(turn: MapperTurn): void {
    if (!this.hasAsked) {
      this.user.released(turn);
      return;
    }
    this.releasing = true;
    this.begin(turn);
  }

  handleRefused(turn: MapperTurn): void {
    this.over('not-offered', turn);
  }

  handleSearchAnswer(): void {
    // There is nothing to search for.
  }

  handleFetched(): void {
    // Nothing is fetched.
  }

  handleTimeout(turn: MapperTurn): void {
    const due = this.retry.due(turn.now);
    if (due === 'again') this.#send(turn);
    if (due === 'over') this.#end('unanswered', turn);
  }

  deadline(): number | undefined {
    return this.retry.deadline();
  }

  /** Sends the request, and again as long as it is not answered. */
  protected begin(turn: MapperTurn): void {
    this.retry.begin(turn.now);
    this.#send(turn);
  }

  /** The request under way has come to nothing. */
  protected over(reason: MappingFailure, turn: MapperTurn): void {
    if (!this.retry.isUnderWay) return;
    this.retry.end();
    this.#end(reason, turn);
  }

  #send(turn: MapperTurn): void {
    turn.emit({ type: 'send', bytes: this.message() });
  }

  #end(reason: MappingFailure, turn: MapperTurn): void {
    if (this.releasing) this.user.released(turn);
    else this.user.failed(reason, turn);
  }
}
