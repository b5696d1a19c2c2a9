// The ids of the legs this node receives on. The receiver chooses them: random, and never twice.

import type { Leg, LegKey } from '../wire/leg.js';
import { randomU32 } from './bytes.js';
import type { Turn } from './turn.js';

export class LegIds {
  readonly #taken = new Set<number>([0]); // 0 is the contact leg

  /** Makes up a leg and reserves its id. */
  create(turn: Turn): LegKey {
    for (;;) {
      const id = randomU32((length) => turn.random(length));
      if (this.#taken.has(id)) continue;
      this.#taken.add(id);
      return { id, key: turn.random(16), epoch: 0 };
    }
  }

  /** Installs or replaces a leg; reserves ids that come from the store. */
  install(leg: Leg, turn: Turn): void {
    this.#taken.add(leg.id);
    turn.emit({ type: 'install-leg', leg });
  }

  /** Removes a leg (if it was installed) and frees its id. */
  remove(id: number, turn: Turn): void {
    if (this.#taken.delete(id)) turn.emit({ type: 'remove-leg', id });
  }
}
