// An engine for the simulator. Frames are judged by the protocol's own model; sessions are an abstract
// WireGuard: its messages, sizes, indices, timers and roaming, with the cryptography left out (a
// preshared key is compared by a hash, the static keys travel in the clear).
//
// A session may have several paths: engine/wasm/path-set.ts.
//
//   initiation 148   01 · sender index · initiator key · responder key · psk hash 8 · time 8
//   response    92   02 · sender index · receiver index · psk hash 8
//   transport        04 · receiver index · counter 8 · payload · padding to 16 · 16

import type {
  EngineEvent,
  LegCounts,
  WireguardBinding,
  PeerConfig,
  PeerEndpoint,
  SessionKey,
} from '../../contract/engine.js';
import type {
  LocalSource,
  PathControl,
  PathEnds,
  PathProbe,
  PeerPaths,
} from '../../contract/path-control.js';
import { requirePaths, requireProbes } from '../../contract/path-arguments.js';
import type { EffectEngine } from '../../core/runtime/carry-out.js';
import { sameEndpoint } from '../../engine/wasm/endpoint.js';
import { PathSet, type Path } from '../../engine/wasm/path-set.js';
import { encodeFrame, FRAME_HEADER_SIZE, FrameKind, HOP_LIMIT_DEFAULT } from '../../wire/frame.js';
import {
  decodePathFrame,
  encodePathReport,
  encodeProbe,
  encodeProbeAnswer,
  isPathFrame,
  probePayloadSize,
  TRANSPORT_OVERHEAD,
  type PathFrame,
} from '../../wire/path-frame.js';
import { ForwardingTableModel, NO_ACCOUNTS } from '../../wire/forwarding-table.js';
import type { Leg } from '../../wire/leg.js';
import { legEntry } from '../../wire/leg-entry.js';
import {
  limitsOf,
  prefixRateOf,
  rateOf,
  type AccountCapacity,
  type AccountKind,
  type LegLimits,
  type PrefixLimit,
  type RateLimit,
} from '../../wire/limits.js';
import { pongTo } from '../../wire/ping-frame.js';
import {
  ENDPOINT_INTERVAL,
  INITIATION_INTERVAL,
  MAX_STAGED,
  NEW_HANDSHAKE_TIMEOUT,
  PATH_NEEDED_INTERVAL,
  REJECT_AFTER_TIME,
  REKEY_AFTER_TIME,
  REKEY_ATTEMPT_TIME,
  REKEY_TIMEOUT,
} from '../../wire/session-constants.js';
import { siphash24 } from '../../wire/siphash.js';
import type { SocketAddress } from '../../wire/socket-address.js';
import { concat, fromHex, toHex, viewOf } from '../../wire/bytes.js';
import type { Prng } from '../kernel/prng.js';

const TRANSPORT = 4;
/** Chooses a prefix's bucket. Not secret: no simulated sender aims at the bucket of another. */
const PREFIX_KEY = 0x9e3779b97f4a7c15n;

interface Keypair {
  readonly local: number;
  readonly remote: number;
  readonly initiator: boolean;
  readonly createdAt: number;
  sent: bigint;
  /** Counters seen. */
  readonly received: Set<bigint>;
}

interface Handshake {
  /** Sender index of the last initiation; a response to an earlier one is of no use. */
  local: number;
  readonly startedAt: number;
  sentAt: number;
}

interface Peer {
  config: PeerConfig;
  endpoint: PeerEndpoint | undefined;
  /** Given while a session ran: handshakes go there, in turns with the session's own, until one completes. */
  givenEndpoint: PeerEndpoint | undefined;
  givenEndpointTried: boolean;
  handshake: Handshake | undefined;
  previous: Keypair | undefined;
  current: Keypair | undefined;
  next: Keypair | undefined;
  readonly staged: Uint8Array[];
  lastInitiation: number;
  pathNeededAt: number;
  /** When it was last told where the peer is, and whether it has moved since. */
  endpointToldAt: number;
  endpointUntold: boolean;
  /** Data was sent and nothing has come back since. */
  unansweredSince: number | undefined;
  /** Undefined = path frames of it are dropped. */
  paths: PathSet | undefined;
}

/** Datagrams and events go out by these. */
export interface FakeEngineHost {
  now(): number;
  /** @param local undefined: the host chooses */
  send(to: SocketAddress, datagram: Uint8Array, local?: LocalSource): void;
  event(event: EngineEvent): void;
  /** An inner packet of a peer's; default: it is dropped. */
  inner?(peer: SessionKey, packet: Uint8Array): void;
}

export class FakeEngine implements EffectEngine {
  readonly #host: FakeEngineHost;
  readonly #prng: Prng;
  readonly #key: SessionKey;
  readonly #table: ForwardingTableModel;
  readonly #legs = new Map<number, Leg>();
  readonly #peers = new Map<SessionKey, Peer>();
  readonly #byIndex = new Map<number, Peer>();
  /** Frames sent on the way back of a `deliver` leg. */
  readonly #sent = new Map<number, { packets: number; bytes: number }>();
  /** As the core set them last; the simulated engine relays no stock clients. */
  wireguardBindings: readonly WireguardBinding[] = [];
  readonly paths: PathControl = {
    keepsWhole: true,
    setPaths: (sets) => {
      requirePaths(sets);
      for (const set of sets) this.#setPaths(set);
    },
    sendProbes: (probes) => {
      requireProbes(probes);
      for (const probe of probes) this.#sendProbe(probe);
    },
    pathCounts: (peer) => this.#peers.get(peer)?.paths?.counts(this.#host.now()) ?? [],
  };
  /** Datagrams by verdict, drops by reason. */
  readonly counters = new Map<string, number>();

  constructor(
    sessionKey: SessionKey,
    maxLegs: number,
    prng: Prng,
    host: FakeEngineHost,
    accounts: AccountCapacity = NO_ACCOUNTS,
  ) {
    this.#table = new ForwardingTableModel(maxLegs, accounts);
    this.#key = sessionKey;
    this.#prng = prng;
    this.#host = host;
  }

  get legCount(): number {
    return this.#table.size;
  }

  get peerCount(): number {
    return this.#peers.size;
  }

  /** A peer as it was configured last. */
  configOf(key: SessionKey): PeerConfig | undefined {
    return this.#peers.get(key)?.config;
  }

  sendFrames(frames: Parameters<EffectEngine['sendFrames']>[0]): void {
    for (const { to, frame } of frames) this.#host.send(to, frame);
  }

  sendControl(messages: Parameters<EffectEngine['sendControl']>[0]): void {
    for (const { peer: key, payload } of messages) {
      const peer = this.#peers.get(key);
      if (peer !== undefined) this.#sendData(peer, payload);
    }
  }

  /**
   * An IP packet for a peer, which may not be fragmented; dropped and counted when nothing is routed to the peer.
   * @returns how long it may be at most, when it is too long for the way: what ICMP says in other engines.
   */
  sendInner(key: SessionKey, packet: Uint8Array): number | undefined {
    const peer = this.#peers.get(key);
    if (peer === undefined || peer.config.allowedIps.length === 0) {
      this.#count('drop_no_route');
      return undefined;
    }
    const limit = innerLimit(peer.paths?.active);
    if (packet.length > limit) {
      this.#count('too_big_sent');
      return limit;
    }
    this.#sendData(peer, packet, limit);
    return undefined;
  }

  setPeers(peers: readonly PeerConfig[]): void {
    for (const peer of peers) this.#setPeer(peer);
  }

  removePeers(keys: readonly SessionKey[]): void {
    for (const key of keys) {
      const peer = this.#peers.get(key);
      if (peer !== undefined) this.#endSession(peer);
      this.#peers.delete(key);
    }
  }

  handshake(key: SessionKey): void {
    const peer = this.#peers.get(key);
    if (peer !== undefined) this.#startHandshake(peer);
  }

  installLegs(legs: readonly Leg[]): void {
    for (const leg of legs) {
      this.#legs.set(leg.id, leg);
      this.#table.install(legEntry(leg, this.#nanoseconds()));
    }
  }

  removeLegs(ids: readonly number[]): void {
    for (const id of ids) {
      this.#legs.delete(id);
      this.#sent.delete(id);
      this.#table.remove(id);
      for (const peer of this.#peers.values()) {
        if (leadsBy(id, peer.givenEndpoint)) forgetGiven(peer);
        if (!leadsBy(id, peer.endpoint)) continue;
        peer.endpoint = peer.givenEndpoint;
        forgetGiven(peer);
      }
    }
  }

  setLimits(index: number, limits: LegLimits): void {
    this.#table.setLimits(index, limitsOf(limits));
  }

  setAccountLimit(kind: AccountKind, index: number, limit: RateLimit | undefined): void {
    this.#table.setRate(kind, index, rateOf(limit, kind));
  }

  resetAccount(kind: AccountKind, index: number): void {
    this.#table.resetAccount(kind, index);
  }

  setHostLimit(limit: RateLimit | undefined): void {
    this.#table.setHostRate(rateOf(limit, 'host'));
  }

  setPrefixLimit(limit: PrefixLimit | undefined): void {
    this.#table.setPrefixRate(prefixRateOf(limit), PREFIX_KEY);
  }

  setWireguardBindings(bindings: readonly WireguardBinding[]): void {
    this.wireguardBindings = bindings;
  }

  /** @param local what it came to */
  receive(from: SocketAddress, datagram: Uint8Array, local?: LocalSource): void {
    const { verdict, reason, leg, next } = this.#table.judge(from, datagram, this.#nanoseconds());
    this.#count(verdict === 'drop' ? `drop_${reason}` : verdict);
    if (verdict === 'wireguard') this.#receiveSession(datagram, { remote: { address: from }, local });
    else if (verdict === 'forward' && next !== undefined) this.#host.send(next, datagram);
    else if (verdict === 'deliver' && leg !== undefined)
      this.#receiveSession(datagram.subarray(FRAME_HEADER_SIZE), { remote: { leg }, local: undefined });
    else if (verdict === 'control' && leg !== undefined)
      this.#host.event({ type: 'frame', from, leg, frame: datagram });
  }

  legCounters(ids: readonly number[]): (LegCounts | undefined)[] {
    return ids.map((id) => {
      const counters = this.#table.counters(id);
      if (counters === undefined) return undefined;
      const { packets: sentPackets, bytes: sentBytes } = this.#sent.get(id) ?? { packets: 0, bytes: 0 };
      return { packets: Number(counters.packets), bytes: Number(counters.bytes), sentPackets, sentBytes };
    });
  }

  handleTimeout(): void {
    const now = this.#host.now();
    for (const peer of this.#peers.values()) {
      const { handshake } = peer;
      if (peer.endpointUntold && now >= peer.endpointToldAt + ENDPOINT_INTERVAL) this.#tellEndpoint(peer);
      if (handshake !== undefined && now >= handshake.startedAt + REKEY_ATTEMPT_TIME) {
        this.#byIndex.delete(handshake.local);
        peer.handshake = undefined;
        peer.staged.length = 0;
        this.#host.event({ type: 'session-lost', peer: peer.config.sessionKey });
      } else if (handshake !== undefined && now >= handshake.sentAt + REKEY_TIMEOUT)
        this.#sendInitiation(peer, true);
      else if (
        handshake === undefined &&
        peer.unansweredSince !== undefined &&
        now >= peer.unansweredSince + NEW_HANDSHAKE_TIMEOUT
      ) {
        peer.unansweredSince = undefined;
        this.#startHandshake(peer);
      }
      if (peer.paths !== undefined) this.#servePaths(peer, peer.paths);
    }
  }

  /** When handleTimeout has something to do. */
  deadline(): number | undefined {
    let deadline = Infinity;
    for (const {
      handshake,
      unansweredSince,
      endpointUntold,
      endpointToldAt,
      paths,
    } of this.#peers.values()) {
      if (handshake !== undefined)
        deadline = Math.min(
          deadline,
          handshake.sentAt + REKEY_TIMEOUT,
          handshake.startedAt + REKEY_ATTEMPT_TIME,
        );
      else if (unansweredSince !== undefined)
        deadline = Math.min(deadline, unansweredSince + NEW_HANDSHAKE_TIMEOUT);
      if (endpointUntold) deadline = Math.min(deadline, endpointToldAt + ENDPOINT_INTERVAL);
      deadline = Math.min(deadline, paths?.deadline() ?? Infinity);
    }
    return deadline === Infinity ? undefined : deadline;
  }

  #setPeer(config: PeerConfig): void {
    const present = this.#peers.get(config.sessionKey);
    if (present === undefined) {
      this.#peers.set(config.sessionKey, {
        config,
        endpoint: config.endpoint,
        givenEndpoint: undefined,
        givenEndpointTried: false,
        handshake: undefined,
        previous: undefined,
        current: undefined,
        next: undefined,
        staged: [],
        lastInitiation: -1,
        pathNeededAt: -Infinity,
        endpointToldAt: -Infinity,
        endpointUntold: false,
        unansweredSince: undefined,
        paths: undefined,
      });
      return;
    }
    if (toHex(present.config.presharedKey ?? ZERO_KEY) !== toHex(config.presharedKey ?? ZERO_KEY))
      this.#endSession(present);
    present.config = config;
    if (config.endpoint === undefined) return;
    forgetGiven(present);
    const { endpoint, paths } = present;
    const moves = config.redirect === true || paths?.active !== undefined || !this.#hasSession(present);
    if (moves || endpoint === undefined) present.endpoint = config.endpoint;
    else if (!sameEndpoint(endpoint, config.endpoint)) present.givenEndpoint = config.endpoint;
    if (present.staged.length > 0 && present.current === undefined) this.#startHandshake(present);
  }

  #hasSession({ current, next }: Peer): boolean {
    return [current, next].some(
      (keypair) => keypair !== undefined && this.#host.now() - keypair.createdAt < REJECT_AFTER_TIME,
    );
  }

  #endSession(peer: Peer): void {
    for (const keypair of [peer.previous, peer.current, peer.next, peer.handshake])
      if (keypair !== undefined) this.#byIndex.delete(keypair.local);
    peer.previous = peer.current = peer.next = peer.handshake = undefined;
    peer.unansweredSince = undefined;
  }

  /** @param limit what padding may fill */
  #sendData(peer: Peer, payload: Uint8Array, limit = Infinity): void {
    const now = this.#host.now();
    const { current } = peer;
    if (current === undefined || now - current.createdAt >= REJECT_AFTER_TIME) {
      if (peer.staged.length >= MAX_STAGED) peer.staged.shift();
      peer.staged.push(payload);
      if (peer.handshake === undefined) this.#startHandshake(peer);
      else if (peer.endpoint === undefined) this.#needPath(peer);
      return;
    }
    if (current.initiator && now - current.createdAt >= REKEY_AFTER_TIME && peer.handshake === undefined)
      this.#startHandshake(peer);
    peer.unansweredSince ??= now;
    peer.paths?.dataSent(now);
    this.#sendTransport(peer, current, payload, limit);
  }

  #sendTransport(peer: Peer, keypair: Keypair, payload: Uint8Array, limit = Infinity): void {
    this.#transmit(peer, seal(keypair, payload, limit));
  }

  #startHandshake(peer: Peer): void {
    if (peer.endpoint === undefined && peer.paths?.active === undefined) {
      this.#needPath(peer);
      return;
    }
    peer.handshake ??= { local: 0, startedAt: this.#host.now(), sentAt: -Infinity };
    if (this.#host.now() - peer.handshake.sentAt >= INITIATION_INTERVAL) this.#sendInitiation(peer);
  }

  /** Where an initiation goes. */
  #chooseEndpoint(peer: Peer, retry: boolean): PeerEndpoint | undefined {
    if (peer.givenEndpoint === undefined) return peer.endpoint;
    if (!this.#hasSession(peer)) {
      peer.endpoint = peer.givenEndpoint;
      forgetGiven(peer);
      return peer.endpoint;
    }
    peer.givenEndpointTried = !retry || !peer.givenEndpointTried;
    return peer.givenEndpointTried ? peer.givenEndpoint : peer.endpoint;
  }

  #sendInitiation(peer: Peer, retry = false): void {
    const { handshake } = peer;
    if (handshake === undefined) return;
    const endpoint = this.#chooseEndpoint(peer, retry);
    this.#byIndex.delete(handshake.local);
    handshake.local = this.#newIndex(peer);
    handshake.sentAt = this.#host.now();
    const message = new Uint8Array(148);
    message[0] = 1;
    const view = viewOf(message);
    view.setUint32(4, handshake.local, true);
    const theirs = fromHex(peer.config.sessionKey) ?? ZERO_KEY;
    const ours = fromHex(this.#key) ?? ZERO_KEY;
    message.set(ours, 8);
    message.set(theirs, 40);
    view.setBigUint64(72, pskHash(peer, ours, theirs), true);
    view.setFloat64(80, handshake.sentAt, true);
    this.#transmit(peer, message, endpoint);
  }

  /** To wherever the peer is reached. @param endpoint of a peer without paths */
  #transmit(peer: Peer, message: Uint8Array, endpoint = peer.endpoint): void {
    const sendingBy = peer.paths?.sendingBy ?? [];
    for (const [index, path] of sendingBy.entries()) {
      if (index > 0) this.#count('path_duplicates_sent');
      this.#transmitBy(path, message, peer);
    }
    if (sendingBy.length > 0) return;
    if (endpoint === undefined) this.#needPath(peer);
    else this.#transmitTo({ remote: endpoint, local: undefined }, message, peer);
  }

  #transmitBy(path: Path, message: Uint8Array, peer: Peer): void {
    if (message[0] === TRANSPORT) {
      path.sentPackets++;
      path.sentBytes += message.length;
    }
    this.#transmitTo(path, message, peer);
  }

  #transmitTo({ remote, local }: PathEnds, message: Uint8Array, peer: Peer): void {
    if ('address' in remote) {
      this.#host.send(remote.address, message, local);
      return;
    }
    const next = this.#legs.get(remote.leg)?.next;
    if (next === undefined) {
      this.#needPath(peer);
      return;
    }
    const { id: legId, key, epoch, address } = next;
    const frame = encodeFrame({
      kind: FrameKind.forward,
      hopLimit: HOP_LIMIT_DEFAULT,
      epoch,
      legId,
      key,
      payload: message,
    });
    const sent = this.#sent.get(remote.leg) ?? { packets: 0, bytes: 0 };
    this.#sent.set(remote.leg, { packets: sent.packets + 1, bytes: sent.bytes + frame.length });
    this.#host.send(address, frame);
  }

  #needPath(peer: Peer): void {
    const now = this.#host.now();
    if (now - peer.pathNeededAt < PATH_NEEDED_INTERVAL) return;
    peer.pathNeededAt = now;
    this.#host.event({ type: 'path-needed', peer: peer.config.sessionKey });
  }

  #receiveSession(message: Uint8Array, from: PathEnds): void {
    switch (message[0]) {
      case 1:
        this.#receiveInitiation(message, from);
        break;
      case 2:
        this.#receiveResponse(message, from);
        break;
      case 4:
        this.#receiveTransport(message, from);
        break;
      default:
        this.#count('drop_session');
    }
  }

  #receiveInitiation(message: Uint8Array, from: PathEnds): void {
    const view = viewOf(message);
    const theirs = message.slice(8, 40);
    const ours = message.slice(40, 72);
    const peer = this.#peers.get(toHex(theirs));
    const time = view.getFloat64(80, true);
    if (
      peer === undefined ||
      toHex(ours) !== this.#key ||
      time <= peer.lastInitiation ||
      view.getBigUint64(72, true) !== pskHash(peer, theirs, ours)
    ) {
      this.#count('drop_initiation');
      return;
    }
    peer.lastInitiation = time;
    if (peer.next !== undefined) this.#byIndex.delete(peer.next.local);
    forgetGiven(peer);
    const remote = view.getUint32(4, true);
    peer.next = this.#keypair(this.#newIndex(peer), remote, false);
    this.#roam(peer, from);
    const response = new Uint8Array(92);
    response[0] = 2;
    const out = viewOf(response);
    out.setUint32(4, peer.next.local, true);
    out.setUint32(8, remote, true);
    out.setBigUint64(12, pskHash(peer, ours, theirs), true);
    this.#answer(peer, from, response);
  }

  #receiveResponse(message: Uint8Array, from: PathEnds): void {
    const view = viewOf(message);
    const peer = this.#byIndex.get(view.getUint32(8, true));
    const { handshake } = peer ?? {};
    if (peer === undefined || handshake?.local !== view.getUint32(8, true)) {
      this.#count('drop_response');
      return;
    }
    const theirs = fromHex(peer.config.sessionKey) ?? ZERO_KEY;
    if (view.getBigUint64(12, true) !== pskHash(peer, theirs, fromHex(this.#key) ?? ZERO_KEY)) {
      this.#count('drop_response');
      return;
    }
    peer.handshake = undefined;
    forgetGiven(peer);
    this.#install(peer, this.#keypair(handshake.local, view.getUint32(4, true), true));
    this.#roam(peer, from);
    this.#sessionUp(peer, true, from);
  }

  #receiveTransport(message: Uint8Array, from: PathEnds): void {
    const view = viewOf(message);
    const index = view.getUint32(4, true);
    const peer = this.#byIndex.get(index);
    const keypair = [peer?.current, peer?.next, peer?.previous].find(
      (candidate) => candidate?.local === index,
    );
    const counter = view.getBigUint64(8, true);
    if (
      peer === undefined ||
      keypair === undefined ||
      this.#host.now() - keypair.createdAt >= REJECT_AFTER_TIME ||
      keypair.received.has(counter)
    ) {
      this.#count('drop_transport');
      return;
    }
    keypair.received.add(counter);
    peer.unansweredSince = undefined;
    const payload = message.slice(16, message.length - 16);
    const frame = isPathFrame(payload);
    const confirmed = keypair === peer.next;
    if (confirmed) {
      peer.next = undefined;
      this.#install(peer, keypair);
    }
    if (!frame) this.#roam(peer, from);
    const path = peer.paths?.received(from, message.length, this.#host.now());
    if (confirmed) this.#sessionUp(peer, false, from);
    if (frame) this.#receivePathFrame(peer, keypair, payload, from, path);
    else if (payload.length > 0) {
      const event = peer.paths?.dataReceived(path, from, this.#host.now());
      if (event !== undefined) this.#host.event({ ...event, peer: peer.config.sessionKey });
      const pong = pongTo(payload);
      if (isInner(payload)) this.#receiveInner(peer, payload);
      else if (pong !== undefined) this.#sendData(peer, pong);
      else this.#host.event({ type: 'control', peer: peer.config.sessionKey, payload });
    }
    if (peer.paths !== undefined) this.#servePaths(peer, peer.paths);
  }

  #receiveInner({ config }: Peer, packet: Uint8Array): void {
    if (config.allowedIps.length === 0) this.#count('drop_inner_source');
    else this.#host.inner?.(config.sessionKey, packet);
  }

  // Paths

  #setPaths(set: PeerPaths): void {
    const peer = this.#peers.get(set.peer);
    if (peer === undefined) return;
    if (set.paths === undefined) {
      peer.paths = undefined;
      return;
    }
    const { active } = peer.paths ?? {};
    // Reached where it was until an endpoint says otherwise.
    if (active !== undefined && set.paths.length === 0) peer.endpoint ??= active.remote;
    peer.paths ??= new PathSet(this.#host.now());
    peer.paths.set(set, set.paths);
  }

  #sendProbe({ peer: key, token, to, size }: PathProbe): void {
    const peer = this.#peers.get(key);
    const keypair = peer?.current;
    if (
      peer === undefined ||
      keypair === undefined ||
      this.#host.now() - keypair.createdAt >= REJECT_AFTER_TIME
    ) {
      this.#count('drop_probe_unsent');
      return;
    }
    const framing = 'leg' in to.remote ? FRAME_HEADER_SIZE : 0;
    const probe = encodeProbe(token, this.#nanoseconds(), probePayloadSize(size, framing));
    this.#count('path_probes_sent');
    this.#answer(peer, to, seal(keypair, probe, probe.length));
  }

  /** Sends by these ends, wherever else the peer is reached. */
  #answer(peer: Peer, to: PathEnds, message: Uint8Array): void {
    const path = peer.paths?.pathAt(to);
    if (path === undefined) this.#transmitTo(to, message, peer);
    else this.#transmitBy(path, message, peer);
  }

  #receivePathFrame(
    peer: Peer,
    keypair: Keypair,
    payload: Uint8Array,
    from: PathEnds,
    path: Path | undefined,
  ): void {
    const frame = decodePathFrame(payload);
    const { paths } = peer;
    if (frame === undefined || paths === undefined) {
      this.#count('drop_path_frame');
      return;
    }
    const now = this.#host.now();
    const key = peer.config.sessionKey;
    if (frame.kind !== 'probe' && path !== undefined && paths.heard(path))
      this.#host.event({ type: 'path-heard', peer: key, path: path.id });
    if (frame.kind === 'probe') {
      if (!paths.mayAnswer(now)) {
        this.#count('drop_path_rate');
        return;
      }
      const framing = 'leg' in from.remote ? FRAME_HEADER_SIZE : 0;
      const observed = 'address' in from.remote ? from.remote.address : undefined;
      const answer = encodeProbeAnswer(frame, observed, payload.length + TRANSPORT_OVERHEAD + framing);
      this.#count('path_probes_answered');
      this.#answer(peer, from, seal(peer.current ?? keypair, answer));
      if (path === undefined && paths.mayTellOfProbe(now))
        this.#host.event({ type: 'probe-from', peer: key, from });
    } else if (frame.kind === 'answer') {
      if (paths.mayTellOfAnswer(now)) this.#probeAnswered(key, frame, from);
      else this.#count('drop_path_rate');
    } else if (path !== undefined && paths.reportReceived(path, now)) {
      const { id, sentPackets: sent } = path;
      this.#host.event({ type: 'path-report', peer: key, path: id, sent, received: Number(frame.received) });
    }
  }

  #probeAnswered(
    peer: SessionKey,
    { token, stamp, observed, size }: Extract<PathFrame, { readonly kind: 'answer' }>,
    at: PathEnds,
  ): void {
    const rttMs = Number(this.#nanoseconds() - stamp) / 1e6;
    this.#host.event({ type: 'probe-answer', peer, token, at, rttMs, observed, size });
  }

  /** Sends what reports are due, and finds out whether the active path is silent. */
  #servePaths(peer: Peer, paths: PathSet): void {
    const now = this.#host.now();
    const { current } = peer;
    for (const path of paths.takeReports(now))
      if (current !== undefined)
        this.#transmitBy(path, seal(current, encodePathReport(BigInt(path.receivedPackets))), peer);
    const silent = paths.takeSilence(now);
    if (silent !== undefined)
      this.#host.event({ type: 'path-silent', peer: peer.config.sessionKey, path: silent.id });
  }

  #sessionUp(peer: Peer, initiator: boolean, from: PathEnds): void {
    const { current, endpoint, staged, paths } = peer;
    if (current === undefined) return;
    const waiting = staged.splice(0);
    // The initiator confirms at once: the responder does not send before it has heard the new key.
    if (initiator && paths?.active !== undefined) this.#answer(peer, from, seal(current, new Uint8Array(0)));
    else if (waiting.length === 0 && initiator) this.#sendTransport(peer, current, new Uint8Array(0));
    for (const payload of waiting) this.#sendTransport(peer, current, payload);
    const reached = paths?.active === undefined ? endpoint : from.remote;
    if (reached !== undefined)
      this.#host.event({ type: 'session', peer: peer.config.sessionKey, endpoint: reached });
  }

  #install(peer: Peer, keypair: Keypair): void {
    if (peer.previous !== undefined) this.#byIndex.delete(peer.previous.local);
    peer.previous = peer.current;
    peer.current = keypair;
  }

  /** Nothing but the path set moves a peer that has one. */
  #roam(peer: Peer, { remote: endpoint }: PathEnds): void {
    if (peer.paths?.active !== undefined) return;
    if (peer.endpoint !== undefined && sameEndpoint(peer.endpoint, endpoint)) return;
    peer.endpoint = endpoint;
    if (this.#host.now() >= peer.endpointToldAt + ENDPOINT_INTERVAL) this.#tellEndpoint(peer);
    else peer.endpointUntold = true;
  }

  #tellEndpoint(peer: Peer): void {
    peer.endpointUntold = false;
    peer.endpointToldAt = this.#host.now();
    const { endpoint } = peer;
    if (endpoint !== undefined)
      this.#host.event({ type: 'endpoint', peer: peer.config.sessionKey, endpoint });
  }

  #keypair(local: number, remote: number, initiator: boolean): Keypair {
    return { local, remote, initiator, createdAt: this.#host.now(), sent: 0n, received: new Set() };
  }

  #newIndex(peer: Peer): number {
    for (;;) {
      const index = this.#prng.u32();
      if (this.#byIndex.has(index)) continue;
      this.#byIndex.set(index, peer);
      return index;
    }
  }

  #nanoseconds(): bigint {
    return BigInt(Math.round(this.#host.now() * 1e6));
  }

  #count(name: string): void {
    this.counters.set(name, (this.counters.get(name) ?? 0) + 1);
  }
}

const ZERO_KEY = new Uint8Array(32);

const isInner = ([first = 0]: Uint8Array): boolean => first >> 4 === 4 || first >> 4 === 6;

/** The longest packet a path's datagrams have room for. */
function innerLimit(path: Path | undefined): number {
  if (path?.plpmtu === undefined) return Infinity;
  return path.plpmtu - TRANSPORT_OVERHEAD - ('leg' in path.remote ? FRAME_HEADER_SIZE : 0);
}

/** @param limit padding does not go beyond it */
function seal(keypair: Keypair, payload: Uint8Array, limit = Infinity): Uint8Array {
  const padded = Math.max(payload.length, Math.min(Math.ceil(payload.length / 16) * 16, limit));
  const message = new Uint8Array(TRANSPORT_OVERHEAD + padded);
  message[0] = 4;
  viewOf(message).setUint32(4, keypair.remote, true);
  viewOf(message).setBigUint64(8, keypair.sent++, true);
  message.set(payload, 16);
  return message;
}

const leadsBy = (leg: number, endpoint: PeerEndpoint | undefined): boolean =>
  endpoint !== undefined && 'leg' in endpoint && endpoint.leg === leg;

function forgetGiven(peer: Peer): void {
  peer.givenEndpoint = undefined;
  peer.givenEndpointTried = false;
}

function pskHash({ config }: Peer, initiator: Uint8Array, responder: Uint8Array): bigint {
  return siphash24((config.presharedKey ?? ZERO_KEY).slice(0, 16), concat(initiator, responder));
}
