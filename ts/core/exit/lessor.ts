// A member that is asked for a lease: of a way out by it, or of LANs behind it. A lease is renewed before it ends; who
// refuses or is silent is asked again, after twice as long each time.

import type { SessionKey } from '../../contract/engine.js';
import type { MemberTable } from '../members/member-table.js';
import type { Refusal } from '../protocol/refusal.js';
import type { ExitState } from '../runtime/exit-change.js';
import type { PeerTable } from '../runtime/peer-table.js';
import type { Turn } from '../runtime/turn.js';
import {
  FIRST_RETRY_MS,
  LONGEST_RETRY_MS,
  LONGEST_UNANSWERED_RETRY_MS,
  LOOK_AGAIN_MS,
  RENEW_MS,
  scattered,
} from './lease-timing.js';
import { memberOf, provenNetwork } from './proven-network.js';

export interface Lease<Granted> {
  readonly sessionKey: SessionKey;
  /** Blinded id, hex. */
  readonly network: string;
  readonly granted: Granted;
  /** Monotonic ms. */
  readonly until: number;
  readonly renewAt: number;
}

/** Who holds leases, and of what. */
export interface Lessee<Granted extends { readonly lifetime: number }> {
  readonly members: MemberTable;
  readonly peers: PeerTable;
  /** What the record of a member says that grants them. */
  readonly capability: string;
  readonly released: 'exit-released' | 'route-released';
  ask(
    to: SessionKey,
    network: Uint8Array,
    turn: Turn,
    settle: (answer: Granted | ExitState, turn: Turn) => void,
  ): void;
  /** Why what was granted cannot be used; it is given back then. */
  refuses(granted: Granted): Refusal | undefined;
  /** Whether the lease of this one is wanted still. */
  wants(lessor: Lessor<Granted>): boolean;
  /** A lease has come, or will not. */
  answered(turn: Turn): void;
}

export class Lessor<Granted extends { readonly lifetime: number }> {
  readonly identity: Uint8Array;
  readonly #lessee: Lessee<Granted>;
  #state: ExitState = 'asking';
  #lease: Lease<Granted> | undefined;
  /** A request is under way to this session. */
  #asking: SessionKey | undefined;
  /** It withdrew while it was asked: datagrams overtake each other, so what it answers is asked for once more. */
  #doubted = false;
  /** When it may be asked again; -Infinity = at once. */
  #askAt = -Infinity;
  #retryMs = FIRST_RETRY_MS;

  constructor(identity: Uint8Array, lessee: Lessee<Granted>) {
    this.identity = identity;
    this.#lessee = lessee;
  }

  get state(): ExitState {
    return this.#state;
  }

  get lease(): Lease<Granted> | undefined {
    return this.#lease;
  }

  get isAsked(): boolean {
    return this.#asking !== undefined;
  }

  /** Whether it is time to ask it, for the first time, again, or to renew. */
  isDue(now: number): boolean {
    return !this.isAsked && (this.#lease?.renewAt ?? this.#askAt) <= now;
  }

  deadline(): number | undefined {
    if (this.#lease === undefined) return this.isAsked ? undefined : this.#askAt;
    const { renewAt, until } = this.#lease;
    return this.isAsked ? until : Math.min(renewAt, until);
  }

  ask(turn: Turn): void {
    const { members, peers, capability } = this.#lessee;
    const member = memberOf(members, this.identity);
    const network = member && provenNetwork(members, peers, member);
    if (member === undefined || network === undefined) {
      this.#wait('unknown', LOOK_AGAIN_MS, turn);
      return;
    }
    if (!member.record.capabilities.includes(capability)) {
      this.#wait('not-offered', LOOK_AGAIN_MS, turn);
      return;
    }
    const { sessionKey } = member;
    this.#asking = sessionKey;
    this.#doubted = false;
    if (this.#lease === undefined) this.#state = 'asking';
    this.#lessee.ask(sessionKey, network.id, turn, (answer, later) => {
      if (!this.#lessee.wants(this)) {
        if (typeof answer !== 'string') this.#giveBack(sessionKey, later);
        return;
      }
      this.#asking = undefined;
      if (typeof answer === 'string') this.#failed(answer, later);
      else if (peers.isMember(sessionKey, network.hex)) this.#granted(sessionKey, network.hex, answer, later);
      else this.#wait('unknown', LOOK_AGAIN_MS, later); // it left while it was asked
      this.#lessee.answered(later);
    });
  }

  /** Ends a lease that was not renewed. */
  expire(turn: Turn): void {
    if (this.#lease !== undefined && this.#lease.until <= turn.now) this.#failed('unanswered', turn);
  }

  /** Who has this session says that its grant is over. */
  withdrawn(peer: SessionKey, reason: Refusal, turn: Turn): void {
    if (this.#asking === peer) this.#doubted = true;
    if (this.#lease?.sessionKey === peer) this.#failed(reason, turn);
  }

  /** This session was given up, or who has it is no member any more. @returns whether a lease ends by that. */
  lost(peer: SessionKey, turn: Turn): boolean {
    if (this.#lease?.sessionKey !== peer) return false;
    this.#failed('unanswered', turn);
    return true;
  }

  /**
   * Who has this session is reached again, by another way or by the one that was dead: where it was asked in vain, that
   * was no answer of its. @returns whether it is due now.
   */
  reached(peer: SessionKey, turn: Turn): boolean {
    if (this.#state !== 'unanswered' || this.isAsked) return false;
    if (memberOf(this.#lessee.members, this.identity)?.sessionKey !== peer) return false;
    this.#retryMs = FIRST_RETRY_MS;
    this.#wait('unanswered', 0, turn);
    return true;
  }

  /** Gives its lease back. */
  release(turn: Turn): void {
    if (this.#lease !== undefined) this.#giveBack(this.#lease.sessionKey, turn);
    this.#lease = undefined;
    this.#state = 'standby';
  }

  /** It is asked again, after it was released. */
  recall(turn: Turn): void {
    this.#wait('asking', 0, turn);
  }

  #granted(sessionKey: SessionKey, network: string, granted: Granted, turn: Turn): void {
    const refusal = this.#lessee.refuses(granted);
    if (refusal !== undefined) {
      this.#giveBack(sessionKey, turn);
      this.#failed(refusal, turn);
      return;
    }
    const lifetimeMs = granted.lifetime * 1000;
    this.#lease = {
      sessionKey,
      network,
      granted,
      until: turn.now + lifetimeMs,
      renewAt: this.#doubted ? turn.now : turn.now + Math.min(RENEW_MS, lifetimeMs / 2),
    };
    this.#state = 'granted';
    this.#retryMs = FIRST_RETRY_MS;
  }

  #giveBack(sessionKey: SessionKey, turn: Turn): void {
    turn.send(sessionKey, 0, { type: this.#lessee.released });
  }

  #failed(state: ExitState, turn: Turn): void {
    const longest = state === 'unanswered' ? LONGEST_UNANSWERED_RETRY_MS : LONGEST_RETRY_MS;
    const retryMs = Math.min(this.#retryMs, longest);
    this.#retryMs = Math.min(2 * retryMs, longest);
    this.#wait(state, scattered(retryMs, turn), turn);
  }

  #wait(state: ExitState, waitMs: number, turn: Turn): void {
    this.#lease = undefined;
    this.#state = state;
    this.#askAt = turn.now + waitMs;
  }
}
