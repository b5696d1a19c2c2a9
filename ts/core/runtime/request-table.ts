// Requests inside sessions: repeated until answered (250 ms, doubling to 4 s, 8 times), and the
// other side's memory of what it answered, so that a repeated request gets the same answer.

import type { SessionKey } from '../../contract/engine.js';
import { randomU32 } from '../../wire/bytes.js';
import {
  ANSWER_OF,
  encodeMessage,
  type AnswerTo,
  type ControlMessage,
  type MessageOf,
  type RequestType,
} from '../protocol/control-message.js';
import { BoundedTable } from './bounded-table.js';
import { TimerQueue } from './timer-queue.js';
import type { Turn } from './turn.js';

const FIRST_WAIT_MS = 250;
const LONGEST_WAIT_MS = 4000;
export const REQUEST_TRIES = 8;
/** After so many tries in vain the peer itself is in doubt. */
const DOUBTFUL_TRIES = 3;

interface Outstanding {
  readonly peer: SessionKey;
  readonly answerType: string;
  readonly payload: Uint8Array;
  readonly tries: number;
  sent: number;
  readonly settle: (answer: ControlMessage | undefined, turn: Turn) => void;
}

/**
 * Requests under way, in all and to one peer. A relay asks a neighbour about all circuits over it at once, and a
 * peer that makes us ask it is silent for as long as it likes.
 */
export const REQUEST_BOUNDS = { total: 65_536, shares: { peer: 8192 } } as const;

/** The asking side. */
export class RequestTable {
  readonly #outstanding = new BoundedTable<number, Outstanding, 'peer'>(() => REQUEST_BOUNDS);
  readonly #timers = new TimerQueue<number>();
  #lastNumber: number | undefined;

  /**
   * Sends a request and calls `settle` once: with the answer, or with undefined when all tries were
   * in vain, or at once when there is no room for it. A cancelled request is never settled.
   */
  send<K extends RequestType>(
    peer: SessionKey,
    message: MessageOf<K>,
    turn: Turn,
    settle: (answer: AnswerTo<K> | undefined, turn: Turn) => void,
    tries = REQUEST_TRIES,
  ): void {
    const number = this.#nextNumber(turn);
    const payload = encodeMessage({ request: number, message: message as unknown as ControlMessage });
    const outstanding: Outstanding = {
      peer,
      answerType: ANSWER_OF[message.type],
      payload,
      tries,
      sent: 1,
      // handleAnswer lets only the request's own answer type or a refusal through.
      settle: settle as (answer: ControlMessage | undefined, turn: Turn) => void,
    };
    if (this.#outstanding.set(number, outstanding, { peer }) !== undefined) {
      settle(undefined, turn);
      return;
    }
    this.#timers.set(number, turn.now + FIRST_WAIT_MS);
    turn.emit({ type: 'send-control', peer, payload });
  }

  /** Settles the request this message answers; anything unasked for is ignored. */
  handleAnswer(peer: SessionKey, request: number, message: ControlMessage, turn: Turn): void {
    const outstanding = this.#outstanding.get(request);
    if (outstanding?.peer !== peer) return;
    if (message.type !== outstanding.answerType && message.type !== 'refused') return;
    this.#forget(request);
    outstanding.settle(message, turn);
  }

  /** A new session is up: what waits for an answer is sent again now, not when its wait is over. */
  resend(peer: SessionKey, turn: Turn): void {
    for (const [number, outstanding] of this.#outstanding) {
      if (outstanding.peer !== peer) continue;
      outstanding.sent = 1;
      this.#timers.set(number, turn.now + FIRST_WAIT_MS);
      turn.emit({ type: 'send-control', peer, payload: outstanding.payload });
    }
  }

  /** Drops all requests to a peer without settling them. */
  cancel(peer: SessionKey): void {
    for (const [number, outstanding] of this.#outstanding)
      if (outstanding.peer === peer) this.#forget(number);
  }

  /** Repeats what is due. @returns peers that do not answer. */
  handleTimeout(turn: Turn): Set<SessionKey> {
    const silent = new Set<SessionKey>();
    for (
      let number = this.#timers.takeDue(turn.now);
      number !== undefined;
      number = this.#timers.takeDue(turn.now)
    ) {
      const outstanding = this.#outstanding.get(number);
      if (outstanding === undefined) continue;
      if (outstanding.sent >= outstanding.tries) {
        this.#forget(number);
        outstanding.settle(undefined, turn);
        continue;
      }
      if (outstanding.sent >= DOUBTFUL_TRIES) silent.add(outstanding.peer);
      const wait = Math.min(FIRST_WAIT_MS * 2 ** outstanding.sent, LONGEST_WAIT_MS);
      outstanding.sent++;
      this.#timers.set(number, turn.now + wait);
      turn.emit({ type: 'send-control', peer: outstanding.peer, payload: outstanding.payload });
    }
    return silent;
  }

  deadline(): number | undefined {
    return this.#timers.next();
  }

  #forget(number: number): void {
    this.#outstanding.delete(number);
    this.#timers.clear(number);
  }

  #nextNumber(turn: Turn): number {
    // Starts at random: a restarted node must not repeat the numbers of its former life.
    let number = this.#lastNumber ?? randomU32((length) => turn.random(length));
    do number = (number + 1) >>> 0;
    while (number === 0 || this.#outstanding.has(number));
    this.#lastNumber = number;
    return number;
  }
}

/** Answers remembered for each peer; the oldest goes first. */
export const ANSWERS_PER_PEER = 32;

/** The answering side, for requests that must not be carried out twice. */
export class AnswerTable {
  readonly #answers: BoundedTable<SessionKey, Map<number, Uint8Array | undefined>, 'peer'>;

  /** @param peers whose answers are remembered at most; a further one is remembered in the place of the first. */
  constructor(peers: () => number) {
    this.#answers = new BoundedTable(() => ({ total: peers(), shares: { peer: 1 } }));
  }

  /** True when the request is new; a repeated one is answered again here, if it has been answered. */
  begin(peer: SessionKey, request: number, turn: Turn, remembered = ANSWERS_PER_PEER): boolean {
    let answers = this.#answers.get(peer);
    if (answers === undefined) {
      answers = new Map();
      while (this.#answers.set(peer, answers, { peer }) === 'total') {
        const [first] = this.#answers.keys();
        if (first !== undefined) this.#answers.delete(first);
      }
    }
    if (answers.has(request)) {
      const payload = answers.get(request);
      if (payload !== undefined) turn.emit({ type: 'send-control', peer, payload });
      return false;
    }
    if (answers.size >= remembered) {
      const [oldest] = answers.keys();
      if (oldest !== undefined) answers.delete(oldest);
    }
    answers.set(request, undefined);
    return true;
  }

  /** Sends the answer and keeps it for repetitions. */
  answer(peer: SessionKey, request: number, message: ControlMessage, turn: Turn): void {
    const payload = encodeMessage({ request, message });
    const answers = this.#answers.get(peer);
    if (answers?.has(request) === true) answers.set(request, payload);
    turn.emit({ type: 'send-control', peer, payload });
  }

  /** Forgets a peer that is gone. */
  forget(peer: SessionKey): void {
    this.#answers.delete(peer);
  }
}
