// One WireGuard peer: handshakes, keys, timers (whitepaper section 6); where it is reached is in peer-reach.ts. Sans-IO:
// `step` brings time and randomness, `outputs` takes datagrams and events, `deadline()` says when to call
// `handleTimeout`.

import type { Step } from '../../contract/step.js';
import type { PeerConfig, PeerStatus, SessionKey } from '../../contract/engine.js';
import type { PathCounts, PathProbe, PeerPaths } from '../../contract/path-control.js';
import { isPathFrame } from '../../wire/path-frame.js';
import { pongTo } from '../../wire/ping-frame.js';
import { isControlPlane } from '../../wire/control-plane.js';
import { isCover } from '../../wire/cover-frame.js';
import { isSuiteFrame } from '../../wire/suite-frame.js';
import {
  CONTROL_FRAMES_PER_SECOND,
  INITIATION_INTERVAL,
  KEEPALIVE_TIMEOUT,
  NEW_HANDSHAKE_TIMEOUT,
  REKEY_ATTEMPT_TIME,
  REKEY_ON_RECEIVE_TIME,
  REKEY_TIMEOUT,
  REKEY_TIMEOUT_JITTER,
  ZERO_KEYS_TIME,
} from '../../wire/session-constants.js';
import { CookieJar } from './cookie.js';
import type { Counters } from './counters.js';
import type { Endpoint } from './endpoint.js';
import type { IndexTable } from './index-table.js';
import { Initiator } from './initiator.js';
import { Keypair, KeypairSlots } from './keypair.js';
import { createResponse, type LocalIdentity, type RemoteIdentity, type ResponderState } from './noise.js';
import { equal } from './primitives.js';
import { REPLAY_WINDOW_SIZE } from './replay-window.js';
import type { SessionOutput } from './session-output.js';
import { StagedPayloads } from './staged-payloads.js';
import { PeerReach } from './peer-reach.js';
import { isLater, type Tai64n } from './tai64n.js';
import { Timers } from './timers.js';
import { TokenBucket } from './token-bucket.js';
import { openTransport, sealTransport } from './transport-message.js';
import type { IsForgotten } from './local-address.js';

/** What all peers of one engine share. */
export interface SessionContext {
  readonly local: LocalIdentity;
  readonly indices: IndexTable<SessionPeer>;
  readonly counters: Counters;
}

const EMPTY = new Uint8Array(0);

/** REKEY_TIMEOUT's random addition, 0–333 ms (two random bytes: the bias is below 1 %). */
function jitter(step: Step): number {
  const [low = 0, high = 0] = step.random(2);
  return ((high << 8) | low) % (REKEY_TIMEOUT_JITTER + 1);
}

const controlBudget = (now: number): TokenBucket =>
  new TokenBucket(CONTROL_FRAMES_PER_SECOND, 2 * CONTROL_FRAMES_PER_SECOND, now);

export class SessionPeer {
  readonly sessionKey: SessionKey;
  readonly remote: RemoteIdentity;
  readonly #context: SessionContext;
  readonly #cookies: CookieJar;
  readonly #slots: KeypairSlots;
  /** Names as in the Linux implementation. */
  readonly #timers = new Timers({
    /** An initiation was sent, and no response came. */
    retransmit: {
      delay: (step) => REKEY_TIMEOUT + jitter(step),
      fired: (step, outputs) => this.#retransmit(step, outputs),
    },
    /** Data came, and nothing was sent back. */
    sendKeepalive: {
      delay: () => KEEPALIVE_TIMEOUT,
      fired: (step, outputs) => {
        this.#sendKeepalive(step, outputs);
        if (this.#needAnotherKeepalive) {
          this.#needAnotherKeepalive = false;
          this.#timers.start('sendKeepalive', step);
        }
      },
    },
    /** Data was sent, and nothing came back. */
    newHandshake: {
      delay: (step) => NEW_HANDSHAKE_TIMEOUT + jitter(step),
      fired: (step, outputs) => this.#initiate(step, outputs),
    },
    /** Nothing authenticated went either way for the time that was configured. */
    persistentKeepalive: {
      delay: () => this.#persistentKeepaliveMs,
      fired: (step, outputs) => {
        this.#startPersistentKeepalive(step);
        this.#sendKeepalive(step, outputs);
      },
    },
    /** There were no new keys. */
    zeroKeys: { delay: () => ZERO_KEYS_TIME, fired: () => this.#forgetKeys() },
  });
  readonly #staged = new StagedPayloads();
  #controlBudget: TokenBucket | undefined;
  readonly #initiator: Initiator;
  readonly #reach: PeerReach;
  #persistentKeepaliveMs = 0;

  #initiationSentAt: number | undefined;
  /** When the present run of attempts began; after 90 s it is given up. */
  #attemptingSince: number | undefined;
  #timestampReceived: Tai64n | undefined;
  #initiationReceivedAt: number | undefined;

  /** One rekey for each key that is only received on. */
  #rekeyedOnReceive = false;
  #needAnotherKeepalive = false;

  #completedAt: number | undefined;
  #receivedAt: number | undefined;
  #rxBytes = 0;
  #txBytes = 0;

  constructor(sessionKey: SessionKey, remote: RemoteIdentity, context: SessionContext) {
    this.sessionKey = sessionKey;
    this.remote = remote;
    this.#context = context;
    this.#cookies = new CookieJar(remote);
    this.#reach = new PeerReach({
      sessionKey,
      counters: context.counters,
      seal: (payload, step) => this.#seal(payload, step),
      send: (message, to, step, outputs) => this.#send(message, to, step, outputs),
    });
    this.#slots = new KeypairSlots((keypair) => {
      context.indices.delete(keypair.localIndex);
    });
    this.#initiator = new Initiator(context.local, remote, this.#cookies, {
      take: (step) => {
        const index = context.indices.pick(step);
        context.indices.set(index, { peer: this, keypair: undefined });
        return index;
      },
      giveBack: (index) => context.indices.delete(index),
    });
  }

  /** Applies endpoint and keepalive of a configuration. */
  configure(config: PeerConfig, step: Step, outputs: SessionOutput[]): void {
    const endpointAppears = this.#reach.give(config, this.#slots.usable(step.now));
    const keepalive = config.persistentKeepalive * 1000;
    const keepaliveAppears = keepalive > 0 && this.#persistentKeepaliveMs === 0;
    this.#persistentKeepaliveMs = keepalive;
    if (keepalive === 0) this.#timers.stop('persistentKeepalive');
    if (keepaliveAppears || (endpointAppears && keepalive > 0)) this.#sendKeepalive(step, outputs);
    else if (endpointAppears && this.#staged.length > 0) this.#sendStaged(step, outputs);
    else if (endpointAppears && this.#attemptingSince !== undefined) this.#initiate(step, outputs);
  }

  /** As PathControl.setPaths. */
  setPaths(settings: PeerPaths, step: Step, outputs: SessionOutput[]): void {
    this.#reach.setPaths(settings, step);
    if (this.#reach.isPinned && this.#staged.length > 0) this.#sendStaged(step, outputs);
  }

  /** false: there is no session to send it in, or no such way. */
  sendProbe(probe: PathProbe, step: Step, outputs: SessionOutput[]): boolean {
    return this.#reach.sendProbe(probe, step, outputs);
  }

  pathCounts(now: number): PathCounts[] {
    return this.#reach.pathCounts(now);
  }

  /** Ends the session when the key is another one; what is staged waits for the next handshake. */
  changePresharedKey(presharedKey: Uint8Array): void {
    if (equal(presharedKey, this.remote.presharedKey)) return;
    this.remote.presharedKey.set(presharedKey);
    this.#forgetKeys();
    this.#initiationSentAt = undefined;
  }

  /** Forgets an endpoint that led through a leg which is gone, for one that was given meanwhile. */
  forgetLeg(leg: number, step: Step, outputs: SessionOutput[]): void {
    if (!this.#reach.forgetLeg(leg)) return;
    if (this.#reach.isKnown && this.#staged.length > 0) this.#sendStaged(step, outputs);
  }

  /** Forgets a sticky source that routing is to choose again. */
  forgetLocal(isForgotten: IsForgotten): void {
    this.#reach.forgetLocal(isForgotten);
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
    from: Endpoint,
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
    this.#reach.forgetGiven();
    this.#slots.addResponded(keypair);
    this.#context.indices.set(index, { peer: this, keypair });
    this.#timers.start('zeroKeys', step);
    this.#cookies.sign(response.message, step.now);
    this.#send(response.message, from, step, outputs);
    this.#context.counters.add('handshake_responses_sent');
  }

  /** A response to the initiation that is under way. */
  receiveResponse(message: Uint8Array, from: Endpoint, step: Step, outputs: SessionOutput[]): void {
    const keypair = this.#initiator.complete(message, step);
    if (keypair === undefined) {
      this.#context.counters.add('drop_bad_handshake');
      return;
    }
    this.#authenticReceived(from, message.length, step, outputs);
    this.#reach.forgetGiven();
    this.#slots.addInitiated(keypair);
    this.#context.indices.set(keypair.localIndex, { peer: this, keypair });
    this.#timers.start('zeroKeys', step);
    this.#handshakeComplete(from, step, outputs);
    // The responder may send only after it received on the new key: confirm at once. By the way its response
    // came, for the peer's paths may lead elsewhere.
    const confirmation = this.#reach.isPinned ? this.#seal(EMPTY, step) : undefined;
    if (confirmation === undefined) {
      this.#sendKeepalive(step, outputs);
      return;
    }
    this.#context.counters.add('keepalives_sent');
    this.#reach.answer(confirmation, from, step, outputs);
    this.#flushStaged(step, outputs);
  }

  /** Keeps the cookie for the next attempt; neither retries at once nor roams. */
  receiveCookieReply(message: Uint8Array, step: Step): void {
    const consumed = this.#cookies.consumeReply(message, step.now);
    this.#context.counters.add(consumed ? 'cookie_replies_received' : 'drop_bad_handshake');
  }

  receiveTransport(
    keypair: Keypair,
    message: Uint8Array,
    from: Endpoint,
    step: Step,
    outputs: SessionOutput[],
  ): void {
    const { counters } = this.#context;
    if (keypair.expired(step.now)) {
      counters.add('drop_key_expired');
      return;
    }
    const payload = openTransport(keypair, message);
    if (typeof payload === 'string') {
      counters.add(`drop_${payload}`);
      return;
    }
    counters.add('transport_received');
    const frame = isPathFrame(payload);
    if (frame) this.#noteReceived(message.length, step);
    else this.#authenticReceived(from, message.length, step, outputs);
    if (this.#slots.confirm(keypair)) {
      this.#handshakeComplete(from, step, outputs);
      this.#flushStaged(step, outputs);
    }
    if (frame) {
      this.#reach.receivedFrame(payload, from, message.length, step, outputs);
      return;
    }
    this.#rekeyOnReceive(step, outputs);
    const holdsData = payload.length > 0 && !isSuiteFrame(payload) && !isCover(payload);
    this.#reach.received(from, message.length, holdsData, step, outputs);
    if (payload.length === 0) {
      counters.add('keepalives_received');
      return;
    }
    if (isSuiteFrame(payload)) {
      // Not answered, so that the session stays as it is: this engine has one cipher and one window.
      counters.add('suite_offers_received');
      return;
    }
    if (isCover(payload)) {
      counters.add('covers_received');
      return;
    }
    this.#dataReceived(step);
    const nibble = (payload[0] ?? 0) >> 4;
    if (nibble === 4 || nibble === 6) counters.add('drop_no_tun');
    else if (!(this.#controlBudget ??= controlBudget(step.now)).take(step.now))
      counters.add('drop_peer_control_rate');
    else this.#receiveControl(payload, step, outputs);
  }

  #receiveControl(payload: Uint8Array, step: Step, outputs: SessionOutput[]): void {
    const pong = pongTo(payload);
    if (pong === undefined) {
      this.#context.counters.add('control_messages');
      outputs.push({ type: 'event', event: { type: 'control', peer: this.sessionKey, payload } });
      return;
    }
    // One that cannot be sent does not wait for a session.
    const keypair = this.#slots.current;
    if (!this.#reach.isKnown || keypair?.canSend(step.now) !== true) return;
    this.#context.counters.add('pings_answered');
    this.#sendTransport(keypair, pong, step, outputs);
  }

  handleTimeout(step: Step, outputs: SessionOutput[]): void {
    this.#timers.fire(step, outputs);
    this.#reach.handleTimeout(step, outputs);
  }

  /** Monotonic ms at which handleTimeout wants to be called. */
  deadline(): number | undefined {
    const own = this.#timers.deadline();
    const reach = this.#reach.deadline();
    return own === undefined || reach === undefined ? (own ?? reach) : Math.min(own, reach);
  }

  status(now: number): PeerStatus {
    return {
      sessionKey: this.sessionKey,
      endpoint: this.#reach.toldAt,
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
    this.#staged.clear();
  }

  // Sending

  #stage(payload: Uint8Array): void {
    this.#context.counters.add('drop_staging_overflow', this.#staged.add(payload));
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
      if (!this.#reach.isKnown) {
        if (this.#staged.length > 0) this.#reach.askForPath(step, outputs);
        return;
      }
      const payload = this.#staged.take();
      if (payload === undefined) return;
      this.#sendTransport(keypair, payload, step, outputs);
    }
  }

  #sendTransport(keypair: Keypair, payload: Uint8Array, step: Step, outputs: SessionOutput[]): void {
    const isControl = isControlPlane(payload);
    this.#reach.transmit(sealTransport(keypair, payload), step, outputs, isControl);
    this.#context.counters.add('transport_sent');
    if (payload.length === 0) {
      this.#context.counters.add('keepalives_sent');
    } else {
      this.#timers.startIfIdle('newHandshake', step);
      this.#reach.dataSent(step, isControl);
    }
    if (keypair.worn(step.now)) this.#initiate(step, outputs);
  }

  /** Undefined: the keys may not be used (any more). */
  #seal(payload: Uint8Array, step: Step): Uint8Array | undefined {
    const keypair = this.#slots.current;
    if (keypair?.canSend(step.now) !== true) return undefined;
    this.#context.counters.add('transport_sent');
    return sealTransport(keypair, payload);
  }

  /** Every authenticated message goes out here. */
  #send(message: Uint8Array, to: Endpoint, step: Step, outputs: SessionOutput[]): void {
    this.#timers.stop('sendKeepalive');
    this.#startPersistentKeepalive(step);
    this.#txBytes += message.length;
    outputs.push({ type: 'datagram', to, datagram: message });
  }

  // Handshakes

  /** Sends an initiation unless one went out less than `interval` ms ago. */
  #initiate(step: Step, outputs: SessionOutput[], interval = REKEY_TIMEOUT, retry = false): void {
    this.#attemptingSince ??= step.now;
    if (this.#initiationSentAt !== undefined && step.now - this.#initiationSentAt < interval) {
      this.#timers.startIfIdle('retransmit', step, this.#initiationSentAt);
      return;
    }
    const way = this.#reach.forInitiation(retry, this.#slots.usable(step.now));
    if (way === undefined) {
      this.#reach.askForPath(step, outputs);
      this.#timers.startIfIdle('retransmit', step);
      return;
    }
    const message = this.#initiator.initiate(step);
    this.#initiationSentAt = step.now;
    this.#timers.start('retransmit', step);
    if (way.to === undefined) this.#reach.transmit(message, step, outputs);
    else this.#send(message, way.to, step, outputs);
    this.#context.counters.add('handshake_initiations_sent');
  }

  #retransmit(step: Step, outputs: SessionOutput[]): void {
    if (this.#attemptingSince === undefined || step.now - this.#attemptingSince < REKEY_ATTEMPT_TIME) {
      // The reason may be the source address we stick to.
      this.forgetLocal(() => true);
      this.#initiate(step, outputs, REKEY_TIMEOUT, true);
      return;
    }
    this.#attemptingSince = undefined;
    this.#initiator.abandon();
    this.#timers.stop('sendKeepalive');
    this.#context.counters.add('drop_staging_overflow', this.#staged.length);
    this.#staged.clear();
    this.#timers.startIfIdle('zeroKeys', step);
    outputs.push({ type: 'event', event: { type: 'session-lost', peer: this.sessionKey } });
  }

  #handshakeComplete(from: Endpoint, step: Step, outputs: SessionOutput[]): void {
    this.#timers.stop('retransmit');
    this.#attemptingSince = undefined;
    this.#rekeyedOnReceive = false;
    this.#completedAt = step.now;
    this.#context.counters.add('handshakes_completed');
    this.#reach.tellSession(from, outputs);
  }

  #forgetKeys(): void {
    this.#initiator.abandon();
    this.#slots.clear();
  }

  // Receiving

  /** An authentic message that is not a replay: the peer is where it came from. */
  #authenticReceived(from: Endpoint, size: number, step: Step, outputs: SessionOutput[]): void {
    this.#noteReceived(size, step);
    this.#reach.heard(from, step, outputs);
  }

  #noteReceived(size: number, step: Step): void {
    this.#receivedAt = step.now;
    this.#rxBytes += size;
    this.#timers.stop('newHandshake');
    this.#startPersistentKeepalive(step);
  }

  #dataReceived(step: Step): void {
    if (this.#timers.running('sendKeepalive')) this.#needAnotherKeepalive = true;
    else this.#timers.start('sendKeepalive', step);
  }

  #rekeyOnReceive(step: Step, outputs: SessionOutput[]): void {
    const current = this.#slots.current;
    if (this.#rekeyedOnReceive || current?.initiator !== true) return;
    if (step.now - current.createdAt < REKEY_ON_RECEIVE_TIME) return;
    this.#rekeyedOnReceive = true;
    this.#initiate(step, outputs);
  }

  #startPersistentKeepalive(step: Step): void {
    if (this.#persistentKeepaliveMs > 0) this.#timers.start('persistentKeepalive', step);
  }
}
