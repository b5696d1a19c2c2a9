// The advertising side of routes: members ask for the LANs behind this node, and those who have the right get them on
// lease. The engine lets their packets go there and nowhere else (PeerConfig.transit), the host forwards them.
//
//   route-request ─► member by its session? right? room? ─► route-granted, renewed by asking again
//                                                       └─► refused
//   right lapsed or taken back, nothing advertised any more ─► route-withdrawn

import type { SessionKey } from '../../contract/engine.js';
import { toHex } from '../../wire/bytes.js';
import { formatPrefix } from '../../wire/prefix.js';
import type { MessageOf } from '../protocol/control-message.js';
import type { Refusal } from '../protocol/refusal.js';
import type { RouteStatus } from '../runtime/exit-change.js';
import type { Turn } from '../runtime/turn.js';
import type { RouteService } from './exit-rights.js';
import { GuestTable } from './guest-table.js';
import { LEASE_MS } from './lease-timing.js';
import { addressesOf } from './proven-network.js';
import { standingOf, type ServingHost, type Standing } from './standing.js';

export class RouteServer {
  readonly #host: ServingHost;
  readonly #guests = new GuestTable();
  #service: RouteService | undefined;

  constructor(host: ServingHost) {
    this.#host = host;
  }

  get serves(): boolean {
    return this.#service !== undefined;
  }

  /** Advertises these from now on, or nothing: who may no longer is told. Who may learns of others when it renews. */
  setService(service: RouteService | undefined, turn: Turn): void {
    this.#service = service;
    let changed = false;
    for (const guest of this.#guests.all()) {
      const standing = this.#judge(guest.sessionKey, guest.network, turn);
      if (typeof standing !== 'string') continue;
      this.#end(guest.sessionKey, turn);
      turn.send(guest.sessionKey, 0, { type: 'route-withdrawn', reason: standing });
      changed = true;
    }
    if (changed) this.#tell(turn);
  }

  /** A member asks which LANs are behind this node, or to go on sending there (`hold`). */
  handle(peer: SessionKey, request: number, message: MessageOf<'route-request'>, turn: Turn): void {
    const network = toHex(message.network);
    const standing = this.#judge(peer, network, turn);
    if (typeof standing === 'string') {
      turn.refuse(peer, request, message.type, standing);
      this.handleReleased(peer, turn);
      return;
    }
    const { member, service, until } = standing;
    const leaseMs = Math.min(LEASE_MS, until - turn.step.wallClock);
    if (message.hold) {
      const isNews = this.#guests.set(
        {
          sessionKey: peer,
          identity: member.identity,
          network,
          addresses: addressesOf(this.#host.members, member, network, { ipv4: true, ipv6: true }),
          since: this.#guests.get(peer)?.since ?? turn.now,
          hops: 0,
          leaseUntil: turn.now + leaseMs,
        },
        turn.now,
      );
      if (isNews === undefined) {
        turn.refuse(peer, request, message.type, 'capacity');
        return;
      }
      this.#host.peers.setTransit(peer, 'lan', true, turn);
      if (isNews) this.#tell(turn);
    }
    turn.send(peer, request, {
      type: 'route-granted',
      prefixes: service.prefixes,
      lifetime: Math.max(1, Math.floor(leaseMs / 1000)),
    });
  }

  /** It sends there no more, or is no member any more. */
  handleReleased(peer: SessionKey, turn: Turn): void {
    if (this.#guests.get(peer) === undefined) return;
    this.#end(peer, turn);
    this.#tell(turn);
  }

  handleTimeout(turn: Turn): void {
    const ended = this.#guests.takeDue(turn.now);
    for (const peer of ended) this.#host.peers.setTransit(peer, 'lan', false, turn);
    if (ended.length > 0) this.#tell(turn);
  }

  deadline(): number | undefined {
    return this.#guests.deadline();
  }

  status(now: number): Pick<RouteStatus, 'advertised' | 'guests'> {
    return {
      advertised: (this.#service?.prefixes ?? []).map(formatPrefix),
      guests: this.#guests.status(now),
    };
  }

  #judge(peer: SessionKey, network: string, turn: Turn): Refusal | Standing<RouteService> {
    return standingOf(this.#host, this.#service, peer, network, turn);
  }

  #end(peer: SessionKey, turn: Turn): void {
    this.#guests.end(peer);
    this.#host.peers.setTransit(peer, 'lan', false, turn);
  }

  #tell(turn: Turn): void {
    turn.emit({ type: 'route-guests', guests: this.#guests.told(turn.now) });
  }
}
