// Opening a circuit: a client asks for one, or another relay does for a client of its own. Either is
// checked and counted here; then the callee is asked, or has accepted in advance.

import type { SessionKey } from '../../../contract/engine.js';
import type { LegKey } from '../../../wire/leg.js';
import { sameBytes, toHex } from '../../../wire/bytes.js';
import type { MessageOf } from '../../protocol/control-message.js';
import { MAX_CIRCUIT_RELAYS } from '../../protocol/message-limits.js';
import { recordRefusal, type Refusal } from '../../protocol/refusal.js';
import { openPeerRecord } from '../../protocol/peer-record.js';
import type { StandingPolicy } from '../../protocol/standing-policy.js';
import type { Turn } from '../../runtime/turn.js';
import type { Client } from '../relay-client.js';
import { isOwnAddress, refuse, type RelayHost } from '../relay-host.js';
import { isCap, type Cap } from '../relay-limits.js';
import type { CalleeAsking } from './callee-asking.js';
import type { CircuitLifetime } from './circuit-lifetime.js';
import type { CircuitParts } from './circuit-parts.js';
import type { Circuit, CircuitEnd } from '../relay-circuit.js';
import { setUpUnderPolicy } from './standing-set-up.js';

/** Answers remembered for a relay, which asks on behalf of many. */
export const ANSWERS_PER_RELAY = 1024;
/** Circuits between the same two ends: one in use and one that replaces it. */
const CIRCUITS_PER_PAIR = 2;

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

export class CircuitOpening {
  readonly #parts: CircuitParts;
  readonly #host: RelayHost;
  readonly #lifetime: CircuitLifetime;
  readonly #asking: CalleeAsking;

  constructor(parts: CircuitParts, lifetime: CircuitLifetime, asking: CalleeAsking) {
    this.#parts = parts;
    this.#host = parts.host;
    this.#lifetime = lifetime;
    this.#asking = asking;
  }

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
      if (!this.#parts.neighbours.knows(client.identity)) return 'denied';
      const { path, circuit, network, callee, leg } = message;
      const isIn = path.some((relay) => sameBytes(relay, this.#host.identity));
      if (isIn || this.#parts.table.get(circuit) !== undefined) return 'loop';
      if (!sameBytes(path.at(-1) ?? this.#host.identity, client.identity)) return 'denied';
      const record = openPeerRecord(this.#host.primitives, message.caller, turn.step.wallClock);
      if (typeof record === 'string') return recordRefusal(record);
      if (!this.#parts.rules.allows(record.identity)) return 'denied';
      if (!this.#parts.rules.servedOf(record).includes(toHex(network))) return 'not-served';
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

  /** Carries a request to open a circuit out once, however often it is repeated. */
  #answerOpening(
    peer: SessionKey,
    request: number,
    what: Circuit['asked'],
    turn: Turn,
    open: (client: Client) => Refusal | Cap | undefined,
  ): void {
    const { clients, neighbours, answers, refusals } = this.#parts;
    const client = clients.get(peer);
    if (client === undefined) {
      refuse(this.#parts, peer, request, what, 'not-registered', turn);
      return;
    }
    const remembered = neighbours.knows(client.identity) ? ANSWERS_PER_RELAY : undefined;
    if (!answers.begin(peer, request, turn, remembered)) return;
    const refused = this.#parts.drain.isOn ? 'draining' : open(client);
    if (refused === undefined) return;
    refusals.add(refused, 1);
    const reason = isCap(refused) ? 'capacity' : refused;
    answers.answer(peer, request, { type: 'refused', reason, what }, turn);
  }

  /** @returns why not; undefined when the callee is being asked, or has accepted in advance. */
  #open(opening: Opening, turn: Turn): Refusal | Cap | undefined {
    const { caller, callerIdentity, callee, network, path, id } = opening;
    const { table, rules, consent } = this.#parts;
    if (sameBytes(callee, callerIdentity)) return 'own-address';
    const [first, ...others] = this.#ways(opening);
    if (first === undefined) return 'callee-offline';
    if (isOwnAddress(this.#host, first.address) || isOwnAddress(this.#host, caller.address))
      return 'own-address';
    const between = table.between(caller, callerIdentity, callee);
    const [oldest] = between;
    if (between.length >= CIRCUITS_PER_PAIR && oldest !== undefined)
      this.#lifetime.close(oldest, turn, oldest.caller, oldest.callee);
    const policy = this.#policyOf(first, opening, turn);
    const wanted = { path, network, caller, callerIdentity, callee: first, calleeIdentity: callee };
    for (;;) {
      const crowded = table.crowded(wanted, policy === undefined);
      if (crowded === undefined) break;
      if (crowded.displaced === undefined) return crowded.cap;
      this.#lifetime.displace(crowded.displaced, turn);
    }
    const circuit: Circuit = {
      id,
      name: toHex(id),
      ...wanted,
      legCaller: opening.leg,
      policy: policy?.serial,
      legCallee: undefined,
      fromCaller: this.#host.legs.create(turn),
      fromCallee: this.#host.legs.create(turn),
      joined: false,
      request: opening.request,
      asked: opening.asked,
      asking: { record: opening.record, others },
      charged: undefined,
      openedAt: turn.now,
      countedSince: turn.now,
      expiresAt: turn.now + rules.limits.circuitSeconds * 1000,
    };
    table.add(circuit);
    const prepared = policy && consent.takeLeg(first.key, turn);
    if (prepared === undefined) this.#asking.ask(circuit, turn);
    else setUpUnderPolicy(this.#parts, this.#lifetime, circuit, prepared, turn);
    return undefined;
  }

  /** The standing policy of a callee that is our client and accepts this without being asked. */
  #policyOf(end: CircuitEnd, { callerIdentity, network }: Opening, turn: Turn): StandingPolicy | undefined {
    const { clients, consent } = this.#parts;
    const client = clients.get(end.key);
    return client === end ? consent.covering(client, callerIdentity, network, turn) : undefined;
  }

  /**
   * Where a callee is found: its session with us, or else the relays that have it, the best first. This
   * is how anything for an identity finds its way: a request never names an address.
   */
  #ways({ callee, network, path }: Opening): CircuitEnd[] {
    const { clients, neighbours } = this.#parts;
    const client = clients.registered(callee);
    // It is offered nothing where it has not shown to receive.
    if (client?.registration?.networks.includes(toHex(network)) === true)
      return client.challenged === undefined ? [client] : [];
    if (path.length + 2 > MAX_CIRCUIT_RELAYS) return [];
    return neighbours.towards(callee, [...path, callee]);
  }
}
