// mac1, mac2 and cookies (whitepaper 5.3, 5.4.4, 5.4.7): how a loaded responder makes a sender prove
// its address before it does any Diffie–Hellman for it.

import type { Step } from '../../contract/step.js';
import { COOKIE_LIFETIME, COOKIE_SECRET_LIFETIME } from '../../wire/session-constants.js';
import { COOKIE_REPLY_SIZE, MACS_SIZE, TYPE_COOKIE_REPLY, readU32, writeU32 } from './messages.js';
import type { PublicIdentity } from './noise.js';
import { equal, mac, xopen, xseal } from './primitives.js';

const MAC_SIZE = 16;

const mac1Of = (message: Uint8Array): Uint8Array =>
  message.subarray(message.length - MACS_SIZE, message.length - MAC_SIZE);
const mac2Of = (message: Uint8Array): Uint8Array => message.subarray(message.length - MAC_SIZE);

/** Whether a handshake message's mac1 was made for `receiver`; constant time. */
export function mac1Valid(receiver: PublicIdentity, message: Uint8Array): boolean {
  return equal(mac(receiver.mac1Key, message.subarray(0, message.length - MACS_SIZE)), mac1Of(message));
}

/** The receiving side: cookies under a secret that lives 120 s. */
export class CookieChecker {
  readonly #identity: PublicIdentity;
  #secret: Uint8Array | undefined;
  #secretAt = 0;

  constructor(identity: PublicIdentity) {
    this.#identity = identity;
  }

  /** `source`: the sender's address and port; a cookie is good for both only. */
  #cookie(source: Uint8Array, step: Step): Uint8Array {
    if (this.#secret === undefined || step.now - this.#secretAt >= COOKIE_SECRET_LIFETIME) {
      this.#secret = step.random(32);
      this.#secretAt = step.now;
    }
    return mac(this.#secret, source);
  }

  mac2Valid(message: Uint8Array, source: Uint8Array, step: Step): boolean {
    const cookie = this.#cookie(source, step);
    return equal(mac(cookie, message.subarray(0, message.length - MAC_SIZE)), mac2Of(message));
  }

  /** The answer to a handshake message whose mac1 is valid and mac2 is not (whitepaper 5.4.7). */
  reply(message: Uint8Array, source: Uint8Array, step: Step): Uint8Array {
    const reply = new Uint8Array(COOKIE_REPLY_SIZE);
    writeU32(reply, 0, TYPE_COOKIE_REPLY);
    writeU32(reply, 4, readU32(message, 4));
    const nonce = step.random(24);
    reply.set(nonce, 8);
    const cookie = this.#cookie(source, step);
    reply.set(xseal(this.#identity.cookieKey, nonce, cookie, mac1Of(message)), 32);
    return reply;
  }
}

/** The sending side, one per peer: writes both macs and keeps the cookie the peer gave. */
export class CookieJar {
  readonly #remote: PublicIdentity;
  #lastMac1: Uint8Array | undefined;
  #cookie: Uint8Array | undefined;
  #cookieAt = 0;

  constructor(remote: PublicIdentity) {
    this.#remote = remote;
  }

  /** Writes mac1, and mac2 if a fresh cookie is held, into a handshake message. */
  sign(message: Uint8Array, now: number): void {
    const mac1 = mac(this.#remote.mac1Key, message.subarray(0, message.length - MACS_SIZE));
    mac1Of(message).set(mac1);
    this.#lastMac1 = mac1;
    if (this.#cookie !== undefined && now - this.#cookieAt < COOKIE_LIFETIME) {
      mac2Of(message).set(mac(this.#cookie, message.subarray(0, message.length - MAC_SIZE)));
    }
  }

  /** Whether the reply answers the last message sent; its cookie is used from the next one on. */
  consumeReply(reply: Uint8Array, now: number): boolean {
    if (this.#lastMac1 === undefined) return false;
    const cookie = xopen(
      this.#remote.cookieKey,
      reply.subarray(8, 32),
      reply.subarray(32, COOKIE_REPLY_SIZE),
      this.#lastMac1,
    );
    if (cookie === undefined) return false;
    this.#lastMac1 = undefined; // one answer to one message
    this.#cookie = cookie;
    this.#cookieAt = now;
    return true;
  }
}
