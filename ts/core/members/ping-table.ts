// Pings that a caller of MeshNode.ping waits for. One that stays unanswered for a moment raises the
// suspicion that the relay in between is gone, long before the keepalive would.

import type { SessionKey } from '../../contract/engine.js';
import { toHex } from '../../wire/bytes.js';
import { TimerQueue } from '../runtime/timer-queue.js';

const SUSPICION_MS = 500;
/** After this an answer is of no interest. */
const FORGET_MS = 30_000;
/** The oldest goes first. */
export const MAX_PINGS = 4096;

interface Ping {
  readonly peer: SessionKey;
  readonly identity: Uint8Array;
  readonly token: Uint8Array;
  readonly sentAt: number;
  suspected: boolean;
  /** Not sent yet: there is no way it may go. */
  held: boolean;
}

export class PingTable {
  readonly #pings = new Map<string, Ping>();
  readonly #timers = new TimerQueue<string>();

  add(peer: SessionKey, identity: Uint8Array, token: Uint8Array, held: boolean, now: number): void {
    const [oldest] = this.#pings.keys();
    if (oldest !== undefined && this.#pings.size >= MAX_PINGS) this.#forget(oldest);
    const key = `${peer} ${toHex(token)}`;
    // No relay is to blame for one that was not sent.
    this.#pings.set(key, { peer, identity, token, sentAt: now, suspected: held, held });
    this.#timers.set(key, now + (held ? FORGET_MS : SUSPICION_MS));
  }

  /** There is a way to the peer. @returns the tokens of pings that are to be sent now. */
  release(peer: SessionKey): Uint8Array[] {
    const released = [...this.#pings.values()].filter((ping) => ping.peer === peer && ping.held);
    for (const ping of released) ping.held = false;
    return released.map(({ token }) => token);
  }

  /** @returns whom the answered ping was for; undefined when nobody asked. */
  answer(peer: SessionKey, token: Uint8Array): Uint8Array | undefined {
    const key = `${peer} ${toHex(token)}`;
    const identity = this.#pings.get(key)?.identity;
    this.#forget(key);
    return identity;
  }

  /** @returns the peers that have just been silent for too long. */
  handleTimeout(now: number): SessionKey[] {
    const silent: SessionKey[] = [];
    for (let key = this.#timers.takeDue(now); key !== undefined; key = this.#timers.takeDue(now)) {
      const ping = this.#pings.get(key);
      if (ping === undefined) continue;
      if (ping.suspected) this.#pings.delete(key);
      else {
        ping.suspected = true;
        silent.push(ping.peer);
        this.#timers.set(key, ping.sentAt + FORGET_MS);
      }
    }
    return silent;
  }

  deadline(): number | undefined {
    return this.#timers.next();
  }

  #forget(key: string): void {
    this.#pings.delete(key);
    this.#timers.clear(key);
  }
}
