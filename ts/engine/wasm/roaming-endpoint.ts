// Where a peer that has no paths is reached: where it was last heard, or where the control plane says it is.
//
// What a session proved is worth more than what somebody says: an endpoint that is given while a session runs
// is tried by handshakes alone, in turns with the session's own, until one completes.

import type { PeerEndpoint } from '../../contract/engine.js';
import { configuredEndpoint, sameEndpoint, type Endpoint } from './endpoint.js';
import type { IsForgotten, LocalAddress } from './local-address.js';

export class RoamingEndpoint {
  #current: Endpoint | undefined;
  /** Given while a session ran, and neither proven nor given up yet. */
  #given: Endpoint | undefined;
  /** The last initiation went there. */
  #givenTried = false;

  /** Undefined: it is not known where the peer is. */
  get current(): Endpoint | undefined {
    return this.#current;
  }

  /** @param proven a session runs at the present endpoint, and is not to be sent elsewhere unasked */
  give(given: PeerEndpoint, proven: boolean): void {
    const endpoint = configuredEndpoint(given, this.#current);
    this.forgetGiven();
    if (!proven || this.#current === undefined) this.#current = endpoint;
    else if (endpoint !== this.#current) this.#given = endpoint;
  }

  /** A handshake completed, wherever that was. */
  forgetGiven(): void {
    this.#given = undefined;
    this.#givenTried = false;
  }

  /** The endpoint that was given holds from now on, if there is one. */
  settle(): void {
    if (this.#given !== undefined) this.#current = this.#given;
    this.forgetGiven();
  }

  /**
   * Where an initiation goes. The endpoint that was given comes first; it may be wrong, and then it must not
   * cost the session: repetitions go there and to the session's own in turns.
   * @param proven as for give
   */
  forInitiation(repeated: boolean, proven: boolean): Endpoint | undefined {
    if (this.#given === undefined) return this.#current;
    if (!proven) {
      this.settle();
      return this.#current;
    }
    this.#givenTried = !repeated || !this.#givenTried;
    return this.#givenTried ? this.#given : this.#current;
  }

  /** The peer is heard from there. What was known, when that is another place or address of this host. */
  heard(from: Endpoint): { readonly before: Endpoint | undefined } | undefined {
    const before = this.#current;
    if (before !== undefined && sameEndpoint(before, from) && localOf(before) === localOf(from))
      return undefined;
    this.#current = from;
    return { before };
  }

  /** Reached there until it is heard elsewhere, if it is not known where it is. */
  fallBackTo(endpoint: Endpoint): void {
    this.#current ??= endpoint;
  }

  /** A leg is gone. Whether it led to the peer; what was given meanwhile takes its place. */
  forgetLeg(leg: number): boolean {
    const leads = (endpoint: Endpoint | undefined): boolean =>
      endpoint !== undefined && 'leg' in endpoint && endpoint.leg === leg;
    if (leads(this.#given)) this.forgetGiven();
    if (!leads(this.#current)) return false;
    this.#current = this.#given;
    this.forgetGiven();
    return true;
  }

  /** Forgets a sticky source that routing is to choose again. */
  forgetLocal(isForgotten: IsForgotten): void {
    const known = this.#current;
    if (known === undefined || 'leg' in known || known.local === undefined) return;
    if (isForgotten(known.address, known.local)) this.#current = { address: known.address };
  }
}

function localOf(endpoint: Endpoint): LocalAddress | undefined {
  return 'leg' in endpoint ? undefined : endpoint.local;
}
