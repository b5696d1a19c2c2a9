// Payloads that wait until a key is ready.

import { MAX_STAGED } from '../../wire/session-constants.js';

export class StagedPayloads {
  #payloads: Uint8Array[] = [];

  get length(): number {
    return this.#payloads.length;
  }

  /** How many older ones gave way (0 or 1). */
  add(payload: Uint8Array): number {
    const full = this.#payloads.length >= MAX_STAGED;
    if (full) this.#payloads.shift();
    this.#payloads.push(payload);
    return full ? 1 : 0;
  }

  /** The oldest, which waits no more. */
  take(): Uint8Array | undefined {
    return this.#payloads.shift();
  }

  clear(): void {
    this.#payloads = [];
  }
}
