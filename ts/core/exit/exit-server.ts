// The serving side of an exit: members ask to leave by this node, and those who have the right get it on lease.
// The engine lets packets of a guest go on (PeerConfig.transit), the host forwards what comes from its addresses.
//
//   exit-request ─► member by its session? right? room? no loop? ─► exit-granted, renewed by asking again
//                                                              └─► refused
//   right lapsed or taken back, member gone, a loop came to be ─► exit-withdrawn

import type { SessionKey } from '../../contract/engine.js';
import { sameBytes, toHex } from '../../wire/bytes.js';
import { formatPrefix } from '../../wire/prefix.js';
import type { Member, MemberTable } from '../members/member-table.js';
import type { MessageOf, Refusal } from '../protocol/control-message.js';
import { encodePeerId } from '../protocol/peer-id.js';
import { BoundedTable } from '../runtime/bounded-table.js';
import type { ExitStatus } from '../runtime/exit-change.js';
import type { PeerTable } from '../runtime/peer-table.js';
import { TimerQueue } from '../runtime/timer-queue.js';
import type { Turn } from '../runtime/turn.js';
import { rightOf, type ExitService } from './exit-rights.js';

/** Guests at once, in all and of one network. */
export const GUEST_BOUNDS = { total: 2048, shares: { network: 1024 } } as const;
/** A guest that says nothing for so long is none any more. */
export const LEASE_MS = 120_000;
/** The host is told of leases again when one of those it knows has less than this: not at every renewal. */
const TOLD_LEAST_MS = 60_000;

/** What the node lends to its exit. */
export interface ExitServerHost {
  readonly members: MemberTable;
  readonly peers: PeerTable;
  /** By whom this node's own traffic leaves, the next one first; undefined = by itself. */
  upstream(): readonly Uint8Array[] | undefined;
}

interface Guest {
  readonly sessionKey: SessionKey;
  readonly identity: Uint8Array;
  /** Blinded id, hex. */
  readonly network: string;
  readonly addresses: readonly string[];
  readonly since: number;
  readonly hops: number;
  /** Monotonic ms. */
  readonly leaseUntil: number;
}

export class ExitServer {
  readonly #host: ExitServerHost;
  readonly #guests = new BoundedTable<SessionKey, Guest, 'network'>(() => GUEST_BOUNDS);
  readonly #expiries = new TimerQueue<SessionKey>();
  #service: ExitService | undefined;
  /** When the first of the leases the host was told of is over. */
  #toldUntil = Infinity;

  constructor(host: ExitServerHost) {
    this.#host = host;
  }

  get serves(): boolean {
    return this.#service !== undefined;
  }

  /** Serves by other rules from now on, or not at all: who may no longer is told. */
  setService(service: ExitService | undefined, turn: Turn): void {
    this.#service = service;
    this.reconsider(turn);
  }

  /** Whether each guest may still be one: rights, ways and memberships have changed. */
  reconsider(turn: Turn): void {
    let changed = false;
    for (const guest of [...this.#guests.values()]) {
      const standing = this.#judge(guest.sessionKey, guest.network, guest.hops, turn);
      if (typeof standing !== 'string') continue;
      this.#end(guest, turn);
      turn.send(guest.sessionKey, 0, { type: 'exit-withdrawn', reason: standing });
      changed = true;
    }
    if (changed) this.#tell(turn);
  }

  /** A member asks to leave by this node, or to go on doing so. */
  handle(peer: SessionKey, request: number, message: MessageOf<'exit-request'>, turn: Turn): void {
    const network = toHex(message.network);
    const standing = this.#judge(peer, network, message.hops, turn);
    const known = this.#guests.get(peer);
    if (typeof standing === 'string') {
      turn.refuse(peer, request, message.type, standing);
      if (known === undefined) return;
      this.#end(known, turn);
      this.#tell(turn);
      return;
    }
    const { member, service, until } = standing;
    const addresses = addressesOf(this.#host.members, member, network, service);
    const leaseMs = Math.min(LEASE_MS, until - turn.step.wallClock);
    const guest: Guest = {
      sessionKey: peer,
      identity: member.identity,
      network,
      addresses,
      since: known?.since ?? turn.now,
      hops: message.hops,
      leaseUntil: turn.now + leaseMs,
    };
    if (this.#guests.set(peer, guest, { network }) !== undefined) {
      turn.refuse(peer, request, message.type, 'capacity');
      return;
    }
    this.#expiries.set(peer, guest.leaseUntil);
    this.#host.peers.setTransit(peer, 'exit', turn);
    const isNews = known === undefined || known.addresses.join() !== addresses.join();
    if (isNews || this.#toldUntil - turn.now < TOLD_LEAST_MS) this.#tell(turn);
    const { ipv4, ipv6, dns, lan } = service;
    turn.send(peer, request, {
      type: 'exit-granted',
      ipv4,
      ipv6,
      dns,
      lan,
      lifetime: Math.max(1, Math.floor(leaseMs / 1000)),
      path: this.#host.upstream() ?? [],
    });
  }

  /** A guest leaves by somebody else. */
  handleReleased(peer: SessionKey, turn: Turn): void {
    const guest = this.#guests.get(peer);
    if (guest === undefined) return;
    this.#end(guest, turn);
    this.#tell(turn);
  }

  memberGone(peer: SessionKey, turn: Turn): void {
    this.handleReleased(peer, turn);
  }

  handleTimeout(turn: Turn): void {
    let changed = false;
    for (const peer of this.#expiries.allDue(turn.now)) {
      const guest = this.#guests.get(peer);
      if (guest === undefined) continue;
      this.#end(guest, turn);
      changed = true;
    }
    if (changed) this.#tell(turn);
  }

  deadline(): number | undefined {
    return this.#expiries.next();
  }

  status(now: number): Pick<ExitStatus, 'service' | 'guests'> {
    const service = this.#service;
    return {
      service: service && {
        ipv4: service.ipv4,
        ipv6: service.ipv6,
        dns: service.dns,
        lan: service.lan.map(formatPrefix),
        chain: service.chain,
      },
      guests: [...this.#guests.values()].map(({ identity, addresses, since, leaseUntil }) => ({
        peerId: encodePeerId(identity),
        addresses,
        sinceMs: now - since,
        expiresInMs: leaseUntil - now,
      })),
    };
  }

  /** Whether who holds this session may leave by this node, until when (wall clock), or why not. */
  #judge(
    peer: SessionKey,
    network: string,
    hops: number,
    turn: Turn,
  ): Refusal | { readonly member: Member; readonly service: ExitService; readonly until: number } {
    const { members, peers } = this.#host;
    const service = this.#service;
    if (service === undefined) return 'not-served';
    const member = members.bySessionKey(peer);
    const joined = members.networks.get(network);
    if (member === undefined || joined === undefined || !peers.isMember(peer, network)) return 'not-a-member';
    const applicant = { identity: member.identity, sessionKey: peer, network: joined.network.id };
    const until = rightOf(service, applicant, turn.step.wallClock);
    if (typeof until === 'string') return until;
    const upstream = this.#host.upstream();
    if (upstream !== undefined) {
      if (upstream.some((identity) => sameBytes(identity, member.identity))) return 'loop';
      // Both have to agree to a chain, and it is no longer than the asker allows.
      if (!service.chain || upstream.length === 0 || upstream.length + 1 > hops) return 'exit-chain';
    }
    return { member, service, until };
  }

  #end({ sessionKey }: Guest, turn: Turn): void {
    this.#guests.delete(sessionKey);
    this.#expiries.clear(sessionKey);
    this.#host.peers.setTransit(sessionKey, 'none', turn);
  }

  #tell(turn: Turn): void {
    const guests = [...this.#guests.values()];
    this.#toldUntil = guests.reduce((first, { leaseUntil }) => Math.min(first, leaseUntil), Infinity);
    turn.emit({
      type: 'exit-guests',
      guests: guests.map(({ sessionKey, identity, addresses, leaseUntil }) => ({
        sessionKey,
        identity,
        addresses,
        lifetimeMs: leaseUntil - turn.now,
      })),
    });
  }
}

/** What the member sends from in this network, of the families that are served. */
function addressesOf(
  members: MemberTable,
  { overlay, identity }: Member,
  network: string,
  { ipv4, ipv6 }: ExitService,
): string[] {
  const addresses = overlay.get(network);
  if (addresses === undefined) return [];
  const served = [...(ipv6 ? [addresses.ipv6] : []), ...(ipv4 ? [addresses.ipv4] : [])];
  return served.filter((address) => members.owns(address, identity));
}
