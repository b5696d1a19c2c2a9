// The ids of the legs this node receives on. The receiver chooses them: random, never twice, and so that
// each leads to a place of its own in the engine's table, where a look-up finds it in one step.

import { firstIdOfHome, legHome } from '../../wire/leg-slots.js';
import type { Leg, LegKey } from '../../wire/leg.js';
import { randomU32 } from '../../wire/bytes.js';
import type { Turn } from './turn.js';

/** So many ids are drawn before the next vacant slot is looked for: enough while a quarter is vacant. */
const DRAWS = 16;
const NOWHERE = -1;

export class LegIds {
  /**
   * The ids by the slot they lie in, as the engine's table places them; 0 = vacant. The first slot is the
   * contact leg's, and holds an id whose home is the last.
   */
  readonly #idAt: Uint32Array;
  /** The slots of the ids that are not at home: they come from the store of another capacity. */
  readonly #away = new Map<number, number>();

  /** @param slots legs the engine has room for */
  constructor(slots: number) {
    this.#idAt = new Uint32Array(slots);
    this.#idAt[0] = 0xffffffff;
  }

  /** Makes up a leg and reserves its id. */
  create(turn: Turn): LegKey {
    const id = this.#choose((length) => turn.random(length));
    this.#reserve(id);
    return { id, key: turn.random(16), epoch: 0 };
  }

  /** Installs or replaces a leg; reserves ids that come from the store. */
  install(leg: Leg, turn: Turn): void {
    if (this.#slotOf(leg.id) === undefined) this.#reserve(leg.id);
    turn.emit({ type: 'install-leg', leg });
  }

  /** Removes a leg (if it was installed) and frees its id. */
  remove(id: number, turn: Turn): void {
    const slot = this.#slotOf(id);
    if (slot === undefined) return;
    this.#away.delete(id);
    if (slot > 0) this.#idAt[slot] = 0;
    turn.emit({ type: 'remove-leg', id });
  }

  #choose(random: (length: number) => Uint8Array): number {
    let id = randomU32(random);
    for (let draws = 1; !this.#isFree(id); draws++) {
      id = randomU32(random);
      if (draws < DRAWS) continue;
      const slot = this.#vacantFrom(this.#home(id));
      if (slot !== NOWHERE) id = this.#randomIdOf(slot, random);
      else if (this.#slotOf(id) === undefined) break; // the engine will say that it has no room
    }
    return id;
  }

  /** Uniform, but for rounding. */
  #randomIdOf(slot: number, random: (length: number) => Uint8Array): number {
    const first = firstIdOfHome(slot, this.#idAt.length);
    const count = firstIdOfHome(slot + 1, this.#idAt.length) - first;
    return first + Math.floor((randomU32(random) / 2 ** 32) * count);
  }

  /** Takes the first vacant slot from the home on, as the engine's table does. */
  #reserve(id: number): void {
    const home = this.#home(id);
    const slot = this.#vacantFrom(home);
    if (slot !== NOWHERE) this.#idAt[slot] = id;
    if (slot !== home) this.#away.set(id, slot);
  }

  /** Whether it would lie at home. */
  #isFree(id: number): boolean {
    return this.#idAt[this.#home(id)] === 0 && !this.#away.has(id);
  }

  /** Where an id lies; undefined when it is not reserved. */
  #slotOf(id: number): number | undefined {
    const home = this.#home(id);
    return id === 0 || this.#idAt[home] === id ? home : this.#away.get(id);
  }

  #vacantFrom(slot: number): number {
    const found = this.#idAt.indexOf(0, slot);
    return found === NOWHERE ? this.#idAt.indexOf(0) : found;
  }

  #home(id: number): number {
    return legHome(id, this.#idAt.length);
  }
}
