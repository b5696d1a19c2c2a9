// Questions about what went by legs: only the engine has counted it, so the shell is asked.

import type { LegCounts } from '../../contract/engine.js';
import type { Turn } from './turn.js';

type Answer = (counts: readonly (LegCounts | undefined)[], turn: Turn) => void;

export class LegQueries {
  readonly #waiting = new Map<number, Answer>();
  #next = 1;

  /** Asks for the counts of these legs; `answer` gets them in their order. */
  ask(legs: readonly number[], turn: Turn, answer: Answer): void {
    const query = this.#next++;
    this.#waiting.set(query, answer);
    turn.emit({ type: 'count-legs', query, legs });
  }

  answer(query: number, counts: readonly (LegCounts | undefined)[], turn: Turn): void {
    const waiting = this.#waiting.get(query);
    this.#waiting.delete(query);
    waiting?.(counts, turn);
  }
}
