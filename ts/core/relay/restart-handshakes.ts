// Handshakes of a relay that was restarted, with clients that had a session before: not with all at once.

import type { SessionKey } from '../../contract/engine.js';
import { HANDSHAKE_WAITS_MS } from '../runtime/handshake-waits.js';
import { TimerQueue } from '../runtime/timer-queue.js';
import type { Turn } from '../runtime/turn.js';

/** Handshakes started per tick: 500 a second. */
const HANDSHAKES_PER_TICK = 10;
const HANDSHAKE_TICK_MS = 20;

export class RestartHandshakes {
  readonly #waits = new TimerQueue<SessionKey>();
  /** Handshakes started so far. */
  readonly #started = new Map<SessionKey, number>();

  /** With all of these, in their order. */
  begin(keys: Iterable<SessionKey>, now: number): void {
    let index = 0;
    for (const key of keys)
      this.#waits.set(key, now + Math.floor(index++ / HANDSHAKES_PER_TICK) * HANDSHAKE_TICK_MS);
  }

  /** Its session stands, or it is no client any more. */
  stop(key: SessionKey): void {
    this.#started.delete(key);
    this.#waits.clear(key);
  }

  handleTimeout(turn: Turn): void {
    for (const peer of this.#waits.allDue(turn.now)) {
      const started = this.#started.get(peer) ?? 0;
      const wait = HANDSHAKE_WAITS_MS[started];
      if (wait === undefined) {
        this.#started.delete(peer);
        continue;
      }
      this.#started.set(peer, started + 1);
      this.#waits.set(peer, turn.now + wait);
      turn.emit({ type: 'handshake', peer });
    }
  }

  deadline(): number | undefined {
    return this.#waits.next();
  }
}
