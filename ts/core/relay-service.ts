// The bootstrap and relay role: admits strangers, keeps the records of those who register, answers
// lookups, pushes changes, and joins two registered ends by a circuit.
//
// A client goes admitted → (session) → registered. Every table here has a cap, and nobody is sent
// anything to an address he has not proven to receive at.

import type { EngineEvent, SessionKey } from '../engine/engine.js';
import type { ParsedFrame } from '../wire/frame.js';
import { UNCHARGED, type LegKey } from '../wire/leg.js';
import { isIPv4, sameSocketAddress, type SocketAddress } from '../wire/socket-address.js';
import { GrantStatus } from './admission-payload.js';
import { AdmissionServer, type AdmissionClaim, type AdmissionVerdict } from './admission-server.js';
import { fromHex, isZero, sameBytes, toHex } from './bytes.js';
import { contactLeg } from './contact-leg.js';
import { Counter } from './counter.js';
import { MAX_CONTROL_BODY } from './control-frame.js';
import { messageSize, type MessageOf, type Refusal } from './control-message.js';
import { Directory } from './directory.js';
import { HANDSHAKE_WAITS_MS } from './handshake-waits.js';
import type { Primitives } from './io.js';
import type { LegIds } from './leg-ids.js';
import type { LegQueries } from './leg-queries.js';
import type { BootstrapClient } from './bootstrap-client.js';
import type { CircuitStatus, RelayStatus } from './mesh-status.js';
import { encodePeerId } from './peer-id.js';
import { openPeerRecord, type PeerRecord } from './peer-record.js';
import type { PeerTable } from './peer-table.js';
import { hasEnd, MAX_CIRCUIT_RELAYS, otherEnd, type Circuit, type CircuitEnd } from './relay-circuit.js';
import { Neighbour, RelayNeighbours } from './relay-neighbours.js';
import { DEFAULT_RELAY_LIMITS, type RelayLimits, type RelayPolicy } from './relay-policy.js';
import {
  CIRCUIT_PREFIX,
  CLIENT_PREFIX,
  decodeStoredCircuit,
  decodeStoredClient,
  encodeStoredCircuit,
  encodeStoredClient,
} from './relay-store.js';
import { AnswerTable, type RequestTable } from './request-table.js';
import { TimerQueue } from './timer-queue.js';
import type { Turn } from './turn.js';
import { signReceipt } from './usage-receipt.js';
import { WireguardBindings } from './wireguard-bindings.js';

/** An offer unanswered for 250 + 500 + 1000 + 2000 ms: the callee is not there. */
const OFFER_TRIES = 4;
/** Control messages a client may send: 200 a second, and a second's worth at once. */
const MESSAGE_INTERVAL_MS = 5;
const MESSAGE_BURST_MS = 1000;
/** Answers remembered for a relay, which asks on behalf of many. */
const ANSWERS_PER_RELAY = 1024;
/** Circuits between the same two ends: one in use and one that replaces it. */
const CIRCUITS_PER_PAIR = 2;
/** A neighbour is asked again about the circuits over it one by one, 100 a second. */
const RECHECK_TICK_MS = 10;
/** The class of limits of circuits. */
const CIRCUIT_LIMITS = 1;
/** After a restart: handshakes started per tick, 500 a second. */
const HANDSHAKES_PER_TICK = 10;
const HANDSHAKE_TICK_MS = 20;

/** What the node lends to its relay service. */
export interface RelayHost {
  readonly primitives: Primitives;
  readonly identity: Uint8Array;
  readonly sessionKey: Uint8Array;
  readonly sessionPrivateKey: Uint8Array;
  /** 8 bytes, new at each start. */
  readonly boot: Uint8Array;
  /** The relay's own: what a client is asked ends with the client. */
  readonly requests: RequestTable;
  /** The node's: what a neighbour is asked ends with that neighbour. */
  readonly neighbourRequests: RequestTable;
  readonly legs: LegIds;
  readonly legQueries: LegQueries;
  readonly peers: PeerTable;
  /** An Ed25519 signature by the relay's identity. */
  sign(message: Uint8Array): Uint8Array;
  /** Own addresses: never a client's, so never a next hop. */
  ownAddresses(): readonly SocketAddress[];
  /** The bootstraps this node uses, configured relay peers among them. */
  bootstraps(): Iterable<BootstrapClient>;
  /** A record whose signature is checked came in. */
  recordRegistered(record: PeerRecord, turn: Turn): void;
}

interface Client extends CircuitEnd {
  readonly key: SessionKey;
  readonly sessionKey: Uint8Array;
  identity: Uint8Array;
  /** Proven by admission or by an answered challenge. */
  address: SocketAddress;
  /** A session came up: the client holds the session key it claimed. */
  hasSession: boolean;
  registration: Registration | undefined;
  /** The address the session moved to, until it is proven. */
  challenged: SocketAddress | undefined;
  challenging: boolean;
  /** Theoretical arrival time of the next message (GCRA), ms. */
  nextMessage: number;
}

interface Registration {
  record: PeerRecord;
  boot: Uint8Array;
  /** Networks (hex) of the record that are served here. */
  networks: readonly string[];
  /** Directory version the client has, by network; absent until a lookup came to the end. */
  readonly cursors: Map<string, number>;
  /** Networks with a push under way. */
  readonly pushing: Set<string>;
}

/** What a circuit is opened with: by a client for itself, or by a relay for another's client. */
interface Opening {
  readonly caller: Client;
  readonly callerIdentity: Uint8Array;
  /** The calling end's record. */
  readonly record: Uint8Array;
  readonly callee: Uint8Array;
  readonly network: Uint8Array;
  readonly leg: LegKey;
  readonly request: number;
  readonly asked: Circuit['asked'];
  readonly id: Uint8Array;
  readonly path: readonly Uint8Array[];
}

type Timer = `handshake ${string}` | `client ${string}` | `circuit ${string}` | `recheck ${string}`;

export class RelayService {
  readonly #host: RelayHost;
  readonly #limits: RelayLimits;
  readonly #served: ReadonlySet<string> | undefined;
  readonly #allow: ReadonlySet<string>;
  readonly #deny: ReadonlySet<string>;
  readonly #admission: AdmissionServer;
  readonly #directory = new Directory();
  readonly #neighbours: RelayNeighbours;
  readonly #wireguard: WireguardBindings;
  /** Identities of configured neighbours: admitted whatever network they are in. */
  readonly #peers: ReadonlySet<string>;
  readonly #clients = new Map<SessionKey, Client>();
  /** Registered clients by identity (hex). */
  readonly #registered = new Map<string, Client>();
  readonly #circuits = new Map<string, Circuit>();
  readonly #admissionsOf = new Counter();
  readonly #circuitsOf = new Counter();
  readonly #answers = new AnswerTable();
  readonly #timers = new TimerQueue<Timer>();
  readonly #refusals = new Counter();
  /** Handshakes started so far with clients that had a session before the restart. */
  readonly #handshakes = new Map<SessionKey, number>();
  #halfOpen = 0;

  constructor(policy: RelayPolicy, host: RelayHost) {
    this.#host = host;
    this.#limits = { ...DEFAULT_RELAY_LIMITS, ...policy.limits };
    this.#served = policy.serve === 'any' ? undefined : new Set(policy.serve.map(toHex));
    this.#allow = new Set(policy.allow.map(toHex));
    this.#deny = new Set(policy.deny.map(toHex));
    this.#peers = new Set((policy.peers ?? []).map(({ identity }) => toHex(identity)));
    this.#neighbours = new RelayNeighbours(() => host.bootstraps(), this.#limits.registrations);
    this.#wireguard = new WireguardBindings(policy.wireguard ?? { clients: 0, servers: [] }, () => ({
      ...UNCHARGED,
      limits: CIRCUIT_LIMITS,
    }));
    this.#admission = new AdmissionServer(
      host.primitives,
      host.identity,
      host.sessionPrivateKey,
      (claim, turn) => this.#judge(claim, turn),
      (reason) => this.#refusals.add(reason, 1),
    );
  }

  /** Installs the contact leg and takes up what the store holds. */
  start(restored: ReadonlyMap<string, Uint8Array>, turn: Turn): void {
    turn.emit({ type: 'set-limits', index: CIRCUIT_LIMITS, limits: this.#limits.leg ?? {} });
    this.#host.legs.install(contactLeg(this.#host.primitives, this.#host.sessionKey), turn);
    this.#wireguard.start(turn);
    for (const [key, value] of restored)
      if (key.startsWith(CLIENT_PREFIX) && !this.#restoreClient(value, turn)) drop(key, turn);
    for (const [key, value] of restored)
      if (key.startsWith(CIRCUIT_PREFIX) && !this.#restoreCircuit(value, turn)) drop(key, turn);
    let index = 0;
    for (const key of this.#clients.keys()) {
      const tick = Math.floor(index++ / HANDSHAKES_PER_TICK);
      this.#timers.set(`handshake ${key}`, turn.now + tick * HANDSHAKE_TICK_MS);
    }
    if (this.#clients.size > 0)
      turn.notify('info', 'relay-restored', { clients: this.#clients.size, circuits: this.#circuits.size });
  }

  /** Puts the node's own record into the directory: a bootstrap may be a member itself. */
  publish(record: PeerRecord, turn: Turn): void {
    const networks = record.networks.map(toHex);
    this.#directory.put(record, networks);
    this.#pushChanges(networks, turn);
  }

  isClient(peer: SessionKey): boolean {
    return this.#clients.has(peer);
  }

  knowsCircuit(id: Uint8Array): boolean {
    return this.#circuits.has(toHex(id));
  }

  /** A frame on the contact leg. */
  handleFrame(from: SocketAddress, frame: ParsedFrame, turn: Turn): void {
    this.#admission.handleFrame(from, frame, turn);
  }

  handleEngineEvent(event: Extract<EngineEvent, { type: 'session' | 'endpoint' }>, turn: Turn): void {
    const address = 'address' in event.endpoint ? event.endpoint.address : undefined;
    const neighbour = this.#neighbours.get(event.peer);
    if (address !== undefined && neighbour?.heardFrom(address) === true)
      for (const circuit of neighbour.circuits) this.#install(circuit, turn);
    const client = this.#clients.get(event.peer);
    if (client === undefined) return;
    client.hasSession = true;
    if (address !== undefined) this.#verifyAddress(client, address, turn);
  }

  /** Counts a message of a client against its rate; false when it is to be dropped. */
  admitsMessage(peer: SessionKey, now: number): boolean {
    const client = this.#clients.get(peer);
    if (client === undefined) return true;
    const next = Math.max(client.nextMessage, now) + MESSAGE_INTERVAL_MS;
    if (next - now > MESSAGE_BURST_MS) {
      this.#refusals.add('message-rate', 1);
      return false;
    }
    client.nextMessage = next;
    return true;
  }

  handleRegister(peer: SessionKey, request: number, message: MessageOf<'register'>, turn: Turn): void {
    const client = this.#clients.get(peer);
    const outcome = client === undefined ? 'not-registered' : this.#register(client, message, turn);
    if (client === undefined || outcome !== undefined) {
      this.#refuse(peer, request, message.type, outcome ?? 'not-registered', turn);
      return;
    }
    turn.send(peer, request, {
      type: 'registered',
      observed: client.address,
      lease: this.#limits.leaseSeconds,
      boot: this.#host.boot,
    });
  }

  handleLookup(peer: SessionKey, request: number, message: MessageOf<'lookup'>, turn: Turn): void {
    const client = this.#clients.get(peer);
    const registration = client?.registration;
    if (client === undefined || registration === undefined) {
      this.#refuse(peer, request, message.type, 'not-registered', turn);
      return;
    }
    const network = toHex(message.network);
    if (!registration.networks.includes(network) && !this.#readsAll(client, network)) {
      this.#refuse(peer, request, message.type, 'not-a-member', turn);
      return;
    }
    if (this.#neighbours.knows(client.identity)) this.#follow([network], turn);
    const empty = {
      type: 'records',
      network: message.network,
      records: [],
      version: Number.MAX_SAFE_INTEGER,
      more: true,
    } as const;
    const budget = MAX_CONTROL_BODY - messageSize(empty);
    const page = this.#directory.page(network, message.after, toHex(client.identity), budget);
    turn.send(peer, request, { ...empty, ...page });
    if (!page.more) {
      registration.cursors.set(network, page.version);
      this.#push(client, network, turn);
    }
  }

  handleOpen(peer: SessionKey, request: number, message: MessageOf<'circuit-open'>, turn: Turn): void {
    this.#answerOpening(peer, request, message.type, turn, (client) => {
      const { registration } = client;
      if (registration === undefined) return 'not-registered';
      if (!registration.networks.includes(toHex(message.network))) return 'not-a-member';
      return this.#open(
        {
          ...message,
          caller: client,
          callerIdentity: client.identity,
          record: registration.record.bytes,
          request,
          asked: message.type,
          id: turn.random(16),
          path: [],
        },
        turn,
      );
    });
  }

  /** A relay we know asks on behalf of a client of its own, or of a relay before it. */
  handleExtend(peer: SessionKey, request: number, message: MessageOf<'circuit-extend'>, turn: Turn): void {
    this.#answerOpening(peer, request, message.type, turn, (client) => {
      if (client.registration === undefined) return 'not-registered';
      if (!this.#neighbours.knows(client.identity)) return 'denied';
      const { path, circuit, network, callee, leg } = message;
      const isIn = path.some((relay) => sameBytes(relay, this.#host.identity));
      if (isIn || this.#circuits.has(toHex(circuit))) return 'loop';
      if (!sameBytes(path.at(-1) ?? this.#host.identity, client.identity)) return 'denied';
      const record = openPeerRecord(this.#host.primitives, message.caller, turn.step.wallClock);
      if (typeof record === 'string') return 'bad-record';
      if (!this.#allows(record.identity)) return 'denied';
      if (!this.#servedOf(record).includes(toHex(network))) return 'not-served';
      const callerIdentity = record.identity;
      return this.#open(
        {
          caller: client,
          callerIdentity,
          record: record.bytes,
          callee,
          network,
          leg,
          request,
          asked: message.type,
          id: circuit,
          path,
        },
        turn,
      );
    });
  }

  handleRefresh(peer: SessionKey, request: number, message: MessageOf<'circuit-refresh'>, turn: Turn): void {
    const circuit = this.#circuits.get(toHex(message.circuit));
    if (circuit?.legCallee === undefined || !hasEnd(circuit, peer)) {
      this.#refuse(peer, request, message.type, 'unknown-circuit', turn);
      return;
    }
    const other = otherEnd(circuit, peer);
    if (!this.#isRelayEnd(circuit, other)) {
      this.#prolong(circuit, this.#limits.circuitSeconds, turn);
      const lifetime = this.#limits.circuitSeconds;
      turn.send(peer, request, { type: 'circuit-refreshed', circuit: message.circuit, lifetime });
      return;
    }
    // The rest of the circuit is the other relay's to promise: a refresh goes all the way.
    if (!this.#answers.begin(peer, request, turn)) return;
    this.#refreshAt(other, circuit, turn, (lifetime, later) => {
      this.#answers.answer(
        peer,
        request,
        lifetime === undefined
          ? { type: 'refused', reason: 'unknown-circuit', what: message.type }
          : { type: 'circuit-refreshed', circuit: message.circuit, lifetime },
        later,
      );
    });
  }

  handleClose(peer: SessionKey, request: number, message: MessageOf<'circuit-close'>, turn: Turn): void {
    const circuit = this.#circuits.get(toHex(message.circuit));
    if (circuit !== undefined && hasEnd(circuit, peer)) this.#close(circuit, turn, otherEnd(circuit, peer));
    turn.send(peer, request, { type: 'circuit-closed', circuit: message.circuit });
  }

  /** A client wants stock WireGuard clients relayed to it, for as long as it is registered. */
  handleWireguardBind(peer: SessionKey, request: number, turn: Turn): void {
    const client = this.#clients.get(peer);
    const refused =
      client?.registration === undefined ? 'not-registered' : this.#wireguard.bind(client, turn);
    if (refused !== undefined) this.#refuse(peer, request, 'wireguard-bind', refused, turn);
    else turn.send(peer, request, { type: 'wireguard-bound' });
  }

  /** What was carried in a circuit so far, for its two ends. */
  handleReceipt(peer: SessionKey, request: number, message: MessageOf<'receipt'>, turn: Turn): void {
    const circuit = this.#circuits.get(toHex(message.circuit));
    if (circuit?.legCallee === undefined || !hasEnd(circuit, peer)) {
      this.#refuse(peer, request, message.type, 'unknown-circuit', turn);
      return;
    }
    this.#signReceipt(circuit, turn, (receipt, later) => {
      later.send(peer, request, { type: 'receipt-given', receipt });
    });
  }

  /** Receipts of standing circuits, of one end's only if an identity is given; at most `limit`. */
  receipts(
    end: Uint8Array | undefined,
    limit: number,
    turn: Turn,
    done: (receipts: readonly Uint8Array[], later: Turn) => void,
  ): void {
    const isOf = ({ callerIdentity, calleeIdentity }: Circuit): boolean =>
      end === undefined || sameBytes(callerIdentity, end) || sameBytes(calleeIdentity, end);
    const circuits = [...this.#circuits.values()]
      .filter((circuit) => circuit.legCallee !== undefined && isOf(circuit))
      .slice(0, limit);
    const receipts: Uint8Array[] = [];
    if (circuits.length === 0) done(receipts, turn);
    for (const circuit of circuits)
      this.#signReceipt(circuit, turn, (receipt, later) => {
        receipts.push(receipt);
        if (receipts.length === circuits.length) done(receipts, later);
      });
  }

  #signReceipt(circuit: Circuit, turn: Turn, done: (receipt: Uint8Array, later: Turn) => void): void {
    const { fromCaller, fromCallee, id, network, callerIdentity, calleeIdentity, openedAt } = circuit;
    this.#host.legQueries.ask([fromCaller.id, fromCallee.id], turn, ([toCallee, toCaller], later) => {
      const none = { packets: 0, bytes: 0 };
      const receipt = {
        relay: this.#host.identity,
        circuit: id,
        network,
        caller: callerIdentity,
        callee: calleeIdentity,
        issued: Math.floor(later.step.wallClock / 1000),
        seconds: Math.ceil((later.now - openedAt) / 1000),
        toCallee: toCallee ?? none,
        toCaller: toCaller ?? none,
      };
      done(
        signReceipt(receipt, (body) => this.#host.sign(body)),
        later,
      );
    });
  }

  // Neighbours

  /** Networks (hex) that a configured neighbour is asked about on behalf of others. */
  followed(neighbour: Uint8Array): Iterable<string> {
    return this.#peers.has(toHex(neighbour)) ? this.#neighbours.followed : [];
  }

  /** Somebody here wants the records of these networks (hex): so do we, of our neighbours. */
  #follow(networks: readonly string[], turn: Turn): void {
    const fresh = this.#neighbours.follow(networks);
    for (const neighbour of this.#host.bootstraps())
      if (this.#peers.has(toHex(neighbour.bootstrap.identity)))
        for (const network of fresh) neighbour.follow(network, turn);
  }

  /** A neighbour told a record, its signature checked: whoever it is of is reached through it. */
  learned(from: SessionKey, record: PeerRecord, turn: Turn): void {
    if (sameBytes(record.identity, this.#host.identity) || !this.#allows(record.identity)) return;
    const networks = this.#servedOf(record);
    if (networks.length === 0 || !this.#neighbours.learn(from, record)) return;
    if (this.#registered.has(toHex(record.identity))) return;
    this.#directory.put(record, networks);
    this.#pushChanges(networks, turn);
  }

  /** A neighbour took our registration. `fresh`: it may have forgotten circuits. */
  neighbourReady(key: SessionKey, fresh: boolean, turn: Turn): void {
    if (!fresh) return;
    const ends = [this.#neighbours.get(key), this.#clients.get(key)];
    const circuits = ends.flatMap((end) => [...(end?.circuits ?? [])]);
    circuits.forEach(({ name }, index) =>
      this.#timers.set(`recheck ${name}`, turn.now + index * RECHECK_TICK_MS),
    );
  }

  /** A neighbour fell silent: what went over it is opened elsewhere, half-open circuits by us. */
  neighbourLost(key: SessionKey, turn: Turn): void {
    for (const circuit of [...(this.#neighbours.get(key)?.circuits ?? [])])
      if (circuit.legCallee === undefined) this.#askNext(circuit, 'callee-offline', turn);
      else this.#close(circuit, turn, circuit.caller, circuit.callee);
    const client = this.#clients.get(key);
    for (const circuit of [...(client?.circuits ?? [])])
      if (circuit.path.length > 0 && circuit.caller === client)
        this.#close(circuit, turn, circuit.caller, circuit.callee);
  }

  neighbourGone(key: SessionKey, turn: Turn): void {
    this.neighbourLost(key, turn);
    this.#neighbours.forget(key);
  }

  /** Forgets records of neighbours that have run out. */
  sweep(turn: Turn): void {
    for (const record of this.#neighbours.expire(turn.step.wallClock))
      if (!this.#registered.has(toHex(record.identity))) this.#directory.remove(record);
  }

  handleTimeout(turn: Turn): void {
    for (
      let timer = this.#timers.takeDue(turn.now);
      timer !== undefined;
      timer = this.#timers.takeDue(turn.now)
    ) {
      const name = timer.slice(timer.indexOf(' ') + 1);
      if (timer.startsWith('handshake')) this.#handshake(name, turn);
      else if (timer.startsWith('client')) {
        const client = this.#clients.get(name);
        if (client !== undefined) this.#removeClient(client, turn);
      } else if (timer.startsWith('recheck')) {
        this.#recheck(name, turn);
      } else {
        const circuit = this.#circuits.get(name);
        if (circuit !== undefined) this.#close(circuit, turn);
      }
    }
  }

  deadline(): number | undefined {
    return this.#timers.next();
  }

  status(now: number): RelayStatus {
    return {
      registrations: this.#registered.size,
      admissions: this.#clients.size,
      halfOpen: this.#halfOpen,
      circuits: [...this.#circuits.values()].map((circuit): CircuitStatus => ({
        id: circuit.name,
        callerPeerId: encodePeerId(circuit.callerIdentity),
        calleePeerId: encodePeerId(circuit.calleeIdentity),
        network: toHex(circuit.network),
        previousRelays: circuit.path.map(encodePeerId),
        nextRelay: circuit.callee instanceof Neighbour ? encodePeerId(circuit.callee.identity) : undefined,
        legs: circuit.legCallee === undefined ? [] : [circuit.fromCaller.id, circuit.fromCallee.id],
        ageMs: now - circuit.openedAt,
        expiresInMs: Math.max(0, circuit.expiresAt - now),
      })),
      wireguard: this.#wireguard.status(),
      refusals: this.#refusals.toRecord(),
    };
  }

  // Admission and registration

  #judge(claim: AdmissionClaim, turn: Turn): AdmissionVerdict {
    const lifetime = this.#limits.admissionSeconds;
    const refusal = this.#admit(claim, turn);
    if (refusal === undefined) return { status: GrantStatus.granted, lifetime };
    this.#refusals.add(refusal, 1);
    const status = refusal === 'capacity' ? GrantStatus.atCapacity : GrantStatus.refused;
    return { status, lifetime: 0 };
  }

  #admit(claim: AdmissionClaim, turn: Turn): Refusal | undefined {
    const { identity, sessionKey, address } = claim;
    if (this.#isOwnAddress(address)) return 'own-address';
    if (sameBytes(identity, this.#host.identity) || sameBytes(sessionKey, this.#host.sessionKey))
      return 'denied';
    if (!this.#allows(identity)) return 'denied';
    if (!this.#peers.has(toHex(identity)) && !this.#serves(claim.network)) return 'not-served';
    const key = toHex(sessionKey);
    const present = this.#clients.get(key);
    if (present !== undefined) {
      const same = sameBytes(present.identity, identity);
      // A session proves the session key; somebody else's claim to it is then worth nothing.
      if (!same && present.hasSession) return 'denied';
      if (same) {
        this.#move(present, address, turn);
        this.#host.peers.addRole(key, 'client', { address }, turn);
        if (present.registration === undefined)
          this.#expireClient(present, this.#limits.admissionSeconds, turn);
        return undefined;
      }
      this.#removeClient(present, turn);
    }
    const ofIdentity = `identity ${toHex(identity)}`;
    if (
      this.#clients.size >= this.#limits.admissions ||
      this.#admissionsOf.get(ofIdentity) >= this.#limits.admissionsPerIdentity ||
      this.#admissionsOf.get(prefixOf(address)) >= this.#limits.admissionsPerPrefix
    )
      return 'capacity';
    const client = this.#addClient(sessionKey, identity, address, turn);
    this.#expireClient(client, this.#limits.admissionSeconds, turn);
    return undefined;
  }

  #addClient(sessionKey: Uint8Array, identity: Uint8Array, address: SocketAddress, turn: Turn): Client {
    const client: Client = {
      key: toHex(sessionKey),
      sessionKey,
      identity,
      address,
      hasSession: false,
      registration: undefined,
      challenged: undefined,
      challenging: false,
      nextMessage: 0,
      circuits: new Set(),
    };
    this.#clients.set(client.key, client);
    this.#admissionsOf.add(`identity ${toHex(identity)}`, 1);
    this.#admissionsOf.add(prefixOf(address), 1);
    this.#host.peers.addRole(client.key, 'client', { address }, turn);
    return client;
  }

  #expireClient(client: Client, seconds: number, turn: Turn): void {
    this.#timers.set(`client ${client.key}`, turn.now + seconds * 1000);
  }

  #removeClient(client: Client, turn: Turn): void {
    for (const circuit of [...client.circuits]) this.#close(circuit, turn, otherEnd(circuit, client.key));
    this.#unregister(client, turn);
    this.#clients.delete(client.key);
    this.#admissionsOf.add(`identity ${toHex(client.identity)}`, -1);
    this.#admissionsOf.add(prefixOf(client.address), -1);
    this.#timers.clear(`client ${client.key}`);
    this.#stopHandshakes(client.key);
    this.#answers.forget(client.key);
    this.#host.requests.cancel(client.key);
    this.#host.peers.removeRole(client.key, 'client', turn);
  }

  #unregister(client: Client, turn: Turn): void {
    this.#wireguard.release(client.key, turn);
    if (client.registration === undefined) return;
    this.#directory.remove(client.registration.record);
    this.#registered.delete(toHex(client.identity));
    const elsewhere = this.#neighbours.record(toHex(client.identity));
    if (elsewhere !== undefined) this.#directory.put(elsewhere, this.#servedOf(elsewhere));
    client.registration = undefined;
    if (elsewhere !== undefined) this.#pushChanges(this.#servedOf(elsewhere), turn);
    turn.emit({ type: 'persist', key: CLIENT_PREFIX + client.key, value: undefined });
  }

  /** @returns why not; undefined when registered. */
  #register(client: Client, message: MessageOf<'register'>, turn: Turn): Refusal | undefined {
    const record = openPeerRecord(this.#host.primitives, message.record, turn.step.wallClock);
    // The session proves the session key, the record's signature binds it to the identity.
    if (typeof record === 'string' || !sameBytes(record.sessionKey, client.sessionKey)) return 'bad-record';
    if (sameBytes(record.identity, this.#host.identity) || !this.#allows(record.identity)) return 'denied';
    const networks = this.#servedOf(record);
    const identity = toHex(record.identity);
    if (networks.length === 0 && !this.#peers.has(identity)) return 'not-served';
    const holder = this.#registered.get(identity);
    const held = holder?.registration?.record;
    const unchanged = held !== undefined && sameBytes(held.bytes, record.bytes);
    if (held !== undefined && record.sequence <= held.sequence && !unchanged) return 'stale-record';
    if (held === undefined && this.#registered.size >= this.#limits.registrations) return 'capacity';

    if (holder !== undefined && holder !== client) this.#removeClient(holder, turn);
    if (!sameBytes(client.identity, record.identity)) this.#rebind(client, record.identity, turn);
    const before = client.registration;
    // Another life of the client: it knows nothing of the circuits it had. A relay does, and asks.
    const reborn = before !== undefined && !sameBytes(before.boot, message.boot);
    if (reborn) this.#wireguard.release(client.key, turn);
    if (reborn && !this.#neighbours.knows(record.identity))
      for (const circuit of [...client.circuits]) this.#close(circuit, turn, otherEnd(circuit, client.key));
    client.hasSession = true;
    this.#stopHandshakes(client.key); // its end of the session stands too
    client.registration = {
      record,
      boot: message.boot,
      networks,
      cursors: new Map(),
      pushing: before?.pushing ?? new Set(),
    };
    this.#registered.set(identity, client);
    this.#expireClient(client, this.#limits.leaseSeconds, turn);
    this.#persistClient(client, turn);
    if (!unchanged) {
      this.#directory.put(record, networks);
      this.#host.recordRegistered(record, turn);
      this.#pushChanges(networks, turn);
    }
    this.#follow(networks, turn);
    return undefined;
  }

  /** The record inside the session names another identity than the admission did. */
  #rebind(client: Client, identity: Uint8Array, turn: Turn): void {
    this.#unregister(client, turn);
    this.#admissionsOf.add(`identity ${toHex(client.identity)}`, -1);
    this.#admissionsOf.add(`identity ${toHex(identity)}`, 1);
    client.identity = identity;
  }

  #allows(identity: Uint8Array): boolean {
    const id = toHex(identity);
    return !this.#deny.has(id) && (this.#allow.size === 0 || this.#allow.has(id));
  }

  #serves(network: Uint8Array): boolean {
    return this.#served === undefined || (!isZero(network) && this.#served.has(toHex(network)));
  }

  /** The networks (hex) of a record that are served here. */
  #servedOf(record: PeerRecord): string[] {
    return record.networks.map(toHex).filter((id) => this.#served?.has(id) ?? true);
  }

  /** A relay we know reads the records of every network we serve: it needs them to find its callees. */
  #readsAll(client: Client, network: string): boolean {
    return this.#neighbours.knows(client.identity) && (this.#served?.has(network) ?? true);
  }

  #isOwnAddress(address: SocketAddress): boolean {
    return this.#host.ownAddresses().some((own) => sameSocketAddress(own, address));
  }

  // Directory

  #pushChanges(networks: readonly string[], turn: Turn): void {
    for (const client of this.#registered.values())
      for (const network of networks)
        if (client.registration?.cursors.has(network) === true) this.#push(client, network, turn);
  }

  /** Sends what a client does not have, one page at a time; the next when this one is acknowledged. */
  #push(client: Client, network: string, turn: Turn): void {
    const { registration } = client;
    const cursor = registration?.cursors.get(network);
    const blindedId = fromHex(network);
    if (registration === undefined || cursor === undefined || blindedId === undefined) return;
    if (registration.pushing.has(network)) return;
    const empty = {
      type: 'records-changed',
      network: blindedId,
      records: [],
      version: Number.MAX_SAFE_INTEGER,
    } as const;
    const budget = MAX_CONTROL_BODY - messageSize(empty);
    const { records, version } = this.#directory.page(network, cursor, toHex(client.identity), budget);
    if (records.length === 0) {
      registration.cursors.set(network, version);
      return;
    }
    registration.pushing.add(network);
    this.#host.requests.send(client.key, { ...empty, records, version }, turn, (answer, later) => {
      registration.pushing.delete(network);
      const present = client.registration;
      if (present?.cursors.has(network) !== true) return;
      // No answer, or a refusal: the client asks again when it is back.
      if (answer?.type !== 'records-received') present.cursors.delete(network);
      else {
        present.cursors.set(network, Math.max(version, present.cursors.get(network) ?? 0));
        this.#push(client, network, later);
      }
    });
  }

  // Addresses

  /** The session moved: legs follow once the client answers from there. */
  #verifyAddress(client: Client, address: SocketAddress, turn: Turn): void {
    if (this.#isOwnAddress(address)) this.#refusals.add('own-address', 1);
    const settled = this.#isOwnAddress(address) || sameSocketAddress(address, client.address);
    client.challenged = settled ? undefined : address;
    if (client.challenged !== undefined && !client.challenging) this.#challenge(client, address, turn);
  }

  /** One challenge at a time: a client that keeps moving makes no more of them. */
  #challenge(client: Client, address: SocketAddress, turn: Turn): void {
    const nonce = turn.random(16);
    client.challenging = true;
    this.#host.requests.send(client.key, { type: 'address-challenge', nonce }, turn, (answer, later) => {
      client.challenging = false;
      const { challenged } = client;
      if (challenged === undefined) return;
      // Events come in order: had the answer come from elsewhere, `challenged` would name that place.
      if (!sameSocketAddress(challenged, address)) this.#challenge(client, challenged, later);
      else {
        client.challenged = undefined;
        if (answer?.type === 'address-answer' && this.#host.primitives.equal(answer.nonce, nonce))
          this.#move(client, address, later);
      }
    });
  }

  #move(client: Client, address: SocketAddress, turn: Turn): void {
    client.challenged = undefined;
    if (sameSocketAddress(client.address, address)) return;
    this.#admissionsOf.add(prefixOf(client.address), -1);
    this.#admissionsOf.add(prefixOf(address), 1);
    client.address = address;
    for (const circuit of client.circuits) this.#install(circuit, turn);
    this.#wireguard.changed(client.key, turn);
    if (client.registration !== undefined) this.#persistClient(client, turn);
    turn.notify('info', 'client-moved', { peer: encodePeerId(client.identity) });
  }

  // Circuits

  /** Carries a request to open a circuit out once, however often it is repeated. */
  #answerOpening(
    peer: SessionKey,
    request: number,
    what: Circuit['asked'],
    turn: Turn,
    open: (client: Client) => Refusal | undefined,
  ): void {
    const client = this.#clients.get(peer);
    if (client === undefined) {
      this.#refuse(peer, request, what, 'not-registered', turn);
      return;
    }
    const remembered = what === 'circuit-extend' ? ANSWERS_PER_RELAY : undefined;
    if (!this.#answers.begin(peer, request, turn, remembered)) return;
    const refused = open(client);
    if (refused === undefined) return;
    this.#refusals.add(refused, 1);
    this.#answers.answer(peer, request, { type: 'refused', reason: refused, what }, turn);
  }

  /** @returns why not; undefined when the callee is being asked. */
  #open(opening: Opening, turn: Turn): Refusal | undefined {
    const { caller, callerIdentity, callee, network, path, id } = opening;
    if (sameBytes(callee, callerIdentity)) return 'own-address';
    const [first, ...others] = this.#ways(opening);
    if (first === undefined) return 'callee-offline';
    if (this.#isOwnAddress(first.address) || this.#isOwnAddress(caller.address)) return 'own-address';
    const between = [...caller.circuits].filter((circuit) => joins(circuit, callerIdentity, callee));
    const [oldest] = between;
    if (between.length >= CIRCUITS_PER_PAIR && oldest !== undefined)
      this.#close(oldest, turn, oldest.caller, oldest.callee);
    const counted = countersOf({ ...opening, callee: first, calleeIdentity: callee });
    const limits = this.#limits;
    const capOf = (counter: string): number =>
      counter.startsWith('prefix') ? limits.circuitsPerPrefix : limits.circuitsPerIdentity;
    if (
      this.#circuits.size >= limits.circuits ||
      this.#halfOpen >= limits.halfOpen ||
      this.#isCrowded(caller) ||
      this.#isCrowded(first) ||
      counted.some((counter) => this.#circuitsOf.get(counter) >= capOf(counter))
    )
      return 'capacity';
    const circuit: Circuit = {
      id,
      name: toHex(id),
      network,
      caller,
      callee: first,
      callerIdentity,
      calleeIdentity: callee,
      path,
      legCaller: opening.leg,
      legCallee: undefined,
      fromCaller: this.#host.legs.create(turn),
      fromCallee: this.#host.legs.create(turn),
      request: opening.request,
      asked: opening.asked,
      asking: { record: opening.record, others },
      counted,
      openedAt: turn.now,
      expiresAt: turn.now + limits.circuitSeconds * 1000,
    };
    this.#addCircuit(circuit);
    this.#halfOpen++;
    this.#ask(circuit, turn);
    return undefined;
  }

  /**
   * Where somebody is found: his session with us, or else relays that have him, the best first. This
   * is how anything for an identity finds its way: nobody names an address.
   */
  #ways({ callee, network, path }: Opening): CircuitEnd[] {
    const client = this.#registered.get(toHex(callee));
    if (client?.registration?.networks.includes(toHex(network)) === true) return [client];
    if (path.length + 2 > MAX_CIRCUIT_RELAYS) return [];
    return this.#neighbours.towards(callee, [...path, callee]);
  }

  #isCrowded(end: CircuitEnd): boolean {
    const { circuitsPerRelay, circuitsPerIdentity } = this.#limits;
    const cap = this.#neighbours.knows(end.identity) ? circuitsPerRelay : circuitsPerIdentity;
    return end.circuits.size >= cap;
  }

  /** Asks the callee's side for its consent. */
  #ask(circuit: Circuit, turn: Turn): void {
    const { id, network, fromCallee, callee, asking } = circuit;
    if (asking === undefined) return;
    const common = { circuit: id, caller: asking.record, network, leg: fromCallee } as const;
    if (!(callee instanceof Neighbour)) {
      const offer = { type: 'circuit-offer', ...common, lifetime: this.#limits.circuitSeconds } as const;
      this.#host.requests.send(
        callee.key,
        offer,
        turn,
        (answer, later) => {
          if (this.#circuits.get(circuit.name) !== circuit) return;
          const held = this.#registered.get(toHex(circuit.calleeIdentity))?.registration?.record;
          if (answer?.type !== 'circuit-accept') this.#removeCircuit(circuit, later, answer?.reason);
          else if (held !== undefined)
            this.#established(circuit, answer.leg, held.bytes, this.#limits.circuitSeconds, later);
        },
        OFFER_TRIES,
      );
      return;
    }
    const path = [...circuit.path, this.#host.identity];
    const message = { type: 'circuit-extend', ...common, callee: circuit.calleeIdentity, path } as const;
    if (messageSize(message) > MAX_CONTROL_BODY) {
      this.#removeCircuit(circuit, turn, 'bad-record');
      return;
    }
    this.#host.neighbourRequests.send(callee.key, message, turn, (answer, later) => {
      if (this.#circuits.get(circuit.name) !== circuit || circuit.callee !== callee) {
        // The caller is gone, or another neighbour is asked by now.
        if (answer?.type === 'circuit-granted') this.#tellClosed(callee, circuit.id, later);
        return;
      }
      if (answer?.type === 'circuit-granted') {
        if (this.#isOf(answer.callee, circuit.calleeIdentity, later))
          this.#established(circuit, answer.leg, answer.callee, answer.lifetime, later);
        else {
          this.#tellClosed(callee, circuit.id, later);
          this.#removeCircuit(circuit, later, 'bad-record');
        }
        return;
      }
      this.#askNext(circuit, answer?.reason, later);
    });
  }

  /** Asks another neighbour in place of the one that refused or fell silent. */
  #askNext(circuit: Circuit, reason: Refusal | undefined, turn: Turn): void {
    const [next, ...others] = circuit.asking?.others ?? [];
    if (circuit.asking === undefined || next === undefined || this.#isCrowded(next)) {
      this.#removeCircuit(circuit, turn, reason);
      return;
    }
    circuit.asking = { ...circuit.asking, others };
    circuit.callee.circuits.delete(circuit);
    circuit.callee = next;
    next.circuits.add(circuit);
    this.#ask(circuit, turn);
  }

  /** Whether a record is a valid one of this identity. */
  #isOf(bytes: Uint8Array, identity: Uint8Array, turn: Turn): boolean {
    const record = openPeerRecord(this.#host.primitives, bytes, turn.step.wallClock);
    return typeof record !== 'string' && sameBytes(record.identity, identity);
  }

  #established(circuit: Circuit, legCallee: LegKey, callee: Uint8Array, promised: number, turn: Turn): void {
    circuit.legCallee = legCallee;
    circuit.asking = undefined;
    this.#halfOpen--;
    const lifetime = Math.min(promised, this.#limits.circuitSeconds);
    this.#prolong(circuit, lifetime, turn);
    const { caller, request, id, fromCaller } = circuit;
    const granted = { type: 'circuit-granted', circuit: id, callee, leg: fromCaller, lifetime } as const;
    this.#answers.answer(caller.key, request, granted, turn);
  }

  #addCircuit(circuit: Circuit): void {
    this.#circuits.set(circuit.name, circuit);
    circuit.caller.circuits.add(circuit);
    circuit.callee.circuits.add(circuit);
    for (const counter of circuit.counted) this.#circuitsOf.add(counter, 1);
  }

  /** Whether this end of a circuit is another relay, with the rest of the circuit behind it. */
  #isRelayEnd(circuit: Circuit, end: CircuitEnd): boolean {
    return end === circuit.callee ? end instanceof Neighbour : circuit.path.length > 0;
  }

  /** Refreshes the part of a circuit behind another relay, and with it ours. */
  #refreshAt(
    end: CircuitEnd,
    circuit: Circuit,
    turn: Turn,
    done: (lifetime: number | undefined, later: Turn) => void,
  ): void {
    const { requests, neighbourRequests } = this.#host;
    const table = end instanceof Neighbour ? neighbourRequests : requests;
    table.send(end.key, { type: 'circuit-refresh', circuit: circuit.id }, turn, (answer, later) => {
      if (this.#circuits.get(circuit.name) !== circuit || answer === undefined) return;
      if (answer.type === 'circuit-refreshed') {
        const lifetime = Math.min(answer.lifetime, this.#limits.circuitSeconds);
        this.#prolong(circuit, lifetime, later);
        done(lifetime, later);
      } else {
        this.#close(circuit, later, otherEnd(circuit, end.key));
        done(undefined, later);
      }
    });
  }

  /** After a restart, of ours or of the neighbour: does it know this circuit? */
  #recheck(name: string, turn: Turn): void {
    const circuit = this.#circuits.get(name);
    if (circuit === undefined) return;
    for (const end of [circuit.caller, circuit.callee])
      if (this.#isRelayEnd(circuit, end)) this.#refreshAt(end, circuit, turn, () => undefined);
  }

  /** Gives a circuit its lifetime again: legs, timer and store. */
  #prolong(circuit: Circuit, seconds: number, turn: Turn): void {
    circuit.expiresAt = turn.now + seconds * 1000;
    this.#timers.set(`circuit ${circuit.name}`, circuit.expiresAt);
    this.#install(circuit, turn);
    this.#persistCircuit(circuit, turn);
  }

  /** Writes both forward legs; addresses are the ends' proven ones of this moment. */
  #install(circuit: Circuit, turn: Turn): void {
    const { caller, callee, legCaller, legCallee, fromCaller, fromCallee } = circuit;
    if (legCallee === undefined) return;
    const common = {
      action: 'forward',
      lifetimeMs: Math.max(1, circuit.expiresAt - turn.now),
      charging: { ...UNCHARGED, limits: CIRCUIT_LIMITS },
    } as const;
    this.#host.legs.install(
      { ...fromCaller, ...common, source: caller.address, next: { ...legCallee, address: callee.address } },
      turn,
    );
    this.#host.legs.install(
      { ...fromCallee, ...common, source: callee.address, next: { ...legCaller, address: caller.address } },
      turn,
    );
  }

  /** Ends a circuit and tells these ends. */
  #close(circuit: Circuit, turn: Turn, ...tell: readonly CircuitEnd[]): void {
    this.#removeCircuit(circuit, turn);
    for (const end of tell) this.#tellClosed(end, circuit.id, turn);
  }

  #tellClosed(end: CircuitEnd, circuit: Uint8Array, turn: Turn): void {
    const { requests, neighbourRequests } = this.#host;
    const table = end instanceof Neighbour ? neighbourRequests : requests;
    table.send(end.key, { type: 'circuit-close', circuit }, turn, () => undefined);
  }

  /** @param reason what a caller who still waits is told. */
  #removeCircuit(circuit: Circuit, turn: Turn, reason: Refusal = 'callee-offline'): void {
    if (!this.#circuits.delete(circuit.name)) return;
    if (circuit.legCallee === undefined) {
      this.#halfOpen--;
      this.#refusals.add(reason, 1);
      const refused = { type: 'refused', reason, what: circuit.asked } as const;
      this.#answers.answer(circuit.caller.key, circuit.request, refused, turn);
    } else turn.emit({ type: 'persist', key: CIRCUIT_PREFIX + circuit.name, value: undefined });
    circuit.caller.circuits.delete(circuit);
    circuit.callee.circuits.delete(circuit);
    for (const counter of circuit.counted) this.#circuitsOf.add(counter, -1);
    this.#timers.clear(`circuit ${circuit.name}`);
    this.#timers.clear(`recheck ${circuit.name}`);
    this.#host.legs.remove(circuit.fromCaller.id, turn);
    this.#host.legs.remove(circuit.fromCallee.id, turn);
  }

  // Across a restart

  #persistClient(client: Client, turn: Turn): void {
    const { registration, address } = client;
    if (registration === undefined) return;
    const { record, boot } = registration;
    const expires = Math.ceil(turn.step.wallClock / 1000) + this.#limits.leaseSeconds;
    const value = encodeStoredClient({ address, record: record.bytes, boot, expires });
    turn.emit({ type: 'persist', key: CLIENT_PREFIX + client.key, value });
  }

  #persistCircuit(circuit: Circuit, turn: Turn): void {
    const { id, network, legCaller, legCallee, fromCaller, fromCallee } = circuit;
    const { callerIdentity, calleeIdentity, path } = circuit;
    if (legCallee === undefined) return;
    const value = encodeStoredCircuit({
      id,
      network,
      caller: circuit.caller.sessionKey,
      callee: circuit.callee.sessionKey,
      legCaller,
      legCallee,
      fromCaller,
      fromCallee,
      callerIdentity,
      calleeIdentity,
      path,
      onward: circuit.callee instanceof Neighbour,
      expires: Math.ceil((turn.step.wallClock + circuit.expiresAt - turn.now) / 1000),
    });
    turn.emit({ type: 'persist', key: CIRCUIT_PREFIX + circuit.name, value });
  }

  #restoreClient(value: Uint8Array, turn: Turn): boolean {
    const stored = decodeStoredClient(value);
    if (stored === undefined) return false;
    const seconds = stored.expires - turn.step.wallClock / 1000;
    const record = openPeerRecord(this.#host.primitives, stored.record, turn.step.wallClock);
    if (seconds <= 0 || typeof record === 'string' || !this.#allows(record.identity)) return false;
    const networks = this.#servedOf(record);
    const identity = toHex(record.identity);
    if ((networks.length === 0 && !this.#peers.has(identity)) || this.#registered.has(identity)) return false;
    if (this.#isOwnAddress(stored.address)) return false;
    const client = this.#addClient(record.sessionKey, record.identity, stored.address, turn);
    client.hasSession = true; // it had one: only a registered client is in the store
    client.registration = { record, boot: stored.boot, networks, cursors: new Map(), pushing: new Set() };
    this.#registered.set(identity, client);
    this.#directory.put(record, networks);
    this.#neighbours.follow(networks);
    this.#expireClient(client, Math.min(seconds, this.#limits.leaseSeconds), turn);
    this.#host.recordRegistered(record, turn);
    return true;
  }

  #restoreCircuit(value: Uint8Array, turn: Turn): boolean {
    const stored = decodeStoredCircuit(value);
    const caller = this.#clients.get(toHex(stored?.caller ?? new Uint8Array(0)));
    const calleeKey = toHex(stored?.callee ?? new Uint8Array(0));
    const callee = stored?.onward === true ? this.#neighbours.get(calleeKey) : this.#clients.get(calleeKey);
    if (stored === undefined || caller === undefined || callee === undefined) return false;
    const leftMs = Math.min(stored.expires * 1000 - turn.step.wallClock, this.#limits.circuitSeconds * 1000);
    if (leftMs <= 0 || this.#circuits.size >= this.#limits.circuits) return false;
    const circuit: Circuit = {
      ...stored,
      name: toHex(stored.id),
      caller,
      callee,
      request: 0,
      asked: stored.path.length > 0 ? 'circuit-extend' : 'circuit-open',
      asking: undefined,
      counted: countersOf({ ...stored, caller, callee }),
      openedAt: turn.now,
      expiresAt: turn.now + leftMs,
    };
    this.#addCircuit(circuit);
    this.#timers.set(`circuit ${circuit.name}`, circuit.expiresAt);
    this.#install(circuit, turn);
    return true;
  }

  #handshake(peer: SessionKey, turn: Turn): void {
    const started = this.#handshakes.get(peer) ?? 0;
    const wait = HANDSHAKE_WAITS_MS[started];
    if (wait === undefined || !this.#clients.has(peer)) {
      this.#handshakes.delete(peer);
      return;
    }
    this.#handshakes.set(peer, started + 1);
    this.#timers.set(`handshake ${peer}`, turn.now + wait);
    turn.emit({ type: 'handshake', peer });
  }

  #stopHandshakes(peer: SessionKey): void {
    this.#handshakes.delete(peer);
    this.#timers.clear(`handshake ${peer}`);
  }

  #refuse(peer: SessionKey, request: number, what: string, reason: Refusal, turn: Turn): void {
    this.#refusals.add(reason, 1);
    turn.refuse(peer, request, what, reason);
  }
}

/** IPv4 counts per address, IPv6 per /64: what one subscriber is given. */
function prefixOf({ ip }: SocketAddress): string {
  return `prefix ${toHex(isIPv4(ip) ? ip : ip.subarray(0, 8))}`;
}

/** Whether a circuit is between these two ends, whoever called. */
function joins({ callerIdentity, calleeIdentity }: Circuit, a: Uint8Array, b: Uint8Array): boolean {
  const either = (identity: Uint8Array): boolean => sameBytes(identity, a) || sameBytes(identity, b);
  return either(callerIdentity) && either(calleeIdentity);
}

/**
 * What the caps count a circuit under, beside either neighbour's own set. An end behind another relay
 * counts apart from our own clients of that identity: no relay spends what a client of ours may have.
 */
function countersOf({
  path,
  caller,
  callerIdentity,
  callee,
  calleeIdentity,
}: Pick<Circuit, 'path' | 'caller' | 'callerIdentity' | 'callee' | 'calleeIdentity'>): string[] {
  const onward = callee instanceof Neighbour ? [`callee ${toHex(calleeIdentity)} elsewhere`] : [];
  if (path.length === 0) return [prefixOf(caller.address), ...onward];
  return [`caller ${toHex(callerIdentity)} of ${caller.key}`, ...onward];
}

function drop(key: string, turn: Turn): void {
  turn.emit({ type: 'persist', key, value: undefined });
}
