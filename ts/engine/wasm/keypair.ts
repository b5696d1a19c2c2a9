// Transport keys of one handshake, and the three slots that let a new key take over without losing
// a packet in flight (whitepaper 6.3).
//
//   initiator, on the response:            current ── new        previous ── old current
//   responder, on the initiation:          next ── new           (not used for sending yet)
//   responder, on the first packet on it:  current ── next       previous ── old current
//
// Keys that the peer may still send with stay, however fast one handshake follows another: they go when a packet
// came under newer ones. When a handshake of this side's was complete before that, `next` is the older one, and
// becomes previous.

import {
  REJECT_AFTER_MESSAGES,
  REJECT_AFTER_TIME,
  REKEY_AFTER_MESSAGES,
  REKEY_AFTER_TIME,
} from '../../wire/session-constants.js';
import type { TransportKeys } from './noise.js';
import { ReplayWindow } from './replay-window.js';

export class Keypair {
  readonly window = new ReplayWindow();
  /** Counter of the next packet sent; a u64. */
  sendCounter = 0n;

  constructor(
    readonly keys: TransportKeys,
    readonly localIndex: number,
    readonly remoteIndex: number,
    readonly initiator: boolean,
    /** Monotonic ms. */
    readonly createdAt: number,
  ) {}

  expired(now: number): boolean {
    return now - this.createdAt >= REJECT_AFTER_TIME;
  }

  canSend(now: number): boolean {
    return !this.expired(now) && this.sendCounter < REJECT_AFTER_MESSAGES;
  }

  /** Whether sending should start a new handshake: old in messages, or old in time as the initiator. */
  worn(now: number): boolean {
    const old = this.initiator && now - this.createdAt >= REKEY_AFTER_TIME;
    return old || this.sendCounter >= REKEY_AFTER_MESSAGES;
  }

  zero(): void {
    this.keys.sending.fill(0);
    this.keys.receiving.fill(0);
  }
}

export class KeypairSlots {
  previous: Keypair | undefined;
  current: Keypair | undefined;
  next: Keypair | undefined;
  readonly #discard: (keypair: Keypair) => void;
  /** A handshake of this side's was complete after the one of `next` was answered. */
  #nextIsOlder = false;

  /** `discard` is called with every keypair that leaves the slots, already zeroed. */
  constructor(discard: (keypair: Keypair) => void) {
    this.#discard = discard;
  }

  #drop(keypair: Keypair | undefined): void {
    if (keypair === undefined) return;
    keypair.zero();
    this.#discard(keypair);
  }

  addInitiated(keypair: Keypair): void {
    this.#drop(this.previous);
    this.previous = this.current;
    this.current = keypair;
    this.#nextIsOlder = this.next !== undefined;
  }

  addResponded(keypair: Keypair): void {
    this.#drop(this.next);
    this.next = keypair;
    this.#nextIsOlder = false;
  }

  /** An authentic packet came on `keypair`: true when it was `next`, which is now current. */
  confirm(keypair: Keypair): boolean {
    if (keypair !== this.next) return false;
    this.#drop(this.previous);
    this.next = undefined;
    if (this.#nextIsOlder) {
      this.previous = keypair;
      return false;
    }
    this.previous = this.current;
    this.current = keypair;
    return true;
  }

  /** Whether there are keys that packets can come under. */
  usable(now: number): boolean {
    return [this.current, this.next].some((keypair) => keypair?.expired(now) === false);
  }

  clear(): void {
    this.#drop(this.previous);
    this.#drop(this.current);
    this.#drop(this.next);
    this.previous = this.current = this.next = undefined;
  }
}
