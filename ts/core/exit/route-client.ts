// The accepting side of routes: the operator said which prefixes are reached by which member, and each of these members
// is asked for a lease. A prefix is used where a grant holds it whole; what else a member advertises is left alone.
//
// One prefix that was accepted of several members is the first's that grants it. Prefixes within each other are told
// apart by their lengths, as everywhere in routing.

import type { SessionKey } from '../../contract/engine.js';
import { sameBytes, toHex } from '../../wire/bytes.js';
import { containsIp, formatPrefix, type Prefix } from '../../wire/prefix.js';
import type { MemberTable } from '../members/member-table.js';
import type { MessageOf } from '../protocol/control-message.js';
import type { Refusal } from '../protocol/refusal.js';
import { encodePeerId } from '../protocol/peer-id.js';
import { earliest } from '../runtime/earliest.js';
import type { ExitState, RouteAnswer, RouteInUse, RouteStatus } from '../runtime/exit-change.js';
import type { PeerTable } from '../runtime/peer-table.js';
import type { RequestTable } from '../runtime/request-table.js';
import type { Turn } from '../runtime/turn.js';
import { ROUTE_CAPABILITY } from './exit-rights.js';
import { ASK_TRIES } from './lease-timing.js';
import { Lessor, type Lease, type Lessee } from './lessor.js';
import { offers, ownAddresses, provenNetwork } from './proven-network.js';

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

type Granted = MessageOf<'route-granted'>;
/** A member of whom prefixes are accepted. */
type Source = Lessor<Granted>;

export class RouteClient {
  readonly #host: RouteClientHost;
  readonly #lessee: Lessee<Granted>;
  #accepted: readonly AcceptedRoute[] = [];
  #sources: readonly Source[] = [];
  /** Sessions that have prefixes, and which. */
  #routed = new Map<SessionKey, string>();
  /** What members said when they were asked last, by identity (hex). */
  #answers = new Map<string, RouteAnswer>();
  #told = '[]';

  constructor(host: RouteClientHost) {
    this.#host = host;
    this.#lessee = {
      members: host.members,
      peers: host.peers,
      capability: ROUTE_CAPABILITY,
      released: 'route-released',
      ask: (to, network, turn, settle) => {
        this.#request(to, network, true, turn, (answer, later) =>
          settle(answer?.type === 'route-granted' ? answer : (answer?.reason ?? 'unanswered'), later),
        );
      },
      refuses: () => undefined,
      wants: (lessor) => this.#sources.includes(lessor),
      answered: (turn) => this.#advance(turn),
    };
  }

  /** Accepts these from now on. Leases of those named again go on. */
  accept(accepted: readonly AcceptedRoute[], turn: Turn): void {
    const before = this.#sources;
    this.#accepted = accepted;
    const identities = new Map(accepted.map(({ from }) => [toHex(from), from]));
    this.#sources = [...identities.values()].map(
      (identity) =>
        before.find((each) => sameBytes(each.identity, identity)) ?? new Lessor(identity, this.#lessee),
    );
    for (const each of before) if (!this.#sources.includes(each)) each.release(turn);
    this.#advance(turn);
  }

  /** Asks members whose records say that a LAN is behind them which ones: what they answer is in `status`. */
  survey(turn: Turn): void {
    const { identity, members, peers } = this.#host;
    const answers = new Map<string, RouteAnswer>();
    this.#answers = answers;
    for (const member of offers(members, ROUTE_CAPABILITY).slice(0, MAX_SURVEYED)) {
      const network = provenNetwork(members, peers, member);
      if (network === undefined || sameBytes(member.identity, identity)) continue;
      this.#request(member.sessionKey, network.id, false, turn, (answer) => {
        answers.set(toHex(member.identity), answerOf(answer));
      });
    }
  }

  /** The member says that its grant is over. */
  handleWithdrawn(peer: SessionKey, reason: Refusal, turn: Turn): void {
    for (const each of this.#sources) each.withdrawn(peer, reason, turn);
    this.#advance(turn);
  }

  /** Its session was given up, or it is no member any more. */
  lost(peer: SessionKey, turn: Turn): void {
    if (this.#sources.some((each) => each.lost(peer, turn))) this.#advance(turn);
  }

  /** The member is reached again: whether it grants is asked at once. */
  reached(peer: SessionKey, turn: Turn): void {
    const due = this.#sources.filter((each) => each.reached(peer, turn));
    if (due.length > 0) this.#advance(turn);
  }

  handleTimeout(turn: Turn): void {
    const at = this.deadline();
    if (at !== undefined && at <= turn.now) this.#advance(turn);
  }

  deadline(): number | undefined {
    return earliest(...this.#sources.map((each) => each.deadline()));
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
      each.expire(turn);
      if (each.isDue(turn.now)) each.ask(turn);
    }
    this.#route(turn);
  }

  /** @param hold whether it is for a lease, and not only to know */
  #request(
    to: SessionKey,
    network: Uint8Array,
    hold: boolean,
    turn: Turn,
    settle: (answer: Granted | MessageOf<'refused'> | undefined, turn: Turn) => void,
  ): void {
    this.#host.requests.send(to, { type: 'route-request', network, hold }, turn, settle, ASK_TRIES);
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

/** Whether one of the prefixes that were granted holds all of this. */
function grants({ granted }: Lease<Granted>, { length, ip, family }: Prefix): boolean {
  return granted.prefixes.some(
    (each) => each.family === family && each.length <= length && containsIp(each, ip),
  );
}

function stateOf(source: Source | undefined): ExitState {
  if (source === undefined) return 'unknown';
  return source.lease === undefined ? source.state : 'not-offered';
}

function answerOf(answer: Granted | MessageOf<'refused'> | undefined): RouteAnswer {
  if (answer?.type === 'route-granted') return { prefixes: answer.prefixes.map(formatPrefix) };
  return { refused: answer?.reason ?? 'unanswered' };
}

/** @throws RangeError that names what cannot be. */
export function checkAccepted(accepted: readonly AcceptedRoute[]): void {
  if (accepted.length > MAX_ACCEPTED)
    throw new RangeError(`accept: ${accepted.length} prefixes given, at most ${MAX_ACCEPTED} are possible`);
}
