// What `omerta route list` shows: the LANs behind this machine and who reaches them, and those behind members.

import type { PeerStatus } from '../../contract/engine.js';
import { overlaps } from '../../core/exit/lan-prefix.js';
import { isRefusal } from '../../core/protocol/refusal.js';
import type { ExitState, RouteAnswer, RouteStatus } from '../../core/runtime/exit-change.js';
import type { MeshStatus } from '../../core/runtime/mesh-status.js';
import { parsePrefix } from '../../wire/prefix.js';
import { guestReports, type ExitGuestReport } from './exit-report.js';
import { wordRefusal, type Wording } from './wording.js';

export interface AcceptedRouteReport {
  readonly prefix: string;
  readonly peerId: string;
  readonly name: string;
  readonly state: RouteStatus['accepted'][number]['state'];
  /** Whether it is reached by this member. */
  readonly isActive: boolean;
  /** Whether it is on-link here, so that no route leads there but where everything goes by an exit. */
  readonly isOnLink: boolean;
  /** Others that are accepted and have addresses of it: of two the longer prefix has them, of equal ones the first granted. */
  readonly overlaps: readonly { readonly prefix: string; readonly peerId: string; readonly name: string }[];
}

export interface RouteReport {
  /** Undefined = nothing is advertised. */
  readonly advertised:
    | {
        readonly prefixes: readonly string[];
        /** Who may. */
        readonly rights: readonly { readonly peerId: string; readonly name: string }[];
        readonly networks: readonly string[];
        readonly guests: readonly ExitGuestReport[];
      }
    | undefined;
  readonly accepted: readonly AcceptedRouteReport[];
  /** Members whose records say that a LAN is behind them. */
  readonly offers: readonly {
    readonly peerId: string;
    readonly name: string;
    readonly answer: RouteAnswer | undefined;
  }[];
  /** Keys of the configuration that hold in place of what was typed. */
  readonly configured: readonly ('routes.advertise' | 'routes.accept')[];
  /** Why the host is not as it should be; undefined = it is. */
  readonly error: string | undefined;
}

/** What the daemon knows beside the node. */
export interface RouteReportSettings {
  readonly allow: readonly string[];
  readonly networks: readonly string[];
  readonly onLink: readonly string[];
  readonly configured: RouteReport['configured'];
  readonly error: string | undefined;
}

export function routeReport(
  status: Pick<MeshStatus, 'routes' | 'networks'>,
  sessions: readonly PeerStatus[],
  { allow, networks, onLink, configured, error }: RouteReportSettings,
): RouteReport {
  const { advertised, guests, accepted, offers } = status.routes;
  const members = status.networks.flatMap((network) => network.members);
  const named = (peerId: string): { peerId: string; name: string } => ({
    peerId,
    name: members.find((member) => member.peerId === peerId)?.name ?? '',
  });
  return {
    advertised:
      advertised.length === 0
        ? undefined
        : {
            prefixes: advertised,
            rights: allow.map(named),
            networks,
            guests: guestReports(guests, members, sessions),
          },
    accepted: accepted.map((route) => ({
      ...route,
      ...named(route.peerId),
      isOnLink: onLink.includes(route.prefix),
      overlaps: accepted
        .filter((other) => other !== route && share(other.prefix, route.prefix))
        .map(({ prefix, peerId }) => ({ prefix, ...named(peerId) })),
    })),
    offers: offers.map(({ peerId, answer }) => ({ ...named(peerId), answer })),
    configured,
    error,
  };
}

function share(a: string, b: string): boolean {
  const [first, second] = [parsePrefix(a), parsePrefix(b)];
  return first !== undefined && second !== undefined && overlaps(first, second);
}

const STATE_WORDS: Readonly<
  Record<'unknown' | 'not-offered' | 'unanswered' | 'not-served' | 'denied', Wording>
> = {
  unknown: { what: 'not a member this node knows', next: 'See who is: omerta peers' },
  'not-offered': { what: 'it does not advertise this', next: 'See what it does: omerta route list' },
  unanswered: { what: 'it does not answer', next: 'See whether it is reached: omerta ping' },
  'not-served': {
    what: 'it advertises nothing any more',
    next: 'On that machine: omerta route advertise PREFIX --allow THIS_PEER',
  },
  denied: {
    what: 'it gave this machine no right to LANs behind it',
    next: 'On that machine: omerta route advertise PREFIX --allow THIS_PEER',
  },
};

/** Why a LAN is not reached; undefined where there is nothing to say. */
export function wordRouteState(state: ExitState): Wording | undefined {
  if (Object.hasOwn(STATE_WORDS, state)) return STATE_WORDS[state as keyof typeof STATE_WORDS];
  return isRefusal(state) ? wordRefusal(state) : undefined;
}
