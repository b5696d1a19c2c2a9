// A mesh in virtual time: MeshNodes over fake engines, one seed, no clock. The same seed gives the
// same run, datagram by datagram.

import { MeshNode } from '../../core/node/mesh-node.js';
import type { MeshNodeConfig } from '../../core/node/node-config.js';
import { carryOut, type EffectWorld } from '../../core/runtime/carry-out.js';
import type { Effect } from '../../core/runtime/effect.js';
import type { ExitEffect } from '../../core/runtime/exit-change.js';
import type { Notice } from '../../core/runtime/notice.js';
import type { Step } from '../../contract/step.js';
import { sameBytes, toHex } from '../../wire/bytes.js';
import type { Network } from '../../core/protocol/network.js';
import type { Consent } from '../../core/path/own-policy.js';
import type { ReceiptReport } from '../../core/runtime/receipt-report.js';
import { accountCapacity } from '../../core/relay/relay-accounts.js';
import { DEFAULT_RELAY_LIMITS } from '../../core/relay/relay-limits.js';
import type { RelayPolicy } from '../../core/relay/relay-policy.js';
import type { EngineEvent, SessionKey } from '../../contract/engine.js';
import { interfaceRank, type LocalInterface } from '../../core/path/local-interface.js';
import type { PathPolicy } from '../../core/path/path-policy.js';
import type { LocalSource } from '../../contract/path-control.js';
import { formatSocketAddress, isIPv4, type SocketAddress } from '../../wire/socket-address.js';
import { EventQueue } from '../kernel/event-queue.js';
import { FakeEngine } from './fake-engine.js';
import { Firewall, type FirewallRules } from '../kernel/firewall.js';
import { Internet, type Attachment } from '../kernel/internet.js';
import { Link, PERFECT_LINK, type LinkModel } from '../kernel/link.js';
import { Nat, type NatBehaviourModel } from '../kernel/nat.js';
import type { StockPeer } from '../../core/members/member-table.js';
import { Prng } from '../kernel/prng.js';
import { memoisedPrimitives } from './memoised-primitives.js';

/** Room in the engine's table beside a relay's circuits. */
const OWN_LEGS = 1024;
/** Wall clock at virtual time 0: 2026-01-01. */
const EPOCH_MS = 1_767_225_600_000;

export interface SimulationOptions {
  readonly seed: number;
  /** Probability that a datagram is lost, default 0. */
  readonly loss?: number;
}

/** One of a node's addresses, and what is between it and the Internet. */
export interface SimUplink {
  readonly address: SocketAddress;
  /** Undefined = the address is public. */
  readonly nat?: Nat | undefined;
  readonly firewall?: FirewallRules | undefined;
  /** One-way, to the middle of the Internet; default: the node's. */
  readonly latencyMs?: number;
  /** Priority of its interface, lower first; default 0. */
  readonly priority?: number;
  readonly metered?: boolean;
  /** Its place for messages of the control plane; default: the same. */
  readonly controlPriority?: number;
  /** What else its link does, in either direction. */
  readonly link?: Partial<LinkModel>;
}

export interface SimNodeOptions {
  readonly name: string;
  /** Where the host is; behind `nat`, an address inside. */
  readonly address: SocketAddress;
  readonly nat?: Nat;
  /** Addresses beside it, of either family; no NAT is in front of them. */
  readonly moreAddresses?: readonly SocketAddress[];
  /** Instead of those three: what the node has from the start. */
  readonly uplinks?: readonly SimUplink[];
  readonly networks?: readonly Network[];
  readonly relay?: RelayPolicy;
  /** One-way, to the middle of the Internet. */
  readonly latencyMs: number;
  /** Another node's, to have two machines of one identity; default random. */
  readonly sessionPrivateKey?: Uint8Array;
  /** How far its clock is ahead of the others'. */
  readonly clockAheadMs?: number;
  readonly identitySeed?: Uint8Array;
  readonly consent?: Consent;
  readonly stockPeers?: readonly StockPeer[];
  /** Whether it reaches members directly where it can; default false. */
  readonly directPaths?: boolean;
  /** Of its tunnel; default: as the daemon's. Undefined = its engine keeps no datagram whole. */
  readonly innerMtu?: number | undefined;
  /** Default: every way is used. */
  readonly pathPolicy?: PathPolicy;
}

export class Simulation {
  readonly prng: Prng;
  readonly queue = new EventQueue();
  readonly internet: Internet;
  readonly primitives = memoisedPrimitives;

  constructor({ seed, loss = 0 }: SimulationOptions) {
    this.prng = new Prng(seed);
    this.internet = new Internet(this.queue, new Prng(this.prng.u32()), loss);
  }

  get now(): number {
    return this.queue.now;
  }

  /** @param outer the NAT it is itself behind */
  nat(ip: Uint8Array, behaviour: NatBehaviourModel, outer?: Nat): Nat {
    return new Nat(ip, behaviour, new Prng(this.prng.u32()), outer);
  }

  /** Makes a node; it runs once it is started. */
  node(options: SimNodeOptions): SimNode {
    return new SimNode(this, options);
  }

  /** Lets `ms` of virtual time pass. */
  run(ms: number): void {
    const until = this.now + ms;
    while (this.queue.step(until));
  }

  /** Lets time pass until `reached` holds, checked every `everyMs`; undefined when `limitMs` is over first. */
  runUntil(reached: () => boolean, limitMs: number, everyMs = 10): number | undefined {
    const begin = this.now;
    while (!reached()) {
      if (this.now - begin >= limitMs) return undefined;
      this.run(everyMs);
    }
    return this.now - begin;
  }
}

/** From one start to the next. */
interface Life {
  readonly node: MeshNode;
  readonly engine: FakeEngine;
  /** What the engine told and the node has not heard: all of a moment is handled as one batch. */
  readonly events: EngineEvent[];
  /** By which of its addresses a host was heard last: what is sent to it leaves by the same. */
  readonly localFor: Map<string, Attachment>;
  /** Ports beside its own, each behind what is in front of the address it is at. */
  extraPorts: readonly Attachment[];
  wakeAt: number | undefined;
}

export class SimNode {
  readonly #clockAheadMs: number;
  readonly address: SocketAddress;
  readonly nat: Nat | undefined;
  readonly latencyMs: number;
  readonly config: MeshNodeConfig;
  readonly identity: Uint8Array;
  readonly sessionKey: Uint8Array;
  /** What `persist` effects kept. */
  store = new Map<string, Uint8Array>();
  readonly pongs: { readonly identity: string; readonly token: string; readonly at: number }[] = [];
  /** Hears the packets of peers that come out of its tunnel. */
  inner: (packet: Uint8Array) => void = () => undefined;
  readonly notices: Notice[] = [];
  /** When each inner packet came in. */
  readonly innerAt: number[] = [];
  readonly receipts: ReceiptReport[] = [];
  readonly exitChanges: ExitEffect[] = [];
  readonly signedReceipts: Uint8Array[] = [];
  readonly #simulation: Simulation;
  readonly #prng: Prng;
  #attachments: readonly Attachment[];
  #life: Life | undefined;

  constructor(simulation: Simulation, options: SimNodeOptions) {
    this.#simulation = simulation;
    this.#prng = new Prng(simulation.prng.u32());
    this.address = options.address;
    this.nat = options.nat;
    this.latencyMs = options.latencyMs;
    const uplinks: readonly SimUplink[] = options.uplinks ?? [
      { address: options.address, nat: options.nat },
      ...(options.moreAddresses ?? []).map((address) => ({ address })),
    ];
    this.#attachments = uplinks.map((uplink) => this.#attachment(uplink));
    this.#clockAheadMs = options.clockAheadMs ?? 0;
    this.config = {
      identitySeed: options.identitySeed ?? this.#prng.bytes(32),
      sessionPrivateKey: options.sessionPrivateKey ?? this.#prng.bytes(32),
      name: options.name,
      endpoints: publicAddresses(uplinks),
      networks: options.networks ?? [],
      relay: options.relay,
      capabilities: [],
      consent: options.consent,
      stockPeers: options.stockPeers,
      directPaths: options.directPaths,
      innerMtu: 'innerMtu' in options ? options.innerMtu : 1400,
      pathPolicy: options.pathPolicy,
      interfaces: interfacesOf(uplinks),
      maxLegs:
        OWN_LEGS +
        2 * (options.relay === undefined ? 0 : { ...DEFAULT_RELAY_LIMITS, ...options.relay.limits }.circuits),
    };
    this.identity = memoisedPrimitives.ed25519PublicKey(this.config.identitySeed);
    this.sessionKey = memoisedPrimitives.x25519PublicKey(this.config.sessionPrivateKey);
  }

  get running(): boolean {
    return this.#life !== undefined;
  }

  get mesh(): MeshNode {
    return this.#alive().node;
  }

  get engine(): FakeEngine {
    return this.#alive().engine;
  }

  /** Time and randomness of this moment. */
  get step(): Step {
    const { now } = this.#simulation;
    return {
      now,
      wallClock: Math.floor(EPOCH_MS + this.#clockAheadMs + now),
      random: (length) => this.#prng.bytes(length),
    };
  }

  /** Starts the node with what its store holds; `networks` replaces the configured ones. */
  start(networks: readonly Network[] = this.config.networks): void {
    const { queue, primitives, internet } = this.#simulation;
    const { relay } = this.config;
    const engine = new FakeEngine(
      toHex(this.sessionKey),
      this.config.maxLegs,
      this.#prng,
      {
        now: () => queue.now,
        send: (to, datagram, source) => {
          const by = source === undefined ? this.#localFor(to) : this.#attachmentOf(source);
          if (this.#life === life && by !== undefined) internet.send(by, to, datagram);
        },
        inner: (_peer, packet) => {
          this.innerAt.push(queue.now);
          this.inner(packet);
        },
        setPorts: (ports) => this.#setPorts(life, ports),
        event: (event) => {
          if (life.events.push(event) === 1) queue.at(queue.now, () => this.#handleEvents(life));
        },
      },
      relay && accountCapacity({ ...DEFAULT_RELAY_LIMITS, ...relay.limits }),
    );
    const node = new MeshNode({ ...this.config, networks }, primitives);
    const life: Life = { node, engine, events: [], localFor: new Map(), extraPorts: [], wakeAt: undefined };
    this.#life = life;
    for (const attachment of this.#attachments) internet.attach(attachment);
    this.apply(life.node.start(new Map(this.store), this.step));
  }

  /** SIGKILL: what is in memory is gone, the store stays. */
  kill(): void {
    for (const attachment of [...this.#attachments, ...(this.#life?.extraPorts ?? [])])
      this.#simulation.internet.detach(attachment);
    this.#life = undefined;
  }

  /** The links of its `place`th uplink, outward and inward: their model may be changed. */
  links(place: number): readonly Link[] {
    const { out, in: inward } = this.#attachments[place] ?? {};
    return [out, inward].filter((link) => link !== undefined);
  }

  /** It has these uplinks from now on, as when another network is joined. */
  setUplinks(uplinks: readonly SimUplink[]): void {
    const { internet } = this.#simulation;
    if (this.running) for (const attachment of this.#attachments) internet.detach(attachment);
    this.#attachments = uplinks.map((uplink) => this.#attachment(uplink));
    const life = this.#life;
    if (life === undefined) return;
    for (const attachment of this.#attachments) internet.attach(attachment);
    life.localFor.clear();
    this.apply(life.node.setEndpoints(publicAddresses(uplinks), this.step));
    this.apply(life.node.setInterfaces(interfacesOf(uplinks), this.step));
  }

  #attachment({ address, nat, firewall, latencyMs = this.latencyMs, link }: SimUplink): Attachment {
    const one = (): Link | undefined =>
      link && new Link({ ...PERFECT_LINK, ...link }, new Prng(this.#simulation.prng.u32()));
    const attachment: Attachment = {
      address,
      nat,
      firewall: firewall && new Firewall(firewall),
      latencyMs,
      out: one(),
      in: one(),
      receive: (from, datagram) => this.#receive(from, datagram, attachment),
    };
    return attachment;
  }

  #setPorts(life: Life, ports: readonly SocketAddress[]): void {
    const { internet } = this.#simulation;
    for (const attachment of life.extraPorts) internet.detach(attachment);
    life.extraPorts = ports.flatMap((address) => {
      const at = this.#attachments.find((each) => sameBytes(each.address.ip, address.ip));
      if (at === undefined) return [];
      const extra: Attachment = {
        ...at,
        address,
        receive: (from, datagram) => this.#receive(from, datagram, at, address.port),
      };
      return [extra];
    });
    for (const attachment of life.extraPorts) internet.attach(attachment);
  }

  /** @param port it came to; undefined: the engine's own */
  #receive(from: SocketAddress, datagram: Uint8Array, by: Attachment, port?: number): void {
    const source = { ip: by.address.ip, interface: this.#attachments.indexOf(by) + 1 };
    const local: LocalSource = port === undefined ? source : { ...source, port };
    if (port === undefined) this.#life?.localFor.set(formatSocketAddress(from), by);
    this.#life?.engine.receive(from, datagram, local);
    this.#schedule();
  }

  /** Carries out what a call into the node returned. */
  apply(effects: readonly Effect[]): void {
    carryOut(effects, this.#world(this.#alive()));
    this.#schedule();
  }

  /** Sends a ping; its token (hex) shows up in `pongs` when it is answered. */
  ping(identity: Uint8Array): string {
    const token = this.#prng.bytes(8);
    this.apply(this.mesh.ping(identity, token, this.step));
    return toHex(token);
  }

  /** What the engine's sendInner() does. */
  sendInner(peer: SessionKey, packet: Uint8Array): number | undefined {
    const most = this.engine.sendInner(peer, packet);
    this.#schedule();
    return most;
  }

  /** Undefined = no address of that family. */
  #localFor(to: SocketAddress): Attachment | undefined {
    const answering = this.#life?.localFor.get(formatSocketAddress(to));
    return answering ?? this.#attachments.find(({ address }) => isIPv4(address.ip) === isIPv4(to.ip));
  }

  /** Undefined = it has lost the address. */
  #attachmentOf({ ip, port }: LocalSource): Attachment | undefined {
    const those = port === undefined ? this.#attachments : (this.#life?.extraPorts ?? []);
    return those.find(
      ({ address }) => sameBytes(address.ip, ip) && (port === undefined || address.port === port),
    );
  }

  #world({ node, engine }: Life): EffectWorld {
    return {
      engine,
      write: (writes) => {
        for (const { key, value } of writes)
          if (value === undefined) this.store.delete(key);
          else this.store.set(key, value);
      },
      answer: (answer) => {
        if (answer.type === 'receipts') this.receipts.push(...answer.reports);
        else if (answer.type === 'signed-receipts') this.signedReceipts.push(...answer.receipts);
        else
          this.pongs.push({
            identity: toHex(answer.identity),
            token: toHex(answer.token),
            at: this.#simulation.now,
          });
      },
      notice: (notice) => this.notices.push(notice),
      exitChanged: (change) => this.exitChanges.push(change),
      attempt: (_what, run) => run(), // a simulation ends by what goes wrong in it
      counted: (query, counts) => this.apply(node.handleLegCounts(query, counts, this.step)),
      pathsCounted: (peer, counts) => this.apply(node.handlePathCounts(peer, counts, this.step)),
    };
  }

  #alive(): Life {
    if (this.#life === undefined) throw new Error(`node ${this.config.name}: not running`);
    return this.#life;
  }

  #handleEvents(life: Life): void {
    if (this.#life !== life) return;
    this.apply(life.events.splice(0).flatMap((event) => life.node.handleEngineEvent(event, this.step)));
  }

  #schedule(): void {
    const life = this.#life;
    if (life === undefined) return;
    const deadlines = [life.node.deadline(), life.engine.deadline()].filter((at) => at !== undefined);
    if (deadlines.length === 0) return;
    const at = Math.max(Math.min(...deadlines), this.#simulation.now);
    if (life.wakeAt !== undefined && life.wakeAt <= at) return;
    life.wakeAt = at;
    this.#simulation.queue.at(at, () => {
      if (this.#life !== life || life.wakeAt !== at) return;
      life.wakeAt = undefined;
      life.engine.handleTimeout();
      this.apply(life.node.handleTimeout(this.step));
    });
  }
}

const publicAddresses = (uplinks: readonly SimUplink[]): SocketAddress[] =>
  uplinks.filter(({ nat }) => nat === undefined).map(({ address }) => address);

const interfacesOf = (uplinks: readonly SimUplink[]): LocalInterface[] =>
  uplinks.map(({ address: { ip, port }, priority = 0, metered = false, controlPriority }, index) => ({
    source: { ip, interface: index + 1 },
    name: `eth${index}`,
    port,
    rank: interfaceRank(priority, metered),
    controlRank: controlPriority,
  }));
