// The using side of an exit: the ones the operator named are asked in order, and the first that grants is used.
// When it is silent, refuses or is gone, the next is; one before it that grants again takes its place.
//
// All traffic of this node goes to the exit in use and to nobody while there is none: whether what then is left
// without a way stays here is the host's business (ts/exit), which is told of every change.

import type { SessionKey } from '../../contract/engine.js';
import { sameBytes, toHex } from '../../wire/bytes.js';
import { formatPrefix } from '../../wire/prefix.js';
import type { MemberTable } from '../members/member-table.js';
import type { MessageOf } from '../protocol/control-message.js';
import { MAX_EXIT_HOPS } from '../protocol/message-limits.js';
import type { Refusal } from '../protocol/refusal.js';
import { encodePeerId } from '../protocol/peer-id.js';
import { earliest } from '../runtime/earliest.js';
import type { ExitInUse, ExitStatus } from '../runtime/exit-change.js';
import type { PeerTable } from '../runtime/peer-table.js';
import type { RequestTable } from '../runtime/request-table.js';
import type { Turn } from '../runtime/turn.js';
import { EXIT_CAPABILITY } from './exit-rights.js';
import { ASK_TRIES } from './lease-timing.js';
import { Lessor, type Lease, type Lessee } from './lessor.js';
import { memberOf, ownAddresses } from './proven-network.js';

/** Exits a node may name. */
export const MAX_CHOICE = 16;
export interface ExitChoice {
  /** Identities, in the order they are tried; at most MAX_CHOICE. */
  readonly exits: readonly Uint8Array[];
  /** Exits the traffic may go by one after the other, 1 to MAX_EXIT_HOPS; 1 = the named one alone. */
  readonly hops: number;
}

/** What the node lends to its use of exits. */
export interface ExitClientHost {
  readonly identity: Uint8Array;
  readonly members: MemberTable;
  readonly peers: PeerTable;
  readonly requests: RequestTable;
  /** By whom the traffic leaves has changed. */
  upstreamChanged(turn: Turn): void;
}

type Granted = MessageOf<'exit-granted'>;

export class ExitClient {
  readonly #host: ExitClientHost;
  readonly #lessee: Lessee<Granted>;
  #candidates: readonly Lessor<Granted>[] = [];
  #hops = 1;
  #active: Lessor<Granted> | undefined;
  /** The session that has the routes of an exit. */
  #routed: { readonly key: SessionKey; readonly routes: string } | undefined;
  #told = '';

  constructor(host: ExitClientHost) {
    this.#host = host;
    this.#lessee = {
      members: host.members,
      peers: host.peers,
      capability: EXIT_CAPABILITY,
      released: 'exit-released',
      ask: (to, network, turn, settle) => {
        host.requests.send(
          to,
          { type: 'exit-request', network, hops: this.#hops },
          turn,
          (answer, later) =>
            settle(answer?.type === 'exit-granted' ? answer : (answer?.reason ?? 'unanswered'), later),
          ASK_TRIES,
        );
      },
      refuses: (granted) => this.#cannotBeUsed(granted),
      wants: (lessor) => this.#candidates.includes(lessor),
      answered: (turn) => this.#advance(turn),
    };
  }

  /** By whom the traffic leaves, the next one first; empty = by nobody; undefined = no exit is to be used. */
  get upstream(): readonly Uint8Array[] | undefined {
    if (this.#candidates.length === 0) return undefined;
    const active = this.#active;
    return active?.lease === undefined ? [] : [active.identity, ...active.lease.granted.path];
  }

  /** Uses these from now on; undefined: none. Leases of those named again go on. */
  use(choice: ExitChoice | undefined, turn: Turn): void {
    const before = this.#candidates;
    const isLonger = (choice?.hops ?? 1) >= this.#hops;
    this.#hops = choice?.hops ?? 1;
    this.#candidates = (choice?.exits ?? []).map((identity) => {
      const known = before.find((each) => sameBytes(each.identity, identity));
      return known !== undefined && isLonger ? known : new Lessor(identity, this.#lessee);
    });
    for (const each of before) if (!this.#candidates.includes(each)) each.release(turn);
    this.#advance(turn);
  }

  /** The exit says that its grant is over. */
  handleWithdrawn(peer: SessionKey, reason: Refusal, turn: Turn): void {
    for (const each of this.#candidates) each.withdrawn(peer, reason, turn);
    this.#advance(turn);
  }

  /** Its session was given up, or it is no member any more. */
  lost(peer: SessionKey, turn: Turn): void {
    if (this.#candidates.some((each) => each.lost(peer, turn))) this.#advance(turn);
  }

  /** The member is reached again: whether it grants is asked at once, though one before it is being asked. */
  reached(peer: SessionKey, turn: Turn): void {
    const due = this.#candidates.filter((each) => each.reached(peer, turn));
    if (due.length === 0) return;
    this.#advance(turn);
    if (this.#active === undefined) for (const each of due) if (each.isDue(turn.now)) each.ask(turn);
  }

  handleTimeout(turn: Turn): void {
    const at = this.deadline();
    if (at !== undefined && at <= turn.now) this.#advance(turn);
  }

  deadline(): number | undefined {
    const wanted = this.#candidates.findIndex(({ lease, isAsked }) => lease !== undefined || isAsked);
    const waiting = this.#candidates.slice(0, wanted < 0 ? undefined : wanted);
    const leased = this.#candidates.filter(({ lease }) => lease !== undefined);
    return earliest(...[...waiting, ...leased].map((each) => each.deadline()));
  }

  status(now: number): ExitStatus['choice'] {
    return this.#candidates.map((each) => {
      const granted = each.lease?.granted;
      return {
        peerId: encodePeerId(each.identity),
        state: each.state,
        via: (granted?.path ?? []).map(encodePeerId),
        isActive: each === this.#active,
        lan: (granted?.lan ?? []).map(formatPrefix),
        ipv4: granted?.ipv4 ?? false,
        ipv6: granted?.ipv6 ?? false,
        dns: granted?.dns ?? false,
        expiresInMs: each.lease && each.lease.until - now,
      };
    });
  }

  /** Renews, asks whoever is due up to the first that has granted, and uses that. */
  #advance(turn: Turn): void {
    for (const each of this.#candidates) each.expire(turn);
    for (const each of this.#candidates) if (each.lease !== undefined && each.isDue(turn.now)) each.ask(turn);
    for (const each of this.#candidates) {
      if (each.lease === undefined && each.isDue(turn.now)) each.ask(turn);
      if (each.lease !== undefined || each.isAsked) break;
    }
    this.#settle(turn);
  }

  /** The exit forwards by others: not by this node, nor by more of them than were agreed to. */
  #cannotBeUsed({ path }: Granted): Refusal | undefined {
    if (path.some((identity) => sameBytes(identity, this.#host.identity))) return 'loop';
    return path.length + 1 > this.#hops ? 'exit-chain' : undefined;
  }

  /** Uses the first that has granted; those behind it are let go. */
  #settle(turn: Turn): void {
    const active = this.#candidates.find(({ lease }) => lease !== undefined);
    const place = active === undefined ? Infinity : this.#candidates.indexOf(active);
    this.#candidates.forEach((each, index) => {
      if (index > place && !each.isAsked) each.release(turn);
      // Nobody before them has granted any more.
      else if (each.state === 'standby') each.recall(turn);
    });
    const before = this.upstream?.map(toHex).join();
    const former = this.#active;
    this.#active = active;
    this.#route(active?.lease, turn);
    this.#tell(active, turn);
    if (former !== active && this.#candidates.length > 0)
      turn.notify(active === undefined ? 'warn' : 'info', active === undefined ? 'exit-lost' : 'exit-used', {
        ...(active && { exit: encodePeerId(active.identity) }),
      });
    if (former !== active || before !== this.upstream?.map(toHex).join()) this.#host.upstreamChanged(turn);
  }

  /** The former exit loses the routes first: one prefix is never at two peers. */
  #route(lease: Lease<Granted> | undefined, turn: Turn): void {
    const prefixes = lease === undefined ? [] : routesOf(lease.granted);
    const wanted = lease && { key: lease.sessionKey, routes: `${lease.network} ${prefixes.join(' ')}` };
    const routed = this.#routed;
    if (routed?.key === wanted?.key && routed?.routes === wanted?.routes) return;
    if (routed !== undefined && routed.key !== wanted?.key)
      this.#host.peers.setExitRoutes(routed.key, 'exit', undefined, turn);
    if (lease !== undefined)
      this.#host.peers.setExitRoutes(lease.sessionKey, 'exit', { network: lease.network, prefixes }, turn);
    this.#routed = wanted;
  }

  #tell(active: Lessor<Granted> | undefined, turn: Turn): void {
    const use = active && this.#useOf(active);
    const told = JSON.stringify(use ?? null);
    if (told === this.#told || (use === undefined && this.#told === '')) return;
    this.#told = told;
    turn.emit({ type: 'exit-in-use', use });
  }

  #useOf({ identity, lease }: Lessor<Granted>): ExitInUse | undefined {
    if (lease === undefined) return undefined;
    const { members } = this.#host;
    const { granted, network } = lease;
    const own = ownAddresses(members, this.#host.identity, network);
    const exit = memberOf(members, identity)?.overlay.get(network);
    const theirs = [exit?.ipv4, exit?.ipv6].filter((address) => address !== undefined);
    return {
      identity,
      ipv4: granted.ipv4 ? own.ipv4 : undefined,
      ipv6: granted.ipv6 ? own.ipv6 : undefined,
      resolvers: granted.dns ? theirs.filter((address) => members.owns(address, identity)) : [],
      lan: granted.lan.map(formatPrefix),
    };
  }
}

function routesOf({ ipv4, ipv6 }: { readonly ipv4: boolean; readonly ipv6: boolean }): string[] {
  return [...(ipv4 ? ['0.0.0.0/0'] : []), ...(ipv6 ? ['::/0'] : [])];
}

/** @throws RangeError that names what cannot be. */
export function checkChoice({ exits, hops }: ExitChoice): void {
  if (exits.length < 1 || exits.length > MAX_CHOICE)
    throw new RangeError(`exits: ${exits.length} given, 1 to ${MAX_CHOICE} can be used`);
  if (!Number.isInteger(hops) || hops < 1 || hops > MAX_EXIT_HOPS)
    throw new RangeError(`hops: ${hops} given, must be an integer from 1 to ${MAX_EXIT_HOPS}`);
}
