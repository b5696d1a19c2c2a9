// One WireGuard peer: handshakes, keys, timers, endpoint (whitepaper section 6). Sans-IO: `step`
// brings time and randomness, `outputs` takes datagrams and events, `deadline()` says when to call
// `handleTimeout`.

import type { Step } from '../../contract/step.js';
import type { PeerConfig, PeerEndpoint, PeerStatus, SessionKey } from '../../contract/engine.js';
import type { PathCounts, PathProbe, PeerPaths } from '../../contract/path-control.js';
import { isPathFrame } from '../../wire/path-frame.js';
import { pongTo } from '../../wire/ping-frame.js';
import { isCover } from '../../wire/cover-frame.js';
import { isSuiteFrame } from '../../wire/suite-frame.js';
import {
  CONTROL_FRAMES_PER_SECOND,
  ENDPOINT_INTERVAL,
  INITIATION_INTERVAL,
  KEEPALIVE_TIMEOUT,
  NEW_HANDSHAKE_TIMEOUT,
  PATH_NEEDED_INTERVAL,
  REKEY_ATTEMPT_TIME,
  REKEY_ON_RECEIVE_TIME,
  REKEY_TIMEOUT,
  REKEY_TIMEOUT_JITTER,
  ZERO_KEYS_TIME,
} from '../../wire/session-constants.js';
import { CookieJar } from './cookie.js';
import type { Counters } from './counters.js';
import { endpointAt, endsOf, sameEndpoint, toldEndpoint, type Endpoint } from './endpoint.js';
import type { IndexTable } from './index-table.js';
import { Initiator } from './initiator.js';
import { Keypair, KeypairSlots } from './keypair.js';
import { createResponse, type LocalIdentity, type RemoteIdentity, type ResponderState } from './noise.js';
import { equal } from './primitives.js';
import { REPLAY_WINDOW_SIZE } from './replay-window.js';
import { RoamingEndpoint } from './roaming-endpoint.js';
import type { SessionOutput } from './session-output.js';
import { StagedPayloads } from './staged-payloads.js';
import { PeerPathUse } from './peer-paths.js';
import { isLater, type Tai64n } from './tai64n.js';
import { Timers } from './timers.js';
import { TokenBucket } from './token-bucket.js';
import { openTransport, sealTransport } from './transport-message.js';
import type { LocalAddress } from './local-address.js';

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
    /** That it has moved was just told. */
    endpointTold: {
      delay: () => ENDPOINT_INTERVAL,
      fired: (step, outputs) => {
        if (this.#endpointUntold) this.#tellEndpoint(step, outputs);
      },
    },
    /** A path is silent, or reported on, from the moment it is started for. */
    paths: {
      delay: () => 0,
      fired: (step, outputs) => {
        this.#paths.serve(step, outputs);
        this.#armPaths(step);
      },
    },
    /** There were no new keys. */
    zeroKeys: { delay: () => ZERO_KEYS_TIME, fired: () => this.#forgetKeys() },
  });
  readonly #staged = new StagedPayloads();
  #controlBudget: TokenBucket | undefined;
  readonly #initiator: Initiator;
  readonly #paths: PeerPathUse<Endpoint>;
  /** Where it is reached, unless it has paths. */
  readonly #endpoint = new RoamingEndpoint();
  /** It has moved since that was told. */
  #endpointUntold = false;
  #persistentKeepaliveMs = 0;

  #initiationSentAt: number | undefined;
  /** When the present run of attempts began; after 90 s it is given up. */
  #attemptingSince: number | undefined;
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
    this.#paths = new PeerPathUse({
      sessionKey,
      counters: context.counters,
      keepsWhole: false, // node:dgram has no way to say that a datagram is not to be fragmented
      endsOf,
      at: endpointAt,
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
    const endpointAppears = this.#endpoint.current === undefined && config.endpoint !== undefined;
    if (config.endpoint !== undefined) {
      const pinned = this.#paths.active !== undefined;
      const proven = config.redirect !== true && !pinned && this.#slots.usable(step.now);
      this.#endpoint.give(config.endpoint, proven);
    }
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
    const { active } = this.#paths;
    this.#paths.set(settings, step);
    if (this.#paths.active !== undefined) {
      this.#endpointUntold = false;
      this.#endpoint.settle();
      if (this.#staged.length > 0) this.#sendStaged(step, outputs);
    } else if (active !== undefined)
      this.#endpoint.fallBackTo('leg' in active.remote ? active.remote : { address: active.remote.address });
    this.#armPaths(step);
  }

  /** false: there is no session to send it in, or no such way. */
  sendProbe(probe: PathProbe, step: Step, outputs: SessionOutput[]): boolean {
    return this.#paths.sendProbe(probe, step, outputs);
  }

  pathCounts(now: number): PathCounts[] {
    return this.#paths.counts(now);
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
    if (!this.#endpoint.forgetLeg(leg)) return;
    if (this.#endpoint.current !== undefined && this.#staged.length > 0) this.#sendStaged(step, outputs);
  }

  /** Forgets a sticky source that is this host's no more; any, without `local`. */
  forgetLocal(local?: LocalAddress): void {
    this.#endpoint.forgetLocal(local);
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
    this.#endpoint.forgetGiven();
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
    this.#endpoint.forgetGiven();
    this.#slots.addInitiated(keypair);
    this.#context.indices.set(keypair.localIndex, { peer: this, keypair });
    this.#timers.start('zeroKeys', step);
    this.#handshakeComplete(from, step, outputs);
    // The responder may send only after it received on the new key: confirm at once. By the way its response
    // came, for the peer's paths may lead elsewhere.
    const confirmation = this.#paths.active === undefined ? undefined : this.#seal(EMPTY, step);
    if (confirmation === undefined) {
      this.#sendKeepalive(step, outputs);
      return;
    }
    this.#context.counters.add('keepalives_sent');
    this.#paths.answer(confirmation, from, step, outputs);
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
      this.#paths.receivedFrame(payload, from, message.length, step, outputs);
      this.#armPaths(step);
      return;
    }
    this.#rekeyOnReceive(step, outputs);
    const holdsData = payload.length > 0 && !isSuiteFrame(payload) && !isCover(payload);
    this.#paths.received(from, message.length, holdsData, step, outputs);
    this.#armPaths(step);
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
    if (!this.#reachable || keypair?.canSend(step.now) !== true) return;
    this.#context.counters.add('pings_answered');
    this.#sendTransport(keypair, pong, step, outputs);
  }

  handleTimeout(step: Step, outputs: SessionOutput[]): void {
    this.#timers.fire(step, outputs);
  }

  /** Monotonic ms at which handleTimeout wants to be called. */
  deadline(): number | undefined {
    return this.#timers.deadline();
  }

  status(now: number): PeerStatus {
    return {
      sessionKey: this.sessionKey,
      endpoint: this.#reachedAt(),
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
      if (!this.#reachable) {
        if (this.#staged.length > 0) this.#askForPath(step, outputs);
        return;
      }
      const payload = this.#staged.take();
      if (payload === undefined) return;
      this.#sendTransport(keypair, payload, step, outputs);
    }
  }

  #sendTransport(keypair: Keypair, payload: Uint8Array, step: Step, outputs: SessionOutput[]): void {
    this.#sendReached(sealTransport(keypair, payload), step, outputs);
    this.#context.counters.add('transport_sent');
    if (payload.length === 0) {
      this.#context.counters.add('keepalives_sent');
    } else {
      this.#timers.startIfIdle('newHandshake', step);
      this.#paths.dataSent(step);
      this.#armPaths(step);
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

  get #reachable(): boolean {
    return this.#paths.active !== undefined || this.#endpoint.current !== undefined;
  }

  #reachedAt(): PeerEndpoint | undefined {
    const { active } = this.#paths;
    if (active !== undefined) return toldEndpoint(endpointAt(active));
    const { current } = this.#endpoint;
    return current === undefined ? undefined : toldEndpoint(current);
  }

  #armPaths(step: Step): void {
    const at = this.#paths.deadline();
    if (at === undefined) this.#timers.stop('paths');
    else this.#timers.start('paths', step, at);
  }

  /** To wherever the peer is reached. */
  #sendReached(message: Uint8Array, step: Step, outputs: SessionOutput[]): void {
    const { current } = this.#endpoint;
    if (this.#paths.active !== undefined) this.#paths.transmit(message, step, outputs);
    else if (current !== undefined) this.#send(message, current, step, outputs);
  }

  /** Every authenticated message goes out here. */
  #send(message: Uint8Array, to: Endpoint, step: Step, outputs: SessionOutput[]): void {
    this.#timers.stop('sendKeepalive');
    this.#startPersistentKeepalive(step);
    this.#txBytes += message.length;
    outputs.push({ type: 'datagram', to, datagram: message });
  }

  #askForPath(step: Step, outputs: SessionOutput[]): void {
    if (this.#pathNeededAt !== undefined && step.now - this.#pathNeededAt < PATH_NEEDED_INTERVAL) return;
    this.#pathNeededAt = step.now;
    outputs.push({ type: 'event', event: { type: 'path-needed', peer: this.sessionKey } });
  }

  // Handshakes

  /** Sends an initiation unless one went out less than `interval` ms ago. */
  #initiate(step: Step, outputs: SessionOutput[], interval = REKEY_TIMEOUT, retry = false): void {
    this.#attemptingSince ??= step.now;
    if (this.#initiationSentAt !== undefined && step.now - this.#initiationSentAt < interval) {
      this.#timers.startIfIdle('retransmit', step, this.#initiationSentAt);
      return;
    }
    const pinned = this.#paths.active !== undefined;
    const to = pinned ? undefined : this.#endpoint.forInitiation(retry, this.#slots.usable(step.now));
    if (!pinned && to === undefined) {
      this.#askForPath(step, outputs);
      this.#timers.startIfIdle('retransmit', step);
      return;
    }
    const message = this.#initiator.initiate(step);
    this.#initiationSentAt = step.now;
    this.#timers.start('retransmit', step);
    if (to === undefined) this.#sendReached(message, step, outputs);
    else this.#send(message, to, step, outputs);
    this.#context.counters.add('handshake_initiations_sent');
  }

  #retransmit(step: Step, outputs: SessionOutput[]): void {
    if (this.#attemptingSince === undefined || step.now - this.#attemptingSince < REKEY_ATTEMPT_TIME) {
      // The reason may be the source address we stick to.
      this.forgetLocal();
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
    const at = this.#paths.active === undefined ? this.#endpoint.current : from;
    if (at === undefined) return; // its leg went away within this very step
    outputs.push({
      type: 'event',
      event: { type: 'session', peer: this.sessionKey, endpoint: toldEndpoint(at) },
    });
  }

  #forgetKeys(): void {
    this.#initiator.abandon();
    this.#slots.clear();
  }

  // Receiving

  /** An authentic message that is not a replay: the peer is where it came from. */
  #authenticReceived(from: Endpoint, size: number, step: Step, outputs: SessionOutput[]): void {
    this.#noteReceived(size, step);
    if (this.#paths.active !== undefined) return; // nothing but its paths moves a peer that has some
    const change = this.#endpoint.heard(from);
    if (change === undefined) return;
    outputs.push({ type: 'heard', at: from });
    if (change.before === undefined || sameEndpoint(change.before, from)) return;
    if (this.#timers.running('endpointTold')) this.#endpointUntold = true;
    else this.#tellEndpoint(step, outputs);
  }

  #noteReceived(size: number, step: Step): void {
    this.#receivedAt = step.now;
    this.#rxBytes += size;
    this.#timers.stop('newHandshake');
    this.#startPersistentKeepalive(step);
  }

  /** Whoever lets packets come from here and there in turns causes no event for each. */
  #tellEndpoint(step: Step, outputs: SessionOutput[]): void {
    this.#endpointUntold = false;
    const { current } = this.#endpoint;
    if (current === undefined || this.#paths.active !== undefined) return;
    this.#timers.start('endpointTold', step);
    this.#context.counters.add('endpoint_changes');
    const endpoint = toldEndpoint(current);
    outputs.push({ type: 'event', event: { type: 'endpoint', peer: this.sessionKey, endpoint } });
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
