// The bootstrap and relay role: admits strangers, keeps the records of those who register, answers
// lookups, pushes changes, and joins two registered ends by a circuit.

import type { EngineEvent, SessionKey } from '../../../contract/engine.js';
import type { ParsedFrame } from '../../../wire/frame.js';
import type { SocketAddress } from '../../../wire/socket-address.js';
import { fromHex, sameBytes, toHex } from '../../../wire/bytes.js';
import { contactLeg } from '../../protocol/contact-leg.js';
import { ADMISSION_DROPS } from '../admission-server.js';
import type { ControlMessage, MessageOf } from '../../protocol/control-message.js';
import { REFUSALS, type Refusal } from '../../protocol/refusal.js';
import { Counter } from '../../runtime/counter.js';
import { earliest } from '../../runtime/earliest.js';
import type { Step } from '../../../contract/step.js';
import type { RelayStatus } from '../../runtime/mesh-status.js';
import type { PeerRecord } from '../../protocol/peer-record.js';
import { RelayCircuits } from '../circuits/relay-circuits.js';
import { addressOwners, type Client } from '../relay-client.js';
import type { Bootstrap } from '../../protocol/network.js';
import { RelayClients } from '../relay-clients.js';
import { RelayConsent } from '../circuits/relay-consent.js';
import { RelayDirectory } from '../relay-directory.js';
import { refuse, type RelayHost, type RelayParts } from '../relay-host.js';
import { RelayNeighbours } from '../relay-neighbours.js';
import { RelayAccounts } from '../relay-accounts.js';
import { CAPS, isCap, type Cap } from '../relay-limits.js';
import type { RelayPolicy } from '../relay-policy.js';
import { RelayDrain } from '../relay-drain.js';
import { RelayReceipts } from './relay-receipts.js';
import { RelayRules } from '../relay-rules.js';
import { RelayTenures } from '../relay-tenures.js';
import type { Turn } from '../../runtime/turn.js';
import { WireguardBindings } from '../wireguard-bindings.js';

/** Every reason something is turned down for, or silently dropped. */
const TURNED_DOWN: readonly string[] = [
  ...REFUSALS.filter((reason) => reason !== 'capacity'),
  'capacity', // the answer of the callee, or of the next relay, passed on
  ...CAPS,
  ...ADMISSION_DROPS,
  'message-rate',
  'unproven-address',
  'circuit-time',
];

export class RelayService {
  readonly #parts: RelayParts;
  readonly #wireguard: WireguardBindings;
  readonly #clients: RelayClients;
  readonly #consent: RelayConsent;
  readonly #circuits: RelayCircuits;
  readonly #receipts: RelayReceipts;
  readonly #tenures: RelayTenures;

  constructor(policy: RelayPolicy, host: RelayHost) {
    const rules = new RelayRules(policy);
    this.#parts = {
      host,
      rules,
      accounts: new RelayAccounts(rules),
      neighbours: new RelayNeighbours(
        () => host.uplinks(),
        () => rules.limits.registrations,
      ),
      directory: new RelayDirectory(host.requests, () => this.#clients.allRegistered()),
      drain: new RelayDrain({
        requests: host.requests,
        clients: () => this.#clients.allRegistered(),
        // One that uses this one as a bootstrap only says it itself; who lies is not waited for.
        isRelay: ({ identity, registration }) =>
          this.#parts.neighbours.knows(identity) ||
          registration?.record.capabilities.includes('relay') === true,
        client: (key) => this.#clients.get(key),
        circuits: () => this.#circuits.size,
      }),
      refusals: new Counter(TURNED_DOWN),
    };
    this.#tenures = new RelayTenures(host, () => rules.limits);
    this.#wireguard = new WireguardBindings(
      rules,
      this.#parts.accounts,
      (key) => this.#clients.get(key)?.registration?.networks ?? [],
    );
    this.#clients = new RelayClients(this.#parts, {
      reborn: (client, turn) => this.#reborn(client, turn),
      published: (client, turn) => void this.#wish(client, client.registration?.networks ?? [], 0, turn),
      moved: (client, turn) => {
        this.#circuits.moved(client, turn);
        this.#wireguard.changed(client.key, turn);
      },
      unregistered: ({ key }, turn) => {
        this.#wireguard.release(key, turn);
        this.#consent.release(key, turn);
        this.#parts.neighbours.followed.release(key, turn.now);
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
    this.#tenures.restore(restored, turn);
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
        directory.put(record, rules.allows(record.identity) ? this.#toldIn(record) : []);
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
    const client = this.#clients.get(event.peer);
    if (client !== undefined) this.#clients.sessionAt(client, address, turn);
  }

  /** Counts a message of a client against its rate; false when it is to be dropped. */
  admitsMessage(peer: SessionKey, message: ControlMessage, turn: Turn): boolean {
    return this.#clients.admitsMessage(peer, message, turn);
  }

  handleRegister(peer: SessionKey, request: number, message: MessageOf<'register'>, turn: Turn): void {
    const client = this.#clients.get(peer);
    const before = client?.registration?.boot;
    const refused = client === undefined ? 'not-registered' : this.#clients.register(client, message, turn);
    if (client === undefined || refused !== undefined) {
      const reason = refused ?? 'not-registered';
      this.#parts.refusals.add(reason, 1);
      turn.refuse(peer, request, message.type, isCap(reason) ? 'capacity' : reason);
      return;
    }
    const { registration } = client;
    const served = registration ? this.#parts.rules.servedOf(registration.record) : [];
    turn.send(peer, request, {
      type: 'registered',
      observed: client.address,
      lease: this.#parts.rules.limits.leaseSeconds,
      boot: this.#parts.host.boot,
      tenures: registration
        ? this.#tenures.grant(registration.record, registration.networks, client.address, turn)
        : [],
      unproven: served
        .filter((network) => !client.proven.has(network))
        .map(fromHex)
        .filter((network) => network !== undefined),
    });
    if (before !== undefined && !sameBytes(before, message.boot)) this.#parts.drain.forgotten(client);
    this.#parts.drain.registered(client, turn);
  }

  /** A client leaves: it has other relays, and nothing leads over this one any more. */
  handleUnregister(peer: SessionKey, request: number, turn: Turn): void {
    turn.send(peer, request, { type: 'unregistered' });
    const client = this.#clients.get(peer);
    if (client === undefined) return;
    this.#clients.leave(client, turn);
    this.#parts.drain.forgotten(client);
  }

  /** Takes on nobody and nothing from now on, and is over after so long. `automatic`: or when those who can have left. */
  beginDrain(seconds: number, automatic: boolean, turn: Turn): void {
    this.#parts.drain.begin(seconds, automatic, turn);
  }

  /** Goes on as before. */
  endDrain(turn: Turn): void {
    this.#parts.drain.end(turn);
  }

  /** Whether a drain is over. */
  get isDrained(): boolean {
    return this.#parts.drain.isDone;
  }

  handleJoin(peer: SessionKey, request: number, message: MessageOf<'join-network'>, turn: Turn): void {
    const client = this.#clients.get(peer);
    const joined = client === undefined ? 'not-registered' : this.#clients.join(client, message, turn);
    if (client?.registration === undefined || typeof joined === 'string') {
      const reason = typeof joined === 'string' ? joined : 'not-registered';
      this.#parts.refusals.add(reason, 1);
      turn.refuse(peer, request, message.type, isCap(reason) ? 'capacity' : reason);
      return;
    }
    const { record } = client.registration;
    const tenures = this.#tenures.grant(record, [joined.network], client.address, turn);
    turn.send(peer, request, { type: 'network-joined', tenures });
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
    const neighbour = this.#parts.neighbours.knows(client.identity);
    if (neighbour && !this.#wish(client, [network], message.depth, turn)) {
      refuse(this.#parts, peer, request, message.type, 'capacity', turn);
      return;
    }
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
    const refused = client === undefined ? 'not-registered' : this.#bindWireguard(client, turn);
    if (refused !== undefined) {
      this.#parts.refusals.add(refused, 1);
      turn.refuse(peer, request, 'wireguard-bind', isCap(refused) ? 'capacity' : refused);
    } else turn.send(peer, request, { type: 'wireguard-bound' });
  }

  #bindWireguard(client: Client, turn: Turn): Refusal | Cap | undefined {
    if (client.registration === undefined) return 'not-registered';
    if (this.#parts.drain.isOn) return 'draining';
    // There are few bindings: they are for those who have shown more than that they know what a network is called.
    if (client.proven.size === 0 && !this.#parts.rules.isPeer(client.identity)) return 'not-a-member';
    return this.#wireguard.bind(client, turn);
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
  followed({ identity, sessionKey }: Bootstrap): string[] {
    if (!this.#parts.rules.isPeer(identity)) return [];
    return [...this.#parts.neighbours.followed.of(toHex(sessionKey))].map(([network]) => network);
  }

  /** The depth of a question to a neighbour about a network (hex) that others follow. */
  followDepth(network: string, neighbour: SessionKey): number | undefined {
    return this.#parts.neighbours.followed.depth(network, neighbour);
  }

  /**
   * A client asked for the records of these networks (hex): the neighbours are asked for theirs.
   * @returns whether there is room for all of them.
   */
  #wish(client: Client, networks: readonly string[], depth: number, turn: Turn): boolean {
    const { neighbours, rules, host } = this.#parts;
    const { followed } = neighbours;
    const relay = neighbours.knows(client.identity);
    const payer = relay ? { neighbour: client.key } : addressOwners(client.address);
    // A relay renews its wishes with its registration, at half the lease; a client's last as long as that.
    const until = relay ? turn.now + rules.limits.leaseSeconds * 1000 : undefined;
    const peers = [...host.uplinks()].filter(({ bootstrap }) => rules.isPeer(bootstrap.identity));
    const asked = (network: string): (number | undefined)[] =>
      peers.map(({ sessionKey }) => followed.depth(network, sessionKey));
    let all = true;
    for (const network of networks) {
      const before = asked(network);
      if (!followed.wish(network, client.key, { depth, until, payer })) {
        all = false;
        continue;
      }
      asked(network).forEach((now, index) => {
        if (now !== undefined && now !== before[index]) peers[index]?.follow(network, turn);
      });
    }
    if (!relay) followed.release(client.key, turn.now, networks);
    return all;
  }

  /**
   * A neighbour told a record of a network that is read at it, its signature checked: its identity is reached through
   * that neighbour.
   */
  learned(from: SessionKey, network: string, record: PeerRecord, turn: Turn): void {
    const { host, rules, neighbours, directory } = this.#parts;
    if (sameBytes(record.identity, host.identity) || !rules.allows(record.identity)) return;
    if (!rules.servedOf(record).includes(network) || !neighbours.learn(from, network, record)) return;
    if (this.#clients.registered(record.identity) !== undefined) return;
    const networks = this.#toldIn(record);
    directory.put(record, networks);
    directory.pushChanges(networks, turn);
  }

  /** The served networks (hex) in which neighbours told of a record. */
  #toldIn({ identity }: PeerRecord): string[] {
    const { neighbours, rules } = this.#parts;
    return neighbours.toldIn(toHex(identity)).filter((network) => rules.serves(network));
  }

  /** A neighbour says who is gone from a network, or begins anew with it. */
  untold(
    neighbour: SessionKey,
    { network, from, gone }: Pick<MessageOf<'records'>, 'network' | 'from' | 'gone'>,
    turn: Turn,
  ): void {
    this.#lose(this.#parts.neighbours.untold(neighbour, toHex(network), from === 0 ? undefined : gone), turn);
  }

  /** No neighbour has these records any more. */
  #lose(records: readonly PeerRecord[], turn: Turn): void {
    const { directory, rules } = this.#parts;
    for (const record of records) {
      if (this.#clients.registered(record.identity) !== undefined) continue;
      directory.remove(record);
      directory.pushChanges(rules.servedOf(record), turn);
    }
  }

  /** A neighbour took our registration. `fresh`: it may have forgotten circuits. */
  neighbourReady(key: SessionKey, fresh: boolean, turn: Turn): void {
    if (fresh) this.#circuits.neighbourReady(key, turn);
  }

  /** A relay we ask is reached at another address now. */
  neighbourMoved(key: SessionKey, turn: Turn): void {
    const neighbour = this.#parts.neighbours.get(key);
    if (neighbour !== undefined) this.#circuits.moved(neighbour, turn);
  }

  neighbourLost(key: SessionKey, turn: Turn): void {
    this.#circuits.neighbourLost(key, turn);
  }

  neighbourGone(key: SessionKey, turn: Turn): void {
    this.neighbourLost(key, turn);
    this.#lose(this.#parts.neighbours.forget(key), turn);
  }

  /** Forgets records of neighbours that have run out, and what nobody wishes any more. */
  sweep(turn: Turn): void {
    const { neighbours } = this.#parts;
    const unfollowed = neighbours.followed.expire(turn.now);
    this.#lose(neighbours.unfollow(unfollowed), turn);
    // Neighbours are told of changes no longer where they do not wish it.
    for (const { registration } of this.#clients.allRegistered())
      for (const network of unfollowed)
        if (registration?.networks.includes(network) === false) registration.cursors.delete(network);
    this.#lose(neighbours.expire(turn.step.wallClock), turn);
    this.#tenures.expire(turn);
  }

  handleTimeout(turn: Turn): void {
    this.#clients.handleTimeout(turn);
    this.#circuits.handleTimeout(turn);
    this.#parts.drain.handleTimeout(turn);
  }

  deadline(): number | undefined {
    return earliest(this.#clients.deadline(), this.#circuits.deadline(), this.#parts.drain.deadline());
  }

  status(step: Step): RelayStatus {
    const { admissions, registrations, circuits } = this.#parts.rules.limits;
    return {
      drain: this.#parts.drain.status(step.now),
      registrations: this.#clients.registrations,
      standingPolicies: this.#consent.size(step.wallClock),
      admissions: this.#clients.size,
      halfOpen: this.#circuits.halfOpen,
      circuits: this.#circuits.status(step.now),
      limits: { admissions, registrations, circuits },
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
