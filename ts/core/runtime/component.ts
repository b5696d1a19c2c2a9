// The verbs of the sans-IO core: what goes in, what comes out. The daemon's shell and the simulator
// both speak exactly this. The core takes `now` and random bytes as arguments and returns effects
// as data; it never waits, reads a clock, or touches a socket, file or engine.

import type { EngineEvent, LegCounts, SessionKey } from '../../contract/engine.js';
import type { PathCounts } from '../../contract/path-control.js';
import type { Step } from '../../contract/step.js';
import type { Effect } from './effect.js';

/** Input in, effects out, and when to be called again. */
export interface Component {
  handleEngineEvent(event: EngineEvent, step: Step): Effect[];
  /** The answer to a `count-legs` effect: counts in the order of its legs. */
  handleLegCounts(query: number, counts: readonly (LegCounts | undefined)[], step: Step): Effect[];
  /** The answer to a `count-paths` effect. */
  handlePathCounts(peer: SessionKey, counts: readonly PathCounts[], step: Step): Effect[];
  /** Called when `deadline()` has passed. */
  handleTimeout(step: Step): Effect[];
  /** Monotonic ms at which handleTimeout wants to be called; undefined = no timer runs. */
  deadline(): number | undefined;
}
