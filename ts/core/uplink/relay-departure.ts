// A relay of ours that has said it will go. Ways over it are moved to others while it is there, and when nothing leads over
// it any more it is left. It may say so and stay, or say one thing and then the other: that moves nothing more than once in
// CHANGE_MS.

import { earliest } from '../runtime/earliest.js';
import type { Turn } from '../runtime/turn.js';

/** Between two changes of mind that are acted upon; the newest waits. */
const CHANGE_MS = 10_000;
/** How often it is looked whether something still leads over it. */
const LOOK_MS = 500;
/** Members that could not be moved are tried again. */
const MOVE_AGAIN_MS = 30_000;
/** For how long it is asked for nothing new when it refused something for that reason, and has not said until when. */
const REFUSED_MS = 60_000;

/** What the uplink lends to it. */
export interface DepartureUser {
  /** What leads over it is to be moved. */
  move(turn: Turn): void;
  /** It stays after all: it can be asked again. */
  stays(turn: Turn): void;
  /** Whether nothing leads over it, and others, that have answered since, do for us what it did. */
  isFree(since: number, turn: Turn): boolean;
  leave(turn: Turn): void;
}

export class RelayDeparture {
  readonly #user: DepartureUser;
  /** Until when it is there, as it said last; undefined = for good. */
  #said: number | undefined;
  /** The same, as it is acted upon. */
  #until: number | undefined;
  /** It has said nothing itself: it refused something. */
  #assumed = false;
  #changedAt = -Infinity;
  #lookAt: number | undefined;
  #moveAt = 0;

  constructor(user: DepartureUser) {
    this.#user = user;
  }

  get isOn(): boolean {
    return this.#until !== undefined;
  }

  /** Monotonic ms. */
  get until(): number | undefined {
    return this.#until;
  }

  /** @param until monotonic ms; undefined: it stays. */
  told(until: number | undefined, turn: Turn): void {
    this.#assumed = false;
    this.#hear(until, turn);
  }

  /** It refused something because it will go. */
  refused(turn: Turn): void {
    if (this.#until !== undefined) return;
    this.#assumed = true;
    this.#hear(turn.now + REFUSED_MS, turn);
  }

  /** It is another relay now, or none: what was said holds no longer. */
  forget(): void {
    this.#said = this.#until = this.#lookAt = undefined;
    this.#assumed = false;
  }

  handleTimeout(turn: Turn): void {
    if (this.#isChanging && this.#changedAt + CHANGE_MS <= turn.now) this.#apply(turn);
    if (this.#lookAt === undefined || this.#lookAt > turn.now) return;
    if (this.#assumed && (this.#until ?? 0) <= turn.now) {
      this.forget();
      return;
    }
    this.#lookAt = turn.now + LOOK_MS;
    if (this.#moveAt <= turn.now) this.#move(turn);
    if (this.#user.isFree(this.#changedAt, turn)) this.#user.leave(turn);
  }

  deadline(): number | undefined {
    return earliest(this.#lookAt, this.#isChanging ? this.#changedAt + CHANGE_MS : undefined);
  }

  get #isChanging(): boolean {
    return (this.#said === undefined) !== (this.#until === undefined);
  }

  #hear(until: number | undefined, turn: Turn): void {
    this.#said = until;
    if (!this.#isChanging) this.#until = until;
    else if (turn.now - this.#changedAt >= CHANGE_MS) this.#apply(turn);
  }

  #apply(turn: Turn): void {
    this.#changedAt = turn.now;
    this.#until = this.#said;
    if (this.#until === undefined) {
      this.#lookAt = undefined;
      this.#user.stays(turn);
      return;
    }
    this.#lookAt = turn.now + LOOK_MS;
    this.#move(turn);
  }

  #move(turn: Turn): void {
    this.#moveAt = turn.now + MOVE_AGAIN_MS;
    this.#user.move(turn);
  }
}
