// What `omerta exit status` shows: what is served, to whom and for how much; by whom this node leaves.

import type { PeerStatus } from '../../contract/engine.js';
import type { ExitState, ExitStatus, GuestStatus } from '../../core/runtime/exit-change.js';
import type { MemberStatus, MeshStatus } from '../../core/runtime/mesh-status.js';
import { isRefusal } from '../../core/protocol/refusal.js';
import { wordRefusal, type Wording } from './wording.js';

/**
 * The kernel by its routes and nftables, a gateway in a private network, or a TCP/IP stack of the engine's own; nothing where the member is a virtual
 * machine's.
 */
export type ExitBackend = 'kernel' | 'namespace' | 'stack' | 'guest';

export const wordBackend: Readonly<Record<ExitBackend, string>> = {
  kernel: 'the kernel',
  namespace: 'a gateway',
  stack: 'a TCP/IP stack of its own',
  guest: 'nothing',
};

export interface ExitGatewayReport {
  /** Connections, and ports of guests that datagrams are of. */
  readonly tcp: number;
  readonly udp: number;
  readonly refused: number;
}

export interface PingsClosed {
  readonly reason: string;
  readonly remedy: string;
}

export interface ExitReport {
  readonly serving:
    | (NonNullable<ExitStatus['service']> & {
        readonly networks: readonly string[];
        readonly rights: readonly ExitRightReport[];
        readonly guests: readonly ExitGuestReport[];
        /** Questions of guests for names, and why they are not taken. */
        readonly names: ExitDnsReport;
        /** Chains of other programs that drop what is forwarded unless they know it: `family table chain`. */
        readonly foreignDrops: readonly string[];
        /** What ends guests' connections or forwards their packets. */
        readonly backend: ExitBackend;
        /** What goes by the gateway now, and how much it refused; undefined = there is none. */
        readonly gateway: ExitGatewayReport | undefined;
        /** Why it refuses pings of guests, and the command that lets them pass; undefined = it sends them on. */
        readonly pingsClosed: PingsClosed | undefined;
        /** The interface guests' packets come in by. */
        readonly tunnel: string;
        /** Packets of peers without the right, and of guests to where it forwards nothing. */
        readonly dropped: { readonly noRight: number; readonly denied: number };
        /** Flows of guests that were refused since it serves: begun too fast, or too many at once. */
        readonly capped: {
          readonly rate: number;
          readonly tcp: number;
          readonly other: number;
          readonly all: number;
          /** Datagrams, by a gateway alone. */
          readonly datagrams: number;
        };
      })
    | undefined;
  readonly using:
    | {
        readonly exits: readonly (ExitStatus['choice'][number] & { readonly name: string })[];
        /** Peer id of the one everything leaves by; undefined = nothing leaves. */
        readonly active: string | undefined;
        readonly paranoid: boolean;
        readonly allowLan: boolean;
        readonly include: readonly string[];
        readonly exclude: readonly string[];
        readonly hops: number;
      }
    | undefined;
  readonly offers: readonly { readonly peerId: string; readonly name: string }[];
  /** Sections of the configuration that hold in place of what was typed. */
  readonly configured: readonly ('exit' | 'exit.use')[];
  /** Whether the machine's own guard holds (`omerta guard`); undefined = it is not installed. */
  readonly guarded: boolean | undefined;
  /** Why the host is not as it should be; undefined = it is. */
  readonly error: string | undefined;
}

export interface ExitDnsReport {
  readonly answered: number;
  readonly unanswered: number;
  /** Beyond what a guest may ask. */
  readonly refused: number;
  readonly error: string | undefined;
}

export interface ExitRightReport {
  readonly peerId: string | undefined;
  /** Session key, lower-case hex. */
  readonly key: string | undefined;
  readonly name: string;
  /** Milliseconds since 1970; undefined = until it is taken back. */
  readonly until: number | undefined;
}

export interface ExitGuestReport {
  readonly peerId: string;
  readonly name: string;
  readonly addresses: readonly string[];
  readonly sinceSeconds: number;
  readonly expiresInSeconds: number;
  /** Of its session, all there was since it began: WireGuard payloads. */
  readonly fromBytes: number;
  readonly toBytes: number;
}

/** What the daemon knows beside the node. */
export interface ExitReportSettings {
  readonly networks: readonly string[];
  readonly rights: readonly Omit<ExitRightReport, 'name'>[];
  readonly use:
    | {
        readonly paranoid: boolean;
        readonly allowLan: boolean;
        readonly include: readonly string[];
        readonly exclude: readonly string[];
        readonly hops: number;
      }
    | undefined;
  readonly error: string | undefined;
  readonly guarded: boolean | undefined;
  readonly configured: ExitReport['configured'];
  readonly foreignDrops: readonly string[];
  /** By counter of nftables. */
  readonly capped: Readonly<Record<string, number>>;
  readonly tunnel: string;
  readonly backend: ExitBackend;
  readonly gateway: ExitGatewayReport | undefined;
  readonly pingsClosed: PingsClosed | undefined;
  readonly refused: ReadonlyMap<string, number>;
  readonly dns: ExitDnsReport;
}

export function guestReports(
  guests: readonly GuestStatus[],
  members: readonly Pick<MemberStatus, 'peerId' | 'name' | 'sessionKey'>[],
  sessions: readonly PeerStatus[],
): ExitGuestReport[] {
  return guests.map(({ peerId, addresses, sinceMs, expiresInMs }) => {
    const member = members.find((each) => each.peerId === peerId);
    const session = sessions.find(({ sessionKey }) => sessionKey === member?.sessionKey);
    return {
      peerId,
      name: member?.name ?? '',
      addresses,
      sinceSeconds: Math.floor(sinceMs / 1000),
      expiresInSeconds: Math.ceil(expiresInMs / 1000),
      fromBytes: session?.rxBytes ?? 0,
      toBytes: session?.txBytes ?? 0,
    };
  });
}

export function exitReport(
  { exit, networks }: MeshStatus,
  sessions: readonly PeerStatus[],
  settings: ExitReportSettings,
): ExitReport {
  const members = networks.flatMap((network) => network.members);
  const nameOf = (peerId: string | undefined): string =>
    members.find((member) => member.peerId === peerId)?.name ?? '';
  const { service, choice } = exit;
  return {
    serving: service && {
      ...service,
      networks: settings.networks,
      rights: settings.rights.map((right) => ({
        ...right,
        name:
          right.key === undefined
            ? nameOf(right.peerId)
            : (members.find(({ sessionKey }) => sessionKey === right.key)?.name ?? ''),
      })),
      guests: guestReports(exit.guests, members, sessions),
      names: settings.dns,
      foreignDrops: settings.foreignDrops,
      tunnel: settings.tunnel,
      backend: settings.backend,
      gateway: settings.gateway,
      pingsClosed: settings.pingsClosed,
      dropped: {
        noRight: settings.refused.get('drop_no_exit_right') ?? 0,
        denied: settings.refused.get('drop_exit_denied') ?? 0,
      },
      capped: {
        rate: settings.capped['capped_rate'] ?? 0,
        tcp: settings.capped['capped_tcp'] ?? 0,
        other: settings.capped['capped_other'] ?? 0,
        all: settings.capped['capped_all'] ?? 0,
        datagrams: settings.capped['capped_datagrams'] ?? 0,
      },
    },
    using: settings.use && {
      exits: choice.map((each) => ({ ...each, name: nameOf(each.peerId) })),
      active: choice.find(({ isActive }) => isActive)?.peerId,
      ...settings.use,
    },
    offers: exit.offers.map((peerId) => ({ peerId, name: nameOf(peerId) })),
    configured: settings.configured,
    guarded: settings.guarded,
    error: settings.error,
  };
}

const STATE_WORDS: Readonly<
  Record<'unknown' | 'not-offered' | 'unanswered' | 'not-served' | 'denied', Wording>
> = {
  unknown: { what: 'not a member this node knows', next: 'See who is: omerta peers' },
  'not-offered': {
    what: 'it does not serve an exit',
    next: 'On that machine: omerta exit serve --allow THIS_PEER',
  },
  unanswered: { what: 'it does not answer', next: 'See whether it is reached: omerta ping' },
  'not-served': {
    what: 'it does not serve an exit any more',
    next: 'On that machine: omerta exit serve --allow THIS_PEER',
  },
  denied: {
    what: 'it gave this machine no right to leave by it',
    next: 'On that machine: omerta exit grant THIS_PEER --for 2h',
  },
};

/** Why an exit is not used; undefined where there is nothing to say. */
export function wordExitState(state: ExitState): Wording | undefined {
  if (Object.hasOwn(STATE_WORDS, state)) return STATE_WORDS[state as keyof typeof STATE_WORDS];
  return isRefusal(state) ? wordRefusal(state) : undefined;
}
