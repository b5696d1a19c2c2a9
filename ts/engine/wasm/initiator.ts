// The initiator's side of handshakes with one peer: at most one initiation waits for its response.

import type { Step } from '../../contract/step.js';
import type { CookieJar } from './cookie.js';
import { Keypair } from './keypair.js';
import { readU32 } from './messages.js';
import {
  consumeResponse,
  createInitiation,
  type InitiatorState,
  type LocalIdentity,
  type RemoteIdentity,
} from './noise.js';
import { tai64n, type Tai64n } from './tai64n.js';

/** Where the receiver index of the initiation under way is known; the peer's part of the index table. */
export interface HandshakeIndices {
  /** A free index, by which the response will find this peer. */
  take(step: Step): number;
  giveBack(index: number): void;
}

export class Initiator {
  readonly #local: LocalIdentity;
  readonly #remote: RemoteIdentity;
  readonly #cookies: CookieJar;
  readonly #indices: HandshakeIndices;
  #waiting: InitiatorState | undefined;
  #timestamp: Tai64n | undefined;

  constructor(local: LocalIdentity, remote: RemoteIdentity, cookies: CookieJar, indices: HandshakeIndices) {
    this.#local = local;
    this.#remote = remote;
    this.#cookies = cookies;
    this.#indices = indices;
  }

  /** A new initiation; the former one, if it is still without an answer, can no more be answered. */
  initiate(step: Step): Uint8Array {
    this.abandon();
    const index = this.#indices.take(step);
    const timestamp = tai64n(step.wallClock, this.#timestamp);
    const initiation = createInitiation(this.#local, this.#remote, index, step.random(32), timestamp);
    if (initiation === undefined) throw new Error('a peer with a low-order key cannot have been added');
    this.#timestamp = timestamp;
    this.#waiting = initiation.state;
    this.#cookies.sign(initiation.message, step.now);
    return initiation.message;
  }

  /** The keys that come of a response, under the index of the initiation; undefined: it answers nothing. */
  complete(response: Uint8Array, step: Step): Keypair | undefined {
    const state = this.#waiting;
    if (state === undefined) return undefined;
    const keys = consumeResponse(this.#local, this.#remote, state, response);
    if (keys === undefined) return undefined;
    this.#waiting = undefined;
    state.ephemeralPrivate.fill(0);
    return new Keypair(keys, state.index, readU32(response, 4), true, step.now);
  }

  abandon(): void {
    if (this.#waiting === undefined) return;
    this.#indices.giveBack(this.#waiting.index);
    this.#waiting.ephemeralPrivate.fill(0);
    this.#waiting = undefined;
  }
}
