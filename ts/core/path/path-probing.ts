// Which paths work: probes of what is to be tried and of what is kept, within what may go to addresses that
// have not answered.

import type { SessionKey } from '../../contract/engine.js';
import {
  PROBE_TOKEN_SIZE,
  type PathCounts,
  type PathEnds,
  type PathEvent,
} from '../../contract/path-control.js';
import { sameBytes } from '../../wire/bytes.js';
import { sameSocketAddress, type SocketAddress } from '../../wire/socket-address.js';
import { isDue } from '../runtime/is-due.js';
import type { Turn } from '../runtime/turn.js';
import { isReachable, type OwnAddresses } from './contact-addresses.js';
import { isStranded, type Contact } from './contact.js';
import { familyOf, type NatWitness } from './nat-witness.js';
import { routedInterface } from './local-interface.js';
import { sameEndpoint } from './member-paths.js';
import { PathKeepalive } from './path-keepalive.js';
import type { PortPrediction } from './port-prediction.js';
import { mostOfSearch } from './port-search-limits.js';
import type { RuledWays } from './ruled-ways.js';
import type { SentAddresses } from './sent-addresses.js';
import { isAnswering, isDead, type TrackedPath } from './tracked-path.js';
import type { UnprovenBudget } from './unproven-budget.js';

/** Before a path that died or was of no use is tried again; doubles, while no data is sent. */
const RETRY_PATH_MS = 30_000;
const LONGEST_RETRY_PATH_MS = 600_000;
/**
 * The same where nothing else works either: of the one that is used, dead as it is, of those that would take its place,
 * and of all where no relay may carry data.
 */
const RETRY_USED_MS = 5000;
/** Addresses learned from probes that came in, for one contact. */
const MOST_LEARNED = 8;

/** What the node lends to its probes. */
export interface ProbingHost {
  readonly nat: NatWitness;
  readonly rules: RuledWays;
  own(): Pick<OwnAddresses, 'interfaces' | 'observed'>;
}

export class PathProbing {
  readonly #host: ProbingHost;
  readonly #prediction: PortPrediction;
  readonly #keepalive: PathKeepalive;
  readonly #budget: UnprovenBudget;
  readonly #sent: SentAddresses;

  constructor(host: ProbingHost, prediction: PortPrediction, sent: SentAddresses, budget: UnprovenBudget) {
    this.#host = host;
    this.#sent = sent;
    this.#budget = budget;
    this.#prediction = prediction;
    this.#keepalive = new PathKeepalive(host.nat);
  }

  /** Sends the probes that are due. @returns whether paths were given up or do not answer: the choice may be another. */
  run(member: SessionKey, contact: Contact, turn: Turn): boolean {
    let changed = false;
    for (const path of contact.paths.all()) {
      if (isDue(path.keepAt, turn.now)) this.#keepalive.due(member, contact, path, turn);
      if (!isDue(path.probeAt, turn.now)) continue;
      if (!path.relayed && this.#host.rules.ruling(member, path) !== undefined) {
        path.ruleOut();
        continue;
      }
      if (path.due()) {
        this.#probe(member, contact, path, turn);
        if (!isAnswering(path) && (contact.shares.has(path) || path === contact.control)) changed = true;
        continue;
      }
      changed = true;
      if (this.#keepalive.died(member, path, turn.now)) contact.forgotten = true;
      if (path.state === 'failed') this.#hairpinned(contact, path, false);
      if (path.relayed || path.state === 'dead')
        path.retry(turn.now + this.#retryMs(member, contact, path, turn.now));
    }
    return changed;
  }

  /**
   * One probe to where no path is, by the interface that leads to relays as well; its answer proves nothing.
   * @returns false when none may go there now
   */
  probeOnce(member: SessionKey, address: SocketAddress, turn: Turn): boolean {
    const local = routedInterface(address, this.#host.own().interfaces)?.source;
    const to = { remote: { address }, local };
    if (this.#host.rules.ruling(member, to) !== undefined) return false;
    if (!this.#budget.take(member, address, turn.now)) return false;
    this.#prediction.newDestination();
    this.#sent.add(member, address, turn.now);
    turn.emit({
      type: 'send-probe',
      probe: { peer: member, token: turn.random(PROBE_TOKEN_SIZE), to, size: 0 },
    });
    return true;
  }

  /** @returns whether it was one of ours that was answered. */
  answered(contact: Contact, event: Extract<PathEvent, { type: 'probe-answer' }>, turn: Turn): boolean {
    const path = contact.paths.at(event.at);
    const tries = path?.unanswered ?? 0;
    if (path?.answered(event.token, event.rttMs, turn.now) !== true) return false;
    this.#observed(event, path, turn.now);
    this.#hairpinned(contact, path, true);
    this.#keepalive.answered(event.peer, contact, path, tries, turn);
    return true;
  }

  /** The member sends from there: a path to try, if it is none yet. @returns whether something may be due now. */
  learn(member: SessionKey, contact: Contact, from: PathEnds, turn: Turn): boolean {
    const known = contact.paths.at(from);
    if (known !== undefined) {
      // Its probe came through: ours may, now.
      this.retryDead(known, turn);
      return true;
    }
    if ('leg' in from.remote || !isReachable(from.remote.address) || contact.learned >= MOST_LEARNED)
      return false;
    if (this.#host.rules.ruling(member, from) !== undefined) return false;
    contact.learned++;
    contact.paths.add(from)?.retry(turn.now);
    return true;
  }

  /**
   * The path in use may be dead: it and those that would take its place are probed at once, those too that are
   * dead as far as is known.
   */
  suspect({ paths }: Contact, { now }: Turn): void {
    for (const path of paths.all())
      if (path.state !== 'dead') path.suspect(now);
      else if (path.unanswered === 0) path.retry(now);
  }

  /** Something of the member's came by it: ours may come through as well, now. */
  retryDead(path: TrackedPath | undefined, { now }: Turn): void {
    if (path !== undefined && isDead(path)) path.retry(now);
  }

  /** Data was sent to the member, and has arrived. */
  dataSent(contact: Contact, { now }: Turn): void {
    this.#keepalive.dataSent(contact, now);
  }

  /** The engine's counts of the member's paths, as they were asked for. */
  counted(member: SessionKey, contact: Contact, counts: readonly PathCounts[], { now }: Turn): void {
    this.#keepalive.counted(member, contact, counts, now);
  }

  memberGone(member: SessionKey): void {
    this.#keepalive.memberGone(member);
  }

  #retryMs(member: SessionKey, contact: Contact, path: TrackedPath, now: number): number {
    const isNeeded = contact.active === undefined && !this.#host.rules.admitRelayed(member);
    const isLast = contact.set.includes(path) && isStranded(contact);
    if (path === contact.active || isNeeded || isLast) return RETRY_USED_MS;
    if (contact.isBusy(now)) return RETRY_PATH_MS;
    return Math.min(RETRY_PATH_MS * 2 ** path.retries++, LONGEST_RETRY_PATH_MS);
  }

  /** A member's word of where it sees this node. */
  #observed(event: Extract<PathEvent, { type: 'probe-answer' }>, path: TrackedPath, now: number): void {
    const { remote, local, observed: before, silence } = path;
    const { observed: seen, peer: observer } = event;
    if (seen === undefined || !('address' in remote)) return;
    const { address: to } = remote;
    path.observed = seen;
    // From another port it is another mapping: what NATs are judged by is the engine's own.
    if (local?.port !== undefined) return;
    this.#host.nat.memberObserved({ observer, to, local, seen, at: now });
    if (silence !== undefined && before !== undefined && !sameSocketAddress(before, seen))
      this.#host.nat.silence(local, familyOf(to), silence.ms, 'forgotten');
  }

  /** A path to somebody behind the same outer address: whether that is where a packet comes back from (hairpin). */
  #hairpinned(contact: Contact, { remote, local }: TrackedPath, worked: boolean): void {
    if (!('address' in remote)) return;
    const { ip } = remote.address;
    const { observed, interfaces } = this.#host.own();
    const isOwn = interfaces.some(({ source }) => sameBytes(source.ip, ip));
    if (isOwn || !observed.some((address) => sameBytes(address.ip, ip))) return;
    // Nobody is there, as far as is known, who is not reached by another way.
    if (worked || contact.active !== undefined)
      this.#host.nat.hairpinned(local, familyOf(remote.address), worked);
  }

  #probe(member: SessionKey, contact: Contact, path: TrackedPath, turn: Turn): void {
    const { remote } = path;
    if ('address' in remote && !this.#may(member, contact, path, remote.address, turn.now)) {
      path.heldBack = true;
      if (path.state === 'dead') path.retry(turn.now + this.#retryMs(member, contact, path, turn.now));
      else path.state = 'failed';
      return;
    }
    if ('address' in remote) {
      if (!path.everProbed) this.#prediction.newDestination();
      this.#sent.add(member, remote.address, turn.now);
    }
    const token = turn.random(PROBE_TOKEN_SIZE);
    path.sent(token, turn.now);
    turn.emit({ type: 'send-probe', probe: { peer: member, token, to: path.ends, size: 0 } });
  }

  /** Whether one more probe may go there. Where data is sent to, or answers come from by another path, none is too many. */
  #may(member: SessionKey, contact: Contact, path: TrackedPath, to: SocketAddress, now: number): boolean {
    const isProven =
      path === contact.active ||
      contact.paths.all().some((each) => each.state === 'proven' && sameEndpoint(each.remote, path.remote));
    if (isProven) return true;
    if (path.local?.port !== undefined)
      return this.#budget.takeSearch(member, to, mostOfSearch(this.#host.rules.search), now);
    return path.answeredAt === undefined
      ? this.#budget.take(member, to, now)
      : this.#budget.takeLost(member, to, now);
  }
}
