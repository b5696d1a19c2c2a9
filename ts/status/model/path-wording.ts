// The ways to a member in words for a person: what each is, why it is not in use, and what to do.

import type { MemberStatus } from '../../core/runtime/mesh-status.js';
import type {
  IndirectReason,
  PortSearchEnd,
  PortSearchStatus,
  WayReason,
  WayStatus,
} from '../../core/runtime/way-status.js';
import type { Wording } from './wording.js';

const WAY_REASON_WORDS: Readonly<Record<WayReason, string>> = {
  'direct-only': 'the configuration lets data go directly alone',
  'relay-only': 'the configuration lets data go over relays alone',
  forbidden: 'forbidden in the configuration',
  'not-pinned': 'another way is pinned in the configuration',
  untried: 'no probe has been answered yet',
  unanswered: 'no probe was answered',
  dead: 'probes are not answered any more',
  'held-back': 'so many probes went to addresses that do not answer that it has to wait',
  'not-preferred': 'the one in use is preferred in the configuration',
  metered: 'its interface is metered',
  priority: 'its interface comes later in the configuration',
  mtu: 'it takes only shorter packets',
  loss: 'it loses more',
  relayed: 'the one in use is direct',
  slower: 'its round trip is longer',
  'no-gain': 'it is hardly better than the one in use',
};

const RULES = 'Change pin, forbid or use under [paths], then type: omerta reload';

const MAPPED_AT_ONE =
  'At one of the two, have the gateway map the port or forward it (see port mapping in omerta nat), or give the machine an address of its own';

const INDIRECT_WORDS: Readonly<Record<IndirectReason, Wording>> = {
  'relay-only': { what: 'the configuration lets data go over relays alone', next: RULES },
  engine: { what: 'the engine in use keeps no direct paths', next: 'See what works here: omerta doctor' },
  'member-cannot': {
    what: 'the member does not say that it can be reached directly: it is told not to, or is of an earlier version',
    next: 'On that machine: use under [paths]',
  },
  'member-refuses': {
    what: 'the member does not want to be reached directly',
    next: 'On that machine: use, pin and forbid under [paths]',
  },
  'no-session': {
    what: 'there is no session with it at present; one comes with the first packet',
    next: 'Type: omerta ping',
  },
  seeking: { what: 'direct paths are being tried', next: 'Wait a moment' },
  unanswered: {
    what: 'none of its addresses has answered: a NAT or firewall of one of the two lets nothing in',
    next: 'See what would help: omerta nat, on both machines',
  },
  'own-nat': {
    what: 'the NAT here gives each destination another port at random, and the member’s side lets in only what it has sent to',
    next: MAPPED_AT_ONE,
  },
  'member-nat': {
    what: 'the member’s NAT gives each destination another port, and the one here lets in only what was sent to',
    next: MAPPED_AT_ONE,
  },
  'both-nats': {
    what: 'the NATs of both give each destination another port, so that neither side knows where to send to',
    next: MAPPED_AT_ONE,
  },
  'relay-better': { what: 'the way over the relay is better at present', next: 'See each way: omerta path' },
};

const SEARCH_END_WORDS: Readonly<Record<PortSearchEnd, string>> = {
  found: 'found a path',
  'not-found': 'found nothing',
  'both-random': 'not begun: the member’s NAT gives each destination another port too',
  refused: 'refused by the member',
  busy: 'put off: the member takes part in another one',
  unanswered: 'not answered by the member',
  overtaken: 'ended: another path works, or the rules or the network changed',
  'held-back': 'held back: searches of the last 10 minutes have spent what they may send',
};

/** What a search for ports is about, and how it stands. */
export function wordSearch({ role, sent, of, end, againInMs }: PortSearchStatus): string {
  const what = role === 'ports' ? 'local ports opened' : 'ports of the member’s NAT probed';
  const how = end === undefined ? 'running' : SEARCH_END_WORDS[end];
  const again =
    end === undefined || end === 'found' || againInMs === undefined || againInMs === 0
      ? ''
      : `; again in ${Math.ceil(againInMs / 1000)} s at the earliest`;
  return `port search: ${how} (${sent} of ${of} ${what})${again}`;
}

/** Why a way is not the one in use. */
export function wordWayReason(code: WayReason): string {
  return WAY_REASON_WORDS[code];
}

/** Why a member is not reached directly. */
export function wordIndirect(code: IndirectReason): Wording {
  return INDIRECT_WORDS[code];
}

/** Why data to a member goes nowhere; undefined = it goes. */
export function wordBarred({
  barred,
  indirect,
}: Pick<MemberStatus, 'barred' | 'indirect'>): Wording | undefined {
  if (!barred) return undefined;
  const { what, next } = indirect === undefined ? INDIRECT_WORDS.seeking : INDIRECT_WORDS[indirect];
  return { what: `no way that the configuration permits works (${what})`, next };
}

/** What a way is and where it leads, in a few words. */
export function wordWay({ kind, address, relayPeerId, interface: name }: WayStatus): string {
  if (kind === 'relay')
    return `relay ${relayPeerId === undefined ? 'unknown' : `${relayPeerId.slice(0, 14)}…`}`;
  return `direct ${address ?? ''}${name === undefined ? '' : ` by ${name}`}`;
}

export const activeWay = (ways: readonly WayStatus[]): WayStatus | undefined =>
  ways.find(({ role }) => role === 'active');
/** What takes over, or already gets a copy. */
export const standbyWay = (ways: readonly WayStatus[]): WayStatus | undefined =>
  ways.find(({ role }) => role === 'standby' || role === 'duplicate');
