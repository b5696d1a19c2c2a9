// All WireGuard sessions of one engine: who a message belongs to, and how much a stranger may cost.
//
//   handshake message ── mac1 ── under load? mac2, rate per source ── queue ── Diffie–Hellman ── peer
//   transport message ── index ── keypair ── peer
//
// Sans-IO: the queue is worked off by `handleTimeout`, a few messages a turn, so that handshakes
// never hold up the packets of running sessions.

import type { Step } from '../../contract/step.js';
import type { PathCounts, PathProbe, PeerPaths } from '../../contract/path-control.js';
import { EngineError, type PeerConfig, type PeerStatus, type SessionKey } from '../../contract/engine.js';
import {
  SOURCE_HANDSHAKES_PER_SECOND,
  SOURCE_HANDSHAKE_BURST,
  UNDER_LOAD_TIME,
} from '../../wire/session-constants.js';
import { SIPHASH_KEY_SIZE } from '../../wire/siphash.js';
import { CookieChecker, mac1Valid } from './cookie.js';
import type { Counters } from './counters.js';
import { addressBytes, sourceOf, type Endpoint } from './endpoint.js';
import { IndexTable } from './index-table.js';
import {
  TYPE_COOKIE_REPLY,
  TYPE_INITIATION,
  TYPE_RESPONSE,
  TYPE_TRANSPORT,
  messageType,
  readU32,
} from './messages.js';
import { consumeInitiation, localIdentity, remoteIdentity, type LocalIdentity } from './noise.js';
import { PrefixBuckets } from './prefix-buckets.js';
import type { SessionOutput } from './session-output.js';
import { SessionPeer, type SessionContext } from './session-peer.js';
import type { IsForgotten } from './local-address.js';

/** Handshake messages waiting; one costs about a millisecond of Diffie–Hellman. */
const QUEUE_CAPACITY = 512;
/** From this many on, and for a second after, senders must prove their address. */
const LOAD_THRESHOLD = QUEUE_CAPACITY / 8;
/** Handshake messages worked off in one turn. */
const HANDSHAKES_PER_TURN = 8;

/** Once their address is proven, handshakes of one source. */
const HANDSHAKE_RATE = {
  perSecond: SOURCE_HANDSHAKES_PER_SECOND,
  burst: SOURCE_HANDSHAKE_BURST,
  ipv4Bits: 32,
  ipv6Bits: 64,
};

interface QueuedHandshake {
  readonly message: Uint8Array;
  readonly from: Endpoint;
}

const toHex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

export class SessionTable {
  readonly #local: LocalIdentity;
  readonly #maxPeers: number;
  readonly #counters: Counters;
  readonly #context: SessionContext;
  readonly #checker: CookieChecker;
  readonly #peers = new Map<SessionKey, SessionPeer>();
  readonly #queue: QueuedHandshake[] = [];
  /** Once somebody had to prove an address. */
  #rate: PrefixBuckets | undefined;
  #loadedUntil = -Infinity;
  /** No later than any peer's deadline; the peers are looked through only when it has come. */
  #nextTimer: number | undefined;

  constructor(privateKey: Uint8Array, maxPeers: number, counters: Counters) {
    this.#local = localIdentity(privateKey);
    this.#maxPeers = maxPeers;
    this.#counters = counters;
    this.#context = { local: this.#local, indices: new IndexTable<SessionPeer>(), counters };
    this.#checker = new CookieChecker(this.#local);
  }

  get sessionKey(): SessionKey {
    return toHex(this.#local.publicKey);
  }

  /**
   * Adds or updates peers: all of them or, when an error is thrown, none.
   * @throws EngineError TABLE_FULL, or BAD_ARGUMENT for a key nobody can have.
   */
  setPeers(configs: readonly PeerConfig[], step: Step): SessionOutput[] {
    const added = new Map<SessionKey, SessionPeer>();
    for (const { sessionKey, presharedKey } of configs) {
      if (this.#peers.has(sessionKey) || added.has(sessionKey)) continue;
      const remote = remoteIdentity(this.#local, Buffer.from(sessionKey, 'hex'), presharedKey);
      if (remote === undefined) {
        throw new EngineError(
          'BAD_ARGUMENT',
          `sessionKey ${sessionKey} is a low-order point, not a public key; ask the peer for its key again`,
        );
      }
      added.set(sessionKey, new SessionPeer(sessionKey, remote, this.#context));
    }
    if (this.#peers.size + added.size > this.#maxPeers) {
      throw new EngineError(
        'TABLE_FULL',
        `${this.#peers.size + added.size} peers do not fit: maxPeers is ${this.#maxPeers}; remove some or raise it`,
      );
    }
    for (const [sessionKey, peer] of added) this.#peers.set(sessionKey, peer);
    return configs.flatMap((config) =>
      this.#withPeer(config.sessionKey, (peer, outputs) => {
        peer.changePresharedKey(config.presharedKey ?? new Uint8Array(32));
        peer.configure(config, step, outputs);
      }),
    );
  }

  removePeers(keys: readonly SessionKey[]): void {
    for (const key of keys) {
      this.#peers.get(key)?.destroy();
      this.#peers.delete(key);
    }
  }

  /** A payload for a peer that is not known (any more) is dropped. */
  sendControl(key: SessionKey, payload: Uint8Array, step: Step): SessionOutput[] {
    return this.#withPeer(key, (peer, outputs) => peer.sendControl(payload, step, outputs));
  }

  /** Sets for peers that are not known (any more) are left out. */
  setPaths(sets: readonly PeerPaths[], step: Step): SessionOutput[] {
    return sets
      .filter(({ peer }) => this.#peers.has(peer))
      .flatMap((set) => this.#withPeer(set.peer, (peer, outputs) => peer.setPaths(set, step, outputs)));
  }

  /** One that cannot be sent is counted. */
  sendProbe(probe: PathProbe, step: Step): SessionOutput[] {
    const outputs: SessionOutput[] = [];
    const peer = this.#peers.get(probe.peer);
    const sent = peer?.sendProbe(probe, step, outputs) === true;
    this.#counters.add(sent ? 'path_probes_sent' : 'drop_probe_unsent');
    if (peer !== undefined) this.#noteDeadline(peer);
    return outputs;
  }

  pathCounts(key: SessionKey, now: number): PathCounts[] {
    return this.#peers.get(key)?.pathCounts(now) ?? [];
  }

  startHandshake(key: SessionKey, step: Step): SessionOutput[] {
    return this.#withPeer(key, (peer, outputs) => peer.startHandshake(step, outputs));
  }

  forgetLeg(leg: number, step: Step): SessionOutput[] {
    const outputs: SessionOutput[] = [];
    for (const peer of this.#peers.values()) {
      peer.forgetLeg(leg, step, outputs);
      this.#noteDeadline(peer);
    }
    return outputs;
  }

  /** Forgets sticky sources that routing is to choose again. */
  forgetLocal(isForgotten: IsForgotten): void {
    for (const peer of this.#peers.values()) peer.forgetLocal(isForgotten);
  }

  peers(now: number): PeerStatus[] {
    return [...this.#peers.values()].map((peer) => peer.status(now));
  }

  /** Takes a WireGuard message from the network; the bytes may be kept until the next turn. */
  handleMessage(message: Uint8Array, from: Endpoint, step: Step): SessionOutput[] {
    const outputs: SessionOutput[] = [];
    switch (messageType(message)) {
      case TYPE_INITIATION:
      case TYPE_RESPONSE:
        this.#admitHandshake(message, from, step, outputs);
        break;
      case TYPE_COOKIE_REPLY:
        this.#handleIndexed(message, (peer) => peer.receiveCookieReply(message, step));
        break;
      case TYPE_TRANSPORT:
        this.#handleIndexed(message, (peer, keypair) => {
          if (keypair === undefined) this.#counters.add('drop_unknown_index');
          else peer.receiveTransport(keypair, message, from, step, outputs);
        });
        break;
      case undefined:
        this.#counters.drop('malformed_wireguard');
    }
    return outputs;
  }

  /** Works off queued handshakes and timers that are due. */
  handleTimeout(step: Step): SessionOutput[] {
    const outputs: SessionOutput[] = [];
    for (const { message, from } of this.#queue.splice(0, HANDSHAKES_PER_TURN)) {
      if (messageType(message) === TYPE_INITIATION) this.#handleInitiation(message, from, step, outputs);
      else this.#handleResponse(message, from, step, outputs);
    }
    if (this.#nextTimer !== undefined && this.#nextTimer <= step.now) {
      this.#nextTimer = undefined;
      for (const peer of this.#peers.values()) {
        const deadline = peer.deadline();
        if (deadline !== undefined && deadline <= step.now) peer.handleTimeout(step, outputs);
        this.#noteDeadline(peer);
      }
    }
    return outputs;
  }

  /** Monotonic ms; −Infinity while handshakes are queued, undefined when nothing is awaited. */
  deadline(): number | undefined {
    return this.#queue.length > 0 ? -Infinity : this.#nextTimer;
  }

  /** Erases all keys. */
  destroy(): void {
    this.removePeers([...this.#peers.keys()]);
    this.#queue.length = 0;
    this.#local.privateKey.fill(0);
  }

  #withPeer(key: SessionKey, act: (peer: SessionPeer, outputs: SessionOutput[]) => void): SessionOutput[] {
    const outputs: SessionOutput[] = [];
    const peer = this.#peers.get(key);
    if (peer === undefined) {
      this.#counters.add('drop_unknown_peer');
    } else {
      act(peer, outputs);
      this.#noteDeadline(peer);
    }
    return outputs;
  }

  #noteDeadline(peer: SessionPeer): void {
    const deadline = peer.deadline();
    if (deadline !== undefined && (this.#nextTimer === undefined || deadline < this.#nextTimer)) {
      this.#nextTimer = deadline;
    }
  }

  #handleIndexed(
    message: Uint8Array,
    handle: (peer: SessionPeer, keypair: Parameters<SessionPeer['receiveTransport']>[0] | undefined) => void,
  ): void {
    const entry = this.#context.indices.get(readU32(message, 4));
    if (entry === undefined) {
      this.#counters.add('drop_unknown_index');
      return;
    }
    handle(entry.peer, entry.keypair);
    this.#noteDeadline(entry.peer);
  }

  #admitHandshake(message: Uint8Array, from: Endpoint, step: Step, outputs: SessionOutput[]): void {
    if (!mac1Valid(this.#local, message)) {
      this.#counters.add('drop_bad_mac1');
      return;
    }
    const initiation = messageType(message) === TYPE_INITIATION;
    this.#counters.add(initiation ? 'handshake_initiations_received' : 'handshake_responses_received');
    if (this.#queue.length >= LOAD_THRESHOLD) this.#loadedUntil = step.now + UNDER_LOAD_TIME;
    if (step.now < this.#loadedUntil && !this.#addressProven(message, from, step, outputs)) return;
    if (this.#queue.length >= QUEUE_CAPACITY) {
      this.#counters.add('drop_handshake_queue_full');
      return;
    }
    this.#queue.push({ message, from });
  }

  /** Under load: a valid mac2 and a token of the source's bucket, or a cookie reply instead. */
  #addressProven(message: Uint8Array, from: Endpoint, step: Step, outputs: SessionOutput[]): boolean {
    const address = sourceOf(from);
    const source = addressBytes(address);
    if (!this.#checker.mac2Valid(message, source, step)) {
      const datagram = this.#checker.reply(message, source, step);
      outputs.push({ type: 'datagram', to: from, datagram });
      this.#counters.add('cookie_replies_sent');
      return false;
    }
    this.#rate ??= new PrefixBuckets(HANDSHAKE_RATE, step.random(SIPHASH_KEY_SIZE));
    if (!this.#rate.take(address.ip, step.now)) {
      this.#counters.add('drop_handshake_rate');
      return false;
    }
    return true;
  }

  #handleInitiation(message: Uint8Array, from: Endpoint, step: Step, outputs: SessionOutput[]): void {
    const consumed = consumeInitiation(this.#local, message, (key) => this.#peers.get(toHex(key)));
    if (consumed === 'invalid') this.#counters.add('drop_bad_handshake');
    else if (consumed === 'unknown-peer') this.#counters.add('drop_unknown_peer');
    else {
      consumed.peer.receiveInitiation(consumed.state, message.length, from, step, outputs);
      this.#noteDeadline(consumed.peer);
    }
  }

  #handleResponse(message: Uint8Array, from: Endpoint, step: Step, outputs: SessionOutput[]): void {
    const entry = this.#context.indices.get(readU32(message, 8));
    if (entry === undefined || entry.keypair !== undefined) {
      this.#counters.add('drop_unknown_index');
      return;
    }
    entry.peer.receiveResponse(message, from, step, outputs);
    this.#noteDeadline(entry.peer);
  }
}
