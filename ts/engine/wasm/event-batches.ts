// Events on their way to the engine's listener: handed on after the datagrams at hand were read, so that they
// go in batches.

import type { EngineEvent } from '../../contract/engine.js';

/** Events kept for a listener that is not there yet; later ones are lost. */
const MAX_PENDING_EVENTS = 4096;

export class EventBatches {
  #events: EngineEvent[] = [];
  #scheduled = false;
  #listener: ((events: readonly EngineEvent[]) => void) | undefined;

  /** Who is told from now on, and of what was kept; undefined: nobody. */
  set listener(listener: ((events: readonly EngineEvent[]) => void) | undefined) {
    this.#listener = listener;
    this.#schedule();
  }

  add(event: EngineEvent): void {
    if (this.#listener === undefined && this.#events.length >= MAX_PENDING_EVENTS) return;
    this.#events.push(event);
    this.#schedule();
  }

  #schedule(): void {
    if (this.#scheduled || this.#events.length === 0 || this.#listener === undefined) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      const events = this.#events;
      this.#events = [];
      this.#listener?.(events);
    });
  }
}
