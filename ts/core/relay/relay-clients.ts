// The clients of a relay: who is registered, what others are told of them, and where they are. Nobody is sent anything
// to an address he has not proven to receive at.

import type { SessionKey } from '../../contract/engine.js';
import type { ParsedFrame } from '../../wire/frame.js';
import type { SocketAddress } from '../../wire/socket-address.js';
import { fromHex, sameBytes, toHex } from '../../wire/bytes.js';
import type { ControlMessage, MessageOf } from '../protocol/control-message.js';
import { recordRefusal, type Refusal } from '../protocol/refusal.js';
import type { Counter } from '../runtime/counter.js';
import { earliest } from '../runtime/earliest.js';
import { encodePeerId } from '../protocol/peer-id.js';
import { blindedIdOf, membershipMessage } from '../protocol/network.js';
import { openPeerRecord, type PeerRecord } from '../protocol/peer-record.js';
import { ClientAddresses } from './client-addresses.js';
import { ClientAdmission } from './client-admission.js';
import { ClientRoster, type GivenClient } from './client-roster.js';
import type { Cap } from './relay-limits.js';
import { addressOwners, type Client, type Registration } from './relay-client.js';
import { isOwnAddress, type RelayHost, type RelayParts } from './relay-host.js';
import type { RelayNeighbours } from './relay-neighbours.js';
import type { RelayDirectory } from './relay-directory.js';
import type { RelayRules } from './relay-rules.js';
import { CLIENT_PREFIX, decodeStoredClient, encodeStoredClient } from './relay-store.js';
import { RestartHandshakes } from './restart-handshakes.js';
import { TimerQueue } from '../runtime/timer-queue.js';
import type { Turn } from '../runtime/turn.js';

/** Control messages a client may send: 200 a second, and a second's worth at once. */
const MESSAGE_INTERVAL_MS = 5;
const MESSAGE_BURST_MS = 1000;
/** Changes of a client's record that others are told: one in 10 s, eight at once. The newest waits. */
const CHANGE_INTERVAL_MS = 10_000;
const CHANGES_AT_ONCE = 8;
/** A client that has left is forgotten after so long: its question may be repeated. */
const LEFT_SECONDS = 3;

/** What else of the relay follows a client. */
export interface ClientFollowers {
  /** Another life of the client: it knows nothing of what it had. */
  reborn(client: Client, turn: Turn): void;
  /** Its record is told to others. */
  published(client: Client, turn: Turn): void;
  moved(client: Client, turn: Turn): void;
  /** It has no registration any more. */
  unregistered(client: Client, turn: Turn): void;
  removed(client: Client, turn: Turn): void;
}

export class RelayClients {
  readonly #host: RelayHost;
  readonly #rules: RelayRules;
  readonly #neighbours: RelayNeighbours;
  readonly #directory: RelayDirectory;
  readonly #refusals: Counter;
  readonly #followers: ClientFollowers;
  readonly #roster: ClientRoster;
  readonly #admission: ClientAdmission;
  readonly #addresses: ClientAddresses;
  /** Registered clients by identity (hex). */
  readonly #registered = new Map<string, Client>();
  /** Changes of a record that wait until they may be told. */
  readonly #publications = new TimerQueue<Client>();
  readonly #handshakes = new RestartHandshakes();

  constructor(
    { host, rules, neighbours, directory, drain, refusals }: RelayParts,
    followers: ClientFollowers,
  ) {
    this.#host = host;
    this.#rules = rules;
    this.#neighbours = neighbours;
    this.#directory = directory;
    this.#refusals = refusals;
    this.#followers = followers;
    this.#addresses = new ClientAddresses({
      primitives: host.primitives,
      requests: host.requests,
      refuses: (address) => this.#refusesOwn(address),
      settled: (client, turn) => directory.resume(client, turn),
      moved: (client, address, turn) => this.#move(client, address, turn),
    });
    this.#roster = new ClientRoster(rules);
    this.#admission = new ClientAdmission({
      host,
      rules,
      refusals,
      roster: this.#roster,
      drain,
      add: (given, turn) => this.#addClient(given, turn),
      remove: (client, turn) => this.#removeClient(client, turn),
      proven: (client, address, turn) => this.#addresses.proven(client, address, turn),
    });
  }

  /** Takes up what the store holds. */
  restore(restored: ReadonlyMap<string, Uint8Array>, turn: Turn): void {
    for (const [key, value] of restored)
      if (key.startsWith(CLIENT_PREFIX) && !this.#restoreClient(value, turn))
        turn.emit({ type: 'persist', key, value: undefined });
    this.#handshakes.begin(this.#roster.keys(), turn.now);
  }

  get size(): number {
    return this.#roster.size;
  }

  get registrations(): number {
    return this.#registered.size;
  }

  get(key: SessionKey): Client | undefined {
    return this.#roster.get(key);
  }

  /** The registered client of this identity. */
  registered(identity: Uint8Array): Client | undefined {
    return this.#registered.get(toHex(identity));
  }

  allRegistered(): Iterable<Client> {
    return this.#registered.values();
  }

  /** A frame on the contact leg. */
  handleFrame(from: SocketAddress, frame: ParsedFrame, turn: Turn): void {
    this.#admission.handleFrame(from, frame, turn);
  }

  /** Its session came up, or moved to this address. */
  sessionAt(client: Client, address: SocketAddress | undefined, turn: Turn): void {
    client.hasSession = true;
    if (address !== undefined) this.#addresses.sessionAt(client, address, turn);
  }

  /**
   * Counts a message of a client against its rate; false when it is to be dropped. Its packets come from where
   * it says: until it has shown to receive there, what it asks is not answered, or it could have pages of the
   * directory sent to whom it likes.
   */
  admitsMessage(peer: SessionKey, message: ControlMessage, turn: Turn): boolean {
    const { now } = turn;
    const client = this.#roster.get(peer);
    if (client === undefined) return true;
    const next = Math.max(client.nextMessage, now) + MESSAGE_INTERVAL_MS;
    if (next - now > MESSAGE_BURST_MS) {
      this.#refusals.add('message-rate', 1);
      return false;
    }
    client.nextMessage = next;
    if (client.challenged === undefined || message.type === 'address-answer') return true;
    this.#refusals.add('unproven-address', 1);
    this.#addresses.challengeAgain(client, turn);
    return false;
  }

  /** @returns why not; undefined when registered. */
  register(client: Client, message: MessageOf<'register'>, turn: Turn): Refusal | Cap | undefined {
    const record = openPeerRecord(this.#host.primitives, message.record, turn.step.wallClock);
    // The session proves the session key, the record's signature binds it to the identity.
    if (typeof record === 'string') return recordRefusal(record);
    if (!sameBytes(record.sessionKey, client.sessionKey)) return 'bad-record';
    if (sameBytes(record.identity, this.#host.identity) || !this.#rules.allows(record.identity))
      return 'denied';
    const served = this.#rules.servedOf(record);
    const identity = toHex(record.identity);
    if (served.length === 0 && !this.#rules.isPeer(record.identity)) return 'not-served';
    const holder = this.#registered.get(identity);
    const held = holder?.registration?.record;
    const unchanged = held !== undefined && sameBytes(held.bytes, record.bytes);
    if (held !== undefined && record.sequence <= held.sequence && !unchanged) return 'stale-record';
    const before = client.registration;
    const reborn = before !== undefined && !sameBytes(before.boot, message.boot);
    // A boot id is new at each start: one that comes back after another lives beside it.
    if (reborn && client.formerBoot !== undefined && sameBytes(client.formerBoot, message.boot)) {
      turn.notify('warn', 'identity-twice', { peer: encodePeerId(record.identity) });
      return 'identity-twice';
    }
    if (held === undefined && this.#registered.size >= this.#rules.limits.registrations)
      return 'registrations';

    // A session is of one identity: whoever wants another makes another session, and pays for it.
    if (client.bound && !sameBytes(client.identity, record.identity)) return 'denied';
    if (holder !== undefined && holder !== client) this.#removeClient(holder, turn);
    client.bound = true;
    if (!sameBytes(client.identity, record.identity)) this.#rebind(client, record.identity, turn);
    if (reborn) {
      client.formerBoot = before.boot;
      this.#followers.reborn(client, turn);
    }
    client.hasSession = true;
    this.#handshakes.stop(client.key); // its end of the session stands too
    const networks = served.filter((network) => client.proven.has(network));
    client.registration = {
      record,
      boot: message.boot,
      networks,
      // What this life of the client has read it has still; it may be reading at this moment.
      cursors: new Map(reborn ? [] : [...(before?.cursors ?? [])].filter(([id]) => networks.includes(id))),
      pushing: before?.pushing ?? new Set(),
    };
    this.#registered.set(identity, client);
    // Whoever shows nothing has the place of an admission, and no longer than that.
    if (!this.#roster.passes(client)) this.#expireClient(client, this.#rules.limits.leaseSeconds, turn);
    this.#persistClient(client, turn);
    if (unchanged) return undefined;
    const wait = client.nextChange - (CHANGES_AT_ONCE - 1) * CHANGE_INTERVAL_MS;
    if (before === undefined || wait <= turn.now) this.#publish(client, turn);
    else this.#publications.set(client, wait);
    return undefined;
  }

  /** A client wants to be one no longer. Its session stays for a moment, by which it is answered. */
  leave(client: Client, turn: Turn): void {
    if (client.registration === undefined) return;
    turn.notify('info', 'client-left', { peer: encodePeerId(client.identity) });
    this.#unregister(client, turn);
    this.#expireClient(client, LEFT_SECONDS, turn);
  }

  /**
   * A client shows that it is a member of the network whose members sign by this key.
   * @returns why not; else the network (hex).
   */
  join(
    client: Client,
    { key, signature }: MessageOf<'join-network'>,
    turn: Turn,
  ): { readonly network: string } | Refusal | Cap {
    const { registration } = client;
    const { primitives, identity: relay, sessionKey: relaySessionKey, boot } = this.#host;
    if (registration === undefined) return 'not-registered';
    const network = toHex(blindedIdOf(primitives, key));
    if (!this.#rules.servedOf(registration.record).includes(network)) return 'not-served';
    const { identity, sessionKey } = client;
    const message = membershipMessage({ relay, relaySessionKey, boot, identity, sessionKey });
    if (!primitives.ed25519Verify(key, message, signature)) return 'not-a-member';
    if (client.proven.has(network)) return { network };
    if (!this.#roster.mayProve(client)) return 'capacity';
    if (client.proven.size === 0) {
      if (this.#roster.isFull(network)) return 'admissions-per-network';
      this.#expireClient(client, this.#rules.limits.leaseSeconds, turn);
    }
    this.#roster.prove(client, network);
    this.#persistClient(client, turn);
    this.#serve(registration, this.#provenOf(client, registration.record), turn);
    this.#host.recordRegistered(registration.record, registration.networks, turn);
    this.#followers.published(client, turn);
    return { network };
  }

  /** Networks (hex) of its record that are served here and proven. */
  #provenOf({ proven }: Client, record: PeerRecord): string[] {
    return this.#rules.servedOf(record).filter((network) => proven.has(network));
  }

  /** Tells others what a client's record says: all who read its networks, so not as often as it likes. */
  #publish(client: Client, turn: Turn): void {
    const { registration } = client;
    if (registration === undefined) return;
    const { record, networks } = registration;
    client.nextChange = Math.max(client.nextChange, turn.now) + CHANGE_INTERVAL_MS;
    this.#directory.put(record, networks);
    this.#host.recordRegistered(record, networks, turn);
    this.#followers.published(client, turn);
    this.#directory.pushChanges(networks, turn);
  }

  /** Lets go of those the rules no longer admit; the others keep what is still served. */
  rulesChanged(turn: Turn): void {
    for (const client of this.#roster.all()) {
      const { registration, identity } = client;
      const networks = registration && this.#rules.servedOf(registration.record);
      const proven = registration && this.#provenOf(client, registration.record);
      const served =
        this.#rules.isPeer(identity) ||
        (networks === undefined ? this.#rules.serves(client.network) : networks.length > 0);
      if (!this.#rules.allows(identity) || !served) {
        turn.notify('info', 'client-removed', { peer: encodePeerId(identity) });
        this.#removeClient(client, turn);
        continue;
      }
      this.#roster.sort(client);
      if (registration !== undefined && proven !== undefined) this.#serve(registration, proven, turn);
    }
  }

  handleTimeout(turn: Turn): void {
    // First: nobody is told of a client that has run out, and it is asked nothing more.
    for (const client of this.#roster.expired(turn.now)) this.#removeClient(client, turn);
    for (const client of this.#publications.allDue(turn.now)) this.#publish(client, turn);
    this.#handshakes.handleTimeout(turn);
  }

  deadline(): number | undefined {
    return earliest(this.#roster.deadline(), this.#publications.next(), this.#handshakes.deadline());
  }

  // Places

  #addClient(given: GivenClient, turn: Turn): Client {
    const client = this.#roster.add(given);
    // No endpoint: whoever holds the session key begins the handshake, and is sent nothing before.
    this.#host.peers.addRole(client.key, 'client', undefined, turn);
    return client;
  }

  #expireClient(client: Client, seconds: number, turn: Turn): void {
    this.#roster.expire(client, seconds, turn.now);
  }

  #removeClient(client: Client, turn: Turn): void {
    this.#followers.removed(client, turn);
    this.#unregister(client, turn);
    this.#roster.remove(client);
    this.#publications.clear(client);
    this.#handshakes.stop(client.key);
    this.#host.requests.cancel(client.key);
    this.#host.peers.removeRole(client.key, 'client', turn);
  }

  #unregister(client: Client, turn: Turn): void {
    if (client.registration === undefined) return;
    const { networks } = client.registration;
    this.#followers.unregistered(client, turn);
    this.#directory.remove(client.registration.record);
    this.#registered.delete(toHex(client.identity));
    const elsewhere = this.#neighbours.record(toHex(client.identity));
    const there = this.#neighbours.toldIn(toHex(client.identity)).filter((id) => this.#rules.serves(id));
    if (elsewhere !== undefined) this.#directory.put(elsewhere, there);
    client.registration = undefined;
    const changed = [...networks, ...there];
    this.#directory.pushChanges(changed, turn);
    turn.emit({ type: 'persist', key: CLIENT_PREFIX + client.key, value: undefined });
  }

  /** The networks served have changed under a registration. */
  #serve(registration: Registration, networks: readonly string[], turn: Turn): void {
    const before = registration.networks;
    if (networks.length === before.length && networks.every((network) => before.includes(network))) return;
    this.#directory.put(registration.record, networks);
    registration.networks = networks;
    for (const network of before) if (!networks.includes(network)) registration.cursors.delete(network);
    this.#directory.pushChanges([...new Set([...before, ...networks])], turn);
  }

  /** The record inside the session names another identity than the admission did. */
  #rebind(client: Client, identity: Uint8Array, turn: Turn): void {
    this.#unregister(client, turn);
    client.identity = identity;
    this.#roster.pay(client);
  }

  // Addresses

  #refusesOwn(address: SocketAddress): boolean {
    const own = isOwnAddress(this.#host, address);
    if (own) this.#refusals.add('own-address', 1);
    return own;
  }

  /** Its legs and whatever else is sent there follow it to where it has proven to be. */
  #move(client: Client, address: SocketAddress, turn: Turn): void {
    this.#roster.move(client, address);
    this.#followers.moved(client, turn);
    if (client.registration !== undefined) this.#persistClient(client, turn);
    turn.notify('info', 'client-moved', { peer: encodePeerId(client.identity) });
  }

  // Across a restart

  #persistClient(client: Client, turn: Turn): void {
    const { registration, address } = client;
    if (registration === undefined) return;
    const { record, boot } = registration;
    const expires = Math.ceil(turn.step.wallClock / 1000) + this.#rules.limits.leaseSeconds;
    const proven = this.#provenOf(client, record)
      .map(fromHex)
      .filter((id) => id !== undefined);
    const value = encodeStoredClient({ address, record: record.bytes, boot, expires, proven });
    turn.emit({ type: 'persist', key: CLIENT_PREFIX + client.key, value });
  }

  #restoreClient(value: Uint8Array, turn: Turn): boolean {
    const stored = decodeStoredClient(value);
    if (stored === undefined) return false;
    const seconds = stored.expires - turn.step.wallClock / 1000;
    const record = openPeerRecord(this.#host.primitives, stored.record, turn.step.wallClock);
    if (seconds <= 0 || typeof record === 'string' || !this.#rules.allows(record.identity)) return false;
    const served = this.#rules.servedOf(record);
    const networks = served.filter((network) => stored.proven.some((id) => toHex(id) === network));
    const identity = toHex(record.identity);
    if ((served.length === 0 && !this.#rules.isPeer(record.identity)) || this.#registered.has(identity))
      return false;
    if (isOwnAddress(this.#host, stored.address)) return false;
    const { sessionKey } = record;
    const network = served[0] ?? '';
    const given = { sessionKey, identity: record.identity, network, address: stored.address };
    const proven = new Set(networks);
    if (this.#roster.exceeded({ ...given, proven }) !== undefined) return false; // the caps are lower now
    const client = this.#addClient({ ...given, proven, admitted: undefined }, turn);
    // It had a session, for only a registered client is in the store: this node begins the handshake.
    client.hasSession = true;
    client.bound = true;
    this.#host.peers.setEndpoint(client.key, { address: stored.address }, turn);
    client.registration = { record, boot: stored.boot, networks, cursors: new Map(), pushing: new Set() };
    this.#registered.set(identity, client);
    this.#directory.put(record, networks);
    for (const wished of networks)
      this.#neighbours.followed.wish(wished, client.key, {
        depth: 0,
        until: undefined,
        payer: addressOwners(client.address),
      });
    const { leaseSeconds, admissionSeconds } = this.#rules.limits;
    this.#expireClient(
      client,
      Math.min(seconds, this.#roster.passes(client) ? admissionSeconds : leaseSeconds),
      turn,
    );
    this.#host.recordRegistered(record, networks, turn);
    return true;
  }
}
