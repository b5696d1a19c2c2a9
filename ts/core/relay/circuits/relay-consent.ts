// The standing policies a relay holds: one of each registered client that gave it one, with the legs
// that client keeps prepared. It goes with the registration.

import type { SessionKey } from '../../../contract/engine.js';
import type { LegKey } from '../../../wire/leg.js';
import { sameBytes } from '../../../wire/bytes.js';
import type { MessageOf } from '../../protocol/control-message.js';
import type { Refusal } from '../../protocol/refusal.js';
import type { Client } from '../relay-client.js';
import type { RelayClients } from '../relay-clients.js';
import { refuse, type RelayParts } from '../relay-host.js';
import { decodeStoredPolicy, encodeStoredPolicy, POLICY_PREFIX } from '../relay-store.js';
import { BoundedTable } from '../../runtime/bounded-table.js';
import { AnswerTable } from '../../runtime/request-table.js';
import {
  accepts,
  openStandingPolicy,
  PREPARED_LEGS,
  type StandingPolicy,
} from '../../protocol/standing-policy.js';
import type { Turn } from '../../runtime/turn.js';

interface Held {
  readonly policy: StandingPolicy;
  /** What the callee receives the next circuits on, the oldest first. */
  readonly legs: LegKey[];
}

export class RelayConsent {
  readonly #parts: RelayParts;
  readonly #clients: RelayClients;
  readonly #held: BoundedTable<SessionKey, Held, 'client'>;
  readonly #answers = new AnswerTable(() => this.#parts.rules.limits.admissions);

  constructor(parts: RelayParts, clients: RelayClients) {
    this.#parts = parts;
    this.#clients = clients;
    this.#held = new BoundedTable(() => ({
      total: parts.rules.limits.registrations,
      shares: { client: 1 },
    }));
  }

  /** Takes up what the store holds; the clients have to be there already. */
  restore(restored: ReadonlyMap<string, Uint8Array>, turn: Turn): void {
    for (const [key, value] of restored)
      if (key.startsWith(POLICY_PREFIX) && !this.#restorePolicy(key.slice(POLICY_PREFIX.length), value, turn))
        turn.emit({ type: 'persist', key, value: undefined });
  }

  /** Policies in force. @param wallClock milliseconds since 1970. */
  size(wallClock: number): number {
    return [...this.#held.values()].filter(({ policy }) => isInForce(policy, wallClock)).length;
  }

  handle(peer: SessionKey, request: number, message: MessageOf<'standing-policy'>, turn: Turn): void {
    const client = this.#clients.get(peer);
    if (client?.registration === undefined) {
      refuse(this.#parts, peer, request, message.type, 'not-registered', turn);
      return;
    }
    // Carried out once: a repetition brings legs that may have been used and freed since.
    if (!this.#answers.begin(peer, request, turn)) return;
    const taken = this.#take(client, message, turn);
    if (typeof taken === 'string') {
      this.#parts.refusals.add(taken, 1);
      this.#answers.answer(peer, request, { type: 'refused', reason: taken, what: message.type }, turn);
    } else this.#answers.answer(peer, request, { type: 'policy-held', serial: taken.serial }, turn);
  }

  /** The policy by which a circuit to this client can be set up at once; undefined = it is to be asked. */
  covering({ key }: Client, caller: Uint8Array, network: Uint8Array, turn: Turn): StandingPolicy | undefined {
    const held = this.#held.get(key);
    if (held === undefined || held.legs.length === 0) return undefined;
    return isInForce(held.policy, turn.step.wallClock) && accepts(held.policy, caller, network)
      ? held.policy
      : undefined;
  }

  /** The leg the client receives one more circuit on. */
  takeLeg(key: SessionKey, turn: Turn): LegKey | undefined {
    const held = this.#held.get(key);
    const leg = held?.legs.shift();
    if (held !== undefined && leg !== undefined) this.#persist(key, held, turn);
    return leg;
  }

  /** The client joined a circuit and prepared another leg. */
  addLeg(key: SessionKey, leg: LegKey, turn: Turn): void {
    const held = this.#held.get(key);
    if (held === undefined || held.legs.length >= PREPARED_LEGS) return;
    if (held.legs.some(({ id }) => id === leg.id)) return;
    held.legs.push(leg);
    this.#persist(key, held, turn);
  }

  /** The client did not join a circuit under this policy: it is asked from now on, until it gives legs again. */
  suspend(key: SessionKey, serial: number | undefined, turn: Turn): void {
    const held = this.#held.get(key);
    if (held === undefined || held.policy.serial !== serial || held.legs.length === 0) return;
    held.legs.length = 0;
    this.#persist(key, held, turn);
  }

  /** The client is registered no longer, or was restarted. */
  release(key: SessionKey, turn: Turn): void {
    this.#answers.forget(key);
    if (this.#held.delete(key)) turn.emit({ type: 'persist', key: POLICY_PREFIX + key, value: undefined });
  }

  #take(client: Client, message: MessageOf<'standing-policy'>, turn: Turn): StandingPolicy | Refusal {
    const policy = this.#open(client, message.policy, turn);
    if (policy === undefined) return 'bad-policy';
    const before = this.#held.get(client.key)?.policy;
    if (before !== undefined && policy.serial <= before.serial && !sameBytes(policy.bytes, before.bytes))
      return 'stale-policy';
    const inUse = new Set([...client.circuits].map(({ legCallee }) => legCallee?.id));
    const held = { policy, legs: message.legs.filter(({ id }) => !inUse.has(id)) };
    if (this.#held.set(client.key, held, { client: client.key }) !== undefined) return 'capacity';
    this.#persist(client.key, held, turn);
    return policy;
  }

  #open({ registration }: Client, bytes: Uint8Array, turn: Turn): StandingPolicy | undefined {
    const { primitives, identity: relay } = this.#parts.host;
    if (registration === undefined) return undefined;
    const { identity } = registration.record;
    const policy = openStandingPolicy(primitives, bytes, { identity, relay }, turn.step.wallClock);
    return typeof policy === 'string' ? undefined : policy;
  }

  #persist(key: SessionKey, { policy, legs }: Held, turn: Turn): void {
    const value = encodeStoredPolicy({ policy: policy.bytes, legs });
    turn.emit({ type: 'persist', key: POLICY_PREFIX + key, value });
  }

  #restorePolicy(key: SessionKey, value: Uint8Array, turn: Turn): boolean {
    const stored = decodeStoredPolicy(value);
    const client = this.#clients.get(key);
    const policy = stored && client && this.#open(client, stored.policy, turn);
    if (stored === undefined || policy === undefined) return false;
    return this.#held.set(key, { policy, legs: [...stored.legs] }, { client: key }) === undefined;
  }
}

function isInForce({ notAfter }: StandingPolicy, wallClock: number): boolean {
  return notAfter * 1000 > wallClock;
}
