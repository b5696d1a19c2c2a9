// Circuits over a relay: two ends, each a client of ours or another relay, joined by two forward legs.

import type { SessionKey } from '../../../contract/engine.js';
import type { LegCharging, LegKey } from '../../../wire/leg.js';
import { sameBytes, toHex } from '../../../wire/bytes.js';
import { MAX_CONTROL_BODY } from '../../protocol/control-frame.js';
import {
  MAX_CIRCUIT_RELAYS,
  messageSize,
  recordRefusal,
  type MessageOf,
  type Refusal,
} from '../../protocol/control-message.js';
import { Counter } from '../../runtime/counter.js';
import { earliest } from '../../runtime/earliest.js';
import type { CircuitStatus } from '../../runtime/mesh-status.js';
import { encodePeerId } from '../../protocol/peer-id.js';
import { openPeerRecord } from '../../protocol/peer-record.js';
import { hasEnd, otherEnd, type Circuit, type CircuitEnd } from './relay-circuit.js';
import type { Payer, RelayAccounts } from '../relay-accounts.js';
import { prefixOf, type Client } from '../relay-client.js';
import type { RelayClients } from '../relay-clients.js';
import type { RelayConsent } from './relay-consent.js';
import { isOwnAddress, refuse, type RelayHost, type RelayParts } from '../relay-host.js';
import { Neighbour, type RelayNeighbours } from '../relay-neighbours.js';
import { isCap, type Cap } from '../relay-limits.js';
import type { RelayRules } from '../relay-rules.js';
import { CIRCUIT_PREFIX, decodeStoredCircuit, encodeStoredCircuit } from '../relay-store.js';
import { AnswerTable } from '../../runtime/request-table.js';
import type { StandingPolicy } from '../../protocol/standing-policy.js';
import { TimerQueue } from '../../runtime/timer-queue.js';
import type { Turn } from '../../runtime/turn.js';

/** An offer unanswered for 250 + 500 + 1000 + 2000 ms: the callee is not there. */
const OFFER_TRIES = 4;
/** Answers remembered for a relay, which asks on behalf of many. */
const ANSWERS_PER_RELAY = 1024;
/** Circuits between the same two ends: one in use and one that replaces it. */
const CIRCUITS_PER_PAIR = 2;
/** A neighbour is asked again about the circuits over it one by one, 100 a second. */
const RECHECK_TICK_MS = 10;

/** What a circuit is opened with: by a client for itself, or by a relay for another's client. */
interface Opening {
  readonly caller: Client;
  readonly callerIdentity: Uint8Array;
  /** The calling end's record. */
  readonly record: Uint8Array;
  readonly callee: Uint8Array;
  readonly network: Uint8Array;
  readonly leg: LegKey;
  readonly request: number;
  readonly asked: Circuit['asked'];
  readonly id: Uint8Array;
  readonly path: readonly Uint8Array[];
}

export class RelayCircuits {
  readonly #parts: RelayParts;
  readonly #host: RelayHost;
  readonly #rules: RelayRules;
  readonly #neighbours: RelayNeighbours;
  readonly #accounts: RelayAccounts;
  readonly #refusals: Counter;
  readonly #clients: RelayClients;
  readonly #consent: RelayConsent;
  readonly #circuits = new Map<string, Circuit>();
  readonly #circuitsOf = new Counter();
  readonly #answers = new AnswerTable();
  readonly #expiries = new TimerQueue<Circuit>();
  readonly #rechecks = new TimerQueue<Circuit>();
  #halfOpen = 0;

  constructor(parts: RelayParts, clients: RelayClients, consent: RelayConsent) {
    this.#parts = parts;
    this.#host = parts.host;
    this.#rules = parts.rules;
    this.#neighbours = parts.neighbours;
    this.#accounts = parts.accounts;
    this.#refusals = parts.refusals;
    this.#clients = clients;
    this.#consent = consent;
  }

  /** Takes up what the store holds; the ends have to be there already. */
  restore(restored: ReadonlyMap<string, Uint8Array>, turn: Turn): void {
    for (const [key, value] of restored)
      if (key.startsWith(CIRCUIT_PREFIX) && !this.#restoreCircuit(value, turn))
        turn.emit({ type: 'persist', key, value: undefined });
  }

  get size(): number {
    return this.#circuits.size;
  }

  get halfOpen(): number {
    return this.#halfOpen;
  }

  get(id: Uint8Array): Circuit | undefined {
    return this.#circuits.get(toHex(id));
  }

  all(): Iterable<Circuit> {
    return this.#circuits.values();
  }

  status(now: number): CircuitStatus[] {
    return [...this.#circuits.values()].map((circuit) => ({
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
    for (const circuit of this.#expiries.allDue(turn.now)) this.#close(circuit, turn);
    for (const circuit of this.#rechecks.allDue(turn.now)) this.#recheck(circuit, turn);
  }

  deadline(): number | undefined {
    return earliest(this.#expiries.next(), this.#rechecks.next());
  }

  // What follows an end

  /** The circuits of an end that is gone; the other ends are told. */
  closeAll(end: CircuitEnd, turn: Turn): void {
    for (const circuit of [...end.circuits]) this.#close(circuit, turn, otherEnd(circuit, end.key));
  }

  /** A client is gone, and what it asked. */
  clientGone(client: Client, turn: Turn): void {
    this.closeAll(client, turn);
    this.#answers.forget(client.key);
  }

  /** An end has another address. */
  moved(end: CircuitEnd, turn: Turn): void {
    for (const circuit of end.circuits) this.#install(circuit, turn);
  }

  /** Ends circuits the rules no longer allow; the others go on under the new limits. */
  rulesChanged(turn: Turn): void {
    for (const circuit of [...this.#circuits.values()]) {
      const { caller, callee, callerIdentity, calleeIdentity, network } = circuit;
      const allowed = this.#rules.allows(callerIdentity) && this.#rules.allows(calleeIdentity);
      if (!allowed || !this.#rules.serves(toHex(network))) {
        this.#removeCircuit(circuit, turn, allowed ? 'not-served' : 'denied');
        if (circuit.legCallee !== undefined)
          for (const end of [caller, callee]) this.#tellClosed(end, circuit.id, turn);
        continue;
      }
      const most = Math.min(turn.now + this.#rules.limits.circuitSeconds * 1000, this.#endsAt(circuit));
      if (circuit.legCallee !== undefined && circuit.expiresAt > most)
        this.#prolong(circuit, Math.max(0, (most - turn.now) / 1000), turn);
      else this.#install(circuit, turn);
    }
  }

  /** A neighbour may have forgotten circuits. */
  neighbourReady(key: SessionKey, turn: Turn): void {
    const ends = [this.#neighbours.get(key), this.#clients.get(key)];
    const circuits = ends.flatMap((end) => [...(end?.circuits ?? [])]);
    circuits.forEach((circuit, index) => this.#rechecks.set(circuit, turn.now + index * RECHECK_TICK_MS));
  }

  /** A neighbour fell silent: what went over it is opened elsewhere, half-open circuits by us. */
  neighbourLost(key: SessionKey, turn: Turn): void {
    for (const circuit of [...(this.#neighbours.get(key)?.circuits ?? [])])
      if (circuit.legCallee === undefined) this.#askNext(circuit, 'callee-offline', turn);
      else this.#close(circuit, turn, circuit.caller, circuit.callee);
    const client = this.#clients.get(key);
    for (const circuit of [...(client?.circuits ?? [])])
      if (circuit.path.length > 0 && circuit.caller === client)
        this.#close(circuit, turn, circuit.caller, circuit.callee);
  }

  // Messages

  handleOpen(peer: SessionKey, request: number, message: MessageOf<'circuit-open'>, turn: Turn): void {
    this.#answerOpening(peer, request, message.type, turn, (client) => {
      const { registration } = client;
      if (registration === undefined) return 'not-registered';
      if (!registration.networks.includes(toHex(message.network))) return 'not-a-member';
      return this.#open(
        {
          ...message,
          caller: client,
          callerIdentity: client.identity,
          record: registration.record.bytes,
          request,
          asked: message.type,
          id: turn.random(16),
          path: [],
        },
        turn,
      );
    });
  }

  /** A relay we know asks on behalf of a client of its own, or of a relay before it. */
  handleExtend(peer: SessionKey, request: number, message: MessageOf<'circuit-extend'>, turn: Turn): void {
    this.#answerOpening(peer, request, message.type, turn, (client) => {
      if (client.registration === undefined) return 'not-registered';
      if (!this.#neighbours.knows(client.identity)) return 'denied';
      const { path, circuit, network, callee, leg } = message;
      const isIn = path.some((relay) => sameBytes(relay, this.#host.identity));
      if (isIn || this.#circuits.has(toHex(circuit))) return 'loop';
      if (!sameBytes(path.at(-1) ?? this.#host.identity, client.identity)) return 'denied';
      const record = openPeerRecord(this.#host.primitives, message.caller, turn.step.wallClock);
      if (typeof record === 'string') return recordRefusal(record);
      if (!this.#rules.allows(record.identity)) return 'denied';
      if (!this.#rules.servedOf(record).includes(toHex(network))) return 'not-served';
      const callerIdentity = record.identity;
      return this.#open(
        {
          caller: client,
          callerIdentity,
          record: record.bytes,
          callee,
          network,
          leg,
          request,
          asked: message.type,
          id: circuit,
          path,
        },
        turn,
      );
    });
  }

  handleRefresh(peer: SessionKey, request: number, message: MessageOf<'circuit-refresh'>, turn: Turn): void {
    const circuit = this.#circuits.get(toHex(message.circuit));
    if (circuit?.legCallee === undefined || !hasEnd(circuit, peer)) {
      refuse(this.#parts, peer, request, message.type, 'unknown-circuit', turn);
      return;
    }
    const other = otherEnd(circuit, peer);
    const lifetime = this.#lifetime(circuit, turn);
    if (lifetime < 1) {
      this.#close(circuit, turn, other);
      refuse(this.#parts, peer, request, message.type, 'unknown-circuit', turn);
      return;
    }
    if (!this.#isRelayEnd(circuit, other)) {
      this.#prolong(circuit, lifetime, turn);
      turn.send(peer, request, { type: 'circuit-refreshed', circuit: message.circuit, lifetime });
      return;
    }
    // The rest of the circuit is the other relay's to promise: a refresh goes all the way.
    if (!this.#answers.begin(peer, request, turn)) return;
    this.#refreshAt(other, circuit, turn, (promised, later) => {
      this.#answers.answer(
        peer,
        request,
        promised === undefined
          ? { type: 'refused', reason: 'unknown-circuit', what: message.type }
          : { type: 'circuit-refreshed', circuit: message.circuit, lifetime: promised },
        later,
      );
    });
  }

  handleClose(peer: SessionKey, request: number, message: MessageOf<'circuit-close'>, turn: Turn): void {
    const circuit = this.#circuits.get(toHex(message.circuit));
    if (circuit !== undefined && hasEnd(circuit, peer)) this.#close(circuit, turn, otherEnd(circuit, peer));
    turn.send(peer, request, { type: 'circuit-closed', circuit: message.circuit });
  }

  // Opening

  /** Carries a request to open a circuit out once, however often it is repeated. */
  #answerOpening(
    peer: SessionKey,
    request: number,
    what: Circuit['asked'],
    turn: Turn,
    open: (client: Client) => Refusal | Cap | undefined,
  ): void {
    const client = this.#clients.get(peer);
    if (client === undefined) {
      refuse(this.#parts, peer, request, what, 'not-registered', turn);
      return;
    }
    const remembered = this.#neighbours.knows(client.identity) ? ANSWERS_PER_RELAY : undefined;
    if (!this.#answers.begin(peer, request, turn, remembered)) return;
    const refused = open(client);
    if (refused === undefined) return;
    this.#refusals.add(refused, 1);
    const reason = isCap(refused) ? 'capacity' : refused;
    this.#answers.answer(peer, request, { type: 'refused', reason, what }, turn);
  }

  /** @returns why not; undefined when the callee is being asked, or has accepted in advance. */
  #open(opening: Opening, turn: Turn): Refusal | Cap | undefined {
    const { caller, callerIdentity, callee, network, path, id } = opening;
    if (sameBytes(callee, callerIdentity)) return 'own-address';
    const [first, ...others] = this.#ways(opening);
    if (first === undefined) return 'callee-offline';
    if (isOwnAddress(this.#host, first.address) || isOwnAddress(this.#host, caller.address))
      return 'own-address';
    const between = [...caller.circuits].filter((circuit) => joins(circuit, callerIdentity, callee));
    const [oldest] = between;
    if (between.length >= CIRCUITS_PER_PAIR && oldest !== undefined)
      this.#close(oldest, turn, oldest.caller, oldest.callee);
    const counted = countersOf({ ...opening, callee: first, calleeIdentity: callee });
    const policy = this.#policyOf(first, opening, turn);
    const crowded =
      this.#crowded(counted) ??
      (policy === undefined ? this.#crowdedHalfOpen(halfOpenOf(opening)) : undefined) ??
      this.#crowdedEnd(caller, network) ??
      this.#crowdedEnd(first, network);
    if (crowded !== undefined) return crowded;
    const circuit: Circuit = {
      id,
      name: toHex(id),
      network,
      caller,
      callee: first,
      callerIdentity,
      calleeIdentity: callee,
      path,
      legCaller: opening.leg,
      policy: policy?.serial,
      legCallee: undefined,
      fromCaller: this.#host.legs.create(turn),
      fromCallee: this.#host.legs.create(turn),
      joined: false,
      request: opening.request,
      asked: opening.asked,
      asking: { record: opening.record, others },
      counted,
      charged: undefined,
      openedAt: turn.now,
      countedSince: turn.now,
      expiresAt: turn.now + this.#rules.limits.circuitSeconds * 1000,
    };
    this.#addCircuit(circuit);
    this.#halfOpen++;
    this.#circuitsOf.add(halfOpenOf(circuit), 1);
    const prepared = policy && this.#consent.takeLeg(first.key, turn);
    if (prepared === undefined) this.#ask(circuit, turn);
    else this.#setUp(circuit, prepared, turn);
    return undefined;
  }

  /** The standing policy of a callee that is our client and accepts this without being asked. */
  #policyOf(end: CircuitEnd, { callerIdentity, network }: Opening, turn: Turn): StandingPolicy | undefined {
    const client = this.#clients.get(end.key);
    return client === end ? this.#consent.covering(client, callerIdentity, network, turn) : undefined;
  }

  /**
   * Where a callee is found: its session with us, or else the relays that have it, the best first. This
   * is how anything for an identity finds its way: a request never names an address.
   */
  #ways({ callee, network, path }: Opening): CircuitEnd[] {
    const client = this.#clients.registered(callee);
    if (client?.registration?.networks.includes(toHex(network)) === true) return [client];
    if (path.length + 2 > MAX_CIRCUIT_RELAYS) return [];
    return this.#neighbours.towards(callee, [...path, callee]);
  }

  /** The cap that one more circuit counted so would exceed. */
  #crowded(counted: readonly string[]): Cap | undefined {
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
        if (counter.startsWith(what) && this.#circuitsOf.get(counter) >= most) return cap;
    return undefined;
  }

  /** The cap that one more circuit that waits for consent, counted so, would exceed. */
  #crowdedHalfOpen(counter: string): Cap | undefined {
    const { halfOpen, halfOpenPerIdentity } = this.#rules.limits;
    if (this.#halfOpen >= halfOpen) return 'half-open';
    return this.#circuitsOf.get(counter) >= halfOpenPerIdentity ? 'half-open-per-identity' : undefined;
  }

  #crowdedEnd(end: CircuitEnd, network: Uint8Array): Cap | undefined {
    const { circuitsPerRelay, circuitsPerIdentity } = this.#rules.limits;
    if (this.#neighbours.knows(end.identity))
      return end.circuits.size >= circuitsPerRelay ? 'circuits-per-relay' : undefined;
    const { circuits = circuitsPerIdentity } = this.#rules.classOf(end.identity, [toHex(network)]);
    return end.circuits.size >= circuits ? 'circuits-per-identity' : undefined;
  }

  /** When a circuit ends for good, by the classes of those who pay. */
  #endsAt({ caller, callee, network, openedAt }: Circuit): number {
    const networks = [toHex(network)];
    const seconds = [caller, callee].map(
      ({ identity }) => this.#rules.classOf(identity, networks).seconds ?? Infinity,
    );
    return openedAt + Math.min(...seconds) * 1000;
  }

  /** Seconds a circuit may be promised now. */
  #lifetime(circuit: Circuit, turn: Turn): number {
    const left = Math.floor((this.#endsAt(circuit) - turn.now) / 1000);
    return Math.min(this.#rules.limits.circuitSeconds, left);
  }

  /** Asks the callee's side for its consent. */
  #ask(circuit: Circuit, turn: Turn): void {
    const { id, network, fromCallee, callee, asking } = circuit;
    if (asking === undefined) return;
    const common = { circuit: id, caller: asking.record, network, leg: fromCallee } as const;
    if (!(callee instanceof Neighbour)) {
      const offer = {
        type: 'circuit-offer',
        ...common,
        lifetime: Math.max(1, this.#lifetime(circuit, turn)),
      } as const;
      this.#host.requests.send(
        callee.key,
        offer,
        turn,
        (answer, later) => {
          if (this.#circuits.get(circuit.name) !== circuit) return;
          const held = this.#clients.registered(circuit.calleeIdentity)?.registration?.record;
          if (answer?.type !== 'circuit-accept') this.#removeCircuit(circuit, later, answer?.reason);
          else if (held !== undefined) {
            circuit.joined = true;
            this.#established(circuit, answer.leg, held.bytes, Infinity, later);
          }
        },
        OFFER_TRIES,
      );
      return;
    }
    const path = [...circuit.path, this.#host.identity];
    const message = { type: 'circuit-extend', ...common, callee: circuit.calleeIdentity, path } as const;
    if (messageSize(message) > MAX_CONTROL_BODY) {
      this.#removeCircuit(circuit, turn, 'bad-record');
      return;
    }
    this.#host.neighbourRequests.send(callee.key, message, turn, (answer, later) => {
      if (this.#circuits.get(circuit.name) !== circuit || circuit.callee !== callee) {
        // The caller is gone, or another neighbour is asked by now.
        if (answer?.type === 'circuit-granted') this.#tellClosed(callee, circuit.id, later);
        return;
      }
      if (answer?.type === 'circuit-granted') {
        if (this.#isOf(answer.callee, circuit.calleeIdentity, later)) {
          circuit.joined = true;
          this.#established(circuit, answer.leg, answer.callee, answer.lifetime, later);
        } else {
          this.#tellClosed(callee, circuit.id, later);
          this.#removeCircuit(circuit, later, 'bad-record');
        }
        return;
      }
      this.#askNext(circuit, answer?.reason, later);
    });
  }

  /**
   * Joins both ends at once, on a leg the callee prepared. The callee is told before the caller, so that
   * it knows of the circuit when the first frame of it arrives.
   */
  #setUp(circuit: Circuit, prepared: LegKey, turn: Turn): void {
    const { id, network, fromCallee, callee, asking } = circuit;
    const record = this.#clients.registered(circuit.calleeIdentity)?.registration?.record;
    if (asking === undefined || record === undefined) return;
    const opened = {
      type: 'circuit-opened',
      circuit: id,
      caller: asking.record,
      network,
      leg: fromCallee,
      on: prepared.id,
      lifetime: Math.max(1, this.#lifetime(circuit, turn)),
    } as const;
    this.#host.requests.send(
      callee.key,
      opened,
      turn,
      (answer, later) => {
        const stands = this.#circuits.get(circuit.name) === circuit;
        if (answer?.type === 'circuit-joined') {
          this.#consent.addLeg(callee.key, answer.leg, later);
          if (!stands) this.#tellClosed(callee, id, later);
          circuit.joined = true;
          if (stands) this.#persistCircuit(circuit, later);
          return;
        }
        // Both ends called at once and this call gives way; anything else contradicts the policy.
        if (answer?.reason !== 'busy') this.#consent.suspend(callee.key, circuit.policy, later);
        if (!stands) return;
        this.#refusals.add(answer?.reason ?? 'callee-offline', 1);
        this.#close(circuit, later, circuit.caller);
      },
      OFFER_TRIES,
    );
    this.#established(circuit, prepared, record.bytes, Infinity, turn);
  }

  /** Asks another neighbour in place of the one that refused or fell silent. */
  #askNext(circuit: Circuit, reason: Refusal | undefined, turn: Turn): void {
    const [next, ...others] = circuit.asking?.others ?? [];
    if (circuit.asking === undefined || next === undefined || this.#crowdedEnd(next, circuit.network)) {
      this.#removeCircuit(circuit, turn, reason);
      return;
    }
    circuit.asking = { ...circuit.asking, others };
    circuit.callee.circuits.delete(circuit);
    circuit.callee = next;
    next.circuits.add(circuit);
    this.#ask(circuit, turn);
  }

  /** Whether a record is a valid one of this identity. */
  #isOf(bytes: Uint8Array, identity: Uint8Array, turn: Turn): boolean {
    const record = openPeerRecord(this.#host.primitives, bytes, turn.step.wallClock);
    return typeof record !== 'string' && sameBytes(record.identity, identity);
  }

  #established(circuit: Circuit, legCallee: LegKey, callee: Uint8Array, promised: number, turn: Turn): void {
    circuit.legCallee = legCallee;
    circuit.asking = undefined;
    this.#noLongerHalfOpen(circuit);
    this.#charge(circuit, turn);
    const lifetime = Math.max(1, Math.min(promised, this.#lifetime(circuit, turn)));
    this.#prolong(circuit, lifetime, turn);
    const { caller, request, id, fromCaller } = circuit;
    const granted = { type: 'circuit-granted', circuit: id, callee, leg: fromCaller, lifetime } as const;
    this.#answers.answer(caller.key, request, granted, turn);
  }

  #addCircuit(circuit: Circuit): void {
    this.#circuits.set(circuit.name, circuit);
    circuit.caller.circuits.add(circuit);
    circuit.callee.circuits.add(circuit);
    for (const counter of circuit.counted) this.#circuitsOf.add(counter, 1);
  }

  #noLongerHalfOpen(circuit: Circuit): void {
    this.#halfOpen--;
    this.#circuitsOf.add(halfOpenOf(circuit), -1);
  }

  /** Those next to us pay: for another relay's clients, that relay. */
  #charge(circuit: Circuit, turn: Turn): void {
    const { caller, callee, network } = circuit;
    circuit.charged = [caller.identity, callee.identity];
    this.#accounts.hold(
      circuit.charged.map((identity) => this.#payer(identity)),
      toHex(network),
      turn,
    );
  }

  #payer(identity: Uint8Array): Payer {
    return { identity, networks: this.#clients.registered(identity)?.registration?.networks ?? [] };
  }

  /** Whether this end of a circuit is another relay, with the rest of the circuit behind it. */
  #isRelayEnd(circuit: Circuit, end: CircuitEnd): boolean {
    return end === circuit.callee ? end instanceof Neighbour : circuit.path.length > 0;
  }

  /** Refreshes the part of a circuit behind another relay, and with it ours. */
  #refreshAt(
    end: CircuitEnd,
    circuit: Circuit,
    turn: Turn,
    done: (lifetime: number | undefined, later: Turn) => void,
  ): void {
    const { requests, neighbourRequests } = this.#host;
    const table = end instanceof Neighbour ? neighbourRequests : requests;
    table.send(end.key, { type: 'circuit-refresh', circuit: circuit.id }, turn, (answer, later) => {
      if (this.#circuits.get(circuit.name) !== circuit || answer === undefined) return;
      if (answer.type === 'circuit-refreshed') {
        const lifetime = Math.max(1, Math.min(answer.lifetime, this.#lifetime(circuit, later)));
        this.#prolong(circuit, lifetime, later);
        done(lifetime, later);
      } else {
        this.#close(circuit, later, otherEnd(circuit, end.key));
        done(undefined, later);
      }
    });
  }

  /** After a restart, of ours or of the neighbour: does it know this circuit? */
  #recheck(circuit: Circuit, turn: Turn): void {
    for (const end of [circuit.caller, circuit.callee])
      if (this.#isRelayEnd(circuit, end)) this.#refreshAt(end, circuit, turn, () => undefined);
  }

  /** Gives a circuit its lifetime again: legs, timer and store. */
  #prolong(circuit: Circuit, seconds: number, turn: Turn): void {
    circuit.expiresAt = turn.now + seconds * 1000;
    this.#expiries.set(circuit, circuit.expiresAt);
    this.#install(circuit, turn);
    this.#persistCircuit(circuit, turn);
  }

  /** Writes both forward legs; addresses are the ends' proven ones of this moment. */
  #install(circuit: Circuit, turn: Turn): void {
    const { caller, callee, legCaller, legCallee, fromCaller, fromCallee, charged } = circuit;
    if (legCallee === undefined || charged === undefined) return;
    const [callerCharging, calleeCharging] = charged.map((identity) =>
      this.#accounts.charging(this.#payer(identity), toHex(circuit.network), turn),
    ) as [LegCharging, LegCharging];
    const common = { action: 'forward', lifetimeMs: Math.max(1, circuit.expiresAt - turn.now) } as const;
    this.#host.legs.install(
      {
        ...fromCaller,
        ...common,
        charging: callerCharging,
        source: caller.address,
        next: { ...legCallee, address: callee.address },
      },
      turn,
    );
    this.#host.legs.install(
      {
        ...fromCallee,
        ...common,
        charging: calleeCharging,
        source: callee.address,
        next: { ...legCaller, address: caller.address },
      },
      turn,
    );
  }

  /** Ends a circuit and tells these ends. */
  #close(circuit: Circuit, turn: Turn, ...tell: readonly CircuitEnd[]): void {
    this.#removeCircuit(circuit, turn);
    for (const end of tell) this.#tellClosed(end, circuit.id, turn);
  }

  #tellClosed(end: CircuitEnd, circuit: Uint8Array, turn: Turn): void {
    const { requests, neighbourRequests } = this.#host;
    const table = end instanceof Neighbour ? neighbourRequests : requests;
    table.send(end.key, { type: 'circuit-close', circuit }, turn, () => undefined);
  }

  /** @param reason what a caller who still waits is told. */
  #removeCircuit(circuit: Circuit, turn: Turn, reason: Refusal = 'callee-offline'): void {
    if (!this.#circuits.delete(circuit.name)) return;
    if (circuit.legCallee === undefined) {
      this.#noLongerHalfOpen(circuit);
      this.#refusals.add(reason, 1);
      const refused = { type: 'refused', reason, what: circuit.asked } as const;
      this.#answers.answer(circuit.caller.key, circuit.request, refused, turn);
    } else {
      turn.emit({ type: 'persist', key: CIRCUIT_PREFIX + circuit.name, value: undefined });
      if (this.#lifetime(circuit, turn) < 1) this.#refusals.add('circuit-time', 1);
    }
    circuit.caller.circuits.delete(circuit);
    circuit.callee.circuits.delete(circuit);
    for (const counter of circuit.counted) this.#circuitsOf.add(counter, -1);
    if (circuit.charged !== undefined) this.#accounts.release(circuit.charged, toHex(circuit.network));
    this.#expiries.clear(circuit);
    this.#rechecks.clear(circuit);
    this.#host.legs.remove(circuit.fromCaller.id, turn);
    this.#host.legs.remove(circuit.fromCallee.id, turn);
  }

  // Across a restart

  #persistCircuit(circuit: Circuit, turn: Turn): void {
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
    const stored = decodeStoredCircuit(value);
    const caller = this.#clients.get(toHex(stored?.caller ?? new Uint8Array(0)));
    const calleeKey = toHex(stored?.callee ?? new Uint8Array(0));
    const callee = stored?.onward === true ? this.#neighbours.get(calleeKey) : this.#clients.get(calleeKey);
    if (stored === undefined || caller === undefined || callee === undefined) return false;
    const leftMs = Math.min(
      stored.expires * 1000 - turn.step.wallClock,
      this.#rules.limits.circuitSeconds * 1000,
    );
    if (leftMs <= 0 || this.#circuits.size >= this.#rules.limits.circuits) return false;
    const circuit: Circuit = {
      ...stored,
      name: toHex(stored.id),
      caller,
      callee,
      joined: true,
      request: 0,
      asked: stored.path.length > 0 ? 'circuit-extend' : 'circuit-open',
      asking: undefined,
      counted: countersOf({ ...stored, caller, callee }),
      charged: undefined,
      openedAt: turn.now - Math.max(0, turn.step.wallClock - stored.opened * 1000),
      countedSince: turn.now,
      expiresAt: turn.now + leftMs,
    };
    if (this.#lifetime(circuit, turn) < 1) return false;
    circuit.expiresAt = Math.min(circuit.expiresAt, this.#endsAt(circuit));
    this.#addCircuit(circuit);
    this.#charge(circuit, turn);
    this.#expiries.set(circuit, circuit.expiresAt);
    this.#install(circuit, turn);
    return true;
  }
}

/** Whether a circuit is between these two ends, whoever called. */
function joins({ callerIdentity, calleeIdentity }: Circuit, a: Uint8Array, b: Uint8Array): boolean {
  const either = (identity: Uint8Array): boolean => sameBytes(identity, a) || sameBytes(identity, b);
  return either(callerIdentity) && either(calleeIdentity);
}

/**
 * What the caps count a circuit under, beside either neighbour's own set. An end behind another relay
 * counts apart from our own clients of that identity: no relay spends what a client of ours may have.
 */
function countersOf({
  path,
  network,
  caller,
  callerIdentity,
  callee,
  calleeIdentity,
}: Pick<Circuit, 'path' | 'network' | 'caller' | 'callerIdentity' | 'callee' | 'calleeIdentity'>): string[] {
  const onward = callee instanceof Neighbour ? [`callee ${toHex(calleeIdentity)} elsewhere`] : [];
  const calling =
    path.length === 0 ? prefixOf(caller.address) : `caller ${toHex(callerIdentity)} of ${caller.key}`;
  return [calling, `network ${toHex(network)}`, ...onward];
}

/** Under what a circuit counts while it waits for consent. */
function halfOpenOf({ callerIdentity, caller }: Pick<Circuit, 'callerIdentity' | 'caller'>): string {
  return `half-open ${toHex(callerIdentity)} of ${caller.key}`;
}
