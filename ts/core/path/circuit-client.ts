// The ends of circuits: opening one when the path agent wants a way to a member, consenting to those others
// open, and keeping them alive while they are used.

import type { PeerEndpoint, SessionKey } from '../../contract/engine.js';
import { UNCHARGED, type LegKey, type LegTarget } from '../../wire/leg.js';
import { sameSocketAddress } from '../../wire/socket-address.js';
import type { Uplink } from '../uplink/uplink.js';
import { compareBytes, fromHex, sameBytes, toHex } from '../../wire/bytes.js';
import type { MessageOf } from '../protocol/control-message.js';
import { recordRefusal, type Refusal } from '../protocol/refusal.js';
import type { Primitives } from '../../contract/primitives.js';
import type { LegIds } from '../runtime/leg-ids.js';
import { MAX_MEMBERS, type Member, type MemberTable } from '../members/member-table.js';
import type { Candidate, CandidateSource, CandidateUser } from './candidate.js';
import type { OwnPolicy } from './own-policy.js';
import { openPeerRecord } from '../protocol/peer-record.js';
import type { PeerTable } from '../runtime/peer-table.js';
import type { RuledWays } from './ruled-ways.js';
import { earliest } from '../runtime/earliest.js';
import { AnswerTable, type RequestTable } from '../runtime/request-table.js';
import { TimerQueue } from '../runtime/timer-queue.js';
import type { Turn } from '../runtime/turn.js';

/** Circuits held with one member: the one in use and those that replace or precede it. */
export const CIRCUITS_PER_MEMBER = 4;
/** What the node lends to its circuit client. */
export interface CircuitHost {
  readonly primitives: Primitives;
  readonly identity: Uint8Array;
  readonly requests: RequestTable;
  readonly legs: LegIds;
  readonly peers: PeerTable;
  readonly members: MemberTable;
  readonly rules: RuledWays;
  /** Undefined = every circuit is asked for. */
  readonly policy: OwnPolicy | undefined;
  uplinks(): Iterable<Uplink>;
}

/** A circuit of ours, as others in this node see it. */
export interface HeldCircuit {
  /** Lower-case hex. */
  readonly id: string;
  readonly relay: SessionKey;
  readonly member: SessionKey;
  /** What we receive on. */
  readonly leg: number;
  /** Whether we opened it. */
  readonly calling: boolean;
  /** Monotonic ms when it came to be. */
  readonly since: number;
}

interface Circuit extends Candidate {
  readonly kind: 'circuit';
  /** Lower-case hex. */
  readonly id: string;
  readonly relay: SessionKey;
  readonly calling: boolean;
  readonly since: number;
  /** What we receive on. */
  readonly local: LegKey;
  /** What we send on; its address is the relay's. */
  remote: LegTarget;
  expiresAt: number;
  /** Whether a session was made over it (which only data does) since the last refresh. */
  used: boolean;
}

/** The request for a circuit under way. */
interface Opening {
  readonly local: LegKey;
  readonly relay: SessionKey;
}

export class CircuitClient implements CandidateSource {
  readonly #host: CircuitHost;
  readonly #user: CandidateUser;
  /** By `circuitKey`: two relays may choose the same id. */
  readonly #circuits = new Map<string, Circuit>();
  /** In the order they came to be. */
  readonly #byMember = new Map<SessionKey, Circuit[]>();
  readonly #byLeg = new Map<number, Circuit>();
  /** By member; a stale answer finds another object here. */
  readonly #openings = new Map<SessionKey, Opening>();
  /** When circuits that are used are refreshed. */
  readonly #refreshes = new TimerQueue<Circuit>();
  readonly #expiries = new TimerQueue<Circuit>();
  readonly #answers = new AnswerTable(() => MAX_MEMBERS);

  constructor(host: CircuitHost, user: CandidateUser) {
    this.#host = host;
    this.#user = user;
  }

  /** The circuits with a member, or all. */
  held(member?: SessionKey): HeldCircuit[] {
    return [...this.#circuits.values()]
      .filter((circuit) => member === undefined || circuit.member === member)
      .map(({ local, ...circuit }) => ({ ...circuit, leg: local.id }));
  }

  candidates(member: SessionKey): readonly Candidate[] {
    return this.#byMember.get(member) ?? [];
  }

  candidateAt(_member: SessionKey, endpoint: PeerEndpoint): Candidate | undefined {
    return 'leg' in endpoint ? this.#byLeg.get(endpoint.leg) : undefined;
  }

  isSeeking(member: SessionKey): boolean {
    return this.#openings.has(member);
  }

  /** Asks a relay for a circuit. */
  seek(member: Member, attempt: number, turn: Turn): boolean {
    const relays = this.#relaysTo(member);
    const relay = relays[attempt % Math.max(relays.length, 1)];
    if (relay === undefined) {
      const isDraining = [...this.#host.uplinks()].some((uplink) => uplink.isDraining);
      if (this.#usableRelays(member).length > 0) this.#user.notFound(member.sessionKey, 'forbidden', turn);
      else if (isDraining) this.#user.notFound(member.sessionKey, 'draining', turn);
      return false;
    }
    const [network] = [...member.overlay.keys()].toSorted();
    const opening: Opening = { local: this.#host.legs.create(turn), relay: relay.sessionKey };
    this.#openings.set(member.sessionKey, opening);
    const message = {
      type: 'circuit-open',
      callee: member.identity,
      network: fromHex(network ?? '') ?? new Uint8Array(16),
      leg: opening.local,
    } as const;
    this.#host.requests.send(relay.sessionKey, message, turn, (answer, later) => {
      if (this.#openings.get(member.sessionKey) !== opening) {
        // Overtaken by the member's own circuit: this one has no use.
        if (answer?.type === 'circuit-granted') this.#tellClosed(relay.sessionKey, answer.circuit, later);
        return;
      }
      if (answer?.type === 'circuit-granted') {
        this.#granted(relay, member, opening, answer, later);
        return;
      }
      this.#abandon(member.sessionKey, later);
      if (answer === undefined) relay.suspect(later);
      else if (answer.reason === 'draining') relay.refusedDraining(later);
      const news = this.#user.notFound(member.sessionKey, answer?.reason ?? 'unanswered', later);
      if (answer !== undefined && news)
        // A limit of the relay is for its operator to raise; the rest passes.
        later.notify(answer.reason === 'capacity' ? 'warn' : 'info', 'circuit-refused', {
          reason: answer.reason,
          member: member.record.name,
        });
    });
    return true;
  }

  /** Whether a circuit leads over a relay, or one is being opened there. */
  isOver(relay: SessionKey): boolean {
    return (
      this.#over(relay).length > 0 || [...this.#openings.values()].some((opening) => opening.relay === relay)
    );
  }

  carried(candidate: Candidate): void {
    const circuit = this.#own(candidate);
    if (circuit !== undefined) circuit.used = true;
  }

  close(candidate: Candidate, turn: Turn): void {
    const circuit = this.#own(candidate);
    if (circuit !== undefined) this.#close(circuit, turn);
  }

  closeAll(member: SessionKey, turn: Turn): void {
    this.#abandon(member, turn);
    for (const circuit of [...(this.#byMember.get(member) ?? [])]) this.#close(circuit, turn);
  }

  /** A relay took our registration. `fresh`: it may have forgotten our circuits. */
  relayReady(relay: Uplink, fresh: boolean, turn: Turn): void {
    this.relayMoved(relay, turn);
    if (fresh) for (const circuit of this.#over(relay.sessionKey)) this.#refresh(circuit, turn, true);
  }

  /** A relay is reached at another address: what is sent on its circuits, and comes by them, goes there. */
  relayMoved(relay: Uplink, turn: Turn): void {
    for (const circuit of this.#over(relay.sessionKey)) {
      if (sameSocketAddress(circuit.remote.address, relay.address)) continue;
      circuit.remote = { ...circuit.remote, address: relay.address };
      this.#install(circuit, turn);
    }
  }

  relayLost(relay: SessionKey, turn: Turn): void {
    for (const [member, opening] of this.#openings) if (opening.relay === relay) this.#abandon(member, turn);
  }

  /** A relay is no longer one of ours. */
  relayGone(relay: SessionKey, turn: Turn): void {
    this.relayLost(relay, turn);
    for (const circuit of [...this.#circuits.values()])
      if (circuit.relay === relay) this.#lose(circuit, turn);
    this.#answers.forget(relay);
  }

  handleOffer(relay: Uplink, request: number, offer: MessageOf<'circuit-offer'>, turn: Turn): void {
    const { sessionKey } = relay;
    if (!this.#answers.begin(sessionKey, request, turn)) return;
    const member = this.#consented(relay, offer, turn);
    if (typeof member === 'string') {
      this.#answers.answer(sessionKey, request, { type: 'refused', reason: member, what: offer.type }, turn);
      return;
    }
    const leg = this.#host.legs.create(turn);
    this.#join(relay, offer, member, leg, turn);
    const accept = { type: 'circuit-accept', circuit: offer.circuit, leg } as const;
    this.#answers.answer(sessionKey, request, accept, turn);
    const { policy } = this.#host;
    if (policy?.accepts(sessionKey, member.identity, offer.network) === true) policy.ranOut(relay, turn);
  }

  /** The relay set a circuit up under our standing policy. */
  handleOpened(relay: Uplink, request: number, opened: MessageOf<'circuit-opened'>, turn: Turn): void {
    const { sessionKey } = relay;
    if (!this.#answers.begin(sessionKey, request, turn)) return;
    const { policy } = this.#host;
    const leg = policy?.leg(sessionKey, opened.on);
    const member = leg === undefined ? 'no-consent' : this.#consented(relay, opened, turn);
    if (policy === undefined || leg === undefined || typeof member === 'string') {
      const reason = typeof member === 'string' ? member : 'no-consent';
      this.#answers.answer(sessionKey, request, { type: 'refused', reason, what: opened.type }, turn);
      return;
    }
    const next = policy.replaceLeg(sessionKey, leg.id, turn);
    this.#join(relay, opened, member, leg, turn);
    const joined = { type: 'circuit-joined', circuit: opened.circuit, leg: next } as const;
    this.#answers.answer(sessionKey, request, joined, turn);
  }

  /** The caller, if a circuit with it is one this node wants. */
  #consented(
    { sessionKey, bootstrap }: Uplink,
    message: MessageOf<'circuit-offer' | 'circuit-opened'>,
    turn: Turn,
  ): Member | Refusal {
    const record = openPeerRecord(this.#host.primitives, message.caller, turn.step.wallClock);
    if (typeof record === 'string') return recordRefusal(record);
    this.#host.members.learnOpened(record, turn);
    const member = this.#host.members.members.get(toHex(record.identity));
    // Consent: members of a network of ours, and nobody else. The preshared key proves them later.
    if (member?.overlay.has(toHex(message.network)) !== true) return 'no-consent';
    if (this.#host.peers.hasRole(member.sessionKey)) return 'no-consent';
    if (!this.#host.rules.admitCircuit(member.sessionKey, bootstrap.identity)) return 'no-consent';
    // A policy is the node's word of when it was signed: what it says now counts.
    const accepted = this.#host.policy?.accepts(sessionKey, member.identity, message.network) === true;
    if (message.type === 'circuit-opened' && !accepted) return 'no-consent';
    const opening = this.#openings.get(member.sessionKey);
    // Both ends open at once: the request of the lower identity is carried through.
    if (opening?.relay === sessionKey && compareBytes(this.#host.identity, member.identity) < 0)
      return 'busy';
    this.#abandon(member.sessionKey, turn);
    return member;
  }

  /** This node's end of a circuit a member opened, received on `local`. */
  #join(
    relay: Uplink,
    message: MessageOf<'circuit-offer' | 'circuit-opened'>,
    member: Member,
    local: LegKey,
    turn: Turn,
  ): void {
    const circuit = this.#add(
      {
        kind: 'circuit',
        id: toHex(message.circuit),
        relay: relay.sessionKey,
        member: member.sessionKey,
        endpoint: { leg: local.id },
        calling: false,
        since: turn.now,
        local,
        remote: { ...message.leg, address: relay.address },
        used: true,
      },
      message.lifetime,
      turn,
    );
    this.#user.offered(circuit, turn);
  }

  /** The relay ended a circuit. */
  handleClose(relay: SessionKey, request: number, message: MessageOf<'circuit-close'>, turn: Turn): void {
    turn.send(relay, request, { type: 'circuit-closed', circuit: message.circuit });
    const circuit = this.#circuits.get(circuitKey(relay, toHex(message.circuit)));
    if (circuit !== undefined) this.#lose(circuit, turn, true);
  }

  handleTimeout(turn: Turn): void {
    for (const circuit of this.#refreshes.allDue(turn.now)) if (circuit.used) this.#refresh(circuit, turn);
    // Nobody used it: it lapses here as it does at the relay.
    for (const circuit of this.#expiries.allDue(turn.now)) this.#lose(circuit, turn);
  }

  deadline(): number | undefined {
    return earliest(this.#refreshes.next(), this.#expiries.next());
  }

  #granted(
    relay: Uplink,
    member: Member,
    { local }: Opening,
    answer: MessageOf<'circuit-granted'>,
    turn: Turn,
  ): void {
    this.#openings.delete(member.sessionKey);
    this.#host.members.learn(answer.callee, turn);
    if (this.#host.members.bySessionKey(member.sessionKey) === undefined) {
      this.#host.legs.remove(local.id, turn);
      this.#tellClosed(relay.sessionKey, answer.circuit, turn);
      return;
    }
    const circuit = this.#add(
      {
        kind: 'circuit',
        id: toHex(answer.circuit),
        relay: relay.sessionKey,
        member: member.sessionKey,
        endpoint: { leg: local.id },
        calling: true,
        since: turn.now,
        local,
        remote: { ...answer.leg, address: relay.address },
        used: true,
      },
      answer.lifetime,
      turn,
    );
    this.#user.found(circuit, turn);
    turn.notify('info', 'circuit-established', { member: member.record.name });
  }

  /** Relays a circuit may lead over, those the operator prefers first, then those the member names. */
  #relaysTo(member: Member): Uplink[] {
    const { rules } = this.#host;
    const usable = this.#usableRelays(member).filter(({ bootstrap }) =>
      rules.admitCircuit(member.sessionKey, bootstrap.identity),
    );
    const named = usable.filter((relay) =>
      member.record.relays.some((identity) => sameBytes(identity, relay.bootstrap.identity)),
    );
    const place = ({ bootstrap }: Uplink): number =>
      rules.relayPreference(member.sessionKey, bootstrap.identity);
    return [...named, ...usable.filter((relay) => !named.includes(relay))].toSorted(
      (a, b) => place(a) - place(b),
    );
  }

  #usableRelays(member: Member): Uplink[] {
    return [...this.#host.uplinks()].filter(
      (relay) => relay.usable && !sameBytes(relay.bootstrap.identity, member.identity),
    );
  }

  /** Gives up asking for a circuit: its answer comes too late. */
  #abandon(member: SessionKey, turn: Turn): void {
    const opening = this.#openings.get(member);
    if (opening === undefined) return;
    this.#openings.delete(member);
    this.#host.legs.remove(opening.local.id, turn);
  }

  /** The circuit a candidate is, if it stands. */
  #own({ endpoint }: Candidate): Circuit | undefined {
    return 'leg' in endpoint ? this.#byLeg.get(endpoint.leg) : undefined;
  }

  #add(made: Omit<Circuit, 'expiresAt'>, lifetimeSeconds: number, turn: Turn): Circuit {
    const circuit: Circuit = { ...made, expiresAt: 0 };
    const held = this.#byMember.get(circuit.member) ?? [];
    this.#byMember.set(circuit.member, held);
    while (held.length >= CIRCUITS_PER_MEMBER) {
      const oldest = held.find((other) => !this.#user.isActive(other));
      if (oldest === undefined) break;
      this.#close(oldest, turn);
    }
    held.push(circuit);
    this.#circuits.set(circuitKey(circuit.relay, circuit.id), circuit);
    this.#byLeg.set(circuit.local.id, circuit);
    this.#prolong(circuit, lifetimeSeconds, turn);
    return circuit;
  }

  /** Gives a circuit its lifetime, in the table and in the engine. */
  #prolong(circuit: Circuit, lifetimeSeconds: number, turn: Turn): void {
    circuit.expiresAt = turn.now + lifetimeSeconds * 1000;
    this.#refreshes.set(circuit, turn.now + lifetimeSeconds * 500);
    this.#expiries.set(circuit, circuit.expiresAt);
    this.#install(circuit, turn);
  }

  #install(circuit: Circuit, turn: Turn): void {
    this.#host.legs.install(
      {
        ...circuit.local,
        action: 'deliver',
        source: circuit.remote.address,
        next: circuit.remote,
        lifetimeMs: Math.max(1, circuit.expiresAt - turn.now),
        charging: UNCHARGED,
      },
      turn,
    );
  }

  #over(relay: SessionKey): Circuit[] {
    return [...this.#circuits.values()].filter((circuit) => circuit.relay === relay);
  }

  /** @param doubted whether it may carry nothing although the relay knows it */
  #refresh(circuit: Circuit, turn: Turn, doubted = false): void {
    const id = fromHex(circuit.id);
    if (id === undefined) return;
    const inUse = circuit.used;
    circuit.used = false;
    this.#host.requests.send(
      circuit.relay,
      { type: 'circuit-refresh', circuit: id },
      turn,
      (answer, later) => {
        if (this.#circuits.get(circuitKey(circuit.relay, circuit.id)) !== circuit || answer === undefined)
          return;
        if (answer.type === 'circuit-refreshed') {
          this.#prolong(circuit, answer.lifetime, later);
          if (doubted && inUse) this.#user.unproven(circuit, later);
          return;
        }
        // The relay does not know it any more. The session stays up while another is sought.
        if (!this.#user.doubtful(circuit, later)) this.#forget(circuit, later);
      },
    );
  }

  /** It is gone. */
  #lose(circuit: Circuit, turn: Turn, refused = false): void {
    this.#forget(circuit, turn);
    this.#user.lost(circuit, refused, turn);
  }

  #close(circuit: Circuit, turn: Turn): void {
    this.#forget(circuit, turn);
    const id = fromHex(circuit.id);
    if (id !== undefined) this.#tellClosed(circuit.relay, id, turn);
  }

  #tellClosed(relay: SessionKey, circuit: Uint8Array, turn: Turn): void {
    this.#host.requests.send(relay, { type: 'circuit-close', circuit }, turn, () => undefined);
  }

  #forget(circuit: Circuit, turn: Turn): void {
    if (!this.#circuits.delete(circuitKey(circuit.relay, circuit.id))) return;
    this.#refreshes.clear(circuit);
    this.#expiries.clear(circuit);
    this.#byLeg.delete(circuit.local.id);
    this.#host.legs.remove(circuit.local.id, turn);
    const held = this.#byMember.get(circuit.member) ?? [];
    const index = held.indexOf(circuit);
    if (index >= 0) held.splice(index, 1);
    if (held.length === 0) this.#byMember.delete(circuit.member);
  }
}

const circuitKey = (relay: SessionKey, id: string): string => `${relay}/${id}`;
