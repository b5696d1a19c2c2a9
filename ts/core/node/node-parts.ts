// The parts of a node of the mesh, and how they are tied together: what each is lent by the others, and what happens in
// several of them when something happens in one. What comes in from outside is MeshNode's (mesh-node.ts).

import type { SessionKey } from '../../contract/engine.js';
import type { SocketAddress } from '../../wire/socket-address.js';
import type { DirectoryPage } from '../uplink/directory-reader.js';
import type { Uplink } from '../uplink/uplink.js';
import { toHex } from '../../wire/bytes.js';
import { NatClassifier } from '../nat/nat-classifier.js';
import { ExitAgent } from '../exit/exit-agent.js';
import type { Candidate } from '../path/candidate.js';
import { CircuitClient } from '../path/circuit-client.js';
import { DirectPaths, PATHS_CAPABILITY } from '../path/direct-paths.js';
import { PORT_SEARCH_CAPABILITY } from '../path/port-search.js';
import { FILTERING_TESTS_CAPABILITY } from '../path/filtering-test.js';
import { sourcesFor, type LocalInterface } from '../path/local-interface.js';
import { MAPPED_CAPABILITY, toldMapping } from '../path/mapped-address.js';
import { PathAgent } from '../path/path-agent.js';
import { admitsAnyDirect, OPEN_POLICY } from '../path/path-policy.js';
import { RelayBar } from '../path/relay-bar.js';
import { RuledWays, type LegRelay } from '../path/ruled-ways.js';
import { ControlKind, encodeControlFrame } from '../protocol/control-frame.js';
import { Counter } from '../runtime/counter.js';
import type { Primitives } from '../../contract/primitives.js';
import { LegIds } from '../runtime/leg-ids.js';
import { LegQueries } from '../runtime/leg-queries.js';
import { MemberTable } from '../members/member-table.js';
import { OwnPolicy } from '../path/own-policy.js';
import { OwnRecord } from '../members/own-record.js';
import { openPeerRecord, RECORD_REFUSALS, type PeerRecord } from '../protocol/peer-record.js';
import { PeerTable } from '../runtime/peer-table.js';
import { PingTable } from '../members/ping-table.js';
import type { RelayPolicy } from '../relay/relay-policy.js';
import { RelayService } from '../relay/service/relay-service.js';
import { RequestTable } from '../runtime/request-table.js';
import type { Turn } from '../runtime/turn.js';
import { UdpWatch } from '../uplink/udp-watch.js';
import { MembershipProofs } from './membership-proofs.js';
import { checkConfig, type MeshNodeConfig } from './node-config.js';
import { UplinkSet } from './uplink-set.js';
import { WireguardReach } from './wireguard-reach.js';

/** What control frames and records are dropped for. */
const DROPS: readonly string[] = [
  'frame-malformed',
  'control-malformed',
  'membership-proof',
  ...RECORD_REFUSALS.map((reason) => `record-${reason}`),
  'record-capacity',
];

export class NodeParts {
  readonly primitives: Primitives;
  readonly config: MeshNodeConfig;
  readonly identity: Uint8Array;
  readonly sessionKey: Uint8Array;
  readonly requests = new RequestTable();
  readonly relayRequests = new RequestTable();
  readonly #legs: LegIds;
  readonly legQueries = new LegQueries();
  readonly peers = new PeerTable();
  readonly pings = new PingTable();
  readonly wireguard = new WireguardReach(this.requests);
  readonly drops = new Counter(DROPS);
  readonly members: MemberTable;
  readonly ownRecord: OwnRecord;
  readonly policy: OwnPolicy | undefined;
  readonly proofs: MembershipProofs;
  readonly nat: NatClassifier;
  readonly paths: PathAgent;
  readonly circuits: CircuitClient;
  readonly direct: DirectPaths | undefined;
  readonly rules: RuledWays;
  readonly bar: RelayBar;
  readonly uplinks: UplinkSet;
  readonly exits: ExitAgent;
  readonly udp = new UdpWatch();
  relay: RelayService | undefined;
  endpoints: readonly SocketAddress[];
  interfaces: readonly LocalInterface[];
  mapped: SocketAddress | undefined;
  boot: Uint8Array = new Uint8Array(8);
  #published: PeerRecord | undefined;

  /** @throws RangeError that names the field and what it may be. */
  constructor(config: MeshNodeConfig, primitives: Primitives) {
    checkConfig(config);
    this.config = config;
    this.primitives = primitives;
    this.endpoints = config.endpoints;
    this.interfaces = config.interfaces ?? [];
    this.nat = new NatClassifier(this.interfaces);
    this.#legs = new LegIds(config.maxLegs);
    this.identity = primitives.ed25519PublicKey(config.identitySeed);
    this.sessionKey = primitives.x25519PublicKey(config.sessionPrivateKey);
    const self = {
      identitySeed: config.identitySeed,
      identity: this.identity,
      sessionKey: this.sessionKey,
    };
    this.members = new MemberTable({
      primitives,
      identity: this.identity,
      sessionKey: toHex(this.sessionKey),
      peers: this.peers,
      isBootstrap: config.relay !== undefined,
      stockPeers: config.stockPeers ?? [],
      shaping: config.shaping,
      removed: (peer, turn) => this.#memberGone(peer, turn),
      ownChanged: (turn) => this.recordMayHaveChanged(turn),
    });
    this.ownRecord = new OwnRecord(primitives, self, config.name);
    this.rules = new RuledWays(config.pathPolicy ?? OPEN_POLICY, {
      members: this.members,
      interfaces: () => this.interfaces,
      relayOf: (member, leg) => this.relayOf(member, leg),
    });
    this.bar = new RelayBar({
      rules: this.rules,
      peers: this.peers,
      isDirect: (member) => this.direct?.active(member) !== undefined,
      way: (member) => this.paths.active(member),
      isSought: (member) => this.paths.isSought(member),
      lifted: (member, turn) => {
        for (const token of this.pings.release(member)) this.sendPing(member, token, turn);
      },
    });
    this.policy =
      config.consent &&
      new OwnPolicy(config.consent, {
        primitives,
        identitySeed: config.identitySeed,
        identity: this.identity,
        requests: this.requests,
        legs: this.#legs,
        networks: () => this.members.networks,
      });
    const host = {
      primitives,
      identity: this.identity,
      requests: this.requests,
      legs: this.#legs,
      peers: this.peers,
      members: this.members,
      policy: this.policy,
      rules: this.rules,
      bar: this.bar,
      uplinks: () => this.uplinks.all(),
      reached: (peer: SessionKey, turn: Turn) => this.reached(peer, turn),
    };
    this.exits = new ExitAgent(host);
    this.proofs = new MembershipProofs({
      ...host,
      identity: this.identity,
      sessionKey: this.sessionKey,
      drops: this.drops,
    });
    this.direct =
      config.directPaths === true
        ? new DirectPaths({
            ...host,
            nat: this.nat,
            innerMtu: config.innerMtu,
            relays: () => [...this.uplinks.all()].map(({ address }) => address),
            own: () => ({
              interfaces: this.interfaces,
              announced: this.endpoints,
              mapped: toldMapping(this.mapped, this.observedAddresses()),
              observed: this.observedAddresses(),
            }),
            askRelays: (turn) => {
              for (const uplink of this.uplinks.all()) uplink.recordChanged(turn);
            },
            relayed: (member) => this.relayed(member),
            chosen: (member, turn) => this.bar.look(member, turn),
            endWays: (member, turn) => this.paths.endWays(member, turn),
            carried: (candidate) => this.circuits.carried(candidate),
            seekRelayed: (member, turn) => this.pathNeeded(member, turn),
            relayedMoved: (member, endpoint, turn) => this.paths.sessionMoved(member, endpoint, turn),
          })
        : undefined;
    this.paths = new PathAgent({ ...host, beside: this.direct });
    this.circuits = new CircuitClient(host, this.paths);
    this.paths.addSource(this.circuits);
    this.uplinks = new UplinkSet(
      {
        ...host,
        self,
        canSendTo: (address) => sourcesFor(address, this.interfaces).length > 0,
        followed: (bootstrap) => this.relay?.followed(bootstrap) ?? [],
        followDepth: (network, key) => this.relay?.followDepth(network, key),
        record: (turn) => this.#signRecord(turn).bytes,
        reachChanged: (turn) => this.recordMayHaveChanged(turn),
        membership: (uplink, network, boot) => this.proofs.membership(uplink, network, boot),
        joined: (uplink, turn) => {
          this.paths.retry(turn);
          this.#askForWireguard(uplink, turn);
        },
        vouched: ({ bootstrap }, tenures, turn) => this.members.vouched(bootstrap.identity, tenures, turn),
        registered: (uplink, fresh, turn) => this.#registered(uplink, fresh, turn),
        learned: (uplink, page, turn) => this.#learn(uplink, page, turn),
        moved: (uplink, turn) => {
          this.circuits.relayMoved(uplink, turn);
          this.relay?.neighbourMoved(uplink.sessionKey, turn);
        },
        lost: ({ sessionKey }, turn) => {
          this.nat.forget(sessionKey);
          this.paths.relayLost(sessionKey, turn);
          this.relay?.neighbourLost(sessionKey, turn);
        },
        draining: ({ sessionKey }, turn) => this.paths.relayDraining(sessionKey, turn),
        undrained: (_uplink, turn) => this.paths.retry(turn),
        mayLeave: ({ sessionKey }, since, turn) =>
          this.relay === undefined &&
          !this.wireguard.isBound(sessionKey) &&
          this.uplinks.replaces(sessionKey, since, turn),
        isUsed: ({ sessionKey }) => this.circuits.isOver(sessionKey),
        gone: (key, turn) => {
          this.nat.forget(key);
          this.circuits.relayGone(key, turn);
          this.paths.retry(turn);
          this.policy?.relayGone(key, turn);
          this.relay?.neighbourGone(key, turn);
        },
      },
      config.relay?.peers ?? [],
    );
  }

  /** This node's service to others, which starts with what its store holds. */
  makeRelay(policy: RelayPolicy): RelayService {
    return new RelayService(policy, {
      primitives: this.primitives,
      identity: this.identity,
      sessionKey: this.sessionKey,
      sessionPrivateKey: this.config.sessionPrivateKey,
      boot: this.boot,
      requests: this.relayRequests,
      neighbourRequests: this.requests,
      legs: this.#legs,
      legQueries: this.legQueries,
      peers: this.peers,
      sign: (message) => this.primitives.ed25519Sign(this.config.identitySeed, message),
      ownAddresses: () => this.endpoints,
      uplinks: () => this.uplinks.all(),
      holderOf: (key) =>
        this.uplinks.get(key)?.bootstrap.identity ?? this.members.bySessionKey(key)?.identity,
      recordRegistered: (record, networks, later) => {
        for (const network of networks) this.members.learnOpened(record, later, later.now, network);
      },
    });
  }

  /** A way to a peer is sought, directly too where no relay may carry data to it. */
  pathNeeded(peer: SessionKey, turn: Turn): void {
    if (this.members.bySessionKey(peer) !== undefined) this.bar.seek(peer, turn);
    this.paths.pathNeeded(peer, turn);
  }

  /** The peer is reached again, or by another way: what it was asked in vain meanwhile is asked at once. */
  reached(peer: SessionKey, turn: Turn): void {
    this.requests.resend(peer, turn);
    this.exits.reached(peer, turn);
    this.direct?.reached(peer, turn);
  }

  /** The peer does not answer: whether the ways to it are dead, or the relay they lead over, is found out now. */
  suspect(peer: SessionKey, turn: Turn): void {
    const { relay } = this.paths.path(peer);
    this.uplinks.get(relay ?? peer)?.suspect(turn);
    this.direct?.suspect(peer, turn);
  }

  sendPing(peer: SessionKey, token: Uint8Array, turn: Turn): void {
    const payload = encodeControlFrame({ kind: ControlKind.ping, body: token });
    turn.emit({ type: 'send-control', peer, payload });
  }

  /** Circuits with a member, the one in use last. */
  relayed(member: SessionKey): Candidate[] {
    return this.circuits
      .candidates(member)
      .toSorted((a, b) => Number(this.paths.isActive(a)) - Number(this.paths.isActive(b)));
  }

  /** The relay whose circuit with a member this leg is of. */
  relayOf(member: SessionKey, leg: number): LegRelay | undefined {
    const { relay } = this.circuits.candidateAt(member, { leg }) ?? {};
    const uplink = relay === undefined ? undefined : this.uplinks.get(relay);
    if (uplink === undefined) return undefined;
    const { bootstrap, address, isDraining } = uplink;
    return { identity: bootstrap.identity, address, isDraining };
  }

  #memberGone(peer: SessionKey, turn: Turn): void {
    this.nat.forget(peer);
    this.direct?.memberGone(peer);
    this.bar.memberGone(peer);
    this.paths.memberGone(peer, turn);
    this.exits.memberGone(peer, turn);
  }

  // Uplinks

  /** Where relays see this node. */
  observedAddresses(): readonly SocketAddress[] {
    return this.uplinks.observed().map(({ address }) => address);
  }

  #registered(uplink: Uplink, fresh: boolean, turn: Turn): void {
    const { sessionKey } = uplink;
    this.#observedBy(uplink, turn);
    this.circuits.relayReady(uplink, fresh, turn);
    this.paths.retry(turn);
    for (const other of this.uplinks.all())
      if (other.isDraining) this.paths.relayDraining(other.sessionKey, turn);
    this.relay?.neighbourReady(sessionKey, fresh, turn);
    this.policy?.relayReady(uplink, fresh, turn);
    this.#askForWireguard(uplink, turn);
    this.proofs.proveTo(uplink, fresh, turn);
  }

  /** A relay binds those who have shown to be in a network. */
  #askForWireguard(uplink: Uplink, turn: Turn): void {
    if (this.config.wireguardRelay === true && uplink.shown) this.wireguard.ask(uplink, turn);
  }

  /** Where a relay sees this node. When that is elsewhere, the others may as well, and are asked. */
  #observedBy({ sessionKey, address, observed }: Uplink, turn: Turn): void {
    if (observed === undefined) return;
    const seen = { observer: sessionKey, to: address, local: undefined, seen: observed, at: turn.now };
    if (!this.nat.relayObserved(seen)) return;
    for (const other of this.uplinks.all()) if (other.sessionKey !== sessionKey) other.recordChanged(turn);
  }

  #learn(from: Uplink, page: DirectoryPage, turn: Turn): void {
    this.relay?.untold(from.sessionKey, page, turn);
    for (const identity of page.gone) this.members.untold(identity);
    for (const bytes of page.records) {
      const record = openPeerRecord(this.primitives, bytes, turn.step.wallClock);
      const member =
        typeof record === 'string'
          ? record
          : this.members.learnOpened(record, turn, page.since, toHex(page.network));
      if (typeof record !== 'string') this.relay?.learned(from.sessionKey, toHex(page.network), record, turn);
      if (member === 'irrelevant') continue;
      if (typeof member === 'string') this.drops.add(`record-${member}`, 1);
    }
    this.proofs.proveTo(from, false, turn);
  }

  // Own record

  #signRecord(turn: Turn): PeerRecord {
    return this.ownRecord.sign(
      {
        networks: [...this.members.networks.values()].map(({ blindedId }) => blindedId),
        addresses: this.members.ownAddresses(),
        configured: this.endpoints,
        observed: this.uplinks.observed(),
        nat: this.nat.behaviour(turn.now),
        capabilities: this.#capabilities(),
      },
      turn,
    );
  }

  #capabilities(): string[] {
    const isDirect = this.direct !== undefined && admitsAnyDirect(this.rules.policy);
    const search = this.rules.search.enabled ? [PORT_SEARCH_CAPABILITY] : [];
    const paths = [PATHS_CAPABILITY, FILTERING_TESTS_CAPABILITY, MAPPED_CAPABILITY, ...search];
    return [...this.config.capabilities, ...(isDirect ? paths : []), ...this.exits.capabilities];
  }

  /** Where the own record says something else now, relays and clients are told. */
  recordMayHaveChanged(turn: Turn): void {
    const record = this.#signRecord(turn);
    if (record === this.#published) return;
    this.#published = record;
    this.relay?.publish(record, turn);
    for (const uplink of this.uplinks.all()) uplink.recordChanged(turn);
  }
}
