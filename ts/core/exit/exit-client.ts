// The using side of an exit: the ones the operator named are asked in order, and the first that grants is used.
// When it is silent, refuses or is gone, the next is; one before it that grants again takes its place.
//
// All traffic of this node goes to the exit in use and to nobody while there is none: whether what then is left
// without a way stays here is the host's business (ts/exit), which is told of every change.

import type { SessionKey } from '../../contract/engine.js';
import { sameBytes, toHex } from '../../wire/bytes.js';
import { formatPrefix } from '../../wire/prefix.js';
import type { MemberTable } from '../members/member-table.js';
import { MAX_EXIT_HOPS, type MessageOf, type Refusal } from '../protocol/control-message.js';
import { encodePeerId } from '../protocol/peer-id.js';
import { earliest } from '../runtime/earliest.js';
import type { ExitInUse, ExitState, ExitStatus } from '../runtime/exit-change.js';
import type { PeerTable } from '../runtime/peer-table.js';
import type { RequestTable } from '../runtime/request-table.js';
import type { Turn } from '../runtime/turn.js';
import { EXIT_CAPABILITY } from './exit-rights.js';
import {
  ASK_TRIES,
  FIRST_RETRY_MS,
  LONGEST_RETRY_MS,
  LOOK_AGAIN_MS,
  RENEW_MS,
  scattered,
} from './lease-timing.js';
import { memberOf, ownAddresses, provenNetwork } from './proven-network.js';

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

interface Lease {
  readonly sessionKey: SessionKey;
  /** Blinded id, hex. */
  readonly network: string;
  readonly granted: MessageOf<'exit-granted'>;
  /** Monotonic ms. */
  readonly until: number;
  readonly renewAt: number;
}

interface Candidate {
  readonly identity: Uint8Array;
  state: ExitState;
  lease: Lease | undefined;
  /** A request is under way to this session. */
  asking: SessionKey | undefined;
  /** It withdrew while it was asked: datagrams overtake each other, so what it answers is asked for once more. */
  doubted: boolean;
  /** When it may be asked again; -Infinity = at once. */
  askAt: number;
  retryMs: number;
}

export class ExitClient {
  readonly #host: ExitClientHost;
  #candidates: readonly Candidate[] = [];
  #hops = 1;
  #active: Candidate | undefined;
  /** The session that has the routes of an exit. */
  #routed: { readonly key: SessionKey; readonly routes: string } | undefined;
  #told = '';

  constructor(host: ExitClientHost) {
    this.#host = host;
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
      return known !== undefined && isLonger ? known : fresh(identity);
    });
    for (const each of before) if (!this.#candidates.includes(each)) this.#release(each, turn);
    this.#advance(turn);
  }

  /** The exit says that its grant is over. */
  handleWithdrawn(peer: SessionKey, reason: Refusal, turn: Turn): void {
    for (const each of this.#candidates) {
      if (each.asking === peer) each.doubted = true;
      if (each.lease?.sessionKey === peer) this.#failed(each, reason, turn);
    }
    this.#advance(turn);
  }

  /** Its session was given up, or it is no member any more. */
  lost(peer: SessionKey, turn: Turn): void {
    const candidate = this.#candidates.find(({ lease }) => lease?.sessionKey === peer);
    if (candidate === undefined) return;
    this.#failed(candidate, 'unanswered', turn);
    this.#advance(turn);
  }

  handleTimeout(turn: Turn): void {
    const at = this.deadline();
    if (at !== undefined && at <= turn.now) this.#advance(turn);
  }

  deadline(): number | undefined {
    const leases = this.#candidates.flatMap(({ lease, asking }) =>
      lease === undefined ? [] : [asking !== undefined ? lease.until : Math.min(lease.renewAt, lease.until)],
    );
    const wanted = this.#candidates.findIndex(
      ({ lease, asking }) => lease !== undefined || asking !== undefined,
    );
    const waiting = this.#candidates.slice(0, wanted < 0 ? undefined : wanted);
    return earliest(...leases, ...waiting.map(({ askAt }) => askAt));
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
    for (const each of this.#candidates)
      if (each.lease !== undefined && each.lease.until <= turn.now) this.#failed(each, 'unanswered', turn);
    for (const each of this.#candidates)
      if (each.lease !== undefined && each.lease.renewAt <= turn.now && each.asking === undefined)
        this.#ask(each, turn);
    for (const each of this.#candidates) {
      if (each.lease === undefined && each.asking === undefined && each.askAt <= turn.now)
        this.#ask(each, turn);
      if (each.lease !== undefined || each.asking !== undefined) break;
    }
    this.#settle(turn);
  }

  #ask(candidate: Candidate, turn: Turn): void {
    const { members, peers } = this.#host;
    const member = memberOf(members, candidate.identity);
    const network = member && provenNetwork(members, peers, member);
    if (member === undefined || network === undefined) {
      this.#wait(candidate, 'unknown', LOOK_AGAIN_MS, turn);
      return;
    }
    if (!member.record.capabilities.includes(EXIT_CAPABILITY)) {
      this.#wait(candidate, 'not-offered', LOOK_AGAIN_MS, turn);
      return;
    }
    candidate.asking = member.sessionKey;
    candidate.doubted = false;
    if (candidate.lease === undefined) candidate.state = 'asking';
    const { sessionKey } = member;
    const message = { type: 'exit-request', network: network.id, hops: this.#hops } as const;
    this.#host.requests.send(
      sessionKey,
      message,
      turn,
      (answer, later) => {
        if (!this.#candidates.includes(candidate)) {
          if (answer?.type === 'exit-granted') later.send(sessionKey, 0, { type: 'exit-released' });
          return;
        }
        candidate.asking = undefined;
        if (answer?.type === 'exit-granted' && !this.#host.peers.isMember(sessionKey, network.hex))
          this.#wait(candidate, 'unknown', LOOK_AGAIN_MS, later); // it left while it was asked
        else if (answer?.type === 'exit-granted')
          this.#granted(candidate, sessionKey, network.hex, answer, later);
        else this.#failed(candidate, answer?.reason ?? 'unanswered', later);
        this.#advance(later);
      },
      ASK_TRIES,
    );
  }

  #granted(
    candidate: Candidate,
    sessionKey: SessionKey,
    network: string,
    granted: MessageOf<'exit-granted'>,
    turn: Turn,
  ): void {
    const refusal = this.#cannotBeUsed(granted);
    if (refusal !== undefined) {
      turn.send(sessionKey, 0, { type: 'exit-released' });
      this.#failed(candidate, refusal, turn);
      return;
    }
    const lifetimeMs = granted.lifetime * 1000;
    candidate.lease = {
      sessionKey,
      network,
      granted,
      until: turn.now + lifetimeMs,
      renewAt: candidate.doubted ? turn.now : turn.now + Math.min(RENEW_MS, lifetimeMs / 2),
    };
    candidate.state = 'granted';
    candidate.retryMs = FIRST_RETRY_MS;
  }

  /** The exit forwards by others: not by this node, nor by more of them than were agreed to. */
  #cannotBeUsed({ path }: MessageOf<'exit-granted'>): Refusal | undefined {
    if (path.some((identity) => sameBytes(identity, this.#host.identity))) return 'loop';
    return path.length + 1 > this.#hops ? 'exit-chain' : undefined;
  }

  #failed(candidate: Candidate, state: ExitState, turn: Turn): void {
    const { retryMs } = candidate;
    candidate.retryMs = Math.min(2 * retryMs, LONGEST_RETRY_MS);
    this.#wait(candidate, state, scattered(retryMs, turn), turn);
  }

  #wait(candidate: Candidate, state: ExitState, waitMs: number, turn: Turn): void {
    candidate.lease = undefined;
    candidate.state = state;
    candidate.askAt = turn.now + waitMs;
  }

  #release(candidate: Candidate, turn: Turn): void {
    if (candidate.lease !== undefined) turn.send(candidate.lease.sessionKey, 0, { type: 'exit-released' });
    candidate.lease = undefined;
    candidate.state = 'standby';
  }

  /** Uses the first that has granted; those behind it are let go. */
  #settle(turn: Turn): void {
    const active = this.#candidates.find(({ lease }) => lease !== undefined);
    const place = active === undefined ? Infinity : this.#candidates.indexOf(active);
    this.#candidates.forEach((each, index) => {
      if (index > place && each.asking === undefined) this.#release(each, turn);
      // Nobody before them has granted any more.
      else if (each.state === 'standby') this.#wait(each, 'asking', 0, turn);
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
  #route(lease: Lease | undefined, turn: Turn): void {
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

  #tell(active: Candidate | undefined, turn: Turn): void {
    const use = active && this.#useOf(active);
    const told = JSON.stringify(use ?? null);
    if (told === this.#told || (use === undefined && this.#told === '')) return;
    this.#told = told;
    turn.emit({ type: 'exit-in-use', use });
  }

  #useOf({ identity, lease }: Candidate): ExitInUse | undefined {
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

const fresh = (identity: Uint8Array): Candidate => ({
  identity,
  state: 'asking',
  lease: undefined,
  asking: undefined,
  doubted: false,
  askAt: -Infinity,
  retryMs: FIRST_RETRY_MS,
});

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
