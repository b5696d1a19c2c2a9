// The circuits of a relay, by id, and the caps that bound how many there are and of whom.

import { sameBytes, toHex } from '../../../wire/bytes.js';
import { BoundedTable, type Owners } from '../../runtime/bounded-table.js';
import { prefixOf } from '../relay-client.js';
import type { RelayParts } from '../relay-host.js';
import type { Cap } from '../relay-limits.js';
import { Neighbour, type RelayNeighbours } from '../relay-neighbours.js';
import type { RelayRules } from '../relay-rules.js';
import type { Circuit, CircuitEnd } from '../relay-circuit.js';

/** What a circuit is counted by. */
type Counted = Pick<Circuit, 'path' | 'network' | 'caller' | 'callerIdentity' | 'callee' | 'calleeIdentity'>;

/**
 * Who pays for a circuit, beside the client or neighbour at either end of it: an end that moves does not change
 * it. A caller behind another relay, and a callee there, count apart from our own clients of that identity: no relay
 * spends what a client of ours may have.
 */
type CircuitOwner = 'prefix' | 'network' | 'caller' | 'callee';

const CAP_OF = {
  total: 'circuits',
  prefix: 'circuits-per-prefix',
  network: 'circuits-per-network',
  caller: 'circuits-per-identity',
  callee: 'circuits-per-identity',
} as const satisfies Readonly<Record<CircuitOwner | 'total', Cap>>;

export class CircuitTable {
  readonly #rules: RelayRules;
  readonly #neighbours: RelayNeighbours;
  readonly #circuits = new BoundedTable<string, Circuit, CircuitOwner>(() => {
    const { circuits, circuitsPerPrefix, circuitsPerNetwork, circuitsPerIdentity } = this.#rules.limits;
    return {
      total: circuits,
      shares: {
        prefix: circuitsPerPrefix,
        network: circuitsPerNetwork,
        caller: circuitsPerIdentity,
        callee: circuitsPerIdentity,
      },
    };
  });
  /** Those that wait for consent. */
  readonly #waiting = new BoundedTable<string, Circuit, 'caller'>(() => {
    const { halfOpen, halfOpenPerIdentity } = this.#rules.limits;
    return { total: halfOpen, shares: { caller: halfOpenPerIdentity } };
  });

  constructor({ rules, neighbours }: RelayParts) {
    this.#rules = rules;
    this.#neighbours = neighbours;
  }

  get size(): number {
    return this.#circuits.size;
  }

  /** Circuits that wait for consent. */
  get halfOpen(): number {
    return this.#waiting.size;
  }

  get(id: Uint8Array): Circuit | undefined {
    return this.#circuits.get(toHex(id));
  }

  /** Whether it has not ended. */
  stands(circuit: Circuit): boolean {
    return this.#circuits.get(circuit.name) === circuit;
  }

  all(): Iterable<Circuit> {
    return this.#circuits.values();
  }

  /**
   * The cap that one more circuit would exceed.
   * @param waits whether it is half-open first.
   */
  crowded(wanted: Counted, waits: boolean): Cap | undefined {
    const { caller, callee, network } = wanted;
    const crowded = this.#circuits.crowded(ownersOf(wanted));
    if (crowded !== undefined) return CAP_OF[crowded];
    const crowdedWaiting = waits ? this.#waiting.crowded(waiterOf(wanted)) : undefined;
    if (crowdedWaiting !== undefined)
      return crowdedWaiting === 'total' ? 'half-open' : 'half-open-per-identity';
    return this.crowdedEnd(caller, network) ?? this.crowdedEnd(callee, network);
  }

  /** The cap that one more circuit at this end would exceed. */
  crowdedEnd(end: CircuitEnd, network: Uint8Array): Cap | undefined {
    const { circuitsPerRelay, circuitsPerIdentity } = this.#rules.limits;
    if (this.#neighbours.knows(end.identity))
      return end.circuits.size >= circuitsPerRelay ? 'circuits-per-relay' : undefined;
    const { circuits = circuitsPerIdentity } = this.#rules.classOf(end.identity, [toHex(network)]);
    return end.circuits.size >= circuits ? 'circuits-per-identity' : undefined;
  }

  /** Circuits at this end between these two identities, whoever called; the oldest first. */
  between(end: CircuitEnd, a: Uint8Array, b: Uint8Array): Circuit[] {
    const either = (identity: Uint8Array): boolean => sameBytes(identity, a) || sameBytes(identity, b);
    return [...end.circuits].filter(
      ({ callerIdentity, calleeIdentity }) => either(callerIdentity) && either(calleeIdentity),
    );
  }

  /** One without a leg to its callee is half-open until it is `consented` or removed. False when there is no room. */
  add(circuit: Circuit): boolean {
    if (this.#circuits.set(circuit.name, circuit, ownersOf(circuit)) !== undefined) return false;
    circuit.caller.circuits.add(circuit);
    circuit.callee.circuits.add(circuit);
    if (circuit.legCallee === undefined) this.#waiting.set(circuit.name, circuit, waiterOf(circuit));
    return true;
  }

  /** The callee receives on this leg: it is no longer half-open. */
  consented(circuit: Circuit, legCallee: Circuit['legCallee']): void {
    circuit.legCallee = legCallee;
    circuit.asking = undefined;
    this.#waiting.delete(circuit.name);
  }

  /** While half-open: another neighbour is asked in place of the one before. */
  replaceCallee(circuit: Circuit, callee: CircuitEnd): void {
    circuit.callee.circuits.delete(circuit);
    circuit.callee = callee;
    callee.circuits.add(circuit);
  }

  /** False when it was not there. */
  remove(circuit: Circuit): boolean {
    if (!this.#circuits.delete(circuit.name)) return false;
    this.#waiting.delete(circuit.name);
    circuit.caller.circuits.delete(circuit);
    circuit.callee.circuits.delete(circuit);
    return true;
  }
}

function ownersOf(counted: Counted): Owners<CircuitOwner> {
  const { path, network, caller, callerIdentity, callee, calleeIdentity } = counted;
  return {
    network: toHex(network),
    ...(path.length === 0
      ? { prefix: prefixOf(caller.address) }
      : { caller: `${toHex(callerIdentity)} of ${caller.key}` }),
    ...(callee instanceof Neighbour ? { callee: `${toHex(calleeIdentity)} elsewhere` } : {}),
  };
}

/** Under what a circuit counts while it waits for consent. */
function waiterOf({ callerIdentity, caller }: Pick<Circuit, 'callerIdentity' | 'caller'>): Owners<'caller'> {
  return { caller: `${toHex(callerIdentity)} of ${caller.key}` };
}
