// Direct paths to members. Two members meet over relays; inside that session they tell each other where they
// may be reached (a contact), open at once towards each other, and use what was proven to work both ways.
// The way over relays stays as standby, and takes over when the direct one dies.
//
//   session over a relay ──► contact ──► both probe ──► proven: direct, relay as standby
//          ▲                   │ refused, unanswered        │ dead
//          └───────────────────┴──── next attempt ◄─────────┘
//
// The path agent goes on seeing to the way over relays. Nothing here is done for members whose record does
// not say that they can do it, nor by a node whose engine cannot.

import type { PeerEndpoint, SessionKey } from '../../contract/engine.js';
import type { PathCounts, PathEnds, PathEvent } from '../../contract/path-control.js';
import { compareBytes } from '../../wire/bytes.js';
import type { Member, MemberTable } from '../members/member-table.js';
import type { MessageOf } from '../protocol/control-message.js';
import { earliest } from '../runtime/earliest.js';
import type { PortSearchStatus } from '../runtime/way-status.js';
import { isDue } from '../runtime/is-due.js';
import type { PeerTable } from '../runtime/peer-table.js';
import { TimerQueue } from '../runtime/timer-queue.js';
import type { Turn } from '../runtime/turn.js';
import type { Candidate } from './candidate.js';
import { ContactExchange, type ExchangeHost, type ExchangeUser } from './contact-exchange.js';
import { Contact, isStranded } from './contact.js';
import { FilteringTests, type FilteringTestHost } from './filtering-test.js';
import { isGone } from './local-interface.js';
import { sameEndpoint } from './member-paths.js';
import { MtuDiscovery, type MemberMtu } from './mtu-discovery.js';
import type { BesideWays } from './path-agent.js';
import type { NatWitness } from './nat-witness.js';
import { PathProbing, type ProbingHost } from './path-probing.js';
import { ASK_AFTER_DEATH_MS, PathSelection, type SelectionHost } from './path-selection.js';
import { PortPrediction } from './port-prediction.js';
import { PortSearches, type PortSearchHost } from './port-search.js';
import type { RuledWays } from './ruled-ways.js';
import { SentAddresses } from './sent-addresses.js';
import type { TrackedPath } from './tracked-path.js';
import { UnprovenBudget } from './unproven-budget.js';

/** What the record of a node says that can do all this. */
export const PATHS_CAPABILITY = 'paths';

/** How long the other side of a session has to ask for a contact before this one does. */
const ASK_LATER_MS = 300;
/** A way by which a probe was answered this lately is not suspected. */
const TRUST_MS = 500;
/** A session that was not renewed for so long has no keys to probe with. */
const SESSION_LIFE_MS = 175_000;

/** What the node lends to its direct paths. */
export interface DirectHost
  extends ExchangeHost, ProbingHost, SelectionHost, FilteringTestHost, PortSearchHost {
  readonly nat: NatWitness;
  readonly rules: RuledWays;
  readonly identity: Uint8Array;
  readonly members: Pick<MemberTable, 'bySessionKey'>;
  readonly peers: PeerTable;
  /** Of the tunnel; undefined = there is none, or its engine cannot keep datagrams whole. */
  readonly innerMtu: number | undefined;
  own(): ReturnType<ExchangeHost['own']>;
  /** It carries or will carry something: whoever keeps it up is told. */
  carried(candidate: Candidate): void;
  /** The peer's packets come over this relayed way now. */
  relayedMoved(member: SessionKey, endpoint: PeerEndpoint, turn: Turn): void;
  /** No relay may carry data to the member, and nothing else does: its session ends. */
  endWays(member: SessionKey, turn: Turn): void;
}

export class DirectPaths implements BesideWays, ExchangeUser {
  readonly #host: DirectHost;
  readonly #contacts = new Map<SessionKey, Contact>();
  /** When something is due for a member. */
  readonly #wakes = new TimerQueue<SessionKey>();
  readonly #exchange: ContactExchange;
  readonly #probing: PathProbing;
  readonly #selection: PathSelection;
  readonly #mtu: MtuDiscovery;
  readonly #tests: FilteringTests;
  readonly #budget = new UnprovenBudget();
  readonly #searches: PortSearches;

  constructor(host: DirectHost) {
    const prediction = new PortPrediction();
    this.#host = host;
    this.#exchange = new ContactExchange(host, this, prediction);
    const sent = new SentAddresses();
    this.#probing = new PathProbing(host, prediction, sent, this.#budget);
    this.#searches = new PortSearches(host, this.#contacts, this.#budget, sent);
    this.#tests = new FilteringTests(host, sent, (member, address, turn) =>
      this.#probing.probeOnce(member, address, turn),
    );
    this.#mtu = new MtuDiscovery(host.innerMtu);
    this.#selection = new PathSelection(host, this.#mtu);
  }

  /** The direct path a member is reached by. */
  active(member: SessionKey): TrackedPath | undefined {
    return this.#contacts.get(member)?.active;
  }

  /** What is known of finding direct paths to a member, and the paths; undefined without a session. */
  known(member: SessionKey): Contact | undefined {
    return this.#contacts.get(member);
  }

  /** Whether a member says that it can. */
  isCapable(member: SessionKey): boolean {
    const known = this.#host.members.bySessionKey(member);
    return known !== undefined && isCapable(known);
  }

  /** What the member can be sent; undefined = nothing is known of the path in use. */
  mtu(member: SessionKey): MemberMtu | undefined {
    const contact = this.#contacts.get(member);
    return contact && this.#mtu.of(contact);
  }

  /** Probes to addresses that had not answered, those that were not sent, and packets of port searches. */
  get unproven(): Pick<UnprovenBudget, 'sent' | 'refused' | 'searched'> {
    return this.#budget;
  }

  /** The search for a member's ports that runs, or the last one. */
  search(member: SessionKey, now: number): PortSearchStatus | undefined {
    return this.#searches.status(member, now);
  }

  /**
   * A handshake with a member completed.
   * @returns whether the way over relays is none of it: the session came by a direct path.
   */
  sessionUp(member: SessionKey, endpoint: PeerEndpoint, turn: Turn): boolean {
    if (!this.#isAble(member)) {
      this.#keepToRelays(member, turn);
      return false;
    }
    const contact = this.contact(member, turn);
    contact.sessionAt = turn.now;
    const { active } = contact;
    if (active !== undefined) {
      // The standby is kept up: a circuit that no session was made over lapses.
      for (const candidate of this.#host.relayed(member)) this.#host.carried(candidate);
      if (!sameEndpoint(active.remote, endpoint)) this.#probing.suspect(contact, turn);
    } else if (!contact.asking && contact.beginAt === undefined && contact.askAt === undefined) {
      const known = this.#host.members.bySessionKey(member);
      if (known !== undefined && this.#host.rules.admitAllDirect(member))
        this.#tests.begin(member, known, contact, turn);
      contact.askAt = turn.now + (contact.first ? 0 : ASK_LATER_MS);
    }
    this.rescheduled(member, contact);
    const direct = 'address' in endpoint && (active !== undefined || this.#host.relayed(member).length > 0);
    if (direct && contact.agreed) this.#learn(member, contact, { remote: endpoint, local: undefined }, turn);
    return direct;
  }

  carries(member: SessionKey): boolean {
    return this.active(member) !== undefined;
  }

  sessionForgotten(member: SessionKey): void {
    this.#contacts.delete(member);
    this.#wakes.clear(member);
  }

  memberGone(member: SessionKey): void {
    this.sessionForgotten(member);
    this.#exchange.forget(member);
    this.#tests.forget(member);
    this.#searches.forget(member);
    this.#probing.memberGone(member);
  }

  waysChanged(member: SessionKey, turn: Turn): void {
    const contact = this.#contacts.get(member);
    if (contact !== undefined && this.#isPinned(member, contact))
      this.#selection.decide(member, contact, turn);
  }

  /** The operator has decided otherwise: ways that may not be used end, and there may be better ones. */
  rulesChanged(turn: Turn): void {
    const { rules } = this.#host;
    this.#searches.retry(turn);
    for (const [member, contact] of this.#contacts) {
      for (const path of contact.paths.all())
        if (!path.relayed && rules.ruling(member, path) !== undefined) {
          contact.paths.remove(path);
          // Nothing is known of it, and nothing is found out; that it is there can be told.
          contact.paths.add(path.ends)?.ruleOut();
        }
      if (this.#isAble(member)) {
        contact.failures = 0;
        for (const path of contact.paths.all())
          if (path.state !== 'proven' && rules.ruling(member, path) === undefined) path.retry(turn.now);
        contact.askAt = turn.now; // again, where one is asked for: it names what was told before
      } else {
        if (contact.agreed) {
          this.#exchange.decline(member, turn);
          // Answers by relays are heard no more either: nothing is known of them, as without a contact.
          for (const path of contact.paths.all()) if (path.relayed) contact.paths.remove(path);
        }
        contact.agreed = false;
        contact.listened = undefined;
        contact.askAt = contact.beginAt = undefined;
      }
      if (this.#isPinned(member, contact)) this.#selection.decide(member, contact, turn);
      else if (contact.told !== undefined) this.#unpin(member, contact, turn);
      this.rescheduled(member, contact);
    }
  }

  /** The member does not answer: ways on which nobody reports what arrives are probed at once. */
  suspect(member: SessionKey, { now }: Turn): void {
    const contact = this.#contacts.get(member);
    if (contact?.agreed !== true) return;
    const { active, control, set } = contact;
    for (const path of active === undefined ? set : [control])
      if (path !== undefined && now - (path.answeredAt ?? -Infinity) >= TRUST_MS) path.suspect(now);
    this.rescheduled(member, contact);
  }

  /** The member is reached again: a contact that it did not answer is asked for at once. */
  reached(member: SessionKey, turn: Turn): void {
    const contact = this.#contacts.get(member);
    if (contact?.unanswered !== true || contact.asking) return;
    contact.unanswered = false;
    contact.failures = 0;
    contact.askAt = turn.now;
    this.rescheduled(member, contact);
  }

  /** Somebody waits for a direct path: it is sought again soon. */
  wanted(member: SessionKey, turn: Turn): void {
    const contact = this.#contacts.get(member);
    if (contact?.askAt === undefined || contact.active !== undefined) return;
    contact.askAt = Math.min(contact.askAt, turn.now + ASK_AFTER_DEATH_MS);
    this.rescheduled(member, contact);
  }

  /** Own interfaces or addresses are others: paths from what is gone end, and there may be better ones. */
  addressesChanged(turn: Turn): void {
    const { interfaces } = this.#host.own();
    this.#host.askRelays(turn);
    this.#searches.retry(turn);
    for (const [member, contact] of this.#contacts) {
      for (const path of contact.paths.all()) if (isGone(path.local, interfaces)) contact.paths.remove(path);
      contact.failures = 0;
      if (contact.agreed) this.#selection.decide(member, contact, turn);
      contact.askAt = turn.now + ASK_AFTER_DEATH_MS;
      this.rescheduled(member, contact);
    }
  }

  /** A member wants a contact. */
  handleContact(
    peer: SessionKey,
    request: number,
    { candidates }: MessageOf<'contact'>,
    turn: Turn,
  ): boolean {
    // A record that says that it can, or no longer, may come later than the contact.
    const ends = candidates.length === 0 && this.#contacts.has(peer);
    if (!ends && !this.#isPermitted(peer)) return false;
    this.#exchange.accept(peer, request, candidates, turn);
    if (ends) return true;
    // It may have lost the path that we have.
    const contact = this.contact(peer, turn);
    this.#probing.suspect(contact, turn);
    this.rescheduled(peer, contact);
    return true;
  }

  /** A member wants to know whether what this node sends gets in there. */
  handleFilteringTest(
    peer: SessionKey,
    request: number,
    { address }: MessageOf<'filtering-test'>,
    turn: Turn,
  ): boolean {
    if (!this.#isAble(peer)) return false;
    this.#tests.handle(peer, request, address, this.#contacts.get(peer), turn);
    return true;
  }

  /** A member behind a NAT that gives any port wants to be searched for. */
  handlePortSearch(
    peer: SessionKey,
    request: number,
    message: MessageOf<'port-search'>,
    turn: Turn,
  ): boolean {
    if (!this.#isAble(peer)) return false;
    this.#searches.handle(peer, request, message, this.#contacts.get(peer), turn);
    return true;
  }

  handlePortSearchBegin(peer: SessionKey, turn: Turn): void {
    this.#searches.handleBegin(peer, turn);
  }

  /** The member whose contact was accepted begins about now. */
  handleBegin(peer: SessionKey, turn: Turn): void {
    const contact = this.#contacts.get(peer);
    if (contact?.beginAt === undefined) return;
    contact.beginAt = Math.max(turn.now, contact.quietUntil);
    this.#run(peer, contact, turn);
  }

  handleEvent(event: PathEvent, turn: Turn): void {
    const { peer } = event;
    const contact = this.#contacts.get(peer);
    if (event.type === 'probe-from') this.#tests.arrived(peer, event.from, turn);
    if (contact === undefined || !this.#hears(contact, event)) return;
    const wasStranded = isStranded(contact);
    switch (event.type) {
      case 'probe-answer':
        if (this.#probing.answered(contact, event, turn)) {
          this.#reached(peer, contact, event.at);
          // Nobody reports what arrives over relays alone.
          if (contact.active === undefined) turn.emit({ type: 'count-paths', peer });
        } else if (!this.#mtu.answered(contact, event, turn.now)) return;
        this.#selection.decide(peer, contact, turn);
        break;
      case 'probe-from':
        this.#learn(peer, contact, event.from, turn);
        break;
      case 'path-arrival':
        this.#arrived(peer, contact, event.path, event.from, turn);
        break;
      case 'path-silent':
        this.#duplicated(contact, true);
        contact.paths.get(event.path)?.lateness.silent(turn.now);
        this.#probing.suspect(contact, turn);
        this.#mtu.silent(contact, turn.now);
        break;
      case 'path-heard':
        this.#duplicated(contact, false);
        contact.paths.get(event.path)?.lateness.heard(turn.now);
        this.#probing.retryDead(contact.paths.get(event.path), turn);
        this.#selection.decide(peer, contact, turn);
        break;
      case 'path-report':
        this.#probing.dataSent(contact, turn);
        contact.paths.get(event.path)?.mtu?.reported(event.sent, event.received, turn.now);
        if (this.#reported(contact, event, turn.now)) this.#selection.decide(peer, contact, turn);
        break;
    }
    if (wasStranded && (event.type === 'path-heard' || !isStranded(contact))) this.#host.reached(peer, turn);
    this.rescheduled(peer, contact);
  }

  /** The engine's counts of a member's paths, as they were asked for. */
  handleCounts(peer: SessionKey, counts: readonly PathCounts[], turn: Turn): void {
    const contact = this.#contacts.get(peer);
    if (contact === undefined) return;
    this.#probing.counted(peer, contact, counts, turn);
    this.#mtu.counted(contact, counts, turn.now);
    this.rescheduled(peer, contact);
  }

  handleTimeout(turn: Turn): void {
    for (const member of this.#wakes.allDue(turn.now)) {
      const contact = this.#contacts.get(member);
      if (contact !== undefined) this.#run(member, contact, turn);
    }
    this.#searches.run(turn);
  }

  deadline(): number | undefined {
    return earliest(this.#wakes.next(), this.#searches.deadline());
  }

  // What the exchange of contacts asks for

  contact(member: SessionKey, turn: Turn): Contact {
    let contact = this.#contacts.get(member);
    if (contact === undefined) {
      contact = new Contact(turn.now, this.#isFirst(member));
      this.#contacts.set(member, contact);
    }
    return contact;
  }

  stands(member: SessionKey, contact: Contact): boolean {
    return this.#contacts.get(member) === contact;
  }

  permits(member: SessionKey): boolean {
    return this.#isPermitted(member);
  }

  agreed(member: SessionKey, contact: Contact, turn: Turn): void {
    this.#selection.decide(member, contact, turn);
  }

  declined(member: SessionKey, contact: Contact, turn: Turn): void {
    contact.refused = true;
    contact.beginAt = undefined;
    for (const path of contact.paths.all()) if (!path.relayed) contact.paths.remove(path);
    contact.listened = undefined;
    if (this.#isPinned(member, contact)) this.#selection.decide(member, contact, turn);
    contact.failed(turn.now);
    this.rescheduled(member, contact);
  }

  rescheduled(member: SessionKey, contact: Contact): void {
    if (!this.stands(member, contact)) return;
    const at = earliest(
      contact.asking ? undefined : contact.askAt,
      contact.beginAt,
      contact.paths.probeAt(),
      this.#host.rules.admitDirect(member) ? contact.sessionAt + SESSION_LIFE_MS : undefined,
    );
    if (at !== undefined) this.#wakes.set(member, at);
  }

  #reached(member: SessionKey, contact: Contact, at: PathEnds): void {
    const known = this.#host.members.bySessionKey(member);
    const path = contact.paths.at(at);
    if (known !== undefined && path !== undefined) this.#tests.reached(known, contact, path);
  }

  #learn(member: SessionKey, contact: Contact, from: PathEnds, turn: Turn): void {
    // What it sent before it said so may be under way yet.
    if (contact.refused) return;
    if (this.#probing.learn(member, contact, from, turn)) this.#run(member, contact, turn);
  }

  /** Data comes by another path than it did. */
  #arrived(member: SessionKey, contact: Contact, id: number | undefined, from: PathEnds, turn: Turn): void {
    const path = id === undefined ? contact.paths.at(from) : contact.paths.get(id);
    // The member has left the path in use: it may know that it is dead.
    if (contact.active !== undefined && path !== contact.active) this.#probing.suspect(contact, turn);
    this.#probing.retryDead(path, turn);
    if (id === undefined && 'leg' in from.remote) this.#host.relayedMoved(member, from.remote, turn);
    else if (id === undefined && contact.agreed) this.#learn(member, contact, from, turn);
    this.#listen(member, contact, from, turn);
  }

  /** What comes by a direct way that this node does not use is reported on, or the member would take it for silent. */
  #listen(member: SessionKey, contact: Contact, from: PathEnds, turn: Turn): void {
    const { rules } = this.#host;
    if (!contact.agreed || 'leg' in from.remote) return;
    if (rules.ruling(member, from) !== undefined && contact.paths.at(from) === undefined)
      contact.paths.add(from)?.ruleOut();
    const listened = contact.paths.at(from);
    if (listened === undefined || listened === contact.listened) return;
    contact.listened = listened;
    this.#selection.decide(member, contact, turn);
  }

  #run(member: SessionKey, contact: Contact, turn: Turn): void {
    if (this.#host.rules.admitDirect(member) && turn.now - contact.sessionAt >= SESSION_LIFE_MS) {
      this.#lapse(member, contact, turn);
      return;
    }
    if (isDue(contact.askAt, turn.now) && !contact.asking) {
      if (this.#isAble(member)) this.#exchange.ask(member, contact, turn);
      else contact.askAt = undefined;
    }
    if (isDue(contact.beginAt, turn.now)) this.#exchange.begin(contact, turn);
    const found = this.#mtu.run(member, contact, turn);
    if (this.#probing.run(member, contact, turn) || found) this.#selection.decide(member, contact, turn);
    this.#searches.consider(member, contact, turn);
    this.rescheduled(member, contact);
  }

  /** No keys to probe with: what was proven is not any more when the next session comes. */
  #lapse(member: SessionKey, contact: Contact, turn: Turn): void {
    this.#contacts.delete(member);
    this.#wakes.clear(member);
    if (contact.agreed || contact.tested || contact.told !== undefined)
      this.#selection.withdraw(member, contact, turn);
    if (!this.#host.rules.admitRelayed(member)) {
      this.#host.endWays(member, turn);
      return;
    }
    if (!contact.agreed && !contact.tested) return;
    const [relayed] = this.#host.relayed(member).slice(-1);
    if (relayed !== undefined) this.#host.peers.setEndpoint(member, relayed.endpoint, turn);
    else if (contact.active !== undefined) this.#host.peers.resetPath(member, turn);
  }

  /** Of a member that agreed on nothing, only where its data comes from is of interest. */
  #hears(contact: Contact, event: PathEvent): boolean {
    return contact.agreed || (contact.told !== undefined && event.type === 'path-arrival');
  }

  /** @returns whether the path loses more, or less, than was known. */
  #reported(contact: Contact, event: Extract<PathEvent, { type: 'path-report' }>, now: number): boolean {
    const path = contact.duplicated ? undefined : contact.paths.get(event.path);
    return path?.quality.reported(event.sent, event.received, now) === true;
  }

  #duplicated(contact: Contact, duplicated: boolean): void {
    contact.duplicated = duplicated;
    for (const { quality } of contact.set) quality.duplicated();
  }

  /** Whether the engine is told by which ways a member is reached, so that it does not roam. */
  #isPinned(member: SessionKey, contact: Contact): boolean {
    return contact.agreed || !this.#host.rules.admitAllDirect(member);
  }

  /** It roams again, from where it is reached now. */
  #unpin(member: SessionKey, contact: Contact, turn: Turn): void {
    this.#selection.withdraw(member, contact, turn);
    const [relayed] = this.#host.relayed(member).slice(-1);
    if (relayed !== undefined) this.#host.peers.redirect(member, relayed.endpoint, turn);
  }

  /** A member that may not be reached directly is not to roam to where it can be. */
  #keepToRelays(member: SessionKey, turn: Turn): void {
    const { rules, members, peers } = this.#host;
    if (rules.admitAllDirect(member) || members.bySessionKey(member) === undefined) return;
    if (peers.hasRole(member)) return;
    const contact = this.contact(member, turn);
    contact.sessionAt = turn.now;
    this.#selection.decide(member, contact, turn);
  }

  // Members

  /** Whether direct paths to it may be sought. Members whose session is one of bootstrap and client have one as it is. */
  #isAble(key: SessionKey): boolean {
    return this.isCapable(key) && this.#isPermitted(key);
  }

  #isPermitted(key: SessionKey): boolean {
    const { members, peers, rules } = this.#host;
    return members.bySessionKey(key) !== undefined && !peers.hasRole(key) && rules.admitDirect(key);
  }

  /** Whether this side has the lower identity. */
  #isFirst(key: SessionKey): boolean {
    const identity = this.#host.members.bySessionKey(key)?.identity ?? new Uint8Array(0);
    return compareBytes(this.#host.identity, identity) < 0;
  }
}

const isCapable = ({ record }: Member): boolean => record.capabilities.includes(PATHS_CAPABILITY);
