// How long the NAT in front of an address keeps a mapping, or lets answers in, without a packet going out (RFC
// 4787, section 4.3; RFC 5780, section 4.6). A lower bound is a packet that came in after a silence; an upper
// one, an outer address that was another after it. Both are of the silences that were: a NAT that is short of
// room forgets earlier, so what is safe is below what was seen, and is seen again.

import type { LifetimeBounds } from '../runtime/nat-status.js';

export class MappingLifetime {
  #atLeastMs: number | undefined;
  #belowMs: number | undefined;

  /** A packet came in after so many ms in which nothing went out there. */
  held(silentMs: number): void {
    this.#atLeastMs = Math.max(this.#atLeastMs ?? 0, silentMs);
    if (this.#belowMs !== undefined && this.#belowMs <= silentMs) this.#belowMs = undefined;
  }

  /** After so many ms in which nothing went out there, it was another outer address. */
  gone(silentMs: number): void {
    this.#belowMs = Math.min(this.#belowMs ?? Infinity, silentMs);
    if (this.#atLeastMs !== undefined && this.#atLeastMs >= silentMs) this.#atLeastMs = undefined;
  }

  get bounds(): LifetimeBounds {
    return { atLeastMs: this.#atLeastMs, belowMs: this.#belowMs };
  }
}
