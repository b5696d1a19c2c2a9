// Refreshing a circuit: either end keeps it alive, and this relay asks a neighbour that may have
// forgotten it.

import type { SessionKey } from '../../../contract/engine.js';
import type { MessageOf } from '../../protocol/control-message.js';
import { TimerQueue } from '../../runtime/timer-queue.js';
import type { Turn } from '../../runtime/turn.js';
import { refuse } from '../relay-host.js';
import { Neighbour } from '../relay-neighbours.js';
import type { CircuitLifetime } from './circuit-lifetime.js';
import type { CircuitParts } from './circuit-parts.js';
import { hasEnd, otherEnd, type Circuit, type CircuitEnd } from '../relay-circuit.js';

/** A neighbour is asked again about the circuits over it one by one, 100 a second. */
const RECHECK_TICK_MS = 10;

export class CircuitRefresh {
  readonly #parts: CircuitParts;
  readonly #lifetime: CircuitLifetime;
  readonly #rechecks = new TimerQueue<Circuit>();

  constructor(parts: CircuitParts, lifetime: CircuitLifetime) {
    this.#parts = parts;
    this.#lifetime = lifetime;
  }

  handle(peer: SessionKey, request: number, message: MessageOf<'circuit-refresh'>, turn: Turn): void {
    const { table, answers } = this.#parts;
    const circuit = table.get(message.circuit);
    if (circuit?.legCallee === undefined || !hasEnd(circuit, peer)) {
      refuse(this.#parts, peer, request, message.type, 'unknown-circuit', turn);
      return;
    }
    const other = otherEnd(circuit, peer);
    const lifetime = this.#lifetime.remaining(circuit, turn);
    if (lifetime < 1) {
      this.#lifetime.close(circuit, turn, other);
      refuse(this.#parts, peer, request, message.type, 'unknown-circuit', turn);
      return;
    }
    if (!isRelayEnd(circuit, other)) {
      this.#lifetime.prolong(circuit, lifetime, turn);
      turn.send(peer, request, { type: 'circuit-refreshed', circuit: message.circuit, lifetime });
      return;
    }
    // The rest of the circuit is the other relay's to promise: a refresh goes all the way.
    if (!answers.begin(peer, request, turn)) return;
    this.#refreshAt(other, circuit, turn, (promised, later) => {
      answers.answer(
        peer,
        request,
        promised === undefined
          ? { type: 'refused', reason: 'unknown-circuit', what: message.type }
          : { type: 'circuit-refreshed', circuit: message.circuit, lifetime: promised },
        later,
      );
    });
  }

  /** After a restart, of ours or of a neighbour: does it know these circuits? */
  recheck(circuits: readonly Circuit[], turn: Turn): void {
    circuits.forEach((circuit, index) => this.#rechecks.set(circuit, turn.now + index * RECHECK_TICK_MS));
  }

  handleTimeout(turn: Turn): void {
    for (const circuit of this.#rechecks.allDue(turn.now))
      if (this.#parts.table.stands(circuit))
        for (const end of [circuit.caller, circuit.callee])
          if (isRelayEnd(circuit, end)) this.#refreshAt(end, circuit, turn, () => undefined);
  }

  deadline(): number | undefined {
    return this.#rechecks.next();
  }

  /** Refreshes the part of a circuit behind another relay, and with it ours. */
  #refreshAt(
    end: CircuitEnd,
    circuit: Circuit,
    turn: Turn,
    done: (lifetime: number | undefined, later: Turn) => void,
  ): void {
    const { requests, neighbourRequests } = this.#parts.host;
    const asked = end instanceof Neighbour ? neighbourRequests : requests;
    asked.send(end.key, { type: 'circuit-refresh', circuit: circuit.id }, turn, (answer, later) => {
      if (!this.#parts.table.stands(circuit) || answer === undefined) return;
      if (answer.type === 'circuit-refreshed') {
        const lifetime = this.#lifetime.promise(circuit, later, answer.lifetime);
        this.#lifetime.prolong(circuit, lifetime, later);
        done(lifetime, later);
      } else {
        this.#lifetime.close(circuit, later, otherEnd(circuit, end.key));
        done(undefined, later);
      }
    });
  }
}

/** Whether this end of a circuit is another relay, with the rest of the circuit behind it. */
function isRelayEnd(circuit: Circuit, end: CircuitEnd): boolean {
  return end === circuit.callee ? end instanceof Neighbour : circuit.path.length > 0;
}
