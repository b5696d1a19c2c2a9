// Asking the callee's side of a circuit for its consent: the callee itself when it is our client, or one
// relay after another that has it.

import { sameBytes } from '../../../wire/bytes.js';
import { MAX_CONTROL_BODY } from '../../protocol/control-frame.js';
import { messageSize } from '../../protocol/control-message.js';
import type { Refusal } from '../../protocol/refusal.js';
import { openPeerRecord } from '../../protocol/peer-record.js';
import type { Turn } from '../../runtime/turn.js';
import type { RelayHost } from '../relay-host.js';
import { Neighbour } from '../relay-neighbours.js';
import type { CircuitLifetime } from './circuit-lifetime.js';
import type { CircuitParts } from './circuit-parts.js';
import { OFFER_TRIES, type Circuit, type CircuitEnd } from '../relay-circuit.js';

/** What the caller is told: that another relay drains is not said of this one. */
const passedOn = (reason: Refusal | undefined): Refusal | undefined =>
  reason === 'draining' ? 'callee-offline' : reason;

export class CalleeAsking {
  readonly #parts: CircuitParts;
  readonly #host: RelayHost;
  readonly #lifetime: CircuitLifetime;

  constructor(parts: CircuitParts, lifetime: CircuitLifetime) {
    this.#parts = parts;
    this.#host = parts.host;
    this.#lifetime = lifetime;
  }

  /** Asks the callee of a half-open circuit; the circuit is established or removed by the answer. */
  ask(circuit: Circuit, turn: Turn): void {
    const { callee, asking } = circuit;
    if (asking === undefined) return;
    if (callee instanceof Neighbour) this.#extend(circuit, callee, asking.record, turn);
    else this.#offer(circuit, asking.record, turn);
  }

  /** Asks another neighbour in place of the one that refused or fell silent. */
  askNext(circuit: Circuit, reason: Refusal | undefined, turn: Turn): void {
    const { table } = this.#parts;
    const [next, ...others] = circuit.asking?.others ?? [];
    if (circuit.asking === undefined || next === undefined || table.crowdedEnd(next, circuit.network)) {
      this.#lifetime.remove(circuit, turn, reason);
      return;
    }
    circuit.asking = { ...circuit.asking, others };
    table.replaceCallee(circuit, next);
    this.ask(circuit, turn);
  }

  #offer(circuit: Circuit, caller: Uint8Array, turn: Turn): void {
    const { id, network, fromCallee, callee } = circuit;
    const { table, clients } = this.#parts;
    this.#host.requests.send(
      callee.key,
      {
        type: 'circuit-offer',
        circuit: id,
        caller,
        network,
        leg: fromCallee,
        lifetime: this.#lifetime.promise(circuit, turn),
      },
      turn,
      (answer, later) => {
        if (!table.stands(circuit)) return;
        const held = clients.registered(circuit.calleeIdentity)?.registration?.record;
        if (answer?.type !== 'circuit-accept') this.#lifetime.remove(circuit, later, answer?.reason);
        else if (held !== undefined) {
          circuit.joined = true;
          this.#lifetime.establish(circuit, answer.leg, held.bytes, Infinity, later);
        }
      },
      OFFER_TRIES,
    );
  }

  #extend(circuit: Circuit, callee: CircuitEnd, caller: Uint8Array, turn: Turn): void {
    const { id, network, fromCallee, calleeIdentity } = circuit;
    const message = {
      type: 'circuit-extend',
      circuit: id,
      caller,
      network,
      leg: fromCallee,
      callee: calleeIdentity,
      path: [...circuit.path, this.#host.identity],
    } as const;
    if (messageSize(message) > MAX_CONTROL_BODY) {
      this.#lifetime.remove(circuit, turn, 'bad-record');
      return;
    }
    this.#host.neighbourRequests.send(callee.key, message, turn, (answer, later) => {
      if (!this.#parts.table.stands(circuit) || circuit.callee !== callee) {
        // The caller is gone, or another neighbour is asked by now.
        if (answer?.type === 'circuit-granted') this.#lifetime.tellClosed(callee, id, later);
        return;
      }
      if (answer?.type !== 'circuit-granted') this.askNext(circuit, passedOn(answer?.reason), later);
      else if (this.#isOf(answer.callee, calleeIdentity, later)) {
        circuit.joined = true;
        this.#lifetime.establish(circuit, answer.leg, answer.callee, answer.lifetime, later);
      } else {
        this.#lifetime.tellClosed(callee, id, later);
        this.#lifetime.remove(circuit, later, 'bad-record');
      }
    });
  }

  /** Whether a record is a valid one of this identity. */
  #isOf(bytes: Uint8Array, identity: Uint8Array, turn: Turn): boolean {
    const record = openPeerRecord(this.#host.primitives, bytes, turn.step.wallClock);
    return typeof record !== 'string' && sameBytes(record.identity, identity);
  }
}
