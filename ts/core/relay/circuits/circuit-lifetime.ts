// How long a circuit lives: from consent, over every refresh and a restart of this relay, to its end.

import type { LegKey } from '../../../wire/leg.js';
import { toHex } from '../../../wire/bytes.js';
import type { Refusal } from '../../protocol/refusal.js';
import { TimerQueue } from '../../runtime/timer-queue.js';
import type { Turn } from '../../runtime/turn.js';
import { Neighbour } from '../relay-neighbours.js';
import type { RelayRules } from '../relay-rules.js';
import { CIRCUIT_PREFIX, decodeStoredCircuit, encodeStoredCircuit } from '../relay-store.js';
import type { CircuitLegs } from './circuit-legs.js';
import type { CircuitParts } from './circuit-parts.js';
import type { Circuit, CircuitEnd } from '../relay-circuit.js';

export class CircuitLifetime {
  readonly #parts: CircuitParts;
  readonly #rules: RelayRules;
  readonly #legs: CircuitLegs;
  readonly #expiries = new TimerQueue<Circuit>();

  constructor(parts: CircuitParts, legs: CircuitLegs) {
    this.#parts = parts;
    this.#rules = parts.rules;
    this.#legs = legs;
  }

  /** Takes up what the store holds; the ends have to be there already. */
  restore(restored: ReadonlyMap<string, Uint8Array>, turn: Turn): void {
    for (const [key, value] of restored)
      if (key.startsWith(CIRCUIT_PREFIX) && !this.#restoreCircuit(value, turn))
        turn.emit({ type: 'persist', key, value: undefined });
  }

  /** Seconds a circuit may be promised now; less than 1 when those who pay may have it no longer. */
  remaining(circuit: Circuit, turn: Turn): number {
    const left = Math.floor((this.#endsAt(circuit) - turn.now) / 1000);
    return Math.min(this.#rules.limits.circuitSeconds, left);
  }

  /** The same as an end is told it. @param promised seconds the rest of the circuit lives at most. */
  promise(circuit: Circuit, turn: Turn, promised = Infinity): number {
    return Math.max(1, Math.min(promised, this.remaining(circuit, turn)));
  }

  /**
   * The callee consented: the circuit stands, and its caller is answered.
   * @param callee the called end's record.
   * @param promised seconds the rest of the circuit lives at most.
   */
  establish(circuit: Circuit, legCallee: LegKey, callee: Uint8Array, promised: number, turn: Turn): void {
    const { table, answers } = this.#parts;
    table.consented(circuit, legCallee);
    this.#legs.charge(circuit, turn);
    const lifetime = this.promise(circuit, turn, promised);
    this.prolong(circuit, lifetime, turn);
    const { caller, request, id, fromCaller } = circuit;
    const granted = { type: 'circuit-granted', circuit: id, callee, leg: fromCaller, lifetime } as const;
    answers.answer(caller.key, request, granted, turn);
  }

  /** Gives a circuit its lifetime again: legs, timer and store. */
  prolong(circuit: Circuit, seconds: number, turn: Turn): void {
    circuit.expiresAt = turn.now + seconds * 1000;
    this.#expiries.set(circuit, circuit.expiresAt);
    this.#legs.install(circuit, turn);
    this.persist(circuit, turn);
  }

  /** Other rules hold: it lives as long as they allow at most, and its legs are charged by them. */
  applyRules(circuit: Circuit, turn: Turn): void {
    const most = Math.min(turn.now + this.#rules.limits.circuitSeconds * 1000, this.#endsAt(circuit));
    if (circuit.legCallee !== undefined && circuit.expiresAt > most)
      this.prolong(circuit, Math.max(0, (most - turn.now) / 1000), turn);
    else this.#legs.install(circuit, turn);
  }

  /** Ends a circuit and tells these ends. */
  close(circuit: Circuit, turn: Turn, ...tell: readonly CircuitEnd[]): void {
    this.remove(circuit, turn);
    for (const end of tell) this.tellClosed(end, circuit.id, turn);
  }

  /** Ends a circuit whose place another one gets. */
  displace(circuit: Circuit, turn: Turn): void {
    const { legCallee, caller, callee } = circuit;
    if (legCallee === undefined) this.remove(circuit, turn, 'capacity');
    else this.close(circuit, turn, caller, callee);
  }

  tellClosed(end: CircuitEnd, circuit: Uint8Array, turn: Turn): void {
    const { requests, neighbourRequests } = this.#parts.host;
    const table = end instanceof Neighbour ? neighbourRequests : requests;
    table.send(end.key, { type: 'circuit-close', circuit }, turn, () => undefined);
  }

  /** Ends a circuit. @param reason what a caller who still waits is told. */
  remove(circuit: Circuit, turn: Turn, reason: Refusal = 'callee-offline'): void {
    const { table, answers, refusals } = this.#parts;
    if (!table.remove(circuit)) return;
    if (circuit.legCallee === undefined) {
      refusals.add(reason, 1);
      const refused = { type: 'refused', reason, what: circuit.asked } as const;
      answers.answer(circuit.caller.key, circuit.request, refused, turn);
    } else {
      turn.emit({ type: 'persist', key: CIRCUIT_PREFIX + circuit.name, value: undefined });
      if (this.remaining(circuit, turn) < 1) refusals.add('circuit-time', 1);
    }
    this.#expiries.clear(circuit);
    this.#legs.remove(circuit, turn);
  }

  handleTimeout(turn: Turn): void {
    for (const circuit of this.#expiries.allDue(turn.now)) this.close(circuit, turn);
  }

  deadline(): number | undefined {
    return this.#expiries.next();
  }

  /** When a circuit ends for good, by the classes of those who pay. */
  #endsAt({ caller, callee, network, openedAt }: Circuit): number {
    const networks = [toHex(network)];
    const seconds = [caller, callee].map(
      ({ identity }) => this.#rules.classOf(identity, networks).seconds ?? Infinity,
    );
    return openedAt + Math.min(...seconds) * 1000;
  }

  // Across a restart

  /** Keeps it across a restart, once the callee has joined it. */
  persist(circuit: Circuit, turn: Turn): void {
    const { id, network, legCaller, legCallee, fromCaller, fromCallee } = circuit;
    const { callerIdentity, calleeIdentity, path } = circuit;
    if (legCallee === undefined || !circuit.joined) return;
    const value = encodeStoredCircuit({
      id,
      network,
      caller: circuit.caller.sessionKey,
      callee: circuit.callee.sessionKey,
      legCaller,
      legCallee,
      fromCaller,
      fromCallee,
      callerIdentity,
      calleeIdentity,
      path,
      onward: circuit.callee instanceof Neighbour,
      policy: circuit.policy,
      opened: Math.max(0, Math.floor((turn.step.wallClock + circuit.openedAt - turn.now) / 1000)),
      expires: Math.ceil((turn.step.wallClock + circuit.expiresAt - turn.now) / 1000),
    });
    turn.emit({ type: 'persist', key: CIRCUIT_PREFIX + circuit.name, value });
  }

  #restoreCircuit(value: Uint8Array, turn: Turn): boolean {
    const { clients, neighbours, table } = this.#parts;
    const stored = decodeStoredCircuit(value);
    const caller = clients.get(toHex(stored?.caller ?? new Uint8Array(0)));
    const calleeKey = toHex(stored?.callee ?? new Uint8Array(0));
    const callee = stored?.onward === true ? neighbours.get(calleeKey) : clients.get(calleeKey);
    if (stored === undefined || caller === undefined || callee === undefined) return false;
    const { limits } = this.#rules;
    const leftMs = Math.min(stored.expires * 1000 - turn.step.wallClock, limits.circuitSeconds * 1000);
    if (leftMs <= 0) return false;
    const circuit: Circuit = {
      ...stored,
      name: toHex(stored.id),
      caller,
      callee,
      joined: true,
      request: 0,
      asked: stored.path.length > 0 ? 'circuit-extend' : 'circuit-open',
      asking: undefined,
      charged: undefined,
      openedAt: turn.now - Math.max(0, turn.step.wallClock - stored.opened * 1000),
      countedSince: turn.now,
      expiresAt: turn.now + leftMs,
    };
    if (this.remaining(circuit, turn) < 1) return false;
    circuit.expiresAt = Math.min(circuit.expiresAt, this.#endsAt(circuit));
    if (!table.add(circuit)) return false; // the caps are lower now
    this.#legs.charge(circuit, turn);
    this.#expiries.set(circuit, circuit.expiresAt);
    this.#legs.install(circuit, turn);
    return true;
  }
}
