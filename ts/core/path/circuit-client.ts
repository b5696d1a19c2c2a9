// The ends of circuits: opening one when a member is to be reached, consenting to those others open,
// keeping them alive while they are used, and finding another when one is gone.

import type { PeerEndpoint, SessionKey } from '../../contract/engine.js';
import { UNCHARGED, type LegKey, type LegTarget } from '../../wire/leg.js';
import { sameSocketAddress } from '../../wire/socket-address.js';
import type { Uplink } from '../uplink/uplink.js';
import { compareBytes, fromHex, sameBytes, toHex } from '../../wire/bytes.js';
import { recordRefusal, type MessageOf, type Refusal } from '../protocol/control-message.js';
import { HANDSHAKE_WAITS_MS } from '../runtime/handshake-waits.js';
import type { Primitives } from '../../contract/primitives.js';
import type { LegIds } from '../runtime/leg-ids.js';
import type { Member, MemberTable } from '../members/member-table.js';
import type { OwnPolicy } from './own-policy.js';
import { openPeerRecord } from '../protocol/peer-record.js';
import type { PeerTable } from '../runtime/peer-table.js';
import { AnswerTable, type RequestTable } from '../runtime/request-table.js';
import { TimerQueue } from '../runtime/timer-queue.js';
import type { Turn } from '../runtime/turn.js';

/** Circuits held with one member: the one in use and those that replace or precede it. */
const CIRCUITS_PER_MEMBER = 4;
const FIRST_RETRY_MS = 250;
const LONGEST_RETRY_MS = 4000;
/** How long another circuit is sought before the path is given up (the engine asks again when it needs one). */
const SEEK_MS = 60_000;

/** What the node lends to its circuit client. */
export interface CircuitHost {
  readonly primitives: Primitives;
  readonly identity: Uint8Array;
  readonly requests: RequestTable;
  readonly legs: LegIds;
  readonly peers: PeerTable;
  readonly members: MemberTable;
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

interface Circuit {
  /** Lower-case hex. */
  readonly id: string;
  readonly relay: SessionKey;
  readonly member: SessionKey;
  readonly calling: boolean;
  readonly since: number;
  /** What we receive on. */
  readonly local: LegKey;
  /** What we send on; its address is the relay's. */
  remote: LegTarget;
  expiresAt: number;
  /** Whether the member's session was renewed (which only data does) since the last refresh. */
  used: boolean;
}

interface Route {
  /** In the order they came to be. */
  readonly circuits: Circuit[];
  /** The circuit the member is reached by; undefined = none, or reached directly. */
  current: Circuit | undefined;
  direct: boolean;
  /** The request under way; a stale answer finds another object here. */
  opening: { readonly local: LegKey; readonly relay: SessionKey } | undefined;
  /** Until when a circuit is sought; undefined = not. */
  seekUntil: number | undefined;
  attempts: number;
  /** What came of the last attempt to open one. */
  refused: Refusal | 'unanswered' | undefined;
  /** Handshakes sent over a new circuit so far. */
  handshakes: number;
}

type Timer = `handshake ${string}` | `seek ${string}` | `refresh ${string}` | `expire ${string}`;

export class CircuitClient {
  readonly #host: CircuitHost;
  readonly #routes = new Map<SessionKey, Route>();
  /** By `circuitKey`: two relays may choose the same id. */
  readonly #circuits = new Map<string, Circuit>();
  readonly #byLeg = new Map<number, Circuit>();
  readonly #timers = new TimerQueue<Timer>();
  readonly #answers = new AnswerTable();

  constructor(host: CircuitHost) {
    this.#host = host;
  }

  /** How a member is reached, and by which relay. */
  path(member: SessionKey): {
    readonly kind: 'relay' | 'direct' | 'none';
    readonly relay: SessionKey | undefined;
    /** Why there is none although one is sought. */
    readonly refused: Refusal | 'unanswered' | undefined;
  } {
    const route = this.#routes.get(member);
    const refused = route?.refused;
    if (route?.current !== undefined) return { kind: 'relay', relay: route.current.relay, refused };
    return { kind: route?.direct === true ? 'direct' : 'none', relay: undefined, refused };
  }

  /** The circuits with a member, or all. */
  held(member?: SessionKey): HeldCircuit[] {
    return [...this.#circuits.values()]
      .filter((circuit) => member === undefined || circuit.member === member)
      .map(({ local, ...circuit }) => ({ ...circuit, leg: local.id }));
  }

  /** The engine has packets for a member and nowhere to send them. */
  pathNeeded(member: SessionKey, turn: Turn): void {
    if (this.#host.members.bySessionKey(member) === undefined || this.#host.peers.hasRole(member)) return;
    this.#seek(member, turn);
  }

  /** A handshake with a member completed. */
  sessionUp(member: SessionKey, endpoint: PeerEndpoint, turn: Turn): void {
    this.#timers.clear(`handshake ${member}`);
    this.sessionMoved(member, endpoint, turn);
  }

  /** A member's packets come by another way now. */
  sessionMoved(member: SessionKey, endpoint: PeerEndpoint, turn: Turn): void {
    if (this.#host.members.bySessionKey(member) === undefined || this.#host.peers.hasRole(member)) return;
    const route = this.#route(member);
    const circuit = 'leg' in endpoint ? this.#byLeg.get(endpoint.leg) : undefined;
    route.direct = 'address' in endpoint;
    route.current = circuit;
    if (circuit !== undefined) circuit.used = true;
    if (circuit !== undefined || route.direct) this.#stopSeeking(member, route);
    else this.#seek(member, turn); // a leg we no longer have
  }

  /** The engine gave up handshakes: the way there is no longer one. */
  sessionLost(member: SessionKey, turn: Turn): void {
    const route = this.#routes.get(member);
    if (route === undefined) return;
    for (const circuit of [...route.circuits]) this.#close(circuit, turn);
    this.#host.peers.resetPath(member, turn);
    this.#dropRoute(member);
  }

  /** A member is gone from the table. */
  memberGone(member: SessionKey, turn: Turn): void {
    const route = this.#routes.get(member);
    if (route === undefined) return;
    for (const circuit of [...route.circuits]) this.#close(circuit, turn);
    this.#dropRoute(member);
  }

  /** A relay took our registration. `fresh`: it may have forgotten our circuits. */
  relayReady(relay: Uplink, fresh: boolean, turn: Turn): void {
    for (const circuit of [...this.#circuits.values()]) {
      if (circuit.relay !== relay.sessionKey) continue;
      if (!sameSocketAddress(circuit.remote.address, relay.address)) {
        circuit.remote = { ...circuit.remote, address: relay.address };
        this.#install(circuit, turn);
      }
      if (fresh) this.#refresh(circuit, turn);
    }
    for (const [member, route] of this.#routes)
      if (route.seekUntil !== undefined && route.opening === undefined)
        this.#timers.set(`seek ${member}`, turn.now);
  }

  /** A relay fell silent: members reached through it are sought through another, if there is one. */
  relayLost(relay: SessionKey, turn: Turn): void {
    const another = [...this.#host.uplinks()].some((other) => other.usable && other.sessionKey !== relay);
    if (!another) return; // when the relay is back, it is asked what it still knows
    for (const [member, route] of this.#routes) {
      if (route.opening?.relay === relay) this.#abandonOpening(route, turn);
      if (route.current?.relay === relay || route.seekUntil !== undefined) this.#seek(member, turn);
    }
  }

  /** A relay is no longer one of ours. */
  relayGone(relay: SessionKey, turn: Turn): void {
    for (const [member, route] of this.#routes) {
      if (route.opening?.relay !== relay) continue;
      this.#abandonOpening(route, turn);
      this.#timers.set(`seek ${member}`, turn.now);
    }
    for (const circuit of [...this.#circuits.values()]) {
      if (circuit.relay !== relay) continue;
      const wasCurrent = this.#routes.get(circuit.member)?.current === circuit;
      this.#forget(circuit, turn);
      if (wasCurrent) this.#pathLost(circuit.member, turn);
    }
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
    { sessionKey }: Uplink,
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
    // A policy is the node's word of when it was signed: what it says now counts.
    const accepted = this.#host.policy?.accepts(sessionKey, member.identity, message.network) === true;
    if (message.type === 'circuit-opened' && !accepted) return 'no-consent';
    const route = this.#route(member.sessionKey);
    if (route.opening !== undefined) {
      // Both ends open at once: the request of the lower identity is carried through.
      if (compareBytes(this.#host.identity, member.identity) < 0 && route.opening.relay === sessionKey)
        return 'busy';
      this.#abandonOpening(route, turn);
    }
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
    const route = this.#route(member.sessionKey);
    const circuit: Circuit = {
      id: toHex(message.circuit),
      relay: relay.sessionKey,
      member: member.sessionKey,
      calling: false,
      since: turn.now,
      local,
      remote: { ...message.leg, address: relay.address },
      expiresAt: turn.now + message.lifetime * 1000,
      used: true,
    };
    this.#add(circuit, message.lifetime, turn);
    // With a working circuit the member's first packet moves the session over; without, this is it.
    if (route.seekUntil !== undefined || (route.current === undefined && !route.direct))
      this.#use(circuit, turn);
    this.#stopSeeking(member.sessionKey, route);
  }

  /** The relay ended a circuit. */
  handleClose(relay: SessionKey, request: number, message: MessageOf<'circuit-close'>, turn: Turn): void {
    turn.send(relay, request, { type: 'circuit-closed', circuit: message.circuit });
    const circuit = this.#circuits.get(circuitKey(relay, toHex(message.circuit)));
    if (circuit === undefined) return;
    const route = this.#routes.get(circuit.member);
    const wasCurrent = route?.current === circuit;
    this.#forget(circuit, turn);
    // Ended before a session came up over it: as if it had been refused, the next relay is asked.
    if (wasCurrent && route.circuits.length === 0 && this.#timers.has(`handshake ${circuit.member}`))
      this.#seek(circuit.member, turn);
    if (wasCurrent) this.#pathLost(circuit.member, turn);
  }

  handleTimeout(turn: Turn): void {
    for (
      let timer = this.#timers.takeDue(turn.now);
      timer !== undefined;
      timer = this.#timers.takeDue(turn.now)
    ) {
      const space = timer.indexOf(' ');
      const name = timer.slice(space + 1);
      if (timer.startsWith('handshake')) this.#handshake(name, turn);
      else if (timer.startsWith('seek')) this.#open(name, turn);
      else {
        const circuit = this.#circuits.get(name);
        if (circuit === undefined) continue;
        if (timer.startsWith('expire')) this.#expire(circuit, turn);
        else if (circuit.used) this.#refresh(circuit, turn);
      }
    }
  }

  deadline(): number | undefined {
    return this.#timers.next();
  }

  #route(member: SessionKey): Route {
    let route = this.#routes.get(member);
    if (route === undefined) {
      route = {
        circuits: [],
        current: undefined,
        direct: false,
        opening: undefined,
        seekUntil: undefined,
        attempts: 0,
        refused: undefined,
        handshakes: 0,
      };
      this.#routes.set(member, route);
    }
    return route;
  }

  #dropRoute(member: SessionKey): void {
    this.#timers.clear(`seek ${member}`);
    this.#timers.clear(`handshake ${member}`);
    this.#routes.delete(member);
  }

  #seek(member: SessionKey, turn: Turn): void {
    const route = this.#route(member);
    route.seekUntil ??= turn.now + SEEK_MS;
    if (route.opening === undefined && !this.#timers.has(`seek ${member}`)) this.#open(member, turn);
  }

  #stopSeeking(member: SessionKey, route: Route): void {
    route.seekUntil = undefined;
    route.refused = undefined;
    route.attempts = 0;
    this.#timers.clear(`seek ${member}`);
  }

  #open(memberKey: SessionKey, turn: Turn): void {
    const route = this.#routes.get(memberKey);
    const member = this.#host.members.bySessionKey(memberKey);
    if (route?.seekUntil === undefined || route.opening !== undefined || member === undefined) return;
    if (turn.now >= route.seekUntil) {
      this.#stopSeeking(memberKey, route);
      this.#pathLost(memberKey, turn);
      return;
    }
    const wait = Math.min(FIRST_RETRY_MS * 2 ** route.attempts, LONGEST_RETRY_MS);
    const relay = this.#chooseRelay(member, route.attempts);
    route.attempts++;
    if (relay === undefined) {
      this.#timers.set(`seek ${memberKey}`, turn.now + wait);
      return;
    }
    const [network] = [...member.overlay.keys()].toSorted();
    const local = this.#host.legs.create(turn);
    const opening = { local, relay: relay.sessionKey };
    route.opening = opening;
    const message = {
      type: 'circuit-open',
      callee: member.identity,
      network: fromHex(network ?? '') ?? new Uint8Array(16),
      leg: local,
    } as const;
    this.#host.requests.send(relay.sessionKey, message, turn, (answer, later) => {
      if (route.opening !== opening) {
        // Overtaken by the member's own circuit: this one has no use.
        if (answer?.type === 'circuit-granted') this.#tellClosed(relay.sessionKey, answer.circuit, later);
        return;
      }
      route.opening = undefined;
      if (answer?.type !== 'circuit-granted') {
        this.#host.legs.remove(local.id, later);
        if (answer === undefined) relay.suspect(later);
        else if (answer.reason !== route.refused)
          // A limit of the relay is for its operator to raise; the rest passes.
          later.notify(answer.reason === 'capacity' ? 'warn' : 'info', 'circuit-refused', {
            reason: answer.reason,
            member: member.record.name,
          });
        route.refused = answer?.reason ?? 'unanswered';
        this.#timers.set(`seek ${memberKey}`, later.now + wait);
        return;
      }
      this.#granted(relay, member, local, answer, later);
    });
  }

  #granted(
    relay: Uplink,
    member: Member,
    local: LegKey,
    answer: MessageOf<'circuit-granted'>,
    turn: Turn,
  ): void {
    this.#host.members.learn(answer.callee, turn);
    const route = this.#routes.get(member.sessionKey);
    if (route === undefined || this.#host.members.bySessionKey(member.sessionKey) === undefined) {
      this.#host.legs.remove(local.id, turn);
      this.#tellClosed(relay.sessionKey, answer.circuit, turn);
      return;
    }
    const before = route.current;
    const circuit: Circuit = {
      id: toHex(answer.circuit),
      relay: relay.sessionKey,
      member: member.sessionKey,
      calling: true,
      since: turn.now,
      local,
      remote: { ...answer.leg, address: relay.address },
      expiresAt: turn.now + answer.lifetime * 1000,
      used: true,
    };
    this.#add(circuit, answer.lifetime, turn);
    this.#use(circuit, turn);
    // The relays asked so far are remembered until a session is up: this one may end the circuit yet.
    route.seekUntil = undefined;
    route.refused = undefined;
    this.#timers.clear(`seek ${member.sessionKey}`);
    // Make before break: what the new circuit replaces goes after it stands.
    if (before !== undefined) this.#close(before, turn);
    route.handshakes = 0;
    this.#handshake(member.sessionKey, turn);
    turn.notify('info', 'circuit-established', { member: member.record.name });
  }

  /** Brings a session up over a new circuit; a present one may be with the member's former life. */
  #handshake(member: SessionKey, turn: Turn): void {
    const route = this.#routes.get(member);
    const wait = HANDSHAKE_WAITS_MS[route?.handshakes ?? 0];
    if (route?.current === undefined || wait === undefined) return;
    route.handshakes++;
    this.#timers.set(`handshake ${member}`, turn.now + wait);
    turn.emit({ type: 'handshake', peer: member });
  }

  /** Relays the member names first; the choice rotates with every attempt. */
  #chooseRelay(member: Member, attempt: number): Uplink | undefined {
    const usable = [...this.#host.uplinks()].filter(
      (relay) => relay.usable && !sameBytes(relay.bootstrap.identity, member.identity),
    );
    const named = usable.filter((relay) =>
      member.record.relays.some((identity) => sameBytes(identity, relay.bootstrap.identity)),
    );
    const candidates = [...named, ...usable.filter((relay) => !named.includes(relay))];
    return candidates[attempt % Math.max(candidates.length, 1)];
  }

  #abandonOpening(route: Route, turn: Turn): void {
    if (route.opening === undefined) return;
    this.#host.legs.remove(route.opening.local.id, turn);
    route.opening = undefined;
  }

  #add(circuit: Circuit, lifetimeSeconds: number, turn: Turn): void {
    const key = circuitKey(circuit.relay, circuit.id);
    const route = this.#route(circuit.member);
    while (route.circuits.length >= CIRCUITS_PER_MEMBER) {
      const oldest = route.circuits.find((other) => other !== route.current);
      if (oldest === undefined) break;
      this.#close(oldest, turn);
    }
    route.circuits.push(circuit);
    this.#circuits.set(key, circuit);
    this.#byLeg.set(circuit.local.id, circuit);
    this.#prolong(circuit, lifetimeSeconds, turn);
  }

  /** Gives a circuit its lifetime, in the table and in the engine. */
  #prolong(circuit: Circuit, lifetimeSeconds: number, turn: Turn): void {
    const key = circuitKey(circuit.relay, circuit.id);
    circuit.expiresAt = turn.now + lifetimeSeconds * 1000;
    this.#timers.set(`refresh ${key}`, turn.now + lifetimeSeconds * 500);
    this.#timers.set(`expire ${key}`, circuit.expiresAt);
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

  #use(circuit: Circuit, turn: Turn): void {
    const route = this.#route(circuit.member);
    route.current = circuit;
    route.direct = false;
    this.#host.peers.setEndpoint(circuit.member, { leg: circuit.local.id }, turn);
  }

  #refresh(circuit: Circuit, turn: Turn): void {
    const id = fromHex(circuit.id);
    if (id === undefined) return;
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
          return;
        }
        // The relay does not know it any more. The session stays up while another is sought.
        const route = this.#routes.get(circuit.member);
        const wasCurrent = route?.current === circuit;
        if (wasCurrent) this.#seek(circuit.member, later);
        else this.#forget(circuit, later);
      },
    );
  }

  /** Nobody used it: it lapses here as it does at the relay. */
  #expire(circuit: Circuit, turn: Turn): void {
    const wasCurrent = this.#routes.get(circuit.member)?.current === circuit;
    this.#forget(circuit, turn);
    if (wasCurrent) this.#pathLost(circuit.member, turn);
  }

  /** The current circuit is gone: another one that stands takes over, else the engine has to ask. */
  #pathLost(member: SessionKey, turn: Turn): void {
    const route = this.#routes.get(member);
    const other = route?.circuits.at(-1);
    if (other !== undefined) this.#use(other, turn);
    else {
      if (route !== undefined) route.current = undefined;
      this.#host.peers.resetPath(member, turn);
      if (route?.opening === undefined && route?.seekUntil === undefined) this.#dropRoute(member);
    }
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
    const key = circuitKey(circuit.relay, circuit.id);
    if (!this.#circuits.delete(key)) return;
    this.#timers.clear(`refresh ${key}`);
    this.#timers.clear(`expire ${key}`);
    this.#byLeg.delete(circuit.local.id);
    this.#host.legs.remove(circuit.local.id, turn);
    const route = this.#routes.get(circuit.member);
    const index = route?.circuits.indexOf(circuit) ?? -1;
    if (index >= 0) route?.circuits.splice(index, 1);
    if (route?.current === circuit) route.current = undefined;
  }
}

const circuitKey = (relay: SessionKey, id: string): string => `${relay}/${id}`;
