// The circuits of a relay, by id, and the caps that bound how many there are and of whom.

import { sameBytes, toHex } from '../../../wire/bytes.js';
import { Counter } from '../../runtime/counter.js';
import { prefixOf } from '../relay-client.js';
import type { RelayParts } from '../relay-host.js';
import type { Cap } from '../relay-limits.js';
import { Neighbour, type RelayNeighbours } from '../relay-neighbours.js';
import type { RelayRules } from '../relay-rules.js';
import type { Circuit, CircuitEnd } from '../relay-circuit.js';

/** What a circuit is counted by. */
type Counted = Pick<Circuit, 'path' | 'network' | 'caller' | 'callerIdentity' | 'callee' | 'calleeIdentity'>;

export class CircuitTable {
  readonly #rules: RelayRules;
  readonly #neighbours: RelayNeighbours;
  readonly #circuits = new Map<string, Circuit>();
  /** What each counts under, beside either neighbour's own set: an end that moves does not change it. */
  readonly #counted = new Map<Circuit, readonly string[]>();
  readonly #counts = new Counter();
  #halfOpen = 0;

  constructor({ rules, neighbours }: RelayParts) {
    this.#rules = rules;
    this.#neighbours = neighbours;
  }

  get size(): number {
    return this.#circuits.size;
  }

  /** Circuits that wait for consent. */
  get halfOpen(): number {
    return this.#halfOpen;
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
    return (
      this.#crowdedCounts(countersOf(wanted)) ??
      (waits ? this.#crowdedHalfOpen(halfOpenOf(wanted)) : undefined) ??
      this.crowdedEnd(caller, network) ??
      this.crowdedEnd(callee, network)
    );
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

  /** One without a leg to its callee is half-open until it is `consented` or removed. */
  add(circuit: Circuit): void {
    this.#circuits.set(circuit.name, circuit);
    circuit.caller.circuits.add(circuit);
    circuit.callee.circuits.add(circuit);
    const counted = countersOf(circuit);
    this.#counted.set(circuit, counted);
    for (const counter of counted) this.#counts.add(counter, 1);
    if (circuit.legCallee === undefined) this.#countHalfOpen(circuit, 1);
  }

  /** The callee receives on this leg: it is no longer half-open. */
  consented(circuit: Circuit, legCallee: Circuit['legCallee']): void {
    circuit.legCallee = legCallee;
    circuit.asking = undefined;
    this.#countHalfOpen(circuit, -1);
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
    if (circuit.legCallee === undefined) this.#countHalfOpen(circuit, -1);
    circuit.caller.circuits.delete(circuit);
    circuit.callee.circuits.delete(circuit);
    for (const counter of this.#counted.get(circuit) ?? []) this.#counts.add(counter, -1);
    this.#counted.delete(circuit);
    return true;
  }

  #countHalfOpen(circuit: Circuit, change: 1 | -1): void {
    this.#halfOpen += change;
    this.#counts.add(halfOpenOf(circuit), change);
  }

  #crowdedCounts(counted: readonly string[]): Cap | undefined {
    const { limits } = this.#rules;
    if (this.#circuits.size >= limits.circuits) return 'circuits';
    const caps: readonly (readonly [string, number, Cap])[] = [
      ['prefix', limits.circuitsPerPrefix, 'circuits-per-prefix'],
      ['network', limits.circuitsPerNetwork, 'circuits-per-network'],
      ['caller', limits.circuitsPerIdentity, 'circuits-per-identity'],
      ['callee', limits.circuitsPerIdentity, 'circuits-per-identity'],
    ];
    for (const counter of counted)
      for (const [what, most, cap] of caps)
        if (counter.startsWith(what) && this.#counts.get(counter) >= most) return cap;
    return undefined;
  }

  #crowdedHalfOpen(counter: string): Cap | undefined {
    const { halfOpen, halfOpenPerIdentity } = this.#rules.limits;
    if (this.#halfOpen >= halfOpen) return 'half-open';
    return this.#counts.get(counter) >= halfOpenPerIdentity ? 'half-open-per-identity' : undefined;
  }
}

/**
 * An end behind another relay counts apart from our own clients of that identity: no relay spends what
 * a client of ours may have.
 */
function countersOf({ path, network, caller, callerIdentity, callee, calleeIdentity }: Counted): string[] {
  const onward = callee instanceof Neighbour ? [`callee ${toHex(calleeIdentity)} elsewhere`] : [];
  const calling =
    path.length === 0 ? prefixOf(caller.address) : `caller ${toHex(callerIdentity)} of ${caller.key}`;
  return [calling, `network ${toHex(network)}`, ...onward];
}

/** Under what a circuit counts while it waits for consent. */
function halfOpenOf({ callerIdentity, caller }: Pick<Circuit, 'callerIdentity' | 'caller'>): string {
  return `half-open ${toHex(callerIdentity)} of ${caller.key}`;
}
