// Which of a member's paths is used, which are kept beside it, and what the engine is told of them: its path
// set is the active one, the standby and those that are listened to.

import type { SessionKey } from '../../contract/engine.js';
import {
  MAX_PATHS_PER_PEER,
  MAX_PROBE_RULES,
  NO_PATH_TIMES,
  type PathTimes,
  type PeerPath,
} from '../../contract/path-control.js';
import { sameBytes, toHex } from '../../wire/bytes.js';
import { formatPrefix } from '../../wire/prefix.js';
import { formatSocketAddress } from '../../wire/socket-address.js';
import type { MemberTable } from '../members/member-table.js';
import type { Turn } from '../runtime/turn.js';
import type { Candidate } from './candidate.js';
import type { Contact } from './contact.js';
import { isMetered } from './local-interface.js';
import { sameEndpoint } from './member-paths.js';
import { choosePaths, type CostOf } from './path-choice.js';
import type { MtuDiscovery } from './mtu-discovery.js';
import { endsAt, type RuledWays } from './ruled-ways.js';
import { isAnswering, isDead, isFailing, type TrackedPath } from './tracked-path.js';

/** Direct paths a path set has at most. */
const KEPT_PATHS = 4;
/** Beside them, so many may be kept until what size they take is known: one may be the only one that the inner MTU fits. */
const MEASURED_PATHS = 12;
/** Before a member is asked for a contact again when a direct path died. */
export const ASK_AFTER_DEATH_MS = 1000;
const REPORT_EVERY_MS = 30;
/** For timers of the other side that fire late. */
const SLACK_MS = 20;
/** What the engine is told is so coarse that it is not told again with each answer to a probe. */
const STEP_MS = 10;

/** What the node lends to the choice of paths. */
export interface SelectionHost {
  readonly members: Pick<MemberTable, 'bySessionKey'>;
  readonly rules: RuledWays;
  /** The ways over relays that stand, the one in use last. */
  relayed(member: SessionKey): readonly Candidate[];
  /** There is none, and one is wanted. */
  seekRelayed(member: SessionKey, turn: Turn): void;
  /** Relays may see this node elsewhere by now: they are asked. */
  askRelays(turn: Turn): void;
  /** What is sent to the member goes by another way than one that was dead. */
  reached(member: SessionKey, turn: Turn): void;
  /** The way data goes may be another. */
  chosen(member: SessionKey, turn: Turn): void;
}

export class PathSelection {
  readonly #host: SelectionHost;
  readonly #mtu: MtuDiscovery;

  constructor(host: SelectionHost, mtu: MtuDiscovery) {
    this.#host = host;
    this.#mtu = mtu;
  }

  /** Uses the best of the paths that are proven and may be used, and tells the engine if that is a change. */
  decide(member: SessionKey, contact: Contact, turn: Turn): void {
    const { used: usedBefore, control: controlBefore } = contact;
    const relayed = this.#relayedPaths(member, contact, turn);
    const mayCarry = (path: TrackedPath): boolean => this.#host.rules.ruling(member, path) === undefined;
    const before = contact.active;
    const stands = before !== undefined && contact.paths.get(before.id) === before;
    if (before !== undefined && (!stands || !mayCarry(before))) contact.active = undefined;
    const usable = contact.paths.all().filter(mayCarry);
    const order = choosePaths(usable, contact.active, this.costOf(member));
    const [best] = order;
    if (best !== undefined && !best.relayed) contact.active = best;
    // A standby that is dead as well takes nothing over: the engine sends by both, whichever lives first.
    else if (best === undefined && relayed.length > 0 && relayed.every(isDead))
      contact.active ??= lastProven(usable);
    else if (relayed.length > 0) contact.active = undefined;
    const control = this.#controlPath(member, contact, usable);
    const surplus = order.filter((each) => !each.relayed && each !== control).slice(KEPT_PATHS);
    const measured = surplus.filter((path) => !this.#mtu.isKnown(path)).slice(0, MEASURED_PATHS);
    for (const path of surplus) if (!measured.includes(path)) contact.paths.remove(path);
    this.#mtu.used(measured, turn.now);
    const { active } = contact;
    if (active !== before) this.#changed(member, contact, before, turn);
    if (active !== undefined && relayed.length === 0 && active.state !== 'proven')
      this.#host.seekRelayed(member, turn);
    const carrying = this.#inOrder(member, relayed.filter(mayCarry));
    // Where no relay may carry data (relay-bar.ts), one still carries what leads to a direct path.
    const standby = active === undefined && carrying.length === 0 ? this.#inOrder(member, relayed) : carrying;
    const rest = order.filter((path) => path !== active && !path.relayed).slice(0, KEPT_PATHS);
    // What is metered is used when nothing else works: not for copies while there is a relay.
    const isMeteredWay = (path: TrackedPath): boolean => isMetered(this.costOf(member)(path)[1]);
    const isSpared = (path: TrackedPath): boolean => isMeteredWay(path) && !standby.every(isMeteredWay);
    const apart = active && rest.filter((path) => isApart(path, active) && !isSpared(path));
    const carry =
      active === undefined
        ? standby
        : [active, ...new Set([...(apart ?? []), ...standby, ...rest])].slice(0, MAX_PATHS_PER_PEER - 1);
    contact.control = this.#comesBefore(member, control, carry[0]) ? control : undefined;
    const used =
      contact.control === undefined || carry.includes(contact.control) ? carry : [...carry, contact.control];
    // By the first of a set data is sent, and by the second while a direct one in use is silent.
    const listened =
      used.length >= (active === undefined ? 1 : 2)
        ? contact.paths.all().filter((path) => isListened(path, contact) && !used.includes(path))
        : [];
    const set = [...used, ...listened];
    if (set.length === 0 && !contact.agreed) this.withdraw(member, contact, turn);
    else this.#tell(member, contact, set.slice(0, MAX_PATHS_PER_PEER), turn);
    this.#host.chosen(member, turn);
    // It is looked after from now on (path-keepalive.ts).
    if (contact.control !== undefined && contact.control !== controlBefore)
      contact.control.keepAt ??= turn.now;
    const hasLeft = (before: TrackedPath | undefined, now: TrackedPath | undefined): boolean =>
      before !== undefined && before !== now && isFailing(before);
    if (hasLeft(usedBefore, contact.used) || hasLeft(controlBefore, contact.control))
      this.#host.reached(member, turn);
  }

  /** What the control plane's messages would go by, where they have an order of interfaces of their own. */
  #controlPath(
    member: SessionKey,
    contact: Contact,
    usable: readonly TrackedPath[],
  ): TrackedPath | undefined {
    const { rules } = this.#host;
    if (!contact.agreed || !rules.ordersControl) return undefined;
    const costOf: CostOf = (path) => rules.controlCost(member, path);
    return choosePaths(usable.filter(isAnswering), contact.control, costOf)[0];
  }

  /** Whether the interface of one comes before the other's in the order of the control plane. */
  #comesBefore(member: SessionKey, control: TrackedPath | undefined, used: TrackedPath | undefined): boolean {
    if (control === undefined || used === undefined || control === used) return false;
    const rankOf = (path: TrackedPath): number => this.#host.rules.controlCost(member, path)[1];
    return rankOf(control) < rankOf(used) || !isAnswering(used);
  }

  costOf(member: SessionKey): CostOf {
    return (path) => this.#host.rules.cost(member, path);
  }

  /**
   * The relayed way the path agent uses comes first, unless the operator prefers another; not by a relay's word alone,
   * while another one is proven, nor over a relay that will go.
   */
  #inOrder(member: SessionKey, relayed: readonly TrackedPath[]): TrackedPath[] {
    const costOf = this.costOf(member);
    const merit = (path: TrackedPath): number => {
      // Until another is proven, what drains carries: the member may not have its end of a new one yet.
      const doubt = path.state !== 'proven' ? 1000 : this.#host.rules.isDraining(member, path) ? 500 : 0;
      return costOf(path)[0] + doubt;
    };
    return relayed.toReversed().toSorted((a, b) => merit(a) - merit(b));
  }

  /** Tracked paths of the relayed ways that stand; those of others are forgotten. */
  #relayedPaths(member: SessionKey, contact: Contact, turn: Turn): TrackedPath[] {
    const ways = this.#host.relayed(member);
    for (const path of contact.paths.all())
      if (path.relayed && !ways.some(({ endpoint }) => sameEndpoint(endpoint, path.remote)))
        contact.paths.remove(path);
    return ways
      .map(({ endpoint }) => {
        const ends = endsAt(endpoint);
        const known = contact.paths.at(ends);
        const path = known ?? contact.paths.add(ends);
        if (contact.agreed && path?.state === 'untried' && !path.everProbed) path.probeAt ??= turn.now;
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
    contact.askAt = turn.now + (contact.forgotten ? 0 : ASK_AFTER_DEATH_MS);
    contact.forgotten = false;
  }

  #tell(member: SessionKey, contact: Contact, set: readonly TrackedPath[], turn: Turn): void {
    const isReported = set.some((path) => !path.relayed);
    const times =
      contact.active === undefined
        ? { ...NO_PATH_TIMES, reportEveryMs: isReported ? REPORT_EVERY_MS : 0 }
        : timesOf(contact.active, turn.now);
    [contact.used] = set;
    this.#mtu.used(set, turn.now);
    const shares = this.#shares(member, contact.active, set);
    const said = set.map((path) => `${path.id}:${path.mtu?.plpmtu ?? ''}:${shares.get(path) ?? ''}`);
    const probeRules = this.#host.rules.probeRules(member).slice(0, MAX_PROBE_RULES);
    const ruled = probeRules.map(
      ({ local, from, answered }) => `${local && toHex(local)} ${from && formatPrefix(from)} ${answered}`,
    );
    const control = contact.control?.id;
    const told = `${said.join(' ')} ${control ?? ''} ${Object.values(times).join(' ')} ${ruled.join(' ')}`;
    if (told === contact.told) return;
    contact.told = told;
    // The engine goes on with copies for as long as the path that is silent is the active one.
    if (contact.set[0] !== set[0]) contact.duplicated = false;
    contact.set = set;
    contact.shares = shares;
    const paths = set.map((path): PeerPath => {
      const share = shares.get(path);
      const { id, ends, mtu } = path;
      return { id, ...ends, plpmtu: mtu?.plpmtu, ...(share === undefined ? {} : { share }) };
    });
    turn.emit({ type: 'set-paths', paths: { peer: member, paths, control, ...times, probeRules } });
  }

  /**
   * Of the data, by path, where the operator lets it be split: over direct paths that answer, of interfaces of their own, that
   * take no less than the active one, and metered ones only beside a metered one.
   */
  #shares(
    member: SessionKey,
    active: TrackedPath | undefined,
    set: readonly TrackedPath[],
  ): ReadonlyMap<TrackedPath, number> {
    const { rules } = this.#host;
    const weights = rules.rules(member).split;
    if (weights === undefined || active === undefined) return new Map();
    const shares = new Map<string, TrackedPath>();
    const nameOf = (path: TrackedPath): string => rules.interface(member, path)?.name ?? '';
    const isMeteredWay = (path: TrackedPath): boolean => isMetered(this.costOf(member)(path)[1]);
    for (const path of set) {
      const may =
        path === active ||
        (!path.relayed &&
          isAnswering(path) &&
          (!isMeteredWay(path) || isMeteredWay(active)) &&
          (path.mtu?.plpmtu ?? 0) >= (active.mtu?.plpmtu ?? 0));
      // The active path is the first of the set.
      if (may && !shares.has(nameOf(path))) shares.set(nameOf(path), path);
    }
    if (shares.size < 2) return new Map();
    return new Map([...shares].map(([name, path]) => [path, weights.get(name) ?? 1]));
  }

  /** The engine keeps no paths of the member, which roams as any other. */
  withdraw(member: SessionKey, contact: Contact, turn: Turn): void {
    contact.used = contact.control = contact.told = undefined;
    contact.set = [];
    contact.shares = new Map();
    turn.emit({ type: 'set-paths', paths: { peer: member, paths: undefined, ...NO_PATH_TIMES } });
  }
}

/** When the path counts as silent: by its round trip, by how late its reports are, and while data flows by the latter alone. */
function timesOf({ quality, lateness, state }: TrackedPath, now: number): PathTimes {
  // It is used because nothing else works either: what is sent goes by both at once.
  if (state !== 'proven') return { ...NO_PATH_TIMES, silentAfterMs: STEP_MS, reportEveryMs: REPORT_EVERY_MS };
  const up = (ms: number): number => Math.ceil(ms / STEP_MS) * STEP_MS;
  const lateMs = SLACK_MS + lateness.allowedMs(now);
  return {
    silentAfterMs: up(REPORT_EVERY_MS + quality.timeoutMs + lateMs),
    leastRoundTripMs: Math.floor(quality.leastRttMs / STEP_MS) * STEP_MS,
    silentBetweenReportsMs: up(REPORT_EVERY_MS + lateMs),
    reportEveryMs: REPORT_EVERY_MS,
  };
}

/**
 * Whether the two have neither end in common: what ends one of them, an interface of either side or the network it
 * is in, does not end the other. By which interface a relay is reached is routing's choice, as a rule the same as ours.
 */
function isApart({ local, remote }: TrackedPath, other: TrackedPath): boolean {
  if (local === undefined || other.local === undefined || local.interface === other.local.interface)
    return false;
  return !sameBytes(local.ip, other.local.ip) && !sameEndpoint(remote, other.remote);
}

/** Whether the member sends by it, as far as is known, whatever this node sends by. */
const isListened = (path: TrackedPath, { listened }: Contact): boolean =>
  path === listened && (path.ruledOut || !isDead(path));

/** The direct path that died last; undefined = none was ever proven. */
function lastProven(paths: readonly TrackedPath[]): TrackedPath | undefined {
  return paths
    .filter(({ relayed, answeredAt }) => !relayed && answeredAt !== undefined)
    .toSorted((a, b) => (a.answeredAt ?? 0) - (b.answeredAt ?? 0))
    .at(-1);
}

function addressOf({ remote }: TrackedPath): string {
  return 'address' in remote ? formatSocketAddress(remote.address) : '';
}
