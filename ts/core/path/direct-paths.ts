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
import {
  MAX_PATHS_PER_PEER,
  PROBE_TOKEN_SIZE,
  type PathEnds,
  type PathEvent,
  type PeerPath,
} from '../../contract/path-control.js';
import { compareBytes } from '../../wire/bytes.js';
import { formatSocketAddress } from '../../wire/socket-address.js';
import type { Member, MemberTable } from '../members/member-table.js';
import type { ContactCandidate } from '../protocol/contact-candidate.js';
import type { MessageOf } from '../protocol/control-message.js';
import { earliest } from '../runtime/earliest.js';
import type { PeerTable } from '../runtime/peer-table.js';
import { AnswerTable, type RequestTable } from '../runtime/request-table.js';
import { TimerQueue } from '../runtime/timer-queue.js';
import type { Turn } from '../runtime/turn.js';
import type { Candidate } from './candidate.js';
import { Contact } from './contact.js';
import { contactCandidates, isReachable, triedCandidates, type OwnAddresses } from './contact-addresses.js';
import { DEFAULT_RANK, isGone, rankOf, sourcesFor } from './local-interface.js';
import { sameEndpoint, type MemberPaths } from './member-paths.js';
import type { BesideWays } from './path-agent.js';
import { choosePaths } from './path-choice.js';
import { predictedAddresses } from './port-prediction.js';
import type { TrackedPath } from './tracked-path.js';
import { UnprovenBudget } from './unproven-budget.js';

/** What the record of a node says that can do all this. */
export const PATHS_CAPABILITY = 'paths';

/** How long the other side of a session has to ask for a contact before this one does. */
const ASK_LATER_MS = 300;
/** Who was asked begins by himself when he is not told to. */
const BEGIN_ANYWAY_MS = 1000;
/** A session that was not renewed for so long has no keys to probe with. */
const SESSION_LIFE_MS = 175_000;
/** Between probes of a path that is kept. */
export const PATH_KEEPALIVE_MS = 15_000;
/** Direct ones that are. */
const KEPT_PATHS = 4;
/** Before a path that died or was of no use is tried again. */
const RETRY_PATH_MS = 30_000;
/** The same for the one that is used, dead as it is, because nothing else works either. */
const RETRY_USED_MS = 5000;
/** Before a member is asked for a contact again when a direct path died. */
const ASK_AFTER_DEATH_MS = 1000;
const REPORT_EVERY_MS = 50;
/** For timers of the other side that fire late. */
const SLACK_MS = 20;
/** Addresses learned from probes that came in, for one contact. */
const MOST_LEARNED = 8;

/** What the node lends to its direct paths. */
export interface DirectHost {
  readonly identity: Uint8Array;
  readonly requests: RequestTable;
  readonly members: Pick<MemberTable, 'bySessionKey'>;
  readonly peers: PeerTable;
  own(): Omit<OwnAddresses, 'predicted'>;
  /** Relays may see this node elsewhere by now: they are asked. */
  askRelays(turn: Turn): void;
  /** The ways over relays that stand, the one in use last. */
  relayed(member: SessionKey): readonly Candidate[];
  /** It carries or will carry something: whoever keeps it up is told. */
  carried(candidate: Candidate): void;
  /** There is none, and one is wanted. */
  seekRelayed(member: SessionKey, turn: Turn): void;
  /** The peer's packets come over this relayed way now. */
  relayedMoved(member: SessionKey, endpoint: PeerEndpoint, turn: Turn): void;
}

export class DirectPaths implements BesideWays {
  readonly #host: DirectHost;
  readonly #contacts = new Map<SessionKey, Contact>();
  /** When something is due for a member. */
  readonly #wakes = new TimerQueue<SessionKey>();
  readonly #answers = new AnswerTable();
  readonly #budget = new UnprovenBudget();
  /** New ones since relays saw this node where they do: each may have taken a port of the NAT's. */
  #destinations = 0;
  #observedBefore = '';

  constructor(host: DirectHost) {
    this.#host = host;
  }

  /** The direct path a member is reached by. */
  active(member: SessionKey): TrackedPath | undefined {
    return this.#contacts.get(member)?.active;
  }

  /** All paths to a member, those over relays included. */
  paths(member: SessionKey): readonly TrackedPath[] {
    return this.#contacts.get(member)?.paths.all() ?? [];
  }

  /** Probes to addresses that had not answered, and those that were not sent. */
  get unproven(): { readonly sent: number; readonly refused: number } {
    return this.#budget;
  }

  /**
   * A handshake with a member completed.
   * @returns whether the way over relays is none of it: the session came by a direct path.
   */
  sessionUp(member: SessionKey, endpoint: PeerEndpoint, turn: Turn): boolean {
    if (!this.#isAble(member)) return false;
    const contact = this.#contact(member, turn);
    contact.sessionAt = turn.now;
    const { active } = contact;
    if (active !== undefined) {
      // The standby is kept up: a circuit that no session was made over lapses.
      for (const candidate of this.#host.relayed(member)) this.#host.carried(candidate);
      if (!sameEndpoint(active.remote, endpoint)) this.#suspect(contact, turn);
    } else if (!contact.asking && contact.beginAt === undefined && contact.askAt === undefined) {
      const first = compareBytes(this.#host.identity, this.#identityOf(member)) < 0;
      contact.askAt = turn.now + (first ? 0 : ASK_LATER_MS);
    }
    this.#wake(member, contact);
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
    this.#answers.forget(member);
  }

  waysChanged(member: SessionKey, turn: Turn): void {
    const contact = this.#contacts.get(member);
    if (contact?.agreed === true) this.#decide(member, contact, turn);
  }

  /** Own interfaces or addresses are others: paths from what is gone end, and there may be better ones. */
  addressesChanged(turn: Turn): void {
    const { interfaces } = this.#host.own();
    this.#host.askRelays(turn);
    for (const [member, contact] of this.#contacts) {
      for (const path of contact.paths.all())
        if (isGone(path.local, interfaces)) {
          contact.paths.remove(path);
          if (contact.active === path) contact.active = undefined;
        }
      contact.failures = 0;
      if (contact.agreed) this.#decide(member, contact, turn);
      if (!contact.asking) contact.askAt = turn.now + ASK_AFTER_DEATH_MS;
      this.#wake(member, contact);
    }
  }

  /** A member wants a contact. */
  handleContact(
    peer: SessionKey,
    request: number,
    { candidates }: MessageOf<'contact'>,
    turn: Turn,
  ): boolean {
    if (!this.#isAble(peer)) return false;
    if (!this.#answers.begin(peer, request, turn)) return true;
    const contact = this.#contact(peer, turn);
    contact.askAt = undefined;
    this.#agree(peer, contact, candidates, turn);
    contact.beginAt = turn.now + BEGIN_ANYWAY_MS;
    this.#wake(peer, contact);
    const answer = { type: 'contact-accepted', candidates: this.#candidates() } as const;
    this.#answers.answer(peer, request, answer, turn);
    return true;
  }

  /** The member whose contact was accepted begins about now. */
  handleBegin(peer: SessionKey, turn: Turn): void {
    const contact = this.#contacts.get(peer);
    if (contact?.beginAt === undefined) return;
    contact.beginAt = turn.now;
    this.#run(peer, contact, turn);
  }

  handleEvent(event: PathEvent, turn: Turn): void {
    const { peer } = event;
    const contact = this.#contacts.get(peer);
    if (contact?.agreed !== true) return;
    switch (event.type) {
      case 'probe-answer': {
        const path = contact.paths.at(event.at);
        if (path?.answered(event.token, event.rttMs, turn.now) !== true) return;
        path.probeAt = turn.now + PATH_KEEPALIVE_MS;
        this.#decide(peer, contact, turn);
        break;
      }
      case 'probe-from':
        this.#learn(peer, contact, event.from, turn);
        break;
      case 'path-arrival':
        this.#arrived(peer, contact, event.path, event.from, turn);
        break;
      case 'path-silent':
        this.#suspect(contact, turn);
        break;
      case 'path-heard':
        retryDead(contact.paths.get(event.path), turn);
        break;
      case 'path-report':
        break;
    }
    this.#wake(peer, contact);
  }

  handleTimeout(turn: Turn): void {
    for (const member of this.#wakes.allDue(turn.now)) {
      const contact = this.#contacts.get(member);
      if (contact !== undefined) this.#run(member, contact, turn);
    }
  }

  deadline(): number | undefined {
    return this.#wakes.next();
  }

  // Contact

  #ask(member: SessionKey, contact: Contact, turn: Turn): void {
    const sentAt = turn.now;
    contact.asking = true;
    contact.askAt = undefined;
    const message = { type: 'contact', candidates: this.#candidates() } as const;
    this.#host.requests.send(member, message, turn, (answer, later) => {
      if (this.#contacts.get(member) !== contact) return;
      contact.asking = false;
      if (answer?.type === 'contact-accepted') {
        this.#agree(member, contact, answer.candidates, later);
        // Both are to send their first packets before the other's arrive.
        later.send(member, 0, { type: 'contact-begin' });
        contact.beginAt = later.now + (later.now - sentAt) / 2;
      } else contact.failed(later.now);
      this.#wake(member, contact);
    });
  }

  #candidates(): ContactCandidate[] {
    const own = this.#host.own();
    const observed = own.observed.map(formatSocketAddress).join(' ');
    if (observed !== this.#observedBefore) this.#destinations = 0;
    this.#observedBefore = observed;
    return contactCandidates({
      ...own,
      predicted: predictedAddresses(own.observed, this.#destinations),
    });
  }

  /** Both sides know of each other what there is to try. */
  #agree(member: SessionKey, contact: Contact, told: readonly ContactCandidate[], turn: Turn): void {
    contact.agreed = true;
    contact.learned = 0;
    const own = this.#host.own();
    for (const { address } of triedCandidates(told, own))
      for (const { local, rank } of sourcesFor(address, own.interfaces))
        contact.paths.add({ remote: { address }, local }, rank);
    this.#decide(member, contact, turn);
  }

  #begin(contact: Contact, turn: Turn): void {
    contact.beginAt = undefined;
    for (const path of contact.paths.all()) if (path.state !== 'proven') path.retry(turn.now);
    // In case it comes to nothing: the next contact names what relays see by then.
    if (contact.active === undefined && contact.mayAskRelays(turn.now)) this.#host.askRelays(turn);
    contact.failed(turn.now);
  }

  // Probes

  /** The member sends from there: a path to try, if it is none yet. */
  #learn(member: SessionKey, contact: Contact, from: PathEnds, turn: Turn): void {
    const known = contact.paths.at(from);
    if (known !== undefined) {
      // Its probe came through: ours may, now.
      retryDead(known, turn);
      this.#run(member, contact, turn);
      return;
    }
    if ('leg' in from.remote || !isReachable(from.remote.address) || contact.learned >= MOST_LEARNED) return;
    contact.learned++;
    const { interfaces } = this.#host.own();
    contact.paths.add(from, rankOf(from.local, interfaces))?.retry(turn.now);
    this.#run(member, contact, turn);
  }

  /** Data comes by another path than it did. */
  #arrived(member: SessionKey, contact: Contact, id: number | undefined, from: PathEnds, turn: Turn): void {
    const path = id === undefined ? contact.paths.at(from) : contact.paths.get(id);
    // The member has left the path in use: it may know that it is dead.
    if (contact.active !== undefined && path !== contact.active) this.#suspect(contact, turn);
    retryDead(path, turn);
    if (id !== undefined) return;
    if ('leg' in from.remote) this.#host.relayedMoved(member, from.remote, turn);
    else this.#learn(member, contact, from, turn);
  }

  /** The path in use may be dead: it and those that would take its place are probed at once. */
  #suspect({ active, paths }: Contact, { now }: Turn): void {
    for (const path of paths.all()) if (path === active || path.relayed) path.suspect(now);
  }

  #run(member: SessionKey, contact: Contact, turn: Turn): void {
    if (turn.now - contact.sessionAt >= SESSION_LIFE_MS) {
      this.#lapse(member, contact, turn);
      return;
    }
    if (isDue(contact.askAt, turn.now) && !contact.asking) this.#ask(member, contact, turn);
    if (isDue(contact.beginAt, turn.now)) this.#begin(contact, turn);
    let changed = false;
    for (const path of contact.paths.all()) {
      if (!isDue(path.probeAt, turn.now)) continue;
      if (path.due()) {
        this.#probe(member, contact, path, turn);
        continue;
      }
      changed = true;
      if (path.relayed || path.state === 'dead')
        path.retry(turn.now + (path === contact.active ? RETRY_USED_MS : RETRY_PATH_MS));
    }
    if (changed) this.#decide(member, contact, turn);
    this.#wake(member, contact);
  }

  #probe(member: SessionKey, contact: Contact, path: TrackedPath, turn: Turn): void {
    const { remote } = path;
    // Where data is sent to, probes are none too many.
    const unproven = 'address' in remote && path.state !== 'proven' && path !== contact.active;
    if (unproven && !this.#budget.take(member, remote.address, turn.now)) {
      path.state = 'failed';
      return;
    }
    if ('address' in remote && !path.everProbed) this.#destinations++;
    const token = turn.random(PROBE_TOKEN_SIZE);
    path.sent(token, turn.now);
    turn.emit({ type: 'send-probe', probe: { peer: member, token, to: path.ends, size: 0 } });
  }

  // Choice

  /** Uses the best of the paths that are proven, and tells the engine if that is a change. */
  #decide(member: SessionKey, contact: Contact, turn: Turn): void {
    const relayed = this.#relayedPaths(member, contact, turn);
    const before = contact.active;
    const order = choosePaths(contact.paths.all(), before);
    const [best] = order;
    if (best !== undefined && !best.relayed) contact.active = best;
    // A standby that is dead as well takes nothing over: the engine sends by both, whichever lives first.
    else if (best === undefined && relayed.length > 0 && relayed.every(isDead))
      contact.active ??= lastProven(contact.paths);
    else if (relayed.length > 0) contact.active = undefined;
    for (const path of order.filter((each) => !each.relayed).slice(KEPT_PATHS)) contact.paths.remove(path);
    const { active } = contact;
    if (active !== before) this.#changed(member, contact, before, turn);
    if (active !== undefined && relayed.length === 0 && active.state !== 'proven')
      this.#host.seekRelayed(member, turn);
    // The relayed way the path agent uses comes first; not by a relay's word alone, while another one is proven.
    const isProven = ({ state }: TrackedPath): number => Number(state === 'proven');
    const standby = relayed.toReversed().toSorted((a, b) => isProven(b) - isProven(a));
    const rest = order.filter((path) => path !== active && !path.relayed).slice(0, KEPT_PATHS);
    const set = active === undefined ? standby : [active, ...standby, ...rest];
    this.#tell(member, contact, set.slice(0, MAX_PATHS_PER_PEER), turn);
  }

  /** Tracked paths of the relayed ways that stand; those of others are forgotten. */
  #relayedPaths(member: SessionKey, contact: Contact, turn: Turn): TrackedPath[] {
    const ways = this.#host.relayed(member);
    for (const path of contact.paths.all())
      if (path.relayed && !ways.some(({ endpoint }) => sameEndpoint(endpoint, path.remote)))
        contact.paths.remove(path);
    return ways
      .map(({ endpoint }) => {
        const ends = { remote: endpoint, local: undefined };
        const known = contact.paths.at(ends);
        const path = known ?? contact.paths.add(ends, DEFAULT_RANK);
        if (known === undefined && path !== undefined) path.probeAt = turn.now;
        return path;
      })
      .filter((path) => path !== undefined);
  }

  #changed(member: SessionKey, contact: Contact, before: TrackedPath | undefined, turn: Turn): void {
    const { active } = contact;
    const name = this.#host.members.bySessionKey(member)?.record.name ?? '';
    if (active !== undefined) {
      contact.failures = 0;
      contact.askAt = undefined;
      if (before === undefined)
        turn.notify('info', 'path-direct', { member: name, address: addressOf(active) });
      return;
    }
    turn.notify('info', 'path-relayed', { member: name });
    // The reason may be that our NAT gives us another address now.
    if (contact.mayAskRelays(turn.now)) this.#host.askRelays(turn);
    contact.askAt = turn.now + ASK_AFTER_DEATH_MS;
  }

  #tell(member: SessionKey, contact: Contact, set: readonly TrackedPath[], turn: Turn): void {
    const { active } = contact;
    const wait = REPORT_EVERY_MS + SLACK_MS + (active?.quality.timeoutMs ?? 0);
    const silentAfterMs = active === undefined ? 0 : Math.ceil(wait / SLACK_MS) * SLACK_MS;
    const told = `${set.map(({ id }) => id).join(' ')} ${silentAfterMs}`;
    if (told === contact.told) return;
    contact.told = told;
    const paths = set.map(({ id, ends }): PeerPath => ({ id, ...ends }));
    const reportEveryMs = active === undefined ? 0 : REPORT_EVERY_MS;
    turn.emit({ type: 'set-paths', paths: { peer: member, paths, silentAfterMs, reportEveryMs } });
  }

  /** No keys to probe with: what was proven is not any more when the next session comes. */
  #lapse(member: SessionKey, contact: Contact, turn: Turn): void {
    this.#contacts.delete(member);
    this.#wakes.clear(member);
    if (!contact.agreed) return;
    turn.emit({
      type: 'set-paths',
      paths: { peer: member, paths: undefined, silentAfterMs: 0, reportEveryMs: 0 },
    });
    const [relayed] = this.#host.relayed(member).slice(-1);
    if (relayed !== undefined) this.#host.peers.setEndpoint(member, relayed.endpoint, turn);
    else if (contact.active !== undefined) this.#host.peers.resetPath(member, turn);
  }

  // Members

  /** Members whose session is one of bootstrap and client reach each other directly as it is. */
  #isAble(key: SessionKey): boolean {
    const member = this.#host.members.bySessionKey(key);
    return member !== undefined && isCapable(member) && !this.#host.peers.hasRole(key);
  }

  #identityOf(key: SessionKey): Uint8Array {
    return this.#host.members.bySessionKey(key)?.identity ?? new Uint8Array(0);
  }

  #contact(member: SessionKey, turn: Turn): Contact {
    let contact = this.#contacts.get(member);
    if (contact === undefined) {
      contact = new Contact(turn.now);
      this.#contacts.set(member, contact);
    }
    return contact;
  }

  #wake(member: SessionKey, contact: Contact): void {
    if (this.#contacts.get(member) !== contact) return;
    const at = earliest(
      contact.asking ? undefined : contact.askAt,
      contact.beginAt,
      contact.paths.probeAt(),
      contact.sessionAt + SESSION_LIFE_MS,
    );
    if (at !== undefined) this.#wakes.set(member, at);
  }
}

const isCapable = ({ record }: Member): boolean => record.capabilities.includes(PATHS_CAPABILITY);
const isDead = ({ state }: TrackedPath): boolean => state === 'dead' || state === 'failed';

/** Something of the member's came by it: ours may come through as well, now. */
function retryDead(path: TrackedPath | undefined, { now }: Turn): void {
  if (path !== undefined && isDead(path)) path.retry(now);
}

/** The direct path that died last; undefined = none was ever proven. */
function lastProven(paths: MemberPaths): TrackedPath | undefined {
  return paths
    .all()
    .filter(({ relayed, answeredAt }) => !relayed && answeredAt !== undefined)
    .toSorted((a, b) => (a.answeredAt ?? 0) - (b.answeredAt ?? 0))
    .at(-1);
}

const isDue = (at: number | undefined, now: number): boolean => at !== undefined && at <= now;

function addressOf({ remote }: TrackedPath): string {
  return 'address' in remote ? formatSocketAddress(remote.address) : '';
}
