// The accepting side of routes: the operator said which prefixes are reached by which member, and each of these members
// is asked for a lease. A prefix is used where a grant holds it whole; what else a member advertises is left alone.
//
// One prefix that was accepted of several members is the first's that grants it. Prefixes within each other are told
// apart by their lengths, as everywhere in routing.

import type { SessionKey } from '../../contract/engine.js';
import { sameBytes, toHex } from '../../wire/bytes.js';
import { containsIp, formatPrefix, type Prefix } from '../../wire/prefix.js';
import type { MemberTable } from '../members/member-table.js';
import type { MessageOf, Refusal } from '../protocol/control-message.js';
import { encodePeerId } from '../protocol/peer-id.js';
import { earliest } from '../runtime/earliest.js';
import type { ExitState, RouteAnswer, RouteInUse, RouteStatus } from '../runtime/exit-change.js';
import type { PeerTable } from '../runtime/peer-table.js';
import type { RequestTable } from '../runtime/request-table.js';
import type { Turn } from '../runtime/turn.js';
import { ROUTE_CAPABILITY } from './exit-rights.js';
import {
  ASK_TRIES,
  FIRST_RETRY_MS,
  LONGEST_RETRY_MS,
  LOOK_AGAIN_MS,
  RENEW_MS,
  scattered,
} from './lease-timing.js';
import { memberOf, offers, ownAddresses, provenNetwork } from './proven-network.js';

/** Prefixes a node may accept. */
export const MAX_ACCEPTED = 256;
/** Members that are asked at a time which LANs are behind them. */
export const MAX_SURVEYED = 64;

/** A prefix and by whom it is reached; bits beyond its length are clear. */
export interface AcceptedRoute {
  readonly prefix: Prefix;
  /** Identity. */
  readonly from: Uint8Array;
}

/** What the node lends to its use of routes. */
export interface RouteClientHost {
  readonly identity: Uint8Array;
  readonly members: MemberTable;
  readonly peers: PeerTable;
  readonly requests: RequestTable;
}

interface Lease {
  readonly sessionKey: SessionKey;
  /** Blinded id, hex. */
  readonly network: string;
  readonly prefixes: readonly Prefix[];
  /** Monotonic ms. */
  readonly until: number;
  readonly renewAt: number;
}

/** A member of whom prefixes are accepted. */
interface Source {
  readonly identity: Uint8Array;
  state: ExitState;
  lease: Lease | undefined;
  /** A request is under way to this session. */
  asking: SessionKey | undefined;
  /** It withdrew while it was asked: datagrams overtake each other, so what it answers is asked for once more. */
  doubted: boolean;
  askAt: number;
  retryMs: number;
}

export class RouteClient {
  readonly #host: RouteClientHost;
  #accepted: readonly AcceptedRoute[] = [];
  #sources: readonly Source[] = [];
  /** Sessions that have prefixes, and which. */
  #routed = new Map<SessionKey, string>();
  /** What members said when they were asked last, by identity (hex). */
  #answers = new Map<string, RouteAnswer>();
  #told = '[]';

  constructor(host: RouteClientHost) {
    this.#host = host;
  }

  /** Accepts these from now on. Leases of those named again go on. */
  accept(accepted: readonly AcceptedRoute[], turn: Turn): void {
    const before = this.#sources;
    this.#accepted = accepted;
    const identities = new Map(accepted.map(({ from }) => [toHex(from), from]));
    this.#sources = [...identities.values()].map(
      (identity) => before.find((each) => sameBytes(each.identity, identity)) ?? fresh(identity),
    );
    for (const each of before)
      if (each.lease !== undefined && !this.#sources.includes(each))
        turn.send(each.lease.sessionKey, 0, { type: 'route-released' });
    this.#advance(turn);
  }

  /** Asks members whose records say that a LAN is behind them which ones: what they answer is in `status`. */
  survey(turn: Turn): void {
    const { identity, members, peers, requests } = this.#host;
    const answers = new Map<string, RouteAnswer>();
    this.#answers = answers;
    for (const member of offers(members, ROUTE_CAPABILITY).slice(0, MAX_SURVEYED)) {
      const network = provenNetwork(members, peers, member);
      if (network === undefined || sameBytes(member.identity, identity)) continue;
      requests.send(
        member.sessionKey,
        { type: 'route-request', network: network.id, hold: false },
        turn,
        (answer) => answers.set(toHex(member.identity), answerOf(answer)),
        ASK_TRIES,
      );
    }
  }

  /** The member says that its grant is over. */
  handleWithdrawn(peer: SessionKey, reason: Refusal, turn: Turn): void {
    for (const each of this.#sources) {
      if (each.asking === peer) each.doubted = true;
      if (each.lease?.sessionKey === peer) this.#failed(each, reason, turn);
    }
    this.#advance(turn);
  }

  /** Its session was given up, or it is no member any more. */
  lost(peer: SessionKey, turn: Turn): void {
    const source = this.#sources.find(({ lease }) => lease?.sessionKey === peer);
    if (source === undefined) return;
    this.#failed(source, 'unanswered', turn);
    this.#advance(turn);
  }

  handleTimeout(turn: Turn): void {
    const at = this.deadline();
    if (at !== undefined && at <= turn.now) this.#advance(turn);
  }

  deadline(): number | undefined {
    return earliest(
      ...this.#sources.flatMap(({ lease, asking, askAt }) => {
        if (lease !== undefined)
          return [asking === undefined ? Math.min(lease.renewAt, lease.until) : lease.until];
        return asking === undefined ? [askAt] : [];
      }),
    );
  }

  status(): Pick<RouteStatus, 'accepted' | 'offers'> {
    const holders = this.#holders();
    return {
      accepted: this.#accepted.map((route) => {
        const source = this.#sourceOf(route);
        const isActive = source !== undefined && holders.get(formatPrefix(route.prefix)) === source;
        const isGranted = source?.lease !== undefined && grants(source.lease, route.prefix);
        return {
          prefix: formatPrefix(route.prefix),
          peerId: encodePeerId(route.from),
          // Another member it was accepted of before has it, or it does not advertise this one.
          state: isActive ? 'granted' : isGranted ? 'standby' : stateOf(source),
          isActive,
        };
      }),
      offers: offers(this.#host.members, ROUTE_CAPABILITY).map(({ identity }) => ({
        peerId: encodePeerId(identity),
        answer: this.#answers.get(toHex(identity)),
      })),
    };
  }

  #sourceOf({ from }: AcceptedRoute): Source | undefined {
    return this.#sources.find(({ identity }) => sameBytes(identity, from));
  }

  /** Renews, asks whoever is due, and sends by those that granted. */
  #advance(turn: Turn): void {
    for (const each of this.#sources) {
      if (each.lease !== undefined && each.lease.until <= turn.now) this.#failed(each, 'unanswered', turn);
      const dueAt = each.lease?.renewAt ?? each.askAt;
      if (each.asking === undefined && dueAt <= turn.now) this.#ask(each, turn);
    }
    this.#route(turn);
  }

  #ask(source: Source, turn: Turn): void {
    const { members, peers, requests } = this.#host;
    const member = memberOf(members, source.identity);
    const network = member && provenNetwork(members, peers, member);
    if (member === undefined || network === undefined) {
      this.#wait(source, 'unknown', LOOK_AGAIN_MS, turn);
      return;
    }
    if (!member.record.capabilities.includes(ROUTE_CAPABILITY)) {
      this.#wait(source, 'not-offered', LOOK_AGAIN_MS, turn);
      return;
    }
    const { sessionKey } = member;
    source.asking = sessionKey;
    source.doubted = false;
    if (source.lease === undefined) source.state = 'asking';
    requests.send(
      sessionKey,
      { type: 'route-request', network: network.id, hold: true },
      turn,
      (answer, later) => {
        if (!this.#sources.includes(source)) {
          if (answer?.type === 'route-granted') later.send(sessionKey, 0, { type: 'route-released' });
          return;
        }
        source.asking = undefined;
        if (answer?.type !== 'route-granted') this.#failed(source, answer?.reason ?? 'unanswered', later);
        else if (peers.isMember(sessionKey, network.hex))
          this.#granted(source, sessionKey, network.hex, answer, later);
        else this.#wait(source, 'unknown', LOOK_AGAIN_MS, later); // it left while it was asked
        this.#advance(later);
      },
      ASK_TRIES,
    );
  }

  #granted(
    source: Source,
    sessionKey: SessionKey,
    network: string,
    { prefixes, lifetime }: MessageOf<'route-granted'>,
    turn: Turn,
  ): void {
    source.lease = {
      sessionKey,
      network,
      prefixes,
      until: turn.now + lifetime * 1000,
      renewAt: source.doubted ? turn.now : turn.now + Math.min(RENEW_MS, lifetime * 500),
    };
    source.state = 'granted';
    source.retryMs = FIRST_RETRY_MS;
  }

  #failed(source: Source, state: ExitState, turn: Turn): void {
    const { retryMs } = source;
    source.retryMs = Math.min(2 * retryMs, LONGEST_RETRY_MS);
    this.#wait(source, state, scattered(retryMs, turn), turn);
  }

  #wait(source: Source, state: ExitState, waitMs: number, turn: Turn): void {
    source.lease = undefined;
    source.state = state;
    source.askAt = turn.now + waitMs;
  }

  /** By prefix, who has it. */
  #holders(): Map<string, Source> {
    const holders = new Map<string, Source>();
    for (const route of this.#accepted) {
      const source = this.#sourceOf(route);
      const key = formatPrefix(route.prefix);
      if (source?.lease !== undefined && !holders.has(key) && grants(source.lease, route.prefix))
        holders.set(key, source);
    }
    return holders;
  }

  /** Who loses a prefix is told before who gets it: one prefix is never at two peers. */
  #route(turn: Turn): void {
    const wanted = new Map<SessionKey, { readonly network: string; readonly prefixes: string[] }>();
    const used: RouteInUse[] = [];
    const { members, identity, peers } = this.#host;
    for (const [prefix, source] of this.#holders()) {
      if (source.lease === undefined) continue;
      const { sessionKey, network } = source.lease;
      const routes = wanted.get(sessionKey) ?? { network, prefixes: [] };
      routes.prefixes.push(prefix);
      wanted.set(sessionKey, routes);
      const own = ownAddresses(members, identity, network);
      used.push({
        prefix,
        identity: source.identity,
        source: prefix.includes(':') ? own.ipv6 : own.ipv4,
      });
    }
    const routed = new Map([...wanted].map(([key, routes]) => [key, JSON.stringify(routes)]));
    const isKept = (key: SessionKey): boolean => routed.get(key) === this.#routed.get(key);
    for (const key of this.#routed.keys()) if (!isKept(key)) peers.setExitRoutes(key, 'lan', undefined, turn);
    for (const [key, routes] of wanted) if (!isKept(key)) peers.setExitRoutes(key, 'lan', routes, turn);
    this.#routed = routed;
    const told = JSON.stringify(used);
    if (told === this.#told) return;
    this.#told = told;
    turn.emit({ type: 'routes-in-use', routes: used });
  }
}

const fresh = (identity: Uint8Array): Source => ({
  identity,
  state: 'asking',
  lease: undefined,
  asking: undefined,
  doubted: false,
  askAt: -Infinity,
  retryMs: FIRST_RETRY_MS,
});

/** Whether one of the prefixes that were granted holds all of this. */
function grants({ prefixes }: Lease, { length, ip, family }: Prefix): boolean {
  return prefixes.some((each) => each.family === family && each.length <= length && containsIp(each, ip));
}

function stateOf(source: Source | undefined): ExitState {
  if (source === undefined) return 'unknown';
  return source.lease === undefined ? source.state : 'not-offered';
}

function answerOf(answer: MessageOf<'route-granted'> | MessageOf<'refused'> | undefined): RouteAnswer {
  if (answer?.type === 'route-granted') return { prefixes: answer.prefixes.map(formatPrefix) };
  return { refused: answer?.reason ?? 'unanswered' };
}

/** @throws RangeError that names what cannot be. */
export function checkAccepted(accepted: readonly AcceptedRoute[]): void {
  if (accepted.length > MAX_ACCEPTED)
    throw new RangeError(`accept: ${accepted.length} prefixes given, at most ${MAX_ACCEPTED} are possible`);
}
