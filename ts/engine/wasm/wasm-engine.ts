// The engine for machines where no addon can be built or loaded: node:dgram, relay forwarding in
// WebAssembly, WireGuard sessions over libsodium's. It relays and talks to the control plane; it has
// no TUN interface. This file joins the parts; each decides for itself.
//
//   socket ── forwarding table ─┬─ forward ──────────────────────────── socket
//                               ├─ deliver ── inner WireGuard ─┐
//                               ├─ wireguard ──────────────────┴ sessions ── control events
//                               ├─ control ── budget ─────────────────────── frame events
//                               └─ stun ───── budget ── answer ───────────── socket

import { randomBytes } from 'node:crypto';
import type { Step } from '../../contract/step.js';
import { CONTACT_LEG, FRAME_HEADER_SIZE } from '../../wire/frame.js';
import { NO_ACCOUNTS, classify } from '../../wire/forwarding-table.js';
import type { Leg } from '../../wire/leg.js';
import { encodeLegEntry, legEntry, type LegEntry } from '../../wire/leg-entry.js';
import {
  requireAccounts,
  type AccountCapacity,
  type AccountKind,
  type LegLimits,
  type PrefixLimit,
  type RateLimit,
} from '../../wire/limits.js';
import type { SocketAddress } from '../../wire/socket-address.js';
import {
  EngineError,
  type Engine,
  type EngineDescription,
  type EngineEvent,
  type EngineOptions,
  type LegCounts,
  type LegStatus,
  type PeerConfig,
  type PeerStatus,
  type SessionKey,
  type WireguardBinding,
  type WireguardUsage,
  type WorkerStatus,
} from '../../contract/engine.js';
import { Alarm } from './alarm.js';
import {
  requireControlPayload,
  requireFrame,
  requireOptions,
  requirePeer,
  requireSessionKey,
} from './arguments.js';
import type { AccountStatus } from '../../contract/limit-control.js';
import { requirePaths, requirePorts, requireProbes } from '../../contract/path-arguments.js';
import type { PathControl, PathEnds } from '../../contract/path-control.js';
import { Counters } from './counters.js';
import type { Endpoint } from './endpoint.js';
import { EventBatches } from './event-batches.js';
import { openForwarding, type Forwarding } from './forwarding-choice.js';
import { ReturnAddresses } from './return-addresses.js';
import { RouteWatch } from './route-watch.js';
import type { SessionOutput } from './session-output.js';
import { SessionTable } from './session-table.js';
import { StrangerBudgets } from './stranger-budgets.js';
import { answerBindingRequest } from './stun.js';
import { TableLimits } from './table-limits.js';
import type { LocalAddress } from './local-address.js';
import { UdpShell, type HostInterfaces } from './udp-shell.js';
import { WaysBack } from './ways-back.js';

/** Strangers whose way back is remembered, as in the native engine. */
const STRANGERS = 4096;

/**
 * Opens the fallback engine.
 * @param interfaces the host's, with the addresses to answer from
 * @throws EngineError BAD_ARGUMENT, TUN_FAILED (it has none), PORT_IN_USE, BIND_FAILED
 */
export async function openWasmEngine(options: EngineOptions, interfaces?: HostInterfaces): Promise<Engine> {
  requireOptions(options);
  const forwarding = openForwarding(options.maxLegs, options.accounts ?? NO_ACCOUNTS, options.disable ?? []);
  const engine = new WasmEngine(options, forwarding);
  await engine.bind(options, interfaces);
  return engine;
}

class WasmEngine implements Engine {
  readonly #counters = new Counters();
  readonly #sessions: SessionTable;
  readonly #forwarding: Forwarding;
  readonly #maxLegs: number;
  readonly #accounts: AccountCapacity;
  readonly #limits: TableLimits;
  /** Frames that legs refused, by leg id. */
  readonly #refused = new Map<number, number>();
  readonly #waysBack = new WaysBack();
  /** Of those a frame on a leg or a session came from. */
  readonly #provenRemotes: ReturnAddresses;
  /** Of those a contact frame came from; only control frames go there. */
  readonly #strangers = new ReturnAddresses(STRANGERS);
  readonly #budgets: StrangerBudgets;
  readonly paths: PathControl = {
    keepsWhole: false,
    setPaths: (sets) => {
      this.#open();
      requirePaths(sets);
      const leads = ({ remote }: PathEnds): boolean => !('leg' in remote) || this.#waysBack.has(remote.leg);
      const led = sets.map((set) => ({ ...set, paths: set.paths?.filter(leads) }));
      this.#act(this.#sessions.setPaths(led, step()));
    },
    setPorts: (ports) => {
      const socket = this.#open();
      requirePorts(ports);
      socket.setPorts(ports);
    },
    sendProbes: (probes) => {
      const socket = this.#open();
      requireProbes(probes);
      const leads = ({ remote, local }: PathEnds): boolean =>
        'leg' in remote ? this.#waysBack.has(remote.leg) : local === undefined || socket.sendsFrom(local);
      for (const probe of probes)
        if (leads(probe.to)) this.#act(this.#sessions.sendProbe(probe, step()));
        else this.#counters.add('drop_probe_unsent');
    },
    pathCounts: (peer) => {
      this.#open();
      return this.#sessions.pathCounts(peer, performance.now());
    },
  };
  readonly #events = new EventBatches();
  readonly #alarm = new Alarm(() => this.#act(this.#sessions.handleTimeout(step())));
  readonly #routes = new RouteWatch({
    review: (isForgotten) => this.#sessions.forgetLocal(isForgotten),
    avoid: (local, isAvoided) => this.#provenRemotes.avoid(local, isAvoided),
  });
  #socket: UdpShell | undefined;
  #closing: Promise<void> | undefined;

  constructor(options: EngineOptions, forwarding: Forwarding) {
    this.#sessions = new SessionTable(options.privateKey, options.maxPeers, this.#counters);
    this.#forwarding = forwarding;
    this.#provenRemotes = new ReturnAddresses(options.maxLegs + options.maxPeers);
    this.#maxLegs = options.maxLegs;
    this.#accounts = options.accounts ?? NO_ACCOUNTS;
    this.#limits = new TableLimits(forwarding.table, this.#accounts, nanoseconds);
    this.#budgets = new StrangerBudgets(options, step());
  }

  async bind(options: EngineOptions, interfaces: HostInterfaces | undefined): Promise<void> {
    const events = {
      onDatagram: (datagram: Uint8Array, from: SocketAddress, local: LocalAddress | undefined) =>
        this.#receive(datagram, from, local),
      onAddressGone: (local: LocalAddress) => {
        this.#provenRemotes.forget(local);
        this.#strangers.forget(local);
        this.#sessions.forgetLocal((_, known) => known === local);
      },
      onSendError: () => this.#counters.add('tx_errors'),
      onSendQueueFull: () => this.#counters.add('drop_send_queue'),
    };
    this.#socket = await UdpShell.open(options.port, options.bind, events, interfaces);
    this.#routes.start();
  }

  get port(): number {
    return this.#open().port;
  }

  describe(): EngineDescription {
    return {
      kind: 'wasm',
      summary: `wasm (${this.#forwarding.accelerator.state === 'on' ? 'AssemblyScript' : 'TypeScript'} forwarding, node:dgram)`,
      aead: 'ChaCha20-Poly1305 (libsodium WebAssembly)',
      accelerators: [this.#forwarding.accelerator],
      tun: undefined,
      wireguardRelay: false,
    };
  }

  onEvents(listener: (events: readonly EngineEvent[]) => void): void {
    this.#events.listener = listener;
  }

  setPeers(peers: readonly PeerConfig[]): void {
    this.#open();
    for (const peer of peers) {
      requirePeer(peer);
      const { endpoint } = peer;
      if (endpoint !== undefined && 'leg' in endpoint) this.#requireWayBack('endpoint', endpoint.leg);
    }
    this.#act(this.#sessions.setPeers(peers, step()));
  }

  #requireWayBack(field: string, leg: number): void {
    if (this.#waysBack.has(leg)) return;
    throw new EngineError(
      'BAD_ARGUMENT',
      `${field}: leg ${leg} is not an installed deliver leg with a way back; install it first`,
    );
  }

  removePeers(peers: readonly SessionKey[]): void {
    this.#open();
    this.#sessions.removePeers(peers);
  }

  installLegs(legs: readonly Leg[]): void {
    this.#open();
    const { table } = this.#forwarding;
    const entries = legs.map((leg) => validLegEntry(leg, this.#accounts));
    const added = new Set(legs.map(({ id }) => id).filter((id) => table.counters(id) === undefined));
    if (table.size + added.size > this.#maxLegs) {
      throw new EngineError(
        'TABLE_FULL',
        `${table.size + added.size} legs do not fit: maxLegs is ${this.#maxLegs}; remove some or raise it`,
      );
    }
    for (const entry of entries) {
      if (!table.install(entry))
        throw new Error('a forwarding table holds as many legs as it was opened for');
      if (entry.action === 'deliver' && entry.next !== undefined) this.#waysBack.set(entry.id, entry.next);
      else this.#forgetWayBack(entry.id);
      // Who had a leg at an earlier daemon comes again in the middle of whatever flood there is.
      if (entry.source !== undefined) this.#budgets.know(entry.source.ip, performance.now());
    }
  }

  removeLegs(ids: readonly number[]): void {
    this.#open();
    for (const id of ids) {
      this.#forwarding.table.remove(id);
      this.#refused.delete(id);
      this.#forgetWayBack(id);
    }
  }

  setLimits(index: number, limits: LegLimits): void {
    this.#open();
    this.#limits.setLimits(index, limits);
  }

  setAccountLimit(kind: AccountKind, index: number, limit: RateLimit | undefined): void {
    this.#open();
    this.#limits.setAccountLimit(kind, index, limit);
  }

  resetAccount(kind: AccountKind, index: number): void {
    this.#open();
    this.#limits.resetAccount(kind, index);
  }

  setHostLimit(limit: RateLimit | undefined): void {
    this.#open();
    this.#limits.setHostLimit(limit);
  }

  setPrefixLimit(limit: PrefixLimit | undefined): void {
    this.#open();
    this.#limits.setPrefixLimit(limit);
  }

  accounts(kind: AccountKind): readonly AccountStatus[] {
    this.#open();
    return this.#limits.accounts(kind);
  }

  sendFrames(frames: readonly { readonly to: SocketAddress; readonly frame: Uint8Array }[]): void {
    this.#open();
    for (const { to, frame } of frames) requireFrame(to, frame);
    for (const { to, frame } of frames)
      this.#transmit(to, frame, this.#provenRemotes.find(to) ?? this.#strangers.find(to));
  }

  sendControl(messages: readonly { readonly peer: SessionKey; readonly payload: Uint8Array }[]): void {
    this.#open();
    for (const { peer, payload } of messages) {
      requireSessionKey('peer', peer);
      requireControlPayload(payload);
    }
    const now = step();
    // Copied: a payload may be staged for longer than the caller keeps its buffer as it is.
    for (const { peer, payload } of messages) {
      this.#act(this.#sessions.sendControl(peer, Uint8Array.from(payload), now));
    }
  }

  handshake(peer: SessionKey): void {
    this.#open();
    requireSessionKey('peer', peer);
    this.#act(this.#sessions.startHandshake(peer, step()));
  }

  peers(): readonly PeerStatus[] {
    this.#open();
    return this.#sessions.peers(performance.now());
  }

  legs(): readonly LegStatus[] {
    this.#open();
    const now = nanoseconds();
    return this.#forwarding.table.legs().map(({ id, packets, bytes, lastUsed }) => ({
      id,
      packets: Number(packets),
      bytes: Number(bytes),
      refused: this.#refused.get(id) ?? 0,
      idleMs: lastUsed === 0n ? undefined : Number(now - lastUsed) / 1e6,
    }));
  }

  legCounters(ids: readonly number[]): readonly (LegCounts | undefined)[] {
    this.#open();
    return ids.map((id) => {
      const counters = this.#forwarding.table.counters(id);
      if (counters === undefined) return undefined;
      const { packets: sentPackets, bytes: sentBytes } = this.#waysBack.sent(id);
      return { packets: Number(counters.packets), bytes: Number(counters.bytes), sentPackets, sentBytes };
    });
  }

  setWireguardBindings(bindings: readonly WireguardBinding[]): void {
    this.#open();
    if (bindings.length > 0)
      throw new EngineError(
        'BAD_ARGUMENT',
        'bindings: the wasm engine relays no stock WireGuard clients; use the native engine (npm run build)',
      );
  }

  wireguardUsage(): readonly WireguardUsage[] {
    this.#open();
    return [];
  }

  counters(): ReadonlyMap<string, number> {
    return this.#counters.snapshot();
  }

  workers(): readonly WorkerStatus[] {
    return [{ name: '0', counters: this.counters(), queues: undefined, latency: undefined }];
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#alarm.clear();
    this.#routes.close();
    this.#limits.close();
    this.#events.listener = undefined;
    this.#sessions.destroy();
    await this.#socket?.close();
  }

  #open(): UdpShell {
    if (this.#socket === undefined || this.#closing !== undefined) {
      throw new EngineError('CLOSED', 'the engine is closed; open another one');
    }
    return this.#socket;
  }

  #receive(datagram: Uint8Array, from: SocketAddress, local: LocalAddress | undefined): void {
    if (this.#closing !== undefined) return;
    this.#counters.add('rx_datagrams');
    this.#counters.add('rx_bytes', datagram.length);
    const decision = this.#forwarding.table.judge(from, datagram, nanoseconds());
    switch (decision.verdict) {
      case 'forward':
        if (decision.next === undefined) return;
        this.#counters.add('forwarded_packets');
        this.#counters.add('forwarded_bytes', datagram.length);
        this.#provenRemotes.learn(from, local);
        this.#transmit(decision.next, datagram, this.#provenRemotes.find(decision.next));
        return;
      case 'deliver':
        this.#provenRemotes.learn(from, local);
        if (decision.leg !== undefined) this.#deliver(datagram.subarray(FRAME_HEADER_SIZE), decision.leg);
        return;
      case 'control':
        if (decision.leg !== undefined) this.#control(datagram, decision.leg, from, local);
        return;
      case 'wireguard':
        this.#act(
          this.#sessions.handleMessage(datagram, { address: from, local: this.#usable(local) }, step()),
        );
        return;
      case 'stun':
        this.#answerStun(datagram, from, local);
        return;
      case 'drop':
        this.#counters.drop(decision.reason);
        this.#countRefused(datagram);
    }
  }

  /** What came to it is answered from it, unless routing is to choose. */
  #usable(local: LocalAddress | undefined): LocalAddress | undefined {
    return local === undefined || this.#provenRemotes.avoids(local) ? undefined : local;
  }

  /** A frame was dropped: counted on its leg, if there is one. */
  #countRefused(datagram: Uint8Array): void {
    if (classify(datagram) !== undefined) return; // not a frame that was judged by a leg
    const leg = new DataView(datagram.buffer, datagram.byteOffset).getUint32(4, true);
    if (this.#forwarding.table.counters(leg) === undefined) return;
    this.#refused.set(leg, (this.#refused.get(leg) ?? 0) + 1);
  }

  #deliver(payload: Uint8Array, leg: number): void {
    this.#counters.add('delivered_packets');
    const inner = classify(payload);
    if (inner?.verdict === 'wireguard') {
      this.#act(this.#sessions.handleMessage(payload, { leg }, step()));
    } else {
      // A frame within a frame would let one leg speak for another.
      this.#counters.drop(inner?.verdict === 'drop' ? inner.reason : 'wrong_kind');
    }
  }

  #control(frame: Uint8Array, leg: number, from: SocketAddress, local: LocalAddress | undefined): void {
    if (leg === CONTACT_LEG && !this.#budgets.takesControl(from.ip, performance.now())) {
      this.#counters.add('drop_control_rate');
      return;
    }
    this.#counters.add('control_frames');
    (leg === CONTACT_LEG ? this.#strangers : this.#provenRemotes).learn(from, local);
    this.#events.add({ type: 'frame', from, leg, frame });
  }

  #answerStun(request: Uint8Array, from: SocketAddress, local: LocalAddress | undefined): void {
    // The budget first: judging takes a sum over the whole datagram.
    if (!this.#budgets.takesStun(from.ip, performance.now())) {
      this.#counters.add('drop_stun_rate');
      return;
    }
    const answer = answerBindingRequest(request, from);
    if (answer === undefined) {
      this.#counters.drop('malformed_stun');
    } else {
      this.#counters.add('stun_answered');
      this.#transmit(from, answer, local);
    }
  }

  /** Does what the sessions asked for, and sees to their next deadline. */
  #act(outputs: readonly SessionOutput[]): void {
    for (const output of outputs) {
      if (output.type === 'event') this.#tell(output.event);
      else if (output.type === 'datagram') this.#sendMessage(output.to, output.datagram);
      else if ('address' in output.at) this.#provenRemotes.learn(output.at.address, output.at.local);
    }
    const deadline = this.#sessions.deadline();
    if (deadline !== undefined && this.#closing === undefined) this.#alarm.set(deadline);
  }

  #tell(event: EngineEvent): void {
    if ((event.type === 'session' || event.type === 'endpoint') && 'address' in event.endpoint)
      this.#budgets.know(event.endpoint.address.ip, performance.now());
    this.#events.add(event);
  }

  #sendMessage(to: Endpoint, message: Uint8Array): void {
    if ('address' in to) {
      if (to.fixed === true && this.#socket?.hasAddress(to.local) !== true)
        this.#counters.add('drop_no_path');
      else this.#transmit(to.address, message, to.local);
      return;
    }
    const back = this.#waysBack.frame(to.leg, message);
    if (back === undefined) this.#counters.add('drop_no_path');
    else this.#transmit(back.to, back.frame, this.#provenRemotes.find(back.to));
  }

  /** @param local undefined: routing chooses the source */
  #transmit(to: SocketAddress, datagram: Uint8Array, local: LocalAddress | undefined): void {
    this.#counters.add('tx_datagrams');
    this.#counters.add('tx_bytes', datagram.length);
    this.#socket?.send(to, datagram, local);
  }

  #forgetWayBack(leg: number): void {
    if (this.#waysBack.forget(leg)) this.#act(this.#sessions.forgetLeg(leg, step()));
  }
}

/** Time and randomness for one step of the session state machines. */
function step(): Step {
  return {
    now: performance.now(),
    wallClock: Date.now(),
    random: (length) => new Uint8Array(randomBytes(length)),
  };
}

/** The forwarding table's clock. */
const nanoseconds = (): bigint => process.hrtime.bigint();

/** @throws EngineError BAD_ARGUMENT naming the leg and the field. */
function validLegEntry(leg: Leg, accounts: AccountCapacity): LegEntry {
  try {
    const entry = legEntry(leg, nanoseconds());
    encodeLegEntry(entry); // checks every field, so that the batch is refused before any of it is installed
    requireAccounts(entry.charging, accounts);
    return entry;
  } catch (error) {
    if (error instanceof RangeError) throw new EngineError('BAD_ARGUMENT', `leg ${leg.id}: ${error.message}`);
    throw error;
  }
}
