// Whether what this node sends by UDP is answered at all. Where every relay it has is silent from the first packet
// on, a person is told within 3 s: a firewall that blocks UDP looks like this, and so do relays that are all down,
// which nothing inside UDP can tell apart.

import type { Turn } from '../runtime/turn.js';

/**
 * How long all relays are silent before that is said: longer than it takes to find that one has forgotten this
 * node (2.6 s from a ping to admission, uplink.ts) and to have an answer to that.
 */
export const UDP_SILENCE_MS = 2900;

/** `waiting`: asked, and no answer yet. */
export type UdpState = 'answered' | 'waiting' | 'blocked';

export class UdpWatch {
  #blocked = false;
  /** Of which silence it has been looked what it means. */
  #looked: number | undefined;

  get isBlocked(): boolean {
    return this.#blocked;
  }

  /** @param silent since when each relay has been asked in vain; undefined = it has answered */
  state(silent: readonly (number | undefined)[]): UdpState {
    if (this.#blocked) return 'blocked';
    return silent.length > 0 && silent.every((since) => since !== undefined) ? 'waiting' : 'answered';
  }

  /**
   * Looks, and tells of a change.
   * @param isHeard whether a member is reached directly: then UDP comes through
   */
  look(silent: readonly (number | undefined)[], isHeard: () => boolean, turn: Turn): void {
    const since = lastOf(silent);
    const isLong = since !== undefined && turn.now - since >= UDP_SILENCE_MS;
    if (isLong) this.#looked = since;
    const blocked = isLong && !isHeard();
    if (blocked === this.#blocked) return;
    this.#blocked = blocked;
    if (blocked) turn.notify('warn', 'udp-blocked', { relays: silent.length });
    else turn.notify('info', 'udp-answered');
  }

  /** Monotonic ms at which it wants to look. */
  deadline(silent: readonly (number | undefined)[]): number | undefined {
    const since = lastOf(silent);
    return since === undefined || since === this.#looked ? undefined : since + UDP_SILENCE_MS;
  }
}

/** When the last of them was asked in vain; undefined when one has answered, or there is none. */
function lastOf(silent: readonly (number | undefined)[]): number | undefined {
  const times = silent.filter((since) => since !== undefined);
  return times.length === silent.length && times.length > 0 ? Math.max(...times) : undefined;
}
