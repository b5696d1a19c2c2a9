// Circuits over a relay: two ends, each a client of ours or another relay, joined by two forward legs.
//
//   circuit-open, circuit-extend ─► CircuitOpening ─┬─► CalleeAsking       the callee's side is asked
//                                        │          └─► standing-set-up    it has accepted in advance
//                                        ▼                    │
//                                   CircuitTable (caps)       ▼
//   circuit-refresh ─► CircuitRefresh ─────────────────► CircuitLifetime ─► CircuitLegs (charging)
//
// This file is their public face: the requests, and what happens to the ends of circuits.

import type { SessionKey } from '../../../contract/engine.js';
import { toHex } from '../../../wire/bytes.js';
import type { MessageOf } from '../../protocol/control-message.js';
import { encodePeerId } from '../../protocol/peer-id.js';
import { earliest } from '../../runtime/earliest.js';
import type { CircuitStatus } from '../../runtime/mesh-status.js';
import { AnswerTable } from '../../runtime/request-table.js';
import type { Turn } from '../../runtime/turn.js';
import type { Client } from '../relay-client.js';
import type { RelayClients } from '../relay-clients.js';
import type { RelayParts } from '../relay-host.js';
import { Neighbour } from '../relay-neighbours.js';
import { CalleeAsking } from './callee-asking.js';
import { CircuitLegs } from './circuit-legs.js';
import { CircuitLifetime } from './circuit-lifetime.js';
import { CircuitOpening } from './circuit-opening.js';
import type { CircuitParts } from './circuit-parts.js';
import { CircuitRefresh } from './circuit-refresh.js';
import { CircuitTable } from './circuit-table.js';
import { hasEnd, otherEnd, type Circuit, type CircuitEnd } from '../relay-circuit.js';
import type { RelayConsent } from './relay-consent.js';

export class RelayCircuits {
  readonly #parts: CircuitParts;
  readonly #table: CircuitTable;
  readonly #legs: CircuitLegs;
  readonly #lifetime: CircuitLifetime;
  readonly #asking: CalleeAsking;
  readonly #opening: CircuitOpening;
  readonly #refresh: CircuitRefresh;

  constructor(parts: RelayParts, clients: RelayClients, consent: RelayConsent) {
    this.#table = new CircuitTable(parts);
    const answers = new AnswerTable(() => parts.rules.limits.admissions);
    this.#parts = { ...parts, clients, consent, table: this.#table, answers };
    this.#legs = new CircuitLegs(this.#parts);
    this.#lifetime = new CircuitLifetime(this.#parts, this.#legs);
    this.#asking = new CalleeAsking(this.#parts, this.#lifetime);
    this.#opening = new CircuitOpening(this.#parts, this.#lifetime, this.#asking);
    this.#refresh = new CircuitRefresh(this.#parts, this.#lifetime);
  }

  /** Takes up what the store holds; the ends have to be there already. */
  restore(restored: ReadonlyMap<string, Uint8Array>, turn: Turn): void {
    this.#lifetime.restore(restored, turn);
  }

  get size(): number {
    return this.#table.size;
  }

  get halfOpen(): number {
    return this.#table.halfOpen;
  }

  get(id: Uint8Array): Circuit | undefined {
    return this.#table.get(id);
  }

  all(): Iterable<Circuit> {
    return this.#table.all();
  }

  status(now: number): CircuitStatus[] {
    return [...this.#table.all()].map((circuit) => ({
      id: circuit.name,
      callerPeerId: encodePeerId(circuit.callerIdentity),
      calleePeerId: encodePeerId(circuit.calleeIdentity),
      network: toHex(circuit.network),
      previousRelays: circuit.path.map(encodePeerId),
      consent: circuit.policy === undefined ? 'asked' : 'standing',
      nextRelay: circuit.callee instanceof Neighbour ? encodePeerId(circuit.callee.identity) : undefined,
      legs: circuit.legCallee === undefined ? [] : [circuit.fromCaller.id, circuit.fromCallee.id],
      ageMs: now - circuit.openedAt,
      expiresInMs: Math.max(0, circuit.expiresAt - now),
    }));
  }

  handleTimeout(turn: Turn): void {
    this.#lifetime.handleTimeout(turn);
    this.#refresh.handleTimeout(turn);
  }

  deadline(): number | undefined {
    return earliest(this.#lifetime.deadline(), this.#refresh.deadline());
  }

  // What follows an end

  /** The circuits of an end that is gone; the other ends are told. */
  closeAll(end: CircuitEnd, turn: Turn): void {
    for (const circuit of [...end.circuits]) this.#lifetime.close(circuit, turn, otherEnd(circuit, end.key));
  }

  /** A client is gone, and what it asked. */
  clientGone(client: Client, turn: Turn): void {
    this.closeAll(client, turn);
    this.#parts.answers.forget(client.key);
  }

  /** An end has another address. */
  moved(end: CircuitEnd, turn: Turn): void {
    for (const circuit of end.circuits) this.#legs.install(circuit, turn);
  }

  /** Ends circuits the rules no longer allow; the others go on under the new limits. */
  rulesChanged(turn: Turn): void {
    for (const circuit of [...this.#table.all()]) {
      const { rules } = this.#parts;
      const { caller, callee, callerIdentity, calleeIdentity, network } = circuit;
      const allowed = rules.allows(callerIdentity) && rules.allows(calleeIdentity);
      if (!allowed || !rules.serves(toHex(network))) {
        this.#lifetime.remove(circuit, turn, allowed ? 'not-served' : 'denied');
        if (circuit.legCallee !== undefined)
          for (const end of [caller, callee]) this.#lifetime.tellClosed(end, circuit.id, turn);
        continue;
      }
      this.#lifetime.applyRules(circuit, turn);
    }
  }

  /** A neighbour may have forgotten circuits. */
  neighbourReady(key: SessionKey, turn: Turn): void {
    const ends = [this.#parts.neighbours.get(key), this.#parts.clients.get(key)];
    const circuits = ends.flatMap((end) => [...(end?.circuits ?? [])]);
    this.#refresh.recheck(circuits, turn);
  }

  /** A neighbour fell silent: what went over it is opened elsewhere, half-open circuits by us. */
  neighbourLost(key: SessionKey, turn: Turn): void {
    for (const circuit of [...(this.#parts.neighbours.get(key)?.circuits ?? [])])
      if (circuit.legCallee === undefined) this.#asking.askNext(circuit, 'callee-offline', turn);
      else this.#lifetime.close(circuit, turn, circuit.caller, circuit.callee);
    const client = this.#parts.clients.get(key);
    for (const circuit of [...(client?.circuits ?? [])])
      if (circuit.path.length > 0 && circuit.caller === client)
        this.#lifetime.close(circuit, turn, circuit.caller, circuit.callee);
  }

  // Messages

  handleOpen(peer: SessionKey, request: number, message: MessageOf<'circuit-open'>, turn: Turn): void {
    this.#opening.handleOpen(peer, request, message, turn);
  }

  handleExtend(peer: SessionKey, request: number, message: MessageOf<'circuit-extend'>, turn: Turn): void {
    this.#opening.handleExtend(peer, request, message, turn);
  }

  handleRefresh(peer: SessionKey, request: number, message: MessageOf<'circuit-refresh'>, turn: Turn): void {
    this.#refresh.handle(peer, request, message, turn);
  }

  handleClose(peer: SessionKey, request: number, message: MessageOf<'circuit-close'>, turn: Turn): void {
    const circuit = this.#table.get(message.circuit);
    if (circuit !== undefined && hasEnd(circuit, peer))
      this.#lifetime.close(circuit, turn, otherEnd(circuit, peer));
    turn.send(peer, request, { type: 'circuit-closed', circuit: message.circuit });
  }
}
