// Receiver indices: random 32-bit numbers by which an incoming message finds its session in one
// look-up. A stranger cannot guess one, and a new handshake always gets a new one.

import type { Step } from '../../contract/step.js';
import type { Keypair } from './keypair.js';
import { readU32 } from './messages.js';

export interface IndexEntry<Peer> {
  readonly peer: Peer;
  /** Undefined while the index is an initiation waiting for its response. */
  readonly keypair: Keypair | undefined;
}

export class IndexTable<Peer> {
  readonly #entries = new Map<number, IndexEntry<Peer>>();

  get size(): number {
    return this.#entries.size;
  }

  /** An index that is free. `set` takes it. */
  pick(step: Step): number {
    for (;;) {
      const index = readU32(step.random(4), 0);
      if (!this.#entries.has(index)) return index;
    }
  }

  set(index: number, entry: IndexEntry<Peer>): void {
    this.#entries.set(index, entry);
  }

  get(index: number): IndexEntry<Peer> | undefined {
    return this.#entries.get(index);
  }

  delete(index: number): void {
    this.#entries.delete(index);
  }
}
