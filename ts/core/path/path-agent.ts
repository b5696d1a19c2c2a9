// By which way each member is reached. Candidates come from their sources (circuits from the circuit
// client); the agent seeks one when there is none, tells the engine which to use, brings a session up over
// it, and takes another when it is lost. Where the engine says a member's packets come from is a candidate
// too: it was proven by the session.

import type { PeerEndpoint, SessionKey } from '../../contract/engine.js';
import type { Member, MemberTable } from '../members/member-table.js';
import { earliest } from '../runtime/earliest.js';
import { HANDSHAKE_WAITS_MS } from '../runtime/handshake-waits.js';
import type { PeerTable } from '../runtime/peer-table.js';
import { TimerQueue } from '../runtime/timer-queue.js';
import type { Turn } from '../runtime/turn.js';
import type { Uplink } from '../uplink/uplink.js';
import type { Candidate, CandidateSource, CandidateUser, NotFound } from './candidate.js';
import type { RelayBar } from './relay-bar.js';
import { endsAt, type RuledWays } from './ruled-ways.js';

const FIRST_RETRY_MS = 250;
const LONGEST_RETRY_MS = 4000;
/** How long another way is sought before the path is given up (the engine asks again when it needs one). */
const SEEK_MS = 60_000;

/** For so long a member whose way was offered has to send by it, before another is sought. */
const OFFERED_MS = 3000;
/** What a new way replaces goes on for so long after a session was made by it, where its relay drains: for what is under way. */
const OUTGOING_MS = 1000;

/** So many ways that carry no session are tried one after the other; then the engine has to ask again. */
const MOST_ATTEMPTS = 8;

/** Who reaches members beside the ways this agent chooses among. */
export interface BesideWays {
  /** Whether the member is reached by one of theirs: it stays reached when the last of ours is gone. */
  carries(member: SessionKey): boolean;
  /** Ours came, went, or another one is used. */
  waysChanged(member: SessionKey, turn: Turn): void;
  /** The engine was made to forget the session. */
  sessionForgotten(member: SessionKey): void;
}

/** What the node lends to its path agent. */
export interface PathHost {
  readonly peers: PeerTable;
  readonly members: Pick<MemberTable, 'bySessionKey'>;
  /** Undefined = nobody. */
  readonly beside?: BesideWays | undefined;
  readonly rules: RuledWays;
  readonly bar: RelayBar;
  uplinks(): Iterable<Uplink>;
  /** What is sent to the member goes by another way than one that was lost. */
  reached(member: SessionKey, turn: Turn): void;
}

/** How a member is reached, and by which relay. */
export interface Path {
  readonly kind: 'relay' | 'direct' | 'none';
  readonly relay: SessionKey | undefined;
  /** Why there is none although one is sought. */
  readonly refused: NotFound | undefined;
}

interface Route {
  /** By which the member is reached; undefined = none. */
  active: Candidate | undefined;
  /** Since when it is, and may replace another that drains. */
  since: number;
  /** When one that the member made was offered last. */
  offeredAt: number;
  /** Until when a way is sought; undefined = not. */
  seekUntil: number | undefined;
  /** Searches since there was a session. */
  attempts: number;
  /** What came of the last. */
  refused: NotFound | undefined;
  /** Handshakes sent over a new way so far. */
  handshakes: number;
}

export class PathAgent implements CandidateUser {
  readonly #host: PathHost;
  readonly #sources: CandidateSource[] = [];
  readonly #routes = new Map<SessionKey, Route>();
  /** When the next search begins. */
  readonly #searches = new TimerQueue<SessionKey>();
  /** Relays that drain, and when it is looked what of theirs has been replaced. */
  readonly #outgoing = new TimerQueue<SessionKey>();
  /** When the next handshake over a new way is due: until then it has not shown to work. */
  readonly #handshakes = new TimerQueue<SessionKey>();

  constructor(host: PathHost) {
    this.#host = host;
  }

  /** Call before all else. Of candidates that stand, those of later sources are preferred. */
  addSource(source: CandidateSource): void {
    this.#sources.push(source);
  }

  path(member: SessionKey): Path {
    const { active, refused } = this.#routes.get(member) ?? {};
    if (active === undefined) return { kind: 'none', relay: undefined, refused };
    return { kind: active.kind === 'circuit' ? 'relay' : 'direct', relay: active.relay, refused };
  }

  /** The engine has packets for a member and nowhere to send them. */
  pathNeeded(member: SessionKey, turn: Turn): void {
    if (!this.#isRouted(member)) return;
    // As long as it is asked for: whoever waits for the way asks again now and then.
    this.#route(member).seekUntil = turn.now + SEEK_MS;
    this.#seek(member, turn);
  }

  /** Whether a way to the member is being sought. */
  isSought(member: SessionKey): boolean {
    return this.#routes.get(member)?.seekUntil !== undefined;
  }

  /** The way of ours the member is or would be reached by. */
  active(member: SessionKey): Candidate | undefined {
    return this.#routes.get(member)?.active;
  }

  /** A handshake with a member completed, by none of our ways. */
  sessionBeside(member: SessionKey): void {
    this.#handshakes.clear(member);
  }

  /** A handshake with a member completed. */
  sessionUp(member: SessionKey, endpoint: PeerEndpoint, turn: Turn): void {
    this.#handshakes.clear(member);
    this.sessionMoved(member, endpoint, turn);
  }

  /** A member's packets come by another way now. */
  sessionMoved(member: SessionKey, endpoint: PeerEndpoint, turn: Turn): void {
    if (!this.#isRouted(member)) return;
    const route = this.#route(member);
    const candidate = this.#candidateAt(member, endpoint);
    if (candidate?.kind === 'address' && !this.#admits(candidate)) {
      this.#pathLost(member, route, turn); // it may go on, but not by this way
      return;
    }
    const { active } = route;
    if (active !== undefined && active !== candidate && this.#drains(candidate) && !this.#drains(active)) {
      // What was under way when we left for another: followed back and forth, the two ends would never meet.
      this.#host.peers.redirect(member, active.endpoint, turn);
      route.since = turn.now; // it is still in use
      return;
    }
    this.#use(route, candidate, turn);
    this.#host.bar.look(member, turn);
    if (route.active === undefined) {
      this.#seek(member, turn); // a leg we no longer have
      return;
    }
    for (const source of this.#sources) source.carried(route.active);
    this.#stopSeeking(member, route);
    this.#host.beside?.waysChanged(member, turn);
  }

  /** The engine gave up handshakes: the way there is no longer one. */
  sessionLost(member: SessionKey, turn: Turn): void {
    if (this.#routes.has(member)) this.endWays(member, turn);
  }

  /** Nothing may go to the member as things are: the next packet asks for a way, whether one of ours was known or none. */
  endWays(member: SessionKey, turn: Turn): void {
    for (const source of this.#sources) source.closeAll(member, turn);
    this.#forgetSession(member, turn);
    this.#dropRoute(member);
    this.#host.bar.look(member, turn);
  }

  /** A member is gone from the table. */
  memberGone(member: SessionKey, turn: Turn): void {
    if (!this.#routes.has(member)) return;
    for (const source of this.#sources) source.closeAll(member, turn);
    this.#dropRoute(member);
  }

  /** There is another relay to ask, or one less to wait for: ways that are sought are sought at once. */
  retry(turn: Turn): void {
    for (const [member, route] of this.#routes)
      if (route.seekUntil !== undefined && !this.#isSeeking(member)) this.#searches.set(member, turn.now);
  }

  /** A relay fell silent: members reached through it are sought through another, if there is one. */
  relayLost(relay: SessionKey, turn: Turn): void {
    const another = [...this.#host.uplinks()].some((other) => other.usable && other.sessionKey !== relay);
    if (!another) return; // when the relay is back, it is asked what it still knows
    for (const source of this.#sources) source.relayLost(relay, turn);
    for (const [member, route] of this.#routes)
      if (route.active?.relay === relay || route.seekUntil !== undefined) this.#seek(member, turn);
  }

  /** A relay will go: members reached over it are sought over another, while it goes on; what is not needed any more ends. */
  relayDraining(relay: SessionKey, turn: Turn): void {
    const another = [...this.#host.uplinks()].some((other) => other.usable);
    if (another)
      for (const [member, { active, offeredAt }] of this.#routes)
        if (active?.relay === relay && turn.now - offeredAt >= OFFERED_MS) this.#seek(member, turn);
    this.#outgoing.set(relay, turn.now + OUTGOING_MS);
  }

  /** The operator has decided otherwise: ways that may not be used are left, for another one that stands or is sought. */
  rulesChanged(turn: Turn): void {
    for (const [member, route] of [...this.#routes]) {
      const { active } = route;
      if (active !== undefined && !this.#admits(active)) {
        const other = this.#candidates(member).at(-1);
        if (other !== undefined) this.#moveTo(other, turn);
        else if (active.kind === 'address') this.#pathLost(member, route, turn);
        else {
          // It leads to the next one, and carries no data meanwhile; who is reached beside it does without.
          if (this.#host.beside?.carries(member) === true) route.active = undefined;
          this.#seek(member, turn);
        }
      }
      this.#closeForbidden(member, turn);
      this.#host.bar.look(member, turn);
    }
  }

  isActive(candidate: Candidate): boolean {
    return this.#routes.get(candidate.member)?.active === candidate;
  }

  found(candidate: Candidate, turn: Turn): void {
    const { member } = candidate;
    const route = this.#route(member);
    const before = route.active;
    // Its other end holds the session already, or the handshake that follows brings one up.
    this.#moveTo(candidate, turn);
    // The attempts so far are remembered until a session is up: this way may be ended yet.
    route.seekUntil = undefined;
    route.refused = undefined;
    this.#searches.clear(member);
    // Make before break: what the new way replaces goes after it stands.
    if (before !== undefined && !this.#drains(before))
      for (const source of this.#sources) source.close(before, turn);
    this.#host.beside?.waysChanged(member, turn);
    route.handshakes = 0;
    this.#handshake(member, turn);
  }

  notFound(member: SessionKey, reason: NotFound, turn: Turn): boolean {
    const route = this.#routes.get(member);
    if (route === undefined) return false;
    const news = reason !== route.refused;
    route.refused = reason;
    if (route.seekUntil !== undefined && !this.#isSeeking(member))
      this.#searches.set(member, turn.now + retryWait(route.attempts - 1));
    return news;
  }

  offered(candidate: Candidate, turn: Turn): void {
    const route = this.#route(candidate.member);
    route.offeredAt = turn.now;
    // A session that runs is moved over by the member's first packet, and not by the relay's word: before, its end may
    // not be there. What drains still carries.
    if (route.active === undefined || (route.seekUntil !== undefined && !this.#drains(route.active))) {
      this.#use(route, candidate, turn);
      this.#host.bar.look(candidate.member, turn);
      this.#host.peers.setEndpoint(candidate.member, candidate.endpoint, turn);
    }
    this.#stopSeeking(candidate.member, route);
    this.#host.beside?.waysChanged(candidate.member, turn);
  }

  unproven(candidate: Candidate, turn: Turn): void {
    const { member } = candidate;
    if (!this.isActive(candidate) || this.#handshakes.has(member)) return;
    this.#route(member).handshakes = 0;
    this.#handshake(member, turn);
  }

  doubtful(candidate: Candidate, turn: Turn): boolean {
    if (!this.isActive(candidate)) return false;
    this.#seek(candidate.member, turn);
    return true;
  }

  lost(candidate: Candidate, refused: boolean, turn: Turn): void {
    const { member } = candidate;
    if (!this.isActive(candidate)) {
      this.#host.beside?.waysChanged(member, turn);
      return;
    }
    const route = this.#route(member);
    route.active = undefined;
    // Ended before a session came up over it: as if it had not been found, the next one is tried.
    if (refused && this.#candidates(member).length === 0 && this.#handshakes.has(member))
      this.#seek(member, turn);
    this.#pathLost(member, route, turn);
  }

  handleTimeout(turn: Turn): void {
    for (const member of this.#handshakes.allDue(turn.now)) this.#handshake(member, turn);
    for (const member of this.#searches.allDue(turn.now)) this.#search(member, turn);
    for (const relay of this.#outgoing.allDue(turn.now)) this.#closeReplaced(relay, turn);
  }

  deadline(): number | undefined {
    return earliest(this.#handshakes.next(), this.#searches.next(), this.#outgoing.next());
  }

  /** Sessions with bootstraps and clients have their own ways. */
  #isRouted(member: SessionKey): boolean {
    return this.#host.members.bySessionKey(member) !== undefined && !this.#host.peers.hasRole(member);
  }

  /** Those that may be used. */
  #candidates(member: SessionKey): Candidate[] {
    return this.#sources
      .flatMap((source) => source.candidates(member))
      .filter((candidate) => this.#admits(candidate));
  }

  #admits({ kind, member, endpoint, relay }: Candidate): boolean {
    const { rules } = this.#host;
    if (kind === 'address') return rules.ruling(member, endsAt(endpoint)) === undefined;
    const { identity } =
      [...this.#host.uplinks()].find(({ sessionKey }) => sessionKey === relay)?.bootstrap ?? {};
    return identity === undefined || rules.admitCircuit(member, identity);
  }

  /** An address no source knows is a way too: the session has proven it. */
  #candidateAt(member: SessionKey, endpoint: PeerEndpoint): Candidate | undefined {
    for (const source of this.#sources) {
      const candidate = source.candidateAt(member, endpoint);
      if (candidate !== undefined) return candidate;
    }
    return 'address' in endpoint ? { kind: 'address', member, endpoint, relay: undefined } : undefined;
  }

  #isSeeking(member: SessionKey): boolean {
    return this.#sources.some((source) => source.isSeeking(member));
  }

  #route(member: SessionKey): Route {
    let route = this.#routes.get(member);
    if (route === undefined) {
      route = {
        active: undefined,
        since: 0,
        offeredAt: -Infinity,
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
    this.#searches.clear(member);
    this.#handshakes.clear(member);
    this.#routes.delete(member);
  }

  #seek(member: SessionKey, turn: Turn): void {
    this.#route(member).seekUntil ??= turn.now + SEEK_MS;
    if (!this.#isSeeking(member) && !this.#searches.has(member)) this.#search(member, turn);
  }

  #stopSeeking(member: SessionKey, route: Route): void {
    route.seekUntil = undefined;
    route.refused = undefined;
    route.attempts = 0;
    this.#searches.clear(member);
  }

  #search(key: SessionKey, turn: Turn): void {
    const route = this.#routes.get(key);
    const member: Member | undefined = this.#host.members.bySessionKey(key);
    if (route?.seekUntil === undefined || this.#isSeeking(key) || member === undefined) return;
    if (turn.now >= route.seekUntil) {
      this.#stopSeeking(key, route);
      // A relay that drains is there still, and for who has no other it is until the end.
      if (!this.#drains(route.active)) this.#pathLost(key, route, turn);
      return;
    }
    const attempt = route.attempts++;
    const trying = this.#sources.filter((source) => source.seek(member, attempt, turn));
    if (trying.length === 0) this.#searches.set(key, turn.now + retryWait(attempt));
  }

  #use(route: Route, candidate: Candidate | undefined, { now }: Turn): void {
    if (route.active !== candidate) route.since = now;
    route.active = candidate;
  }

  /** Whether it leads over a relay that will go, and works until then. */
  #drains(candidate: Candidate | undefined): boolean {
    return [...this.#host.uplinks()].some(
      (uplink) => uplink.isDraining && uplink.sessionKey === candidate?.relay,
    );
  }

  /** Ends the ways over a relay that drains to whom there is another one, once a session was made by that. */
  #closeReplaced(relay: SessionKey, turn: Turn): void {
    const isDraining = [...this.#host.uplinks()].some(
      (uplink) => uplink.isDraining && uplink.sessionKey === relay,
    );
    if (!isDraining) return;
    this.#outgoing.set(relay, turn.now + OUTGOING_MS);
    for (const [member, { active, since, seekUntil }] of this.#routes) {
      const isProven = seekUntil === undefined && !this.#handshakes.has(member);
      const stands = isProven && active !== undefined && !this.#drains(active);
      if (!stands || turn.now - since < OUTGOING_MS) continue;
      for (const source of this.#sources)
        for (const candidate of [...source.candidates(member)])
          if (candidate.relay === relay) source.close(candidate, turn);
    }
  }

  #moveTo(candidate: Candidate, turn: Turn): void {
    this.#use(this.#route(candidate.member), candidate, turn);
    this.#host.bar.look(candidate.member, turn);
    this.#host.peers.redirect(candidate.member, candidate.endpoint, turn);
  }

  /** The active way is gone: another one that stands takes over, else the engine has to ask. */
  #pathLost(member: SessionKey, route: Route, turn: Turn): void {
    const other = this.#candidates(member).at(-1);
    if (other !== undefined) {
      this.#moveTo(other, turn);
      this.#host.beside?.waysChanged(member, turn);
      this.#host.reached(member, turn);
      return;
    }
    route.active = undefined;
    this.#closeForbidden(member, turn);
    if (this.#host.beside?.carries(member) === true) this.#host.beside.waysChanged(member, turn);
    else this.#forgetSession(member, turn);
    if (!this.#isSeeking(member) && route.seekUntil === undefined) this.#dropRoute(member);
    this.#host.bar.look(member, turn);
  }

  /** Ends the ways that may not be used, but for the one that is until there is another. */
  #closeForbidden(member: SessionKey, turn: Turn): void {
    for (const source of this.#sources)
      for (const candidate of [...source.candidates(member)])
        if (!this.#admits(candidate) && !this.isActive(candidate)) source.close(candidate, turn);
  }

  /** The next packet asks for a way. */
  #forgetSession(member: SessionKey, turn: Turn): void {
    this.#host.peers.resetPath(member, turn);
    this.#host.beside?.sessionForgotten(member);
  }

  /**
   * Brings a session up over a new way; a present one may be with the member's former life. A way over which
   * none comes up carries nothing: another is sought.
   */
  #handshake(member: SessionKey, turn: Turn): void {
    const route = this.#routes.get(member);
    if (route?.active === undefined) return;
    const wait = HANDSHAKE_WAITS_MS[route.handshakes];
    if (wait === undefined) {
      if (route.attempts < MOST_ATTEMPTS) this.#seek(member, turn);
      return;
    }
    route.handshakes++;
    this.#handshakes.set(member, turn.now + wait);
    turn.emit({ type: 'handshake', peer: member });
  }
}

const retryWait = (attempt: number): number =>
  Math.min(FIRST_RETRY_MS * 2 ** Math.max(attempt, 0), LONGEST_RETRY_MS);
