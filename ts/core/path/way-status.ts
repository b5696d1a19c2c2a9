// What a node tells of the ways to one member: each with what probes have shown of it, and why it is not in use.

import type { SessionKey } from '../../contract/engine.js';
import { formatSocketAddress } from '../../wire/socket-address.js';
import { encodePeerId } from '../protocol/peer-id.js';
import type { IndirectReason, WayReason, WayStatus } from '../runtime/way-status.js';
import type { Candidate } from './candidate.js';
import type { Contact } from './contact.js';
import { whyNot, type CostOf } from './path-choice.js';
import { endsAt, type LegRelay, type RuledWays } from './ruled-ways.js';
import { TrackedPath } from './tracked-path.js';

/** Of one member, those in use first: thousands of members are told of in one answer. */
export const MOST_WAYS_TOLD = 32;

const ROLES = ['active', 'duplicate', 'standby', 'kept', 'none'] as const satisfies WayStatus['role'][];
const STATES = ['proven', 'untried', 'dead', 'failed'] as const satisfies WayStatus['state'][];

/** What is known of a member and the ways to it. */
export interface KnownWays {
  readonly member: SessionKey;
  readonly rules: RuledWays;
  /** Undefined without a session that paths were sought in. */
  readonly contact: Contact | undefined;
  /** Ways over relays that stand, the one in use last. */
  readonly relayed: readonly Candidate[];
  readonly relayOf: (leg: number) => LegRelay | undefined;
}

export function tellWays(known: KnownWays): WayStatus[] {
  const paths = pathsOf(known);
  const used = usedPath(known, paths);
  return paths
    .map((path) => tellWay(known, path, used))
    .toSorted(
      (a, b) =>
        ROLES.indexOf(a.role) - ROLES.indexOf(b.role) || STATES.indexOf(a.state) - STATES.indexOf(b.state),
    )
    .slice(0, MOST_WAYS_TOLD);
}

/** Those that are tracked, and those over relays that nothing has been asked of yet. */
function pathsOf({ contact, relayed }: KnownWays): readonly TrackedPath[] {
  const tracked = contact?.paths.all() ?? [];
  const others = relayed
    .map(({ endpoint }) => endsAt(endpoint))
    .filter((ends) => contact?.paths.at(ends) === undefined)
    .map((ends) => new TrackedPath(0, ends));
  return [...tracked, ...others];
}

function usedPath(
  { member, rules, contact, relayed }: KnownWays,
  paths: readonly TrackedPath[],
): TrackedPath | undefined {
  const mayCarry = (path: TrackedPath): boolean => rules.ruling(member, path) === undefined;
  if (contact?.told !== undefined) return contact.set.slice(0, 1).find(mayCarry);
  const leg = relayed.at(-1)?.endpoint;
  return paths.find(
    (path) =>
      leg !== undefined &&
      'leg' in leg &&
      'leg' in path.remote &&
      path.remote.leg === leg.leg &&
      mayCarry(path),
  );
}

function tellWay(known: KnownWays, path: TrackedPath, used: TrackedPath | undefined): WayStatus {
  const { member, rules, relayOf } = known;
  const { remote, state, quality } = path;
  const relay = 'leg' in remote ? relayOf(remote.leg) : undefined;
  const isMeasured = quality.rttMs !== undefined;
  return {
    kind: path.relayed ? 'relay' : 'direct',
    address: 'address' in remote ? formatSocketAddress(remote.address) : undefined,
    relayPeerId: relay && encodePeerId(relay.identity),
    interface: rules.interface(member, path)?.name,
    state,
    role: roleOf(known, path, used),
    control: path === known.contact?.control ? true : undefined,
    share: known.contact?.shares.get(path),
    rttMs: quality.rttMs,
    loss: isMeasured ? quality.loss : undefined,
    plpmtu: path.mtu?.plpmtu,
    reason: path === used ? undefined : reasonOf(known, path, used),
  };
}

function roleOf({ contact }: KnownWays, path: TrackedPath, used: TrackedPath | undefined): WayStatus['role'] {
  if (path === used) return 'active';
  const place = used === undefined ? -1 : (contact?.set.indexOf(path) ?? -1);
  if (place < 0) return 'none';
  if (place > 1 || (contact?.active === undefined && !path.relayed)) return 'kept';
  return contact?.duplicated === true ? 'duplicate' : 'standby';
}

function reasonOf(
  { member, rules }: KnownWays,
  path: TrackedPath,
  used: TrackedPath | undefined,
): WayReason | undefined {
  const ruling = rules.ruling(member, path);
  if (ruling !== undefined) return ruling;
  if (path.state === 'failed') return path.heldBack ? 'held-back' : 'unanswered';
  if (path.state !== 'proven') return path.state;
  const costOf: CostOf = (each) => rules.cost(member, each);
  return used && whyNot(path, used, costOf);
}

/** What is known of the NATs of two that do not reach each other: which gives each destination a port that cannot be foreseen. */
export interface UnforeseenPorts {
  readonly own: boolean;
  readonly member: boolean;
}

/**
 * Why a member that is not reached directly is not.
 * @param capable whether it says that it can
 * @param unforeseen counts only where nothing was answered: such a NAT can be crossed when the other side lets all in
 */
export function whyIndirect(
  { member, rules, contact }: KnownWays,
  capable: boolean,
  unforeseen: UnforeseenPorts,
): IndirectReason {
  if (!rules.admitDirect(member)) return 'relay-only';
  if (contact?.refused === true) return 'member-refuses';
  if (!capable) return 'member-cannot';
  if (contact === undefined) return 'no-session';
  const paths = contact.paths
    .all()
    .filter((path) => !path.relayed && rules.ruling(member, path) === undefined);
  if (paths.some(({ state }) => state === 'proven')) return 'relay-better';
  const isSeeking =
    contact.asking ||
    contact.beginAt !== undefined ||
    (contact.askAt !== undefined && contact.failures === 0) ||
    paths.some(({ state }) => state === 'untried');
  if (isSeeking) return 'seeking';
  if (unforeseen.own) return unforeseen.member ? 'both-nats' : 'own-nat';
  return unforeseen.member ? 'member-nat' : 'unanswered';
}
