// Who a NAT or a firewall lets in (RFC 4787, section 5; RFC 5780, section 4.4), from what came in and what did
// not: a member sends to this node before this node has sent to it, or has sent to another port of it alone.

import type { FilteringWitness, SentBefore } from '../path/nat-witness.js';
import type { Dependence, Finding } from '../runtime/nat-status.js';

/** So often it is tried to know more, before the network changes. */
const MOST_TRIES = 32;

export class FilteringBehaviour implements FilteringWitness {
  #tries = 0;
  /** Whether it came in, by what had been sent before. */
  readonly #cameIn: Record<SentBefore, boolean | undefined> = { nothing: undefined, 'other-port': undefined };

  tried(): void {
    this.#tries++;
  }

  /** What is let in was seen to arrive: no word of anybody's. */
  arrived(before: SentBefore): void {
    this.#cameIn[before] = true;
    // Who lets in a stranger lets in another port of somebody known.
    if (before === 'nothing') this.#cameIn['other-port'] = true;
  }

  refused(before: SentBefore): void {
    this.#cameIn[before] = false;
    if (before === 'other-port') this.#cameIn.nothing = false;
  }

  get wanted(): SentBefore | undefined {
    if (this.#tries >= MOST_TRIES) return undefined;
    if (this.#cameIn.nothing === undefined) return 'nothing';
    return this.#cameIn['other-port'] === undefined ? 'other-port' : undefined;
  }

  get finding(): Finding<Dependence> {
    const { nothing, 'other-port': otherPort } = this.#cameIn;
    if (nothing === true) return { value: 'endpoint-independent' };
    if (otherPort === false) return { value: 'address-and-port-dependent' };
    if (nothing === undefined) return { unknown: 'not-tried' };
    return otherPort === true ? { value: 'address-dependent' } : { unknown: 'no-second-try' };
  }
}
