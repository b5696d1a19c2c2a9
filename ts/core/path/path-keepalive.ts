// Keeps the paths of a member alive in the NATs and firewalls on them, with as few packets as that takes.
//
// While data is sent all kept paths are probed, so that they can be compared and the standby is known to work.
// While none is, only the path in use is kept, and it is silent for as long as it is known to stand, or a step
// longer. What goes by it keeps it whoever began it (a probe is answered), so one of the two sides probes: who did
// so the last time leaves the next to the other, so that each NAT in turn has to let in what comes after the silence.
// A silence that was too long costs no more than the path: the way over relays takes over, and a contact opens it
// again at once.

import type { SessionKey } from '../../contract/engine.js';
import type { PathCounts } from '../../contract/path-control.js';
import { formatIp } from '../../wire/socket-address.js';
import { BoundedTable } from '../runtime/bounded-table.js';
import type { Turn } from '../runtime/turn.js';
import type { Contact } from './contact.js';
import { KeepaliveInterval, SHORTEST_KEEPALIVE_MS } from './keepalive-interval.js';
import { familyOf, type NatWitness } from './nat-witness.js';
import type { TrackedPath } from './tracked-path.js';

/**
 * How much of the interval is waited for: by who did not probe the last time, and by who did, the one of the higher and
 * the one of the lower identity. So two who probed at one time do not do so again.
 */
const PATIENCE = { theirTurn: 0.8, higher: 0.9, lower: 1 } as const;
/** What was heard last was the answer to our probe when it came this shortly before or after we knew. */
const OWN_ANSWER_MS = 50;

/** Between probes of a way that data is split over, while it flows: the engine finds silence of the path in use alone. */
const SPLIT_PROBE_MS = 500;
/** Between two looks at what has gone by a path. */
const LEAST_WAIT_MS = 10;
/** What is known of paths to a member, by own and remote address, outlasts them. */
export const INTERVAL_BOUNDS = { total: 8192, shares: { member: 8 } } as const;

export class PathKeepalive {
  readonly #nat: Pick<NatWitness, 'silence'>;
  readonly #intervals = new BoundedTable<string, KeepaliveInterval, 'member'>(() => INTERVAL_BOUNDS);

  constructor(nat: Pick<NatWitness, 'silence'>) {
    this.#nat = nat;
  }

  /** Data was sent to the member: its paths are to be known. */
  dataSent(contact: Contact, now: number): void {
    const wasBusy = contact.isBusy(now);
    contact.dataSentAt = now;
    for (const path of contact.shares.keys())
      path.keepAt = Math.min(path.keepAt ?? Infinity, now + (wasBusy ? SPLIT_PROBE_MS : 0));
    if (wasBusy) return;
    for (const path of contact.paths.all())
      if (now - (path.answeredAt ?? now) >= SHORTEST_KEEPALIVE_MS) path.suspect(now);
  }

  /** One of its probes was answered. @param tries probes since the last answer */
  answered(member: SessionKey, contact: Contact, path: TrackedPath, tries: number, turn: Turn): void {
    const { now } = turn;
    path.ended = tries === 1 ? path.silence : undefined;
    path.silence = undefined;
    if (path.ended !== undefined) turn.emit({ type: 'count-paths', peer: member });
    const busyWait = contact.shares.has(path) ? SPLIT_PROBE_MS : SHORTEST_KEEPALIVE_MS;
    const isWatched = contact.isBusy(now) || path === contact.control;
    const wait = isWatched ? busyWait : this.#interval(member, path).next(now);
    path.keepAt = now + wait * ownPatience(contact);
  }

  /** `keepAt` of the path has come. */
  due(member: SessionKey, contact: Contact, path: TrackedPath, turn: Turn): void {
    path.keepAt = undefined;
    // Without a direct path in use, one that works is to be known.
    if (contact.isBusy(turn.now) || contact.active === undefined || path === contact.control)
      path.suspect(turn.now);
    else if (path === contact.active) {
      // Only the engine knows what has gone by it.
      path.keepAt = turn.now + SHORTEST_KEEPALIVE_MS;
      turn.emit({ type: 'count-paths', peer: member });
    }
  }

  /** What has come by the paths: the one in use is probed if it has been silent for long enough. */
  counted(member: SessionKey, contact: Contact, counts: readonly PathCounts[], now: number): void {
    const { active } = contact;
    if (active?.answeredAt === undefined || active.state !== 'proven' || active.unanswered > 0) return;
    const counted = counts.find(({ id }) => id === active.id);
    const received = counted?.receivedPackets ?? 0;
    const interval = this.#interval(member, active);
    // Beside the answer nothing: else it was the other side's probe that opened the way for ours.
    if (active.ended?.received === received - 1) interval.kept(active.ended.ms);
    active.ended = undefined;
    if (contact.isBusy(now)) return;
    const silentMs = Math.min(counted?.lastReceivedMs ?? Infinity, now - active.answeredAt);
    const isOwn = now - silentMs - active.answeredAt < OWN_ANSWER_MS;
    if (!isOwn) this.#heard(active, now - silentMs);
    const wait = interval.next(now) * (isOwn ? ownPatience(contact) : PATIENCE.theirTurn);
    if (silentMs < wait) {
      active.keepAt = now + Math.max(Math.ceil(wait - silentMs), LEAST_WAIT_MS);
      return;
    }
    active.silence = { ms: silentMs, received };
    active.suspect(now);
  }

  /** None of its probes was answered any more. @returns whether it may have been silent for too long. */
  died(member: SessionKey, path: TrackedPath, now: number): boolean {
    const { silence } = path;
    path.silence = path.ended = undefined;
    return silence !== undefined && this.#interval(member, path).forgotten(silence.ms, now);
  }

  memberGone(member: SessionKey): void {
    for (const key of [...this.#intervals.keys()])
      if (this.#intervals.owners(key)?.member === member) this.#intervals.delete(key);
  }

  /** The other side has probed, after what had gone by the path before: our side let it in. */
  #heard(path: TrackedPath, at: number): void {
    const before = Math.max(path.heardAt ?? 0, path.answeredAt ?? 0);
    path.heardAt = at;
    const { remote, local } = path;
    if ('address' in remote && at - before > SHORTEST_KEEPALIVE_MS / 2)
      this.#nat.silence(local, familyOf(remote.address), at - before, 'kept');
  }

  #interval(member: SessionKey, { remote, local }: TrackedPath): KeepaliveInterval {
    const there = 'address' in remote ? formatIp(remote.address.ip) : 'leg';
    const key = `${member} ${local === undefined ? '' : formatIp(local.ip)} ${there}`;
    const known = this.#intervals.get(key);
    if (known !== undefined) return known;
    const made = new KeepaliveInterval();
    if (this.#intervals.set(key, made, { member }) === undefined) return made;
    // Of a member that has been in many places the oldest is forgotten.
    for (const other of this.#intervals.keys())
      if (this.#intervals.owners(other)?.member === member) {
        this.#intervals.delete(other);
        break;
      }
    this.#intervals.set(key, made, { member });
    return made;
  }
}

const ownPatience = ({ first }: Contact): number => (first ? PATIENCE.lower : PATIENCE.higher);
