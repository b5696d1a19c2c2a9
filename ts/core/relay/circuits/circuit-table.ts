// The circuits of a relay, by id, and the caps that bound how many there are and of whom. Where there is room for
// no more, the site or relay that has asked for most of them loses its oldest one to who has asked for fewer.

import { sameBytes, toHex } from '../../../wire/bytes.js';
import { BoundedTable, type Owners, type Yielding } from '../../runtime/bounded-table.js';
import { addressOwners } from '../relay-client.js';
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
type CircuitOwner = 'prefix' | 'site' | 'relay' | 'network' | 'caller' | 'callee';
/** The same while it waits for consent. */
type WaitingOwner = 'prefix' | 'site' | 'relay' | 'caller';

const CAP_OF = {
  total: 'circuits',
  prefix: 'circuits-per-prefix',
  site: 'circuits-per-site',
  relay: 'circuits-per-relay',
  network: 'circuits-per-network',
  caller: 'circuits-per-identity',
  callee: 'circuits-per-identity',
} as const satisfies Readonly<Record<CircuitOwner | 'total', Cap>>;

const WAITING_CAP_OF = {
  total: 'half-open',
  prefix: 'half-open-per-prefix',
  site: 'half-open-per-site',
  relay: 'half-open-per-relay',
  caller: 'half-open-per-identity',
} as const satisfies Readonly<Record<WaitingOwner | 'total', Cap>>;

/** A relay is one payer, however many its clients are. */
const payer = ({ site, relay }: Owners<'site' | 'relay'>): string | undefined => site ?? relay;
const YIELDING: Yielding<CircuitOwner> = { within: ['network'], payer };
const WAITING_YIELDING: Yielding<WaitingOwner> = { within: [], payer };

/** What one more circuit would exceed, and the circuit that makes room for it; undefined: none does. */
export interface Crowded {
  readonly cap: Cap;
  readonly displaced: Circuit | undefined;
}

export class CircuitTable {
  readonly #rules: RelayRules;
  readonly #neighbours: RelayNeighbours;
  readonly #circuits = new BoundedTable<string, Circuit, CircuitOwner>(() => {
    const { limits } = this.#rules;
    return {
      total: limits.circuits,
      shares: {
        prefix: limits.circuitsPerPrefix,
        site: limits.circuitsPerSite,
        relay: limits.circuitsPerRelay,
        network: limits.circuitsPerNetwork,
        caller: limits.circuitsPerIdentity,
        callee: limits.circuitsPerIdentity,
      },
    };
  }, YIELDING);
  /** Those that wait for consent. */
  readonly #waiting = new BoundedTable<string, Circuit, WaitingOwner>(() => {
    const { limits } = this.#rules;
    return {
      total: limits.halfOpen,
      shares: {
        prefix: limits.halfOpenPerPrefix,
        site: limits.halfOpenPerSite,
        relay: limits.halfOpenPerRelay,
        caller: limits.halfOpenPerIdentity,
      },
    };
  }, WAITING_YIELDING);

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
   * What one more circuit would exceed, and who makes room.
   * @param waits whether it is half-open first.
   */
  crowded(wanted: Counted, waits: boolean): Crowded | undefined {
    const { caller, callee, network } = wanted;
    const owners = ownersOf(wanted);
    const waiting = waits ? this.#waiting.crowded(owners.waiting) : undefined;
    const all = this.#circuits.crowded(owners.all);
    // Nobody leaves for who is turned down all the same: these, and caps that were higher once, come first.
    const own =
      this.crowdedEnd(caller, network) ??
      this.crowdedEnd(callee, network) ??
      (waiting === undefined || waiting === 'total' ? undefined : WAITING_CAP_OF[waiting]) ??
      (all === undefined || all === 'total' || all === 'network' ? undefined : CAP_OF[all]);
    if (own !== undefined) return { cap: own, displaced: undefined };
    if (all !== undefined && this.#circuits.isOver(owners.all, all))
      return { cap: CAP_OF[all], displaced: undefined };
    if (waiting !== undefined) {
      const isOver = this.#waiting.isOver(owners.waiting, waiting);
      const displaced = isOver ? undefined : this.#waiting.displaced(owners.waiting, waiting);
      return { cap: WAITING_CAP_OF[waiting], displaced: this.#named(displaced) };
    }
    if (all === undefined) return undefined;
    return { cap: CAP_OF[all], displaced: this.#named(this.#circuits.displaced(owners.all, all)) };
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

  #named(name: string | undefined): Circuit | undefined {
    return name === undefined ? undefined : this.#circuits.get(name);
  }

  /** One without a leg to its callee is half-open until it is `consented` or removed. False when there is no room. */
  add(circuit: Circuit): boolean {
    if (this.#circuits.set(circuit.name, circuit, ownersOf(circuit).all) !== undefined) return false;
    circuit.caller.circuits.add(circuit);
    circuit.callee.circuits.add(circuit);
    if (circuit.legCallee === undefined) this.#waiting.set(circuit.name, circuit, ownersOf(circuit).waiting);
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

/** Who pays for a circuit, and while it waits for consent. */
function ownersOf(counted: Counted): {
  readonly all: Owners<CircuitOwner>;
  readonly waiting: Owners<WaitingOwner>;
} {
  const { path, network, caller, callerIdentity, callee, calleeIdentity } = counted;
  const asker = `${toHex(callerIdentity)} of ${caller.key}`;
  const from = path.length === 0 ? addressOwners(caller.address) : { relay: caller.key };
  return {
    waiting: { ...from, caller: asker },
    all: {
      ...from,
      ...(path.length === 0 ? {} : { caller: asker }),
      ...(callee instanceof Neighbour ? { callee: `${toHex(calleeIdentity)} elsewhere` } : {}),
      // Last: the other shares are one's own, and nobody else makes room for more of them.
      network: toHex(network),
    },
  };
}
