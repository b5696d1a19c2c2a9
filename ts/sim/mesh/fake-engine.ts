// An engine for the simulator. Frames are judged by the protocol's own model (wire/forwarding-table.ts), sessions are
// abstract ones (simulated-session.ts); datagrams, events and inner packets go to a host.

import type {
  EngineEvent,
  LegCounts,
  WireguardBinding,
  PeerConfig,
  SessionKey,
} from '../../contract/engine.js';
import type { LocalSource, PathControl, PathEnds } from '../../contract/path-control.js';
import { requirePaths, requirePorts, requireProbes } from '../../contract/path-arguments.js';
import type { Step } from '../../contract/step.js';
import type { EffectEngine } from '../../core/runtime/carry-out.js';
import { encodeFrame, FRAME_HEADER_SIZE, FrameKind, HOP_LIMIT_DEFAULT } from '../../wire/frame.js';
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
import type { SocketAddress } from '../../wire/socket-address.js';
import { toHex } from '../../wire/bytes.js';
import type { Prng } from '../kernel/prng.js';
import {
  decodeInitiation,
  decodeResponse,
  decodeTransport,
  INITIATION,
  RESPONSE,
  TRANSPORT,
} from './session-messages.js';
import { SimulatedSession, type SimulatedOutput, type SimulatedSessionHost } from './simulated-session.js';

/** Chooses a prefix's bucket. Not secret: no simulated sender aims at the bucket of another. */
const PREFIX_KEY = 0x9e3779b97f4a7c15n;

/** Datagrams and events go out by these. */
export interface FakeEngineHost {
  now(): number;
  /** @param local undefined: the host chooses */
  send(to: SocketAddress, datagram: Uint8Array, local?: LocalSource): void;
  event(event: EngineEvent): void;
  /** The host listens at these too, and nowhere else beside its own port; default: at none. */
  setPorts?(ports: readonly SocketAddress[]): void;
  /** An inner packet of a peer's; default: it is dropped. */
  inner?(peer: SessionKey, packet: Uint8Array): void;
}

export class FakeEngine implements EffectEngine {
  readonly #host: FakeEngineHost;
  readonly #prng: Prng;
  readonly #table: ForwardingTableModel;
  readonly #legs = new Map<number, Leg>();
  readonly #peers = new Map<SessionKey, SimulatedSession>();
  readonly #sessions: SimulatedSessionHost;
  /** Frames sent on the way back of a `deliver` leg. */
  readonly #sent = new Map<number, { packets: number; bytes: number }>();
  /** As the core set them last; the simulated engine relays no stock clients. */
  wireguardBindings: readonly WireguardBinding[] = [];
  readonly paths: PathControl = {
    keepsWhole: true,
    setPaths: (sets) => {
      requirePaths(sets);
      for (const set of sets) this.#peers.get(set.peer)?.setPaths(set, this.#step);
    },
    setPorts: (ports) => {
      requirePorts(ports);
      this.#host.setPorts?.(ports);
    },
    sendProbes: (probes) => {
      requireProbes(probes);
      for (const probe of probes) {
        const sent = this.#act(probe.peer, (peer, outputs) => peer.sendProbe(probe, this.#step, outputs));
        this.#count(sent === true ? 'path_probes_sent' : 'drop_probe_unsent');
      }
    },
    pathCounts: (peer) => this.#peers.get(peer)?.pathCounts(this.#host.now()) ?? [],
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
    this.#prng = prng;
    this.#host = host;
    this.#sessions = {
      sessionKey,
      indices: new Map(),
      count: (name) => this.#count(name),
      inner: (peer, packet) => host.inner?.(peer, packet),
    };
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
    for (const { peer: key, payload } of messages)
      this.#act(key, (peer, outputs) => peer.send(payload, this.#step, outputs));
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
    const limit = peer.innerLimit;
    if (packet.length > limit) {
      this.#count('too_big_sent');
      return limit;
    }
    this.#act(key, (_, outputs) => peer.send(packet, this.#step, outputs, limit));
    return undefined;
  }

  setPeers(peers: readonly PeerConfig[]): void {
    for (const config of peers) {
      const key = config.sessionKey;
      if (this.#peers.has(key))
        this.#act(key, (peer, outputs) => peer.configure(config, this.#step, outputs));
      else this.#peers.set(key, new SimulatedSession(config, this.#sessions));
    }
  }

  removePeers(keys: readonly SessionKey[]): void {
    for (const key of keys) {
      this.#peers.get(key)?.end();
      this.#peers.delete(key);
    }
  }

  handshake(key: SessionKey): void {
    this.#act(key, (peer, outputs) => peer.startHandshake(this.#step, outputs));
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
      for (const peer of this.#peers.values()) peer.forgetLeg(id);
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

  #receiveSession(message: Uint8Array, from: PathEnds): void {
    const { indices } = this.#sessions;
    switch (message[0]) {
      case INITIATION: {
        const initiation = decodeInitiation(message);
        const key = toHex(initiation.initiator);
        if (this.#peers.has(key))
          this.#act(key, (peer, outputs) => peer.receiveInitiation(initiation, from, this.#step, outputs));
        else this.#count('drop_initiation');
        break;
      }
      case RESPONSE: {
        const response = decodeResponse(message);
        const peer = indices.get(response.receiver);
        if (peer === undefined) this.#count('drop_response');
        else this.#run(peer, (outputs) => peer.receiveResponse(response, from, this.#step, outputs));
        break;
      }
      case TRANSPORT: {
        const transport = decodeTransport(message);
        const peer = indices.get(transport.receiver);
        if (peer === undefined) this.#count('drop_transport');
        else
          this.#run(peer, (outputs) =>
            peer.receiveTransport(transport, message.length, from, this.#step, outputs),
          );
        break;
      }
      default:
        this.#count('drop_session');
    }
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
    for (const peer of this.#peers.values())
      this.#run(peer, (outputs) => peer.handleTimeout(this.#step, outputs));
  }

  /** When handleTimeout has something to do. */
  deadline(): number | undefined {
    let deadline = Infinity;
    for (const peer of this.#peers.values()) deadline = Math.min(deadline, peer.deadline());
    return deadline === Infinity ? undefined : deadline;
  }

  /** Does something with a peer, if there is such a one, and sends what comes of it. */
  #act<T>(key: SessionKey, does: (peer: SimulatedSession, outputs: SimulatedOutput[]) => T): T | undefined {
    const peer = this.#peers.get(key);
    return peer && this.#run(peer, (outputs) => does(peer, outputs));
  }

  #run<T>(peer: SimulatedSession, does: (outputs: SimulatedOutput[]) => T): T {
    const outputs: SimulatedOutput[] = [];
    const result = does(outputs);
    for (const output of outputs)
      if (output.type === 'event') this.#host.event(output.event);
      else if (output.type === 'datagram' && !this.#sendTo(output.to, output.datagram))
        peer.needPath(this.#step, outputs);
    return result;
  }

  /** false: the leg it would go by is not there. */
  #sendTo({ remote, local }: PathEnds, datagram: Uint8Array): boolean {
    if ('address' in remote) {
      this.#host.send(remote.address, datagram, local);
      return true;
    }
    const next = this.#legs.get(remote.leg)?.next;
    if (next === undefined) return false;
    const { id: legId, key, epoch, address } = next;
    const frame = encodeFrame({
      kind: FrameKind.forward,
      hopLimit: HOP_LIMIT_DEFAULT,
      epoch,
      legId,
      key,
      payload: datagram,
    });
    const sent = this.#sent.get(remote.leg) ?? { packets: 0, bytes: 0 };
    this.#sent.set(remote.leg, { packets: sent.packets + 1, bytes: sent.bytes + frame.length });
    this.#host.send(address, frame);
    return true;
  }

  get #step(): Step {
    const now = this.#host.now();
    return { now, wallClock: now, random: (length) => this.#prng.bytes(length) };
  }

  #nanoseconds(): bigint {
    return BigInt(Math.round(this.#host.now() * 1e6));
  }

  #count(name: string): void {
    this.counters.set(name, (this.counters.get(name) ?? 0) + 1);
  }
}
