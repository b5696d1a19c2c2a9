// Members to whom no relay may carry data. Two of them still find each other over relays, inside their session, so
// the session is brought up there; but as long as no way in use may carry data, the engine has no routes to
// the member: what the machine sends is answered "unreachable", what the member sends is dropped. The routes come
// back a step after the paths they are to go by, so that nothing overtakes these.

import type { SessionKey } from '../../contract/engine.js';
import type { PeerTable } from '../runtime/peer-table.js';
import { TimerQueue } from '../runtime/timer-queue.js';
import type { Turn } from '../runtime/turn.js';
import type { Candidate } from './candidate.js';
import type { RuledWays } from './ruled-ways.js';

/** What the node lends to it. */
export interface BarHost {
  readonly rules: RuledWays;
  readonly peers: PeerTable;
  /** Whether data goes by a direct path that the engine keeps to. */
  isDirect(member: SessionKey): boolean;
  /** The way beside direct paths that the member is or would be reached by. */
  way(member: SessionKey): Candidate | undefined;
  /** Whether one is being sought. */
  isSought(member: SessionKey): boolean;
  /** Data goes again. */
  lifted(member: SessionKey, turn: Turn): void;
}

export class RelayBar {
  readonly #host: BarHost;
  /** When the routes come back. */
  readonly #lifts = new TimerQueue<SessionKey>();

  constructor(host: BarHost) {
    this.#host = host;
  }

  /** Whether what is sent to the member goes nowhere at present. */
  isBarred(member: SessionKey): boolean {
    return this.#host.peers.isBarred(member);
  }

  /** The way to the member, or what the operator says of it, may be another. Call before the engine is told of the way. */
  look(member: SessionKey, turn: Turn): void {
    if (this.#isNeeded(member)) {
      this.#lifts.clear(member);
      this.#host.peers.bar(member, turn);
    } else if (this.isBarred(member)) this.#lifts.set(member, turn.now);
  }

  /** A way to the member is to be sought: what waits for it in the engine must not leave by a relay. */
  seek(member: SessionKey, turn: Turn): void {
    const { rules, peers } = this.#host;
    if (rules.admitRelayed(member) || peers.hasRole(member) || this.#host.isDirect(member)) return;
    if (this.isBarred(member)) return;
    peers.bar(member, turn);
    if (this.#host.way(member) === undefined) peers.resetPath(member, turn);
  }

  memberGone(member: SessionKey): void {
    this.#lifts.clear(member);
  }

  handleTimeout(turn: Turn): void {
    for (const member of this.#lifts.allDue(turn.now)) {
      this.#host.peers.lift(member, turn);
      this.#host.lifted(member, turn);
    }
  }

  deadline(): number | undefined {
    return this.#lifts.next();
  }

  #isNeeded(member: SessionKey): boolean {
    const { rules, peers } = this.#host;
    if (peers.hasRole(member) || this.#host.isDirect(member)) return false;
    const way = this.#host.way(member);
    if (!rules.admitRelayed(member)) return way !== undefined || this.#host.isSought(member);
    return (
      way !== undefined && rules.ruling(member, { remote: way.endpoint, local: undefined }) !== undefined
    );
  }
}
