// One peer of a simulated engine: an abstract WireGuard session (session-messages.ts) with its indices, timers,
// staging and roaming. Where it is reached, and its paths, are decided by the wasm engine's own code. Sans-IO:
// `step` brings time and randomness, `outputs` takes datagrams and events.

import type { PeerConfig, SessionKey } from '../../contract/engine.js';
import type { PathCounts, PathEnds, PathProbe, PeerPaths } from '../../contract/path-control.js';
import type { Step } from '../../contract/step.js';
import { PeerPathUse } from '../../engine/wasm/peer-paths.js';
import { RoamingEndpoint } from '../../engine/wasm/roaming-endpoint.js';
import type { SessionOutput } from '../../engine/wasm/session-output.js';
import { StagedPayloads } from '../../engine/wasm/staged-payloads.js';
import { fromHex, toHex } from '../../wire/bytes.js';
import { isControlPlane } from '../../wire/control-plane.js';
import { FRAME_HEADER_SIZE } from '../../wire/frame.js';
import { isPathFrame, TRANSPORT_OVERHEAD } from '../../wire/path-frame.js';
import { pongTo } from '../../wire/ping-frame.js';
import {
  ENDPOINT_INTERVAL,
  INITIATION_INTERVAL,
  NEW_HANDSHAKE_TIMEOUT,
  PATH_NEEDED_INTERVAL,
  REJECT_AFTER_TIME,
  REKEY_AFTER_TIME,
  REKEY_ATTEMPT_TIME,
  REKEY_TIMEOUT,
} from '../../wire/session-constants.js';
import {
  encodeInitiation,
  encodeResponse,
  encodeTransport,
  pskHash,
  type Initiation,
  type Response,
  type Transport,
} from './session-messages.js';

export type SimulatedOutput = SessionOutput<PathEnds>;

/** What the sessions of one engine share. */
export interface SimulatedSessionHost {
  /** The engine's own. */
  readonly sessionKey: SessionKey;
  /** Sessions by the receiver indices they answer to. */
  readonly indices: Map<number, SimulatedSession>;
  count(name: string): void;
  /** An inner packet of a peer's that has a route. */
  inner(peer: SessionKey, packet: Uint8Array): void;
}

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

const NO_KEY = new Uint8Array(32);
const KEEPALIVE = new Uint8Array(0);

export class SimulatedSession {
  readonly #host: SimulatedSessionHost;
  #config: PeerConfig;
  /** Where it is reached, unless it has paths. */
  readonly #endpoint = new RoamingEndpoint();
  readonly #paths: PeerPathUse<PathEnds>;
  readonly #staged = new StagedPayloads();
  #handshake: Handshake | undefined;
  #previous: Keypair | undefined;
  #current: Keypair | undefined;
  #next: Keypair | undefined;
  /** The time in the peer's last initiation. */
  #lastInitiation = -1;
  #pathNeededAt = -Infinity;
  /** When it was last told where the peer is, and whether it has moved since. */
  #endpointToldAt = -Infinity;
  #endpointUntold = false;
  /** Data was sent and nothing has come back since. */
  #unansweredSince: number | undefined;

  constructor(config: PeerConfig, host: SimulatedSessionHost) {
    this.#config = config;
    this.#host = host;
    this.#paths = new PeerPathUse({
      sessionKey: config.sessionKey,
      counters: { add: (name) => this.#host.count(name) },
      keepsWhole: true,
      endsOf: (ends) => ends,
      at: (ends) => ends,
      seal: (payload, step) => {
        const keypair = this.#usable(this.#current, step);
        return keypair && seal(keypair, payload, payload.length);
      },
      send: (datagram, to, _step, outputs) => outputs.push({ type: 'datagram', to, datagram }),
    });
    if (config.endpoint !== undefined) this.#endpoint.give(config.endpoint, false);
  }

  /** As it was configured last. */
  get config(): PeerConfig {
    return this.#config;
  }

  /** Bytes of the longest inner packet the peer's datagrams have room for. */
  get innerLimit(): number {
    const { active } = this.#paths;
    if (active?.plpmtu === undefined) return Infinity;
    return active.plpmtu - TRANSPORT_OVERHEAD - ('leg' in active.remote ? FRAME_HEADER_SIZE : 0);
  }

  configure(config: PeerConfig, step: Step, outputs: SimulatedOutput[]): void {
    if (toHex(this.#config.presharedKey ?? NO_KEY) !== toHex(config.presharedKey ?? NO_KEY)) this.end();
    this.#config = config;
    if (config.endpoint === undefined) return;
    const moves = config.redirect === true || this.#paths.active !== undefined || !this.#hasSession(step);
    this.#endpoint.give(config.endpoint, !moves);
    if (this.#staged.length > 0 && this.#current === undefined) this.startHandshake(step, outputs);
  }

  /** The keys are forgotten; what is staged waits for others. */
  end(): void {
    for (const keypair of [this.#previous, this.#current, this.#next, this.#handshake])
      if (keypair !== undefined) this.#host.indices.delete(keypair.local);
    this.#previous = this.#current = this.#next = this.#handshake = undefined;
    this.#unansweredSince = undefined;
  }

  /** A leg is gone, and whatever led there. */
  forgetLeg(leg: number): void {
    this.#endpoint.forgetLeg(leg);
  }

  /** @param limit bytes of payload that padding may fill */
  send(payload: Uint8Array, step: Step, outputs: SimulatedOutput[], limit = Infinity): void {
    const keypair = this.#usable(this.#current, step);
    if (keypair === undefined) {
      this.#staged.add(payload);
      if (this.#handshake === undefined) this.startHandshake(step, outputs);
      else if (this.#endpoint.current === undefined) this.needPath(step, outputs);
      return;
    }
    if (
      keypair.initiator &&
      step.now - keypair.createdAt >= REKEY_AFTER_TIME &&
      this.#handshake === undefined
    )
      this.startHandshake(step, outputs);
    this.#unansweredSince ??= step.now;
    const isControl = isControlPlane(payload);
    this.#paths.dataSent(isControl, step);
    this.#transmit(seal(keypair, payload, limit), step, outputs, this.#endpoint.current, isControl);
  }

  startHandshake(step: Step, outputs: SimulatedOutput[]): void {
    if (this.#endpoint.current === undefined && this.#paths.active === undefined) {
      this.needPath(step, outputs);
      return;
    }
    this.#handshake ??= { local: 0, startedAt: step.now, sentAt: -Infinity };
    if (step.now - this.#handshake.sentAt >= INITIATION_INTERVAL)
      this.#sendInitiation(this.#handshake, false, step, outputs);
  }

  /** There is no way to it: the control plane is asked for one, but not for each packet. */
  needPath(step: Step, outputs: SimulatedOutput[]): void {
    if (step.now - this.#pathNeededAt < PATH_NEEDED_INTERVAL) return;
    this.#pathNeededAt = step.now;
    outputs.push({ type: 'event', event: { type: 'path-needed', peer: this.#config.sessionKey } });
  }

  receiveInitiation(message: Initiation, from: PathEnds, step: Step, outputs: SimulatedOutput[]): void {
    const { initiator, responder, sender, time } = message;
    if (
      toHex(responder) !== this.#host.sessionKey ||
      time <= this.#lastInitiation ||
      message.pskHash !== pskHash(this.#config.presharedKey, initiator, responder)
    ) {
      this.#host.count('drop_initiation');
      return;
    }
    this.#lastInitiation = time;
    if (this.#next !== undefined) this.#host.indices.delete(this.#next.local);
    this.#endpoint.forgetGiven();
    this.#next = newKeypair(this.#newIndex(step), sender, false, step);
    this.#roam(from, step, outputs);
    const response = encodeResponse({
      sender: this.#next.local,
      receiver: sender,
      pskHash: pskHash(this.#config.presharedKey, responder, initiator),
    });
    this.#paths.answer(response, from, step, outputs);
  }

  receiveResponse(message: Response, from: PathEnds, step: Step, outputs: SimulatedOutput[]): void {
    const handshake = this.#handshake;
    if (
      handshake?.local !== message.receiver ||
      message.pskHash !== pskHash(this.#config.presharedKey, this.#theirs, this.#ours)
    ) {
      this.#host.count('drop_response');
      return;
    }
    this.#handshake = undefined;
    this.#endpoint.forgetGiven();
    this.#install(newKeypair(handshake.local, message.sender, true, step));
    this.#roam(from, step, outputs);
    this.#sessionUp(true, from, step, outputs);
  }

  /** @param size bytes of the whole message */
  receiveTransport(
    { receiver, counter, payload }: Transport,
    size: number,
    from: PathEnds,
    step: Step,
    outputs: SimulatedOutput[],
  ): void {
    const keypair = this.#usable(
      [this.#current, this.#next, this.#previous].find((candidate) => candidate?.local === receiver),
      step,
    );
    if (keypair === undefined || keypair.received.has(counter)) {
      this.#host.count('drop_transport');
      return;
    }
    keypair.received.add(counter);
    this.#unansweredSince = undefined;
    const isFrame = isPathFrame(payload);
    const isConfirmed = keypair === this.#next;
    if (isConfirmed) {
      this.#next = undefined;
      this.#install(keypair);
    }
    if (!isFrame) this.#roam(from, step, outputs);
    if (isConfirmed) this.#sessionUp(false, from, step, outputs);
    if (isFrame) {
      this.#paths.receivedFrame(payload, from, size, step, outputs);
      return;
    }
    this.#paths.received(from, size, payload.length > 0, step, outputs);
    if (payload.length > 0) this.#receivePayload(payload, step, outputs);
  }

  #receivePayload(payload: Uint8Array, step: Step, outputs: SimulatedOutput[]): void {
    const { sessionKey: peer, allowedIps } = this.#config;
    const pong = pongTo(payload);
    if (isInner(payload)) {
      if (allowedIps.length === 0) this.#host.count('drop_inner_source');
      else this.#host.inner(peer, payload);
    } else if (pong !== undefined) this.send(pong, step, outputs);
    else outputs.push({ type: 'event', event: { type: 'control', peer, payload } });
  }

  handleTimeout(step: Step, outputs: SimulatedOutput[]): void {
    const { now } = step;
    const handshake = this.#handshake;
    if (this.#endpointUntold && now >= this.#endpointToldAt + ENDPOINT_INTERVAL)
      this.#tellEndpoint(step, outputs);
    if (handshake !== undefined && now >= handshake.startedAt + REKEY_ATTEMPT_TIME) {
      this.#host.indices.delete(handshake.local);
      this.#handshake = undefined;
      this.#staged.clear();
      outputs.push({ type: 'event', event: { type: 'session-lost', peer: this.#config.sessionKey } });
    } else if (handshake !== undefined && now >= handshake.sentAt + REKEY_TIMEOUT)
      this.#sendInitiation(handshake, true, step, outputs);
    else if (
      handshake === undefined &&
      this.#unansweredSince !== undefined &&
      now >= this.#unansweredSince + NEW_HANDSHAKE_TIMEOUT
    ) {
      this.#unansweredSince = undefined;
      this.startHandshake(step, outputs);
    }
    this.#paths.serve(step, outputs);
  }

  /** When handleTimeout has something to do; Infinity = never. */
  deadline(): number {
    const handshake = this.#handshake;
    let deadline = this.#paths.deadline() ?? Infinity;
    if (handshake !== undefined)
      deadline = Math.min(
        deadline,
        handshake.sentAt + REKEY_TIMEOUT,
        handshake.startedAt + REKEY_ATTEMPT_TIME,
      );
    else if (this.#unansweredSince !== undefined)
      deadline = Math.min(deadline, this.#unansweredSince + NEW_HANDSHAKE_TIMEOUT);
    return this.#endpointUntold ? Math.min(deadline, this.#endpointToldAt + ENDPOINT_INTERVAL) : deadline;
  }

  // Paths: as PathControl

  setPaths(set: PeerPaths, step: Step): void {
    const { active } = this.#paths;
    this.#paths.set(set, step);
    // Reached where it was until an endpoint says otherwise.
    if (active !== undefined && this.#paths.active === undefined) this.#endpoint.fallBackTo(active.remote);
  }

  /** false: there is no session to send it in. */
  sendProbe(probe: PathProbe, step: Step, outputs: SimulatedOutput[]): boolean {
    return this.#paths.sendProbe(probe, step, outputs);
  }

  pathCounts(now: number): PathCounts[] {
    return this.#paths.counts(now);
  }

  // Keys

  get #ours(): Uint8Array {
    return fromHex(this.#host.sessionKey) ?? NO_KEY;
  }

  get #theirs(): Uint8Array {
    return fromHex(this.#config.sessionKey) ?? NO_KEY;
  }

  #usable(keypair: Keypair | undefined, { now }: Step): Keypair | undefined {
    return keypair !== undefined && now - keypair.createdAt < REJECT_AFTER_TIME ? keypair : undefined;
  }

  #hasSession(step: Step): boolean {
    return [this.#current, this.#next].some((keypair) => this.#usable(keypair, step) !== undefined);
  }

  #newIndex(step: Step): number {
    for (;;) {
      const index = Buffer.from(step.random(4)).readUInt32LE();
      if (this.#host.indices.has(index)) continue;
      this.#host.indices.set(index, this);
      return index;
    }
  }

  #install(keypair: Keypair): void {
    if (this.#previous !== undefined) this.#host.indices.delete(this.#previous.local);
    this.#previous = this.#current;
    this.#current = keypair;
  }

  // Sending

  #sendInitiation(handshake: Handshake, repeated: boolean, step: Step, outputs: SimulatedOutput[]): void {
    const to = this.#endpoint.forInitiation(repeated, this.#hasSession(step));
    this.#host.indices.delete(handshake.local);
    handshake.local = this.#newIndex(step);
    handshake.sentAt = step.now;
    const message = encodeInitiation({
      sender: handshake.local,
      initiator: this.#ours,
      responder: this.#theirs,
      pskHash: pskHash(this.#config.presharedKey, this.#ours, this.#theirs),
      time: step.now,
    });
    this.#transmit(message, step, outputs, to);
  }

  /** To wherever the peer is reached. @param endpoint of a peer without paths @param isControl whether the control plane sends it */
  #transmit(
    datagram: Uint8Array,
    step: Step,
    outputs: SimulatedOutput[],
    endpoint = this.#endpoint.current,
    isControl = false,
  ): void {
    if (this.#paths.active !== undefined) this.#paths.transmit(datagram, isControl, step, outputs);
    else if (endpoint === undefined) this.needPath(step, outputs);
    else outputs.push({ type: 'datagram', to: { remote: endpoint, local: undefined }, datagram });
  }

  #sessionUp(initiator: boolean, from: PathEnds, step: Step, outputs: SimulatedOutput[]): void {
    const current = this.#current;
    if (current === undefined) return;
    // The initiator confirms at once: the responder does not send before it has heard the new key.
    if (initiator && this.#paths.active !== undefined)
      this.#paths.answer(seal(current, KEEPALIVE), from, step, outputs);
    else if (this.#staged.length === 0 && initiator) this.#transmit(seal(current, KEEPALIVE), step, outputs);
    for (let payload = this.#staged.take(); payload !== undefined; payload = this.#staged.take())
      this.#transmit(seal(current, payload), step, outputs);
    const endpoint = this.#paths.active === undefined ? this.#endpoint.current : from.remote;
    if (endpoint !== undefined)
      outputs.push({ type: 'event', event: { type: 'session', peer: this.#config.sessionKey, endpoint } });
  }

  // Where it is

  /** Nothing but its paths moves a peer that has some. */
  #roam({ remote }: PathEnds, step: Step, outputs: SimulatedOutput[]): void {
    if (this.#paths.active !== undefined || this.#endpoint.heard(remote) === undefined) return;
    if (step.now >= this.#endpointToldAt + ENDPOINT_INTERVAL) this.#tellEndpoint(step, outputs);
    else this.#endpointUntold = true;
  }

  #tellEndpoint(step: Step, outputs: SimulatedOutput[]): void {
    this.#endpointUntold = false;
    this.#endpointToldAt = step.now;
    const endpoint = this.#endpoint.current;
    if (endpoint === undefined) return;
    outputs.push({ type: 'event', event: { type: 'endpoint', peer: this.#config.sessionKey, endpoint } });
  }
}

/** @param limit as for encodeTransport */
function seal(keypair: Keypair, payload: Uint8Array, limit = Infinity): Uint8Array {
  return encodeTransport({ receiver: keypair.remote, counter: keypair.sent++, payload }, limit);
}

const newKeypair = (local: number, remote: number, initiator: boolean, { now }: Step): Keypair => ({
  local,
  remote,
  initiator,
  createdAt: now,
  sent: 0n,
  received: new Set(),
});

const isInner = ([first = 0]: Uint8Array): boolean => first >> 4 === 4 || first >> 4 === 6;
