// The serving side of an exit: members ask to leave by this node, and those who have the right get it on lease.
// The engine lets packets of a guest go on (PeerConfig.transit), the host forwards what comes from its addresses.
//
//   exit-request ─► member by its session? right? room? no loop? ─► exit-granted, renewed by asking again
//                                                              └─► refused
//   right lapsed or taken back, member gone, a loop came to be ─► exit-withdrawn

import type { SessionKey } from '../../contract/engine.js';
import { sameBytes, toHex } from '../../wire/bytes.js';
import { formatPrefix } from '../../wire/prefix.js';
import type { MessageOf } from '../protocol/control-message.js';
import type { Refusal } from '../protocol/refusal.js';
import type { ExitStatus } from '../runtime/exit-change.js';
import type { Turn } from '../runtime/turn.js';
import type { ExitService } from './exit-rights.js';
import { GuestTable } from './guest-table.js';
import { LEASE_MS } from './lease-timing.js';
import { addressesOf } from './proven-network.js';
import { standingOf, type ServingHost, type Standing } from './standing.js';

/** What the node lends to its exit. */
export interface ExitServerHost extends ServingHost {
  /** By whom this node's own traffic leaves, the next one first; undefined = by itself. */
  upstream(): readonly Uint8Array[] | undefined;
}

export class ExitServer {
  readonly #host: ExitServerHost;
  readonly #guests = new GuestTable();
  #service: ExitService | undefined;

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
    for (const guest of this.#guests.all()) {
      const standing = this.#judge(guest.sessionKey, guest.network, guest.hops, turn);
      if (typeof standing !== 'string') continue;
      this.#end(guest.sessionKey, turn);
      turn.send(guest.sessionKey, 0, { type: 'exit-withdrawn', reason: standing });
      changed = true;
    }
    if (changed) this.#tell(turn);
  }

  /** A member asks to leave by this node, or to go on doing so. */
  handle(peer: SessionKey, request: number, message: MessageOf<'exit-request'>, turn: Turn): void {
    const network = toHex(message.network);
    const standing = this.#judge(peer, network, message.hops, turn);
    if (typeof standing === 'string') {
      turn.refuse(peer, request, message.type, standing);
      this.handleReleased(peer, turn);
      return;
    }
    const { member, service, until } = standing;
    const addresses = addressesOf(this.#host.members, member, network, service);
    const leaseMs = Math.min(LEASE_MS, until - turn.step.wallClock);
    const isNews = this.#guests.set(
      {
        sessionKey: peer,
        identity: member.identity,
        network,
        addresses,
        since: this.#guests.get(peer)?.since ?? turn.now,
        hops: message.hops,
        leaseUntil: turn.now + leaseMs,
      },
      turn.now,
    );
    if (isNews === undefined) {
      turn.refuse(peer, request, message.type, 'capacity');
      return;
    }
    this.#host.peers.setTransit(peer, 'exit', true, turn);
    if (isNews) this.#tell(turn);
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
    if (this.#guests.get(peer) === undefined) return;
    this.#end(peer, turn);
    this.#tell(turn);
  }

  memberGone(peer: SessionKey, turn: Turn): void {
    this.handleReleased(peer, turn);
  }

  handleTimeout(turn: Turn): void {
    const ended = this.#guests.takeDue(turn.now);
    for (const peer of ended) this.#host.peers.setTransit(peer, 'exit', false, turn);
    if (ended.length > 0) this.#tell(turn);
  }

  deadline(): number | undefined {
    return this.#guests.deadline();
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
      guests: this.#guests.status(now),
    };
  }

  /** The ways count too: no loop, and no chain that one of the two has not agreed to. */
  #judge(peer: SessionKey, network: string, hops: number, turn: Turn): Refusal | Standing<ExitService> {
    const standing = standingOf(this.#host, this.#service, peer, network, turn);
    const upstream = this.#host.upstream();
    if (typeof standing === 'string' || upstream === undefined) return standing;
    const { member, service } = standing;
    if (upstream.some((identity) => sameBytes(identity, member.identity))) return 'loop';
    // A chain is no longer than the asker allows.
    if (!service.chain || upstream.length === 0 || upstream.length + 1 > hops) return 'exit-chain';
    return standing;
  }

  #end(peer: SessionKey, turn: Turn): void {
    this.#guests.end(peer);
    this.#host.peers.setTransit(peer, 'exit', false, turn);
  }

  #tell(turn: Turn): void {
    turn.emit({ type: 'exit-guests', guests: this.#guests.told(turn.now) });
  }
}
