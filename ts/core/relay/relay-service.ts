// The bootstrap and relay role: admits strangers, keeps the records of those who register, answers
// lookups, pushes changes, and joins two registered ends by a circuit.

import type { EngineEvent, SessionKey } from '../../contract/engine.js';
import type { ParsedFrame } from '../../wire/frame.js';
import type { SocketAddress } from '../../wire/socket-address.js';
import { sameBytes, toHex } from '../../wire/bytes.js';
import { contactLeg } from '../protocol/contact-leg.js';
import { ADMISSION_DROPS } from './admission-server.js';
import { REFUSALS, type MessageOf } from '../protocol/control-message.js';
import { Counter } from '../runtime/counter.js';
import type { Step } from '../../contract/step.js';
import type { RelayStatus } from '../runtime/mesh-status.js';
import type { PeerRecord } from '../protocol/peer-record.js';
import { RelayCircuits } from './circuits/relay-circuits.js';
import type { Client } from './relay-client.js';
import { RelayClients } from './relay-clients.js';
import { RelayConsent } from './circuits/relay-consent.js';
import { RelayDirectory } from './relay-directory.js';
import { refuse, type RelayHost, type RelayParts } from './relay-host.js';
import { RelayNeighbours } from './relay-neighbours.js';
import { RelayAccounts } from './relay-accounts.js';
import { CAPS, isCap } from './relay-limits.js';
import type { RelayPolicy } from './relay-policy.js';
import { RelayReceipts } from './relay-receipts.js';
import { RelayRules } from './relay-rules.js';
import type { Turn } from '../runtime/turn.js';
import { WireguardBindings } from './wireguard-bindings.js';

/** Every reason something is turned down for, or silently dropped. */
const TURNED_DOWN: readonly string[] = [
  ...REFUSALS.filter((reason) => reason !== 'capacity'),
  'capacity', // the answer of the callee, or of the next relay, passed on
  ...CAPS,
  ...ADMISSION_DROPS,
  'message-rate',
  'circuit-time',
];

export class RelayService {
  readonly #parts: RelayParts;
  readonly #wireguard: WireguardBindings;
  readonly #clients: RelayClients;
  readonly #consent: RelayConsent;
  readonly #circuits: RelayCircuits;
  readonly #receipts: RelayReceipts;

  constructor(policy: RelayPolicy, host: RelayHost) {
    const rules = new RelayRules(policy);
    this.#parts = {
      host,
      rules,
      accounts: new RelayAccounts(rules),
      neighbours: new RelayNeighbours(() => host.uplinks(), rules.limits.registrations),
      directory: new RelayDirectory(host.requests, () => this.#clients.allRegistered()),
      refusals: new Counter(TURNED_DOWN),
    };
    this.#wireguard = new WireguardBindings(
      rules,
      this.#parts.accounts,
      (key) => this.#clients.get(key)?.registration?.networks ?? [],
    );
    this.#clients = new RelayClients(this.#parts, {
      reborn: (client, turn) => this.#reborn(client, turn),
      moved: (client, turn) => {
        this.#circuits.moved(client, turn);
        this.#wireguard.changed(client.key, turn);
      },
      unregistered: ({ key }, turn) => {
        this.#wireguard.release(key, turn);
        this.#consent.release(key, turn);
      },
      removed: (client, turn) => this.#circuits.clientGone(client, turn),
    });
    this.#consent = new RelayConsent(this.#parts, this.#clients);
    this.#circuits = new RelayCircuits(this.#parts, this.#clients, this.#consent);
    this.#receipts = new RelayReceipts(this.#parts, this.#circuits);
  }

  /** Installs the contact leg and takes up what the store holds. */
  start(restored: ReadonlyMap<string, Uint8Array>, turn: Turn): void {
    const { host, accounts } = this.#parts;
    accounts.apply(turn);
    host.legs.install(contactLeg(host.primitives, host.sessionKey), turn);
    this.#wireguard.start(turn);
    this.#clients.restore(restored, turn);
    this.#consent.restore(restored, turn);
    this.#circuits.restore(restored, turn);
    if (this.#clients.size > 0)
      turn.notify('info', 'relay-restored', { clients: this.#clients.size, circuits: this.#circuits.size });
  }

  /** From now on these rules hold, for those who are connected already too. */
  setPolicy(policy: RelayPolicy, turn: Turn): void {
    this.#parts.rules.replace(policy);
    this.#parts.accounts.apply(turn);
    this.#clients.rulesChanged(turn);
    this.#circuits.rulesChanged(turn);
    const { neighbours, directory, rules } = this.#parts;
    for (const record of neighbours.records())
      if (this.#clients.registered(record.identity) === undefined)
        directory.put(record, rules.allows(record.identity) ? rules.servedOf(record) : []);
    this.#wireguard.start(turn);
  }

  /** Puts the node's own record into the directory: a bootstrap may be a member itself. */
  publish(record: PeerRecord, turn: Turn): void {
    const networks = record.networks.map(toHex);
    this.#parts.directory.put(record, networks);
    this.#parts.directory.pushChanges(networks, turn);
  }

  isClient(peer: SessionKey): boolean {
    return this.#clients.get(peer) !== undefined;
  }

  knowsCircuit(id: Uint8Array): boolean {
    return this.#circuits.get(id) !== undefined;
  }

  /** A frame on the contact leg. */
  handleFrame(from: SocketAddress, frame: ParsedFrame, turn: Turn): void {
    this.#clients.handleFrame(from, frame, turn);
  }

  handleEngineEvent(event: Extract<EngineEvent, { type: 'session' | 'endpoint' }>, turn: Turn): void {
    const address = 'address' in event.endpoint ? event.endpoint.address : undefined;
    const neighbour = this.#parts.neighbours.get(event.peer);
    if (address !== undefined && neighbour?.heardFrom(address) === true)
      this.#circuits.moved(neighbour, turn);
    const client = this.#clients.get(event.peer);
    if (client !== undefined) this.#clients.sessionAt(client, address, turn);
  }

  /** Counts a message of a client against its rate; false when it is to be dropped. */
  admitsMessage(peer: SessionKey, now: number): boolean {
    return this.#clients.admitsMessage(peer, now);
  }

  handleRegister(peer: SessionKey, request: number, message: MessageOf<'register'>, turn: Turn): void {
    const client = this.#clients.get(peer);
    const refused = client === undefined ? 'not-registered' : this.#clients.register(client, message, turn);
    if (client === undefined || refused !== undefined) {
      const reason = refused ?? 'not-registered';
      this.#parts.refusals.add(reason, 1);
      turn.refuse(peer, request, message.type, isCap(reason) ? 'capacity' : reason);
      return;
    }
    this.#follow(client.registration?.networks ?? [], turn);
    turn.send(peer, request, {
      type: 'registered',
      observed: client.address,
      lease: this.#parts.rules.limits.leaseSeconds,
      boot: this.#parts.host.boot,
    });
  }

  handleLookup(peer: SessionKey, request: number, message: MessageOf<'lookup'>, turn: Turn): void {
    const client = this.#clients.get(peer);
    const registration = client?.registration;
    if (client === undefined || registration === undefined) {
      refuse(this.#parts, peer, request, message.type, 'not-registered', turn);
      return;
    }
    const network = toHex(message.network);
    if (!registration.networks.includes(network) && !this.#readsAll(client, network)) {
      refuse(this.#parts, peer, request, message.type, 'not-a-member', turn);
      return;
    }
    if (this.#parts.neighbours.knows(client.identity)) this.#follow([network], turn);
    this.#parts.directory.answerLookup(client, request, message, turn);
  }

  handleOpen(peer: SessionKey, request: number, message: MessageOf<'circuit-open'>, turn: Turn): void {
    this.#circuits.handleOpen(peer, request, message, turn);
  }

  handleExtend(peer: SessionKey, request: number, message: MessageOf<'circuit-extend'>, turn: Turn): void {
    this.#circuits.handleExtend(peer, request, message, turn);
  }

  handleRefresh(peer: SessionKey, request: number, message: MessageOf<'circuit-refresh'>, turn: Turn): void {
    this.#circuits.handleRefresh(peer, request, message, turn);
  }

  handleClose(peer: SessionKey, request: number, message: MessageOf<'circuit-close'>, turn: Turn): void {
    this.#circuits.handleClose(peer, request, message, turn);
  }

  handleStandingPolicy(
    peer: SessionKey,
    request: number,
    message: MessageOf<'standing-policy'>,
    turn: Turn,
  ): void {
    this.#consent.handle(peer, request, message, turn);
  }

  /** A client wants stock WireGuard clients relayed to it, for as long as it is registered. */
  handleWireguardBind(peer: SessionKey, request: number, turn: Turn): void {
    const client = this.#clients.get(peer);
    const refused =
      client?.registration === undefined ? 'not-registered' : this.#wireguard.bind(client, turn);
    if (refused !== undefined) {
      this.#parts.refusals.add(refused, 1);
      turn.refuse(peer, request, 'wireguard-bind', isCap(refused) ? 'capacity' : refused);
    } else turn.send(peer, request, { type: 'wireguard-bound' });
  }

  handleReceipt(peer: SessionKey, request: number, message: MessageOf<'receipt'>, turn: Turn): void {
    this.#receipts.handle(peer, request, message, turn);
  }

  /** Receipts of standing circuits, of one end's only if an identity is given; at most `limit`. */
  receipts(
    end: Uint8Array | undefined,
    limit: number,
    turn: Turn,
    done: (receipts: readonly Uint8Array[], later: Turn) => void,
  ): void {
    this.#receipts.collect(end, limit, turn, done);
  }

  // Neighbours

  /** Networks (hex) that a configured neighbour is asked about on behalf of others. */
  followed(neighbour: Uint8Array): Iterable<string> {
    return this.#parts.rules.isPeer(neighbour) ? this.#parts.neighbours.followed : [];
  }

  /** A client asked for the records of these networks (hex): the neighbours are asked for theirs. */
  #follow(networks: readonly string[], turn: Turn): void {
    const fresh = this.#parts.neighbours.follow(networks);
    for (const neighbour of this.#parts.host.uplinks())
      if (this.#parts.rules.isPeer(neighbour.bootstrap.identity))
        for (const network of fresh) neighbour.follow(network, turn);
  }

  /** A neighbour told a record, its signature checked: its identity is reached through that neighbour. */
  learned(from: SessionKey, record: PeerRecord, turn: Turn): void {
    if (sameBytes(record.identity, this.#parts.host.identity) || !this.#parts.rules.allows(record.identity))
      return;
    const networks = this.#parts.rules.servedOf(record);
    if (networks.length === 0 || !this.#parts.neighbours.learn(from, record)) return;
    if (this.#clients.registered(record.identity) !== undefined) return;
    this.#parts.directory.put(record, networks);
    this.#parts.directory.pushChanges(networks, turn);
  }

  /** A neighbour took our registration. `fresh`: it may have forgotten circuits. */
  neighbourReady(key: SessionKey, fresh: boolean, turn: Turn): void {
    if (fresh) this.#circuits.neighbourReady(key, turn);
  }

  neighbourLost(key: SessionKey, turn: Turn): void {
    this.#circuits.neighbourLost(key, turn);
  }

  neighbourGone(key: SessionKey, turn: Turn): void {
    this.neighbourLost(key, turn);
    this.#parts.neighbours.forget(key);
  }

  /** Forgets records of neighbours that have run out. */
  sweep(turn: Turn): void {
    for (const record of this.#parts.neighbours.expire(turn.step.wallClock))
      if (this.#clients.registered(record.identity) === undefined) this.#parts.directory.remove(record);
  }

  handleTimeout(turn: Turn): void {
    this.#clients.handleTimeout(turn);
    this.#circuits.handleTimeout(turn);
  }

  deadline(): number | undefined {
    const deadlines = [this.#clients.deadline(), this.#circuits.deadline()].filter((at) => at !== undefined);
    return deadlines.length === 0 ? undefined : Math.min(...deadlines);
  }

  status(step: Step): RelayStatus {
    return {
      registrations: this.#clients.registrations,
      standingPolicies: this.#consent.size(step.wallClock),
      admissions: this.#clients.size,
      halfOpen: this.#circuits.halfOpen,
      circuits: this.#circuits.status(step.now),
      wireguard: this.#wireguard.status(),
      accounts: this.#parts.accounts.status(),
      refusals: this.#parts.refusals.toRecord(),
    };
  }

  /** A client was restarted and has forgotten its circuits. A relay has them in its store, and asks for them. */
  #reborn(client: Client, turn: Turn): void {
    this.#wireguard.release(client.key, turn);
    this.#consent.release(client.key, turn);
    if (!this.#parts.neighbours.knows(client.identity)) this.#circuits.closeAll(client, turn);
  }

  /** A relay we know reads the records of every network we serve: it needs them to find its callees. */
  #readsAll(client: Client, network: string): boolean {
    return this.#parts.neighbours.knows(client.identity) && this.#parts.rules.serves(network);
  }
}
