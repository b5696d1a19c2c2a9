// One WireGuard peer: handshakes, keys, timers, endpoint (whitepaper section 6). Sans-IO: `step`
// brings time and randomness, `outputs` takes datagrams and events, `deadline()` says when to call
// `handleTimeout`.
//
// Timers (names as in the Linux implementation; a timer is a deadline in ms, undefined = not running)
//   retransmit           an initiation was sent and no response came         5 s + jitter
//   newHandshake         data was sent and nothing came back                 15 s + jitter
//   sendKeepalive        data came and nothing was sent back                 10 s
//   persistentKeepalive  nothing authenticated went either way               as configured
//   zeroKeys             no new keys                                         540 s

import type { Step } from '../../contract/step.js';
import type { EngineEvent, PeerConfig, PeerEndpoint, PeerStatus, SessionKey } from '../../contract/engine.js';
import {
  INITIATION_INTERVAL,
  KEEPALIVE_TIMEOUT,
  MAX_STAGED,
  PADDING,
  PATH_NEEDED_INTERVAL,
  REKEY_ATTEMPT_TIME,
  REKEY_ON_RECEIVE_TIME,
  REKEY_TIMEOUT,
  REKEY_TIMEOUT_JITTER,
  ZERO_KEYS_TIME,
} from './constants.js';
import { CookieJar } from './cookie.js';
import type { Counters } from './counters.js';
import { sameEndpoint } from './endpoint.js';
import type { IndexTable } from './index-table.js';
import { Keypair, KeypairSlots } from './keypair.js';
import {
  AEAD_TAG_SIZE,
  TRANSPORT_HEADER_SIZE,
  TYPE_TRANSPORT,
  readU32,
  readU64,
  writeU32,
  writeU64,
} from './messages.js';
import {
  consumeResponse,
  createInitiation,
  createResponse,
  type InitiatorState,
  type LocalIdentity,
  type RemoteIdentity,
  type ResponderState,
} from './noise.js';
import { equal, open, seal } from './primitives.js';
import { REPLAY_WINDOW_SIZE } from './replay-window.js';
import { isLater, tai64n, type Tai64n } from './tai64n.js';

export type SessionOutput =
  | { readonly type: 'datagram'; readonly to: PeerEndpoint; readonly datagram: Uint8Array }
  | { readonly type: 'event'; readonly event: EngineEvent };

/** What all peers of one engine share. */
export interface SessionContext {
  readonly local: LocalIdentity;
  readonly indices: IndexTable;
  readonly counters: Counters;
}

interface Timers {
  retransmit: number | undefined;
  newHandshake: number | undefined;
  sendKeepalive: number | undefined;
  persistentKeepalive: number | undefined;
  zeroKeys: number | undefined;
}

const EMPTY = new Uint8Array(0);

/** An offer or proof of docs/protocol.md, "Suites": one block with a body of 12 or 1. */
function isSuiteFrame(payload: Uint8Array): boolean {
  const [marker, kind, low, high] = payload;
  const body = kind === 4 ? 12 : kind === 5 ? 1 : undefined;
  return payload.length === 16 && marker === 0xc0 && body !== undefined && low === body && high === 0;
}

/** REKEY_TIMEOUT's random addition, 0–333 ms (two random bytes: the bias is below 1 %). */
function jitter(step: Step): number {
  const [low = 0, high = 0] = step.random(2);
  return ((high << 8) | low) % REKEY_TIMEOUT_JITTER;
}

export class SessionPeer {
  readonly sessionKey: SessionKey;
  readonly remote: RemoteIdentity;
  readonly #context: SessionContext;
  readonly #cookies: CookieJar;
  readonly #slots: KeypairSlots;
  readonly #timers: Timers = {
    retransmit: undefined,
    newHandshake: undefined,
    sendKeepalive: undefined,
    persistentKeepalive: undefined,
    zeroKeys: undefined,
  };
  #staged: Uint8Array[] = [];
  #endpoint: PeerEndpoint | undefined;
  #persistentKeepaliveMs = 0;

  #initiation: InitiatorState | undefined;
  #initiationSentAt: number | undefined;
  /** When the present run of attempts began; after 90 s it is given up. */
  #attemptingSince: number | undefined;
  #timestampSent: Tai64n | undefined;
  #timestampReceived: Tai64n | undefined;
  #initiationReceivedAt: number | undefined;

  /** One rekey for each key that is only received on. */
  #rekeyedOnReceive = false;
  #needAnotherKeepalive = false;
  #pathNeededAt: number | undefined;

  #completedAt: number | undefined;
  #receivedAt: number | undefined;
  #rxBytes = 0;
  #txBytes = 0;

  constructor(sessionKey: SessionKey, remote: RemoteIdentity, context: SessionContext) {
    this.sessionKey = sessionKey;
    this.remote = remote;
    this.#context = context;
    this.#cookies = new CookieJar(remote);
    this.#slots = new KeypairSlots((keypair) => {
      context.indices.delete(keypair.localIndex);
    });
  }

  /** Applies endpoint and keepalive of a configuration. */
  configure(config: PeerConfig, step: Step, outputs: SessionOutput[]): void {
    const endpointAppears = this.#endpoint === undefined && config.endpoint !== undefined;
    if (config.endpoint !== undefined) this.#endpoint = config.endpoint;
    const keepalive = config.persistentKeepalive * 1000;
    const keepaliveAppears = keepalive > 0 && this.#persistentKeepaliveMs === 0;
    this.#persistentKeepaliveMs = keepalive;
    if (keepalive === 0) this.#timers.persistentKeepalive = undefined;
    if (keepaliveAppears || (endpointAppears && keepalive > 0)) this.#sendKeepalive(step, outputs);
    else if (endpointAppears && this.#staged.length > 0) this.#sendStaged(step, outputs);
    else if (endpointAppears && this.#attemptingSince !== undefined) this.#initiate(step, outputs);
  }

  /** Ends the session when the key is another one; what is staged waits for the next handshake. */
  changePresharedKey(presharedKey: Uint8Array): void {
    if (equal(presharedKey, this.remote.presharedKey)) return;
    this.remote.presharedKey.set(presharedKey);
    this.#forgetKeys();
    this.#initiationSentAt = undefined;
  }

  /** Forgets an endpoint that led through a leg which is gone. */
  forgetLeg(leg: number): void {
    if (this.#endpoint !== undefined && 'leg' in this.#endpoint && this.#endpoint.leg === leg) {
      this.#endpoint = undefined;
    }
  }

  sendControl(payload: Uint8Array, step: Step, outputs: SessionOutput[]): void {
    this.#stage(payload);
    this.#sendStaged(step, outputs);
  }

  /** Starts a handshake now, whatever runs already (but not twice within 20 ms). */
  startHandshake(step: Step, outputs: SessionOutput[]): void {
    this.#attemptingSince = step.now;
    this.#initiate(step, outputs, INITIATION_INTERVAL);
  }

  /** A valid initiation of this peer (its timestamp not judged yet). */
  receiveInitiation(
    state: ResponderState,
    size: number,
    from: PeerEndpoint,
    step: Step,
    outputs: SessionOutput[],
  ): void {
    const replayed =
      this.#timestampReceived !== undefined && !isLater(state.timestamp, this.#timestampReceived);
    const tooSoon =
      this.#initiationReceivedAt !== undefined && step.now - this.#initiationReceivedAt < INITIATION_INTERVAL;
    if (replayed || tooSoon) {
      this.#context.counters.add('drop_replayed_initiation');
      return;
    }
    this.#timestampReceived = state.timestamp;
    this.#initiationReceivedAt = step.now;
    const index = this.#context.indices.pick(step);
    const response = createResponse(this.remote, state, index, step.random(32));
    if (response === undefined) {
      this.#context.counters.add('drop_bad_handshake');
      return;
    }
    this.#authenticReceived(from, size, step, outputs);
    const keypair = new Keypair(response.keys, index, state.remoteIndex, false, step.now);
    this.#slots.addResponded(keypair);
    this.#context.indices.set(index, { peer: this, keypair });
    this.#sessionDerived(step);
    this.#cookies.sign(response.message, step.now);
    this.#send(response.message, step, outputs);
    this.#context.counters.add('handshake_responses_sent');
  }

  /** A response to the initiation that is under way. */
  receiveResponse(message: Uint8Array, from: PeerEndpoint, step: Step, outputs: SessionOutput[]): void {
    const initiation = this.#initiation;
    const keys =
      initiation === undefined
        ? undefined
        : consumeResponse(this.#context.local, this.remote, initiation, message);
    if (initiation === undefined || keys === undefined) {
      this.#context.counters.add('drop_bad_handshake');
      return;
    }
    this.#authenticReceived(from, message.length, step, outputs);
    this.#initiation = undefined;
    initiation.ephemeralPrivate.fill(0);
    const keypair = new Keypair(keys, initiation.index, readU32(message, 4), true, step.now);
    this.#slots.addInitiated(keypair);
    this.#context.indices.set(initiation.index, { peer: this, keypair });
    this.#sessionDerived(step);
    this.#handshakeComplete(step, outputs);
    // The responder may send only after it received on the new key: confirm at once.
    this.#sendKeepalive(step, outputs);
  }

  /** Keeps the cookie for the next attempt; neither retries at once nor roams. */
  receiveCookieReply(message: Uint8Array, step: Step): void {
    const consumed = this.#cookies.consumeReply(message, step.now);
    this.#context.counters.add(consumed ? 'cookie_replies_received' : 'drop_bad_handshake');
  }

  receiveTransport(
    keypair: Keypair,
    message: Uint8Array,
    from: PeerEndpoint,
    step: Step,
    outputs: SessionOutput[],
  ): void {
    const { counters } = this.#context;
    if (keypair.expired(step.now)) {
      counters.add('drop_key_expired');
      return;
    }
    const counter = readU64(message, 8);
    const payload = open(keypair.keys.receiving, counter, message.subarray(TRANSPORT_HEADER_SIZE));
    if (payload === undefined) {
      counters.add('drop_decrypt_failed');
      return;
    }
    if (!keypair.window.accept(counter)) {
      counters.add('drop_replayed');
      return;
    }
    counters.add('transport_received');
    this.#authenticReceived(from, message.length, step, outputs);
    if (this.#slots.confirm(keypair)) {
      this.#handshakeComplete(step, outputs);
      this.#flushStaged(step, outputs);
    }
    this.#rekeyOnReceive(step, outputs);
    if (payload.length === 0) {
      counters.add('keepalives_received');
      return;
    }
    if (isSuiteFrame(payload)) {
      // Not answered, so that the session stays as it is: this engine has one cipher and one window.
      counters.add('suite_offers_received');
      return;
    }
    this.#dataReceived(step);
    const nibble = (payload[0] ?? 0) >> 4;
    if (nibble === 4 || nibble === 6) counters.add('drop_no_tun');
    else {
      counters.add('control_messages');
      outputs.push({ type: 'event', event: { type: 'control', peer: this.sessionKey, payload } });
    }
  }

  handleTimeout(step: Step, outputs: SessionOutput[]): void {
    const timers = this.#timers;
    const due = (timer: keyof Timers): boolean => {
      const deadline = timers[timer];
      if (deadline === undefined || deadline > step.now) return false;
      timers[timer] = undefined;
      return true;
    };
    if (due('retransmit')) this.#retransmit(step, outputs);
    if (due('sendKeepalive')) {
      this.#sendKeepalive(step, outputs);
      if (this.#needAnotherKeepalive) {
        this.#needAnotherKeepalive = false;
        timers.sendKeepalive = step.now + KEEPALIVE_TIMEOUT;
      }
    }
    if (due('newHandshake')) this.#initiate(step, outputs);
    if (due('persistentKeepalive')) {
      this.#armPersistentKeepalive(step);
      this.#sendKeepalive(step, outputs);
    }
    if (due('zeroKeys')) this.#forgetKeys();
  }

  /** Monotonic ms at which handleTimeout wants to be called. */
  deadline(): number | undefined {
    let earliest: number | undefined;
    for (const timer of Object.values(this.#timers) as (number | undefined)[]) {
      if (timer !== undefined && (earliest === undefined || timer < earliest)) earliest = timer;
    }
    return earliest;
  }

  status(now: number): PeerStatus {
    return {
      sessionKey: this.sessionKey,
      endpoint: this.#endpoint,
      handshakeAgeMs: this.#completedAt === undefined ? undefined : now - this.#completedAt,
      lastReceivedMs: this.#receivedAt === undefined ? undefined : now - this.#receivedAt,
      suite: this.#slots.current === undefined ? undefined : 'ChaCha20-Poly1305',
      replayWindow: this.#slots.current === undefined ? undefined : Number(REPLAY_WINDOW_SIZE),
      rxBytes: this.#rxBytes,
      txBytes: this.#txBytes,
    };
  }

  /** Erases all keys; the peer must not be used afterwards. */
  destroy(): void {
    this.#forgetKeys();
    this.remote.staticShared.fill(0);
    this.remote.presharedKey.fill(0);
    this.#staged = [];
  }

  // Sending

  #stage(payload: Uint8Array): void {
    if (this.#staged.length >= MAX_STAGED) {
      this.#staged.shift();
      this.#context.counters.add('drop_staging_overflow');
    }
    this.#staged.push(payload);
  }

  #sendKeepalive(step: Step, outputs: SessionOutput[]): void {
    if (this.#staged.length === 0) this.#stage(EMPTY);
    this.#sendStaged(step, outputs);
  }

  /** Sends what is staged, or starts what has to come first. */
  #sendStaged(step: Step, outputs: SessionOutput[]): void {
    if (this.#slots.current?.canSend(step.now) === true) this.#flushStaged(step, outputs);
    else this.#initiate(step, outputs);
  }

  #flushStaged(step: Step, outputs: SessionOutput[]): void {
    const keypair = this.#slots.current;
    while (keypair?.canSend(step.now) === true) {
      if (this.#endpoint === undefined) {
        if (this.#staged.length > 0) this.#askForPath(step, outputs);
        return;
      }
      const payload = this.#staged.shift();
      if (payload === undefined) return;
      this.#sendTransport(keypair, payload, step, outputs);
    }
  }

  #sendTransport(keypair: Keypair, payload: Uint8Array, step: Step, outputs: SessionOutput[]): void {
    const padded = new Uint8Array(Math.ceil(payload.length / PADDING) * PADDING);
    padded.set(payload);
    const message = new Uint8Array(TRANSPORT_HEADER_SIZE + padded.length + AEAD_TAG_SIZE);
    writeU32(message, 0, TYPE_TRANSPORT);
    writeU32(message, 4, keypair.remoteIndex);
    const counter = keypair.sendCounter++;
    writeU64(message, 8, counter);
    message.set(seal(keypair.keys.sending, counter, padded), TRANSPORT_HEADER_SIZE);
    this.#send(message, step, outputs);
    this.#context.counters.add('transport_sent');
    if (payload.length === 0) {
      this.#context.counters.add('keepalives_sent');
    } else {
      this.#timers.newHandshake ??= step.now + KEEPALIVE_TIMEOUT + REKEY_TIMEOUT + jitter(step);
    }
    if (keypair.worn(step.now)) this.#initiate(step, outputs);
  }

  /** Every authenticated message goes out here. */
  #send(message: Uint8Array, step: Step, outputs: SessionOutput[]): void {
    if (this.#endpoint === undefined) return;
    this.#timers.sendKeepalive = undefined;
    this.#armPersistentKeepalive(step);
    this.#txBytes += message.length;
    outputs.push({ type: 'datagram', to: this.#endpoint, datagram: message });
  }

  #askForPath(step: Step, outputs: SessionOutput[]): void {
    if (this.#pathNeededAt !== undefined && step.now - this.#pathNeededAt < PATH_NEEDED_INTERVAL) return;
    this.#pathNeededAt = step.now;
    outputs.push({ type: 'event', event: { type: 'path-needed', peer: this.sessionKey } });
  }

  // Handshakes

  /** Sends an initiation unless one went out less than `interval` ms ago. */
  #initiate(step: Step, outputs: SessionOutput[], interval = REKEY_TIMEOUT): void {
    this.#attemptingSince ??= step.now;
    if (this.#initiationSentAt !== undefined && step.now - this.#initiationSentAt < interval) {
      this.#timers.retransmit ??= this.#initiationSentAt + REKEY_TIMEOUT + jitter(step);
      return;
    }
    if (this.#endpoint === undefined) {
      this.#askForPath(step, outputs);
      this.#timers.retransmit ??= step.now + REKEY_TIMEOUT + jitter(step);
      return;
    }
    this.#dropInitiation();
    const index = this.#context.indices.pick(step);
    const timestamp = tai64n(step.wallClock, this.#timestampSent);
    const initiation = createInitiation(this.#context.local, this.remote, index, step.random(32), timestamp);
    if (initiation === undefined) throw new Error('a peer with a low-order key cannot have been added');
    this.#timestampSent = timestamp;
    this.#initiation = initiation.state;
    this.#context.indices.set(index, { peer: this, keypair: undefined });
    this.#cookies.sign(initiation.message, step.now);
    this.#initiationSentAt = step.now;
    this.#timers.retransmit = step.now + REKEY_TIMEOUT + jitter(step);
    this.#send(initiation.message, step, outputs);
    this.#context.counters.add('handshake_initiations_sent');
  }

  #retransmit(step: Step, outputs: SessionOutput[]): void {
    if (this.#attemptingSince === undefined || step.now - this.#attemptingSince < REKEY_ATTEMPT_TIME) {
      this.#initiate(step, outputs);
      return;
    }
    this.#attemptingSince = undefined;
    this.#dropInitiation();
    this.#timers.sendKeepalive = undefined;
    this.#context.counters.add('drop_staging_overflow', this.#staged.length);
    this.#staged = [];
    this.#timers.zeroKeys ??= step.now + ZERO_KEYS_TIME;
    outputs.push({ type: 'event', event: { type: 'session-lost', peer: this.sessionKey } });
  }

  #dropInitiation(): void {
    if (this.#initiation === undefined) return;
    this.#context.indices.delete(this.#initiation.index);
    this.#initiation.ephemeralPrivate.fill(0);
    this.#initiation = undefined;
  }

  #sessionDerived(step: Step): void {
    this.#timers.zeroKeys = step.now + ZERO_KEYS_TIME;
  }

  #handshakeComplete(step: Step, outputs: SessionOutput[]): void {
    this.#timers.retransmit = undefined;
    this.#attemptingSince = undefined;
    this.#rekeyedOnReceive = false;
    this.#completedAt = step.now;
    this.#context.counters.add('handshakes_completed');
    if (this.#endpoint === undefined) return; // its leg went away within this very step
    outputs.push({
      type: 'event',
      event: { type: 'session', peer: this.sessionKey, endpoint: this.#endpoint },
    });
  }

  #forgetKeys(): void {
    this.#dropInitiation();
    this.#slots.clear();
  }

  // Receiving

  /** An authentic message that is not a replay: the peer is where it came from. */
  #authenticReceived(from: PeerEndpoint, size: number, step: Step, outputs: SessionOutput[]): void {
    this.#receivedAt = step.now;
    this.#rxBytes += size;
    this.#timers.newHandshake = undefined;
    this.#armPersistentKeepalive(step);
    const known = this.#endpoint;
    if (known !== undefined && sameEndpoint(known, from)) return;
    this.#endpoint = from;
    if (known !== undefined) {
      this.#context.counters.add('endpoint_changes');
      outputs.push({ type: 'event', event: { type: 'endpoint', peer: this.sessionKey, endpoint: from } });
    }
  }

  #dataReceived(step: Step): void {
    if (this.#timers.sendKeepalive === undefined) {
      this.#timers.sendKeepalive = step.now + KEEPALIVE_TIMEOUT;
    } else {
      this.#needAnotherKeepalive = true;
    }
  }

  #rekeyOnReceive(step: Step, outputs: SessionOutput[]): void {
    const current = this.#slots.current;
    if (this.#rekeyedOnReceive || current?.initiator !== true) return;
    if (step.now - current.createdAt < REKEY_ON_RECEIVE_TIME) return;
    this.#rekeyedOnReceive = true;
    this.#initiate(step, outputs);
  }

  #armPersistentKeepalive(step: Step): void {
    if (this.#persistentKeepaliveMs > 0) {
      this.#timers.persistentKeepalive = step.now + this.#persistentKeepaliveMs;
    }
  }
}
