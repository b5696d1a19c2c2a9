// One node of the mesh: its identity, its networks, its uplinks, its circuits and, if the policy
// says so, its service as bootstrap and relay to others. Sans-IO: see component.ts.
//
//   engine events ─► MeshNode ─┬─► UplinkSet ─► Uplink           admission, session, directory; one each
//                              ├─► PathAgent ─► CircuitClient    ways to members
//                              ├─► RelayService                  the same two, for others
//                              └─► MemberTable ─► PeerTable      what the engine is told of peers
//
// Everything returns effects; requests and their repetition are the RequestTable's.

import type { EngineEvent, LegCounts, SessionKey } from '../../contract/engine.js';
import type { PathCounts } from '../../contract/path-control.js';
import { CONTACT_LEG, parseFrame } from '../../wire/frame.js';
import { PING_TOKEN_SIZE } from '../../wire/ping-frame.js';
import { formatSocketAddress, type SocketAddress } from '../../wire/socket-address.js';
import type { DirectoryPage } from '../uplink/directory-reader.js';
import type { Uplink } from '../uplink/uplink.js';
import { toHex } from '../../wire/bytes.js';
import { NatClassifier } from '../nat/nat-classifier.js';
import { ExitAgent, type ExitSettings } from '../exit/exit-agent.js';
import type { Candidate } from '../path/candidate.js';
import { CircuitClient } from '../path/circuit-client.js';
import { DirectPaths, PATHS_CAPABILITY } from '../path/direct-paths.js';
import { FILTERING_TESTS_CAPABILITY } from '../path/filtering-test.js';
import type { LocalInterface } from '../path/local-interface.js';
import { MAPPED_CAPABILITY, mappedReach, toldMapping } from '../path/mapped-address.js';
import { PathAgent } from '../path/path-agent.js';
import { admitsAnyDirect, OPEN_POLICY, type PathPolicy } from '../path/path-policy.js';
import { RelayBar } from '../path/relay-bar.js';
import { RuledWays, type LegRelay } from '../path/ruled-ways.js';
import { earliest } from '../runtime/earliest.js';
import { ControlKind, decodeControlFrame, encodeControlFrame } from '../protocol/control-frame.js';
import { decodeMessage, isRequest, type ControlMessage } from '../protocol/control-message.js';
import { CoreError } from '../protocol/core-error.js';
import { Counter } from '../runtime/counter.js';
import type { Component } from '../runtime/component.js';
import type { Effect } from '../runtime/effect.js';
import type { Primitives } from '../../contract/primitives.js';
import type { Step } from '../../contract/step.js';
import { LegIds } from '../runtime/leg-ids.js';
import { LegQueries } from '../runtime/leg-queries.js';
import { MemberTable } from '../members/member-table.js';
import type { ShapingPolicy } from '../members/shaping-policy.js';
import type { MeshStatus } from '../runtime/mesh-status.js';
import type { Network, OverlayAddresses } from '../protocol/network.js';
import { OwnPolicy } from '../path/own-policy.js';
import { OwnRecord } from '../members/own-record.js';
import {
  MAX_RECORD_NETWORKS,
  openPeerRecord,
  RECORD_REFUSALS,
  type PeerRecord,
} from '../protocol/peer-record.js';
import { PeerTable } from '../runtime/peer-table.js';
import { PingTable } from '../members/ping-table.js';
import { collectReceipts } from '../receipts/receipt-collector.js';
import { checkRelayPolicy, type RelayPolicy } from '../relay/relay-policy.js';
import { RelayService } from '../relay/service/relay-service.js';
import { RequestTable } from '../runtime/request-table.js';
import { Turn } from '../runtime/turn.js';
import { UdpWatch } from '../uplink/udp-watch.js';
import { MembershipProofs } from './membership-proofs.js';
import { dispatchRequest } from './message-dispatch.js';
import { checkConfig, checkEndpoints, checkNetwork, type MeshNodeConfig } from './node-config.js';
import { nodeStatus } from './node-status.js';
import { UplinkSet } from './uplink-set.js';
import { WireguardReach } from './wireguard-reach.js';

/** How often run-out records are looked for, ours included. */
const SWEEP_MS = 60_000;

/** What control frames and records are dropped for. */
const DROPS: readonly string[] = [
  'frame-malformed',
  'control-malformed',
  'membership-proof',
  ...RECORD_REFUSALS.map((reason) => `record-${reason}`),
  'record-capacity',
];

export class MeshNode implements Component {
  readonly #primitives: Primitives;
  readonly #config: MeshNodeConfig;
  readonly #identity: Uint8Array;
  readonly #sessionKey: Uint8Array;
  readonly #requests = new RequestTable();
  readonly #relayRequests = new RequestTable();
  readonly #legs: LegIds;
  readonly #legQueries = new LegQueries();
  readonly #peers = new PeerTable();
  readonly #pings = new PingTable();
  readonly #wireguard = new WireguardReach(this.#requests);
  readonly #drops = new Counter(DROPS);
  readonly #members: MemberTable;
  readonly #ownRecord: OwnRecord;
  readonly #policy: OwnPolicy | undefined;
  readonly #proofs: MembershipProofs;
  readonly #nat: NatClassifier;
  readonly #paths: PathAgent;
  readonly #circuits: CircuitClient;
  readonly #direct: DirectPaths | undefined;
  readonly #rules: RuledWays;
  readonly #bar: RelayBar;
  readonly #uplinks: UplinkSet;
  readonly #exits: ExitAgent;
  readonly #udp = new UdpWatch();
  #relay: RelayService | undefined;
  #endpoints: readonly SocketAddress[];
  #interfaces: readonly LocalInterface[];
  #mapped: SocketAddress | undefined;
  #boot: Uint8Array = new Uint8Array(8);
  #published: PeerRecord | undefined;
  #sweepAt: number | undefined;

  /** @throws RangeError that names the field and what it may be. */
  constructor(config: MeshNodeConfig, primitives: Primitives) {
    checkConfig(config);
    this.#config = config;
    this.#primitives = primitives;
    this.#endpoints = config.endpoints;
    this.#interfaces = config.interfaces ?? [];
    this.#nat = new NatClassifier(this.#interfaces);
    this.#legs = new LegIds(config.maxLegs);
    this.#identity = primitives.ed25519PublicKey(config.identitySeed);
    this.#sessionKey = primitives.x25519PublicKey(config.sessionPrivateKey);
    const self = {
      identitySeed: config.identitySeed,
      identity: this.#identity,
      sessionKey: this.#sessionKey,
    };
    this.#members = new MemberTable({
      primitives,
      identity: this.#identity,
      sessionKey: toHex(this.#sessionKey),
      peers: this.#peers,
      isBootstrap: config.relay !== undefined,
      stockPeers: config.stockPeers ?? [],
      shaping: config.shaping,
      removed: (peer, turn) => this.#memberGone(peer, turn),
      ownChanged: (turn) => this.#recordMayHaveChanged(turn),
    });
    this.#ownRecord = new OwnRecord(primitives, self, config.name);
    this.#rules = new RuledWays(config.pathPolicy ?? OPEN_POLICY, {
      members: this.#members,
      interfaces: () => this.#interfaces,
      relayOf: (member, leg) => this.#relayOf(member, leg),
    });
    this.#bar = new RelayBar({
      rules: this.#rules,
      peers: this.#peers,
      isDirect: (member) => this.#direct?.active(member) !== undefined,
      way: (member) => this.#paths.active(member),
      isSought: (member) => this.#paths.isSought(member),
      lifted: (member, turn) => {
        for (const token of this.#pings.release(member)) this.#sendPing(member, token, turn);
      },
    });
    this.#policy =
      config.consent &&
      new OwnPolicy(config.consent, {
        primitives,
        identitySeed: config.identitySeed,
        identity: this.#identity,
        requests: this.#requests,
        legs: this.#legs,
        networks: () => this.#members.networks,
      });
    const host = {
      primitives,
      identity: this.#identity,
      requests: this.#requests,
      legs: this.#legs,
      peers: this.#peers,
      members: this.#members,
      policy: this.#policy,
      rules: this.#rules,
      bar: this.#bar,
      uplinks: () => this.#uplinks.all(),
    };
    this.#exits = new ExitAgent(host);
    this.#proofs = new MembershipProofs({
      ...host,
      identity: this.#identity,
      sessionKey: this.#sessionKey,
      drops: this.#drops,
    });
    this.#direct =
      config.directPaths === true
        ? new DirectPaths({
            ...host,
            nat: this.#nat,
            innerMtu: config.innerMtu,
            relays: () => [...this.#uplinks.all()].map(({ address }) => address),
            own: () => ({
              interfaces: this.#interfaces,
              announced: this.#endpoints,
              mapped: toldMapping(this.#mapped, this.#observedAddresses()),
              observed: this.#observedAddresses(),
            }),
            askRelays: (turn) => {
              for (const uplink of this.#uplinks.all()) uplink.recordChanged(turn);
            },
            relayed: (member) => this.#relayed(member),
            chosen: (member, turn) => this.#bar.look(member, turn),
            endWays: (member, turn) => this.#paths.endWays(member, turn),
            carried: (candidate) => this.#circuits.carried(candidate),
            seekRelayed: (member, turn) => this.#pathNeeded(member, turn),
            relayedMoved: (member, endpoint, turn) => this.#paths.sessionMoved(member, endpoint, turn),
          })
        : undefined;
    this.#paths = new PathAgent({ ...host, beside: this.#direct });
    this.#circuits = new CircuitClient(host, this.#paths);
    this.#paths.addSource(this.#circuits);
    this.#uplinks = new UplinkSet(
      {
        ...host,
        self,
        followed: (bootstrap) => this.#relay?.followed(bootstrap) ?? [],
        followDepth: (network, key) => this.#relay?.followDepth(network, key),
        record: (turn) => this.#signRecord(turn).bytes,
        reachChanged: (turn) => this.#recordMayHaveChanged(turn),
        membership: (uplink, network, boot) => this.#proofs.membership(uplink, network, boot),
        joined: (uplink, turn) => {
          this.#paths.retry(turn);
          this.#askForWireguard(uplink, turn);
        },
        vouched: ({ bootstrap }, tenures, turn) => this.#members.vouched(bootstrap.identity, tenures, turn),
        registered: (uplink, fresh, turn) => this.#registered(uplink, fresh, turn),
        learned: (uplink, page, turn) => this.#learn(uplink, page, turn),
        moved: (uplink, turn) => {
          this.#circuits.relayMoved(uplink, turn);
          this.#relay?.neighbourMoved(uplink.sessionKey, turn);
        },
        lost: ({ sessionKey }, turn) => {
          this.#nat.forget(sessionKey);
          this.#paths.relayLost(sessionKey, turn);
          this.#relay?.neighbourLost(sessionKey, turn);
        },
        gone: (key, turn) => {
          this.#nat.forget(key);
          this.#circuits.relayGone(key, turn);
          this.#paths.retry(turn);
          this.#policy?.relayGone(key, turn);
          this.#relay?.neighbourGone(key, turn);
        },
      },
      config.relay?.peers ?? [],
    );
  }

  /** Own identity (Ed25519 public key, 32 bytes). */
  get identity(): Uint8Array {
    return this.#identity;
  }

  /** Where relays see this node. */
  get observed(): readonly SocketAddress[] {
    return this.#observedAddresses();
  }

  /** Own addresses inside the networks, in their order. */
  get overlay(): readonly OverlayAddresses[] {
    return [...this.#members.networks.values()].map(({ own }) => own);
  }

  /** Probes to addresses that had not answered, and those that were not sent there. */
  get pathBudget(): { readonly sent: number; readonly refused: number } {
    return this.#direct?.unproven ?? { sent: 0, refused: 0 };
  }

  /** Call once, with all that earlier `persist` effects kept. */
  start(restored: ReadonlyMap<string, Uint8Array>, step: Step): Effect[] {
    const turn = new Turn(step);
    this.#boot = turn.random(8);
    this.#sweepAt = turn.now + SWEEP_MS;
    this.#members.restore(restored, this.#config.networks, turn);
    this.#ownRecord.restore(restored);
    this.#policy?.restore(restored);
    for (const network of this.#config.networks) this.#members.addNetwork(network, turn);
    if (this.#config.relay !== undefined) {
      this.#relay = new RelayService(this.#config.relay, {
        primitives: this.#primitives,
        identity: this.#identity,
        sessionKey: this.#sessionKey,
        sessionPrivateKey: this.#config.sessionPrivateKey,
        boot: this.#boot,
        requests: this.#relayRequests,
        neighbourRequests: this.#requests,
        legs: this.#legs,
        legQueries: this.#legQueries,
        peers: this.#peers,
        sign: (message) => this.#primitives.ed25519Sign(this.#config.identitySeed, message),
        ownAddresses: () => this.#endpoints,
        uplinks: () => this.#uplinks.all(),
        isJoined: (network) => this.#members.networks.has(network),
        holderOf: (key) =>
          this.#uplinks.get(key)?.bootstrap.identity ?? this.#members.bySessionKey(key)?.identity,
        recordRegistered: (record, networks, later) => {
          for (const network of networks) this.#members.learnOpened(record, later, later.now, network);
        },
      });
    }
    this.#uplinks.use(this.#boot, turn);
    this.#relay?.start(restored, turn); // its circuits may lead to bootstraps
    this.#recordMayHaveChanged(turn);
    return turn.effects;
  }

  handleEngineEvent(event: EngineEvent, step: Step): Effect[] {
    const turn = new Turn(step);
    switch (event.type) {
      case 'frame': {
        const frame = parseFrame(new Uint8Array(event.frame)); // the engine may reuse its memory
        if (frame === undefined) this.#drops.add('frame-malformed', 1);
        else if (event.leg === CONTACT_LEG) this.#relay?.handleFrame(event.from, frame, turn);
        else
          for (const uplink of this.#uplinks.all())
            if (uplink.replyLeg === event.leg) uplink.handleFrame(event.from, frame, turn);
        break;
      }
      case 'control':
        this.#handleControl(event.peer, new Uint8Array(event.payload), turn);
        break;
      case 'session':
        this.#requests.resend(event.peer, turn);
        this.#relayRequests.resend(event.peer, turn);
        this.#relay?.handleEngineEvent(event, turn);
        this.#uplinks.get(event.peer)?.handleSession(event.endpoint, turn);
        if (this.#direct?.sessionUp(event.peer, event.endpoint, turn) === true)
          this.#paths.sessionBeside(event.peer);
        else this.#paths.sessionUp(event.peer, event.endpoint, turn);
        break;
      case 'endpoint':
        this.#relay?.handleEngineEvent(event, turn);
        this.#uplinks.get(event.peer)?.handleEndpoint(event.endpoint, turn);
        this.#paths.sessionMoved(event.peer, event.endpoint, turn);
        break;
      case 'path-needed':
        this.#pathNeeded(event.peer, turn);
        break;
      case 'session-lost':
        this.#paths.sessionLost(event.peer, turn);
        this.#exits.sessionLost(event.peer, turn);
        break;
      case 'probe-answer':
      case 'probe-from':
      case 'path-arrival':
      case 'path-silent':
      case 'path-heard':
      case 'path-report':
        this.#direct?.handleEvent(event, turn);
        break;
      case 'interface-gone':
        // Circuits and sessions go on without it; whoever deleted it gets it back by a restart.
        turn.notify('warn', 'interface-gone');
        break;
      case 'accelerator-demoted':
        turn.notify('warn', 'accelerator-demoted', { accelerator: event.name, reason: event.reason });
        break;
      case 'accelerator-restored':
        turn.notify('info', 'accelerator-restored', { accelerator: event.name });
        break;
      case 'routing-loop':
        turn.notify('warn', 'routing-loop', { address: formatSocketAddress(event.to) });
        break;
      case 'addresses-changed':
        break; // which they are is found out by whoever runs this node: setEndpoints
      case 'interface-up':
      case 'interface-down':
        break; // a relay goes on relaying, and its sessions carry control messages all the same
    }
    if (this.#udp.isBlocked) this.#lookAtUdp(turn);
    return turn.effects;
  }

  handleLegCounts(query: number, counts: readonly (LegCounts | undefined)[], step: Step): Effect[] {
    const turn = new Turn(step);
    this.#legQueries.answer(query, counts, turn);
    return turn.effects;
  }

  handlePathCounts(peer: SessionKey, counts: readonly PathCounts[], step: Step): Effect[] {
    const turn = new Turn(step);
    this.#direct?.handleCounts(peer, counts, turn);
    return turn.effects;
  }

  handleTimeout(step: Step): Effect[] {
    const turn = new Turn(step);
    for (const peer of this.#requests.handleTimeout(turn)) this.#uplinks.get(peer)?.suspect(turn);
    this.#relayRequests.handleTimeout(turn);
    this.#uplinks.handleTimeout(turn);
    this.#circuits.handleTimeout(turn);
    this.#paths.handleTimeout(turn);
    this.#direct?.handleTimeout(turn);
    this.#exits.handleTimeout(turn);
    this.#bar.handleTimeout(turn);
    this.#relay?.handleTimeout(turn);
    for (const peer of this.#pings.handleTimeout(turn.now)) {
      const { relay } = this.#paths.path(peer);
      this.#uplinks.get(relay ?? peer)?.suspect(turn);
    }
    if (this.#sweepAt !== undefined && this.#sweepAt <= turn.now) {
      this.#sweepAt = turn.now + SWEEP_MS;
      this.#members.expire(turn);
      this.#relay?.sweep(turn);
      this.#recordMayHaveChanged(turn);
      this.#policy?.renew(turn);
    }
    this.#lookAtUdp(turn);
    return turn.effects;
  }

  deadline(): number | undefined {
    return earliest(
      this.#requests.deadline(),
      this.#relayRequests.deadline(),
      this.#circuits.deadline(),
      this.#paths.deadline(),
      this.#direct?.deadline(),
      this.#exits.deadline(),
      this.#bar.deadline(),
      this.#relay?.deadline(),
      this.#pings.deadline(),
      this.#sweepAt,
      this.#uplinks.deadline(),
      this.#udp.deadline(this.#uplinks.silent()),
    );
  }

  /**
   * Joins a network. The shell keeps the list of networks; the node does not persist it.
   * @throws RangeError when eight networks are joined already.
   */
  addNetwork(network: Network, step: Step): Effect[] {
    const turn = new Turn(step);
    if (this.#members.joined(network.id) !== undefined) return [];
    checkNetwork(network);
    if (this.#members.networks.size >= MAX_RECORD_NETWORKS)
      throw new RangeError(`networks: at most ${MAX_RECORD_NETWORKS} can be joined; leave one first`);
    this.#members.addNetwork(network, turn);
    this.#uplinks.use(this.#boot, turn);
    this.#recordMayHaveChanged(turn);
    this.#policy?.renew(turn);
    return turn.effects;
  }

  /** Leaves the network with this (unblinded) id. */
  removeNetwork(id: Uint8Array, step: Step): Effect[] {
    const turn = new Turn(step);
    const joined = this.#members.joined(id);
    if (joined === undefined) return [];
    this.#members.removeNetwork(toHex(joined.blindedId), turn);
    this.#uplinks.drop(turn);
    this.#recordMayHaveChanged(turn);
    this.#policy?.renew(turn);
    return turn.effects;
  }

  /** The network with this (unblinded) id is called so on this machine from now on. */
  renameNetwork(id: Uint8Array, name: string, step: Step): Effect[] {
    const turn = new Turn(step);
    const joined = this.#members.joined(id);
    if (joined !== undefined) this.#members.renameNetwork(toHex(joined.blindedId), name, turn);
    this.#policy?.renew(turn); // it names networks
    return turn.effects;
  }

  /** Own addresses have changed. @throws RangeError when there are more than 8. */
  setEndpoints(addresses: readonly SocketAddress[], step: Step): Effect[] {
    checkEndpoints(addresses);
    const turn = new Turn(step);
    this.#endpoints = addresses;
    this.#recordMayHaveChanged(turn);
    return turn.effects;
  }

  /** What is sent from has changed. */
  setInterfaces(interfaces: readonly LocalInterface[], step: Step): Effect[] {
    const turn = new Turn(step);
    this.#interfaces = interfaces;
    this.#nat.interfacesChanged(interfaces, turn.now);
    this.#direct?.addressesChanged(turn);
    return turn.effects;
  }

  /** Which ways to members are used from now on; sessions go on. */
  setPathPolicy(policy: PathPolicy, step: Step): Effect[] {
    const turn = new Turn(step);
    this.#rules.policy = policy;
    this.#paths.rulesChanged(turn);
    this.#direct?.rulesChanged(turn);
    this.#recordMayHaveChanged(turn);
    return turn.effects;
  }

  /** How packets to members are shaped from now on. */
  setShaping(policy: ShapingPolicy, step: Step): Effect[] {
    const turn = new Turn(step);
    this.#members.setShaping(policy, turn);
    return turn.effects;
  }

  /** A gateway lets everybody in at this address, or, undefined, at none. */
  setMapped(address: SocketAddress | undefined, step: Step): Effect[] {
    const turn = new Turn(step);
    this.#mapped = address;
    if (address !== undefined) this.#direct?.addressesChanged(turn);
    return turn.effects;
  }

  /**
   * A relay goes on by other rules, for those who are connected already too. Relays that are not named
   * any more are no neighbours from now on.
   * @throws RangeError that names the field and what it may be; then nothing has changed.
   */
  setRelayPolicy(policy: RelayPolicy, step: Step): Effect[] {
    checkRelayPolicy(policy);
    const turn = new Turn(step);
    this.#uplinks.setRelayPeers(policy.peers ?? []);
    this.#uplinks.drop(turn);
    this.#relay?.setPolicy(policy, turn);
    this.#uplinks.use(this.#boot, turn);
    return turn.effects;
  }

  /**
   * Serves and uses exits by these settings from now on. The shell keeps them; the node does not persist them.
   * @throws RangeError that names what cannot be; then nothing has changed.
   */
  setExits(settings: ExitSettings, step: Step): Effect[] {
    const turn = new Turn(step);
    this.#exits.set(settings, turn);
    this.#recordMayHaveChanged(turn);
    return turn.effects;
  }

  /**
   * Sends a ping inside the session with a member or a bootstrap. The answer is a `pong` effect.
   * @param token 8 bytes of the caller's choosing.
   * @throws CoreError when the identity is not known.
   */
  ping(identity: Uint8Array, token: Uint8Array, step: Step): Effect[] {
    if (token.length !== PING_TOKEN_SIZE)
      throw new RangeError(`token: ${token.length} bytes given, must be ${PING_TOKEN_SIZE}`);
    const peer =
      this.#members.members.get(toHex(identity))?.sessionKey ??
      this.#uplinks.ofIdentity(identity)?.sessionKey;
    if (peer === undefined) throw new CoreError('unknown-peer');
    const turn = new Turn(step);
    // A ping shows that data gets there, so it goes where data goes.
    const held =
      !this.#rules.admitRelayed(peer) &&
      this.#members.bySessionKey(peer) !== undefined &&
      !this.#peers.hasRole(peer) &&
      this.#direct?.active(peer) === undefined;
    this.#pings.add(peer, identity, token, held, step.now);
    if (!held) this.#sendPing(peer, token, turn);
    else if (this.#paths.active(peer) === undefined) this.#pathNeeded(peer, turn);
    else this.#direct?.wanted(peer, turn);
    return turn.effects;
  }

  /**
   * Fetches usage receipts of the circuits with a member, or of all, and checks them against own
   * counts. The outcome is a `receipts` effect with `token`.
   * @throws CoreError when the identity is not known.
   */
  fetchReceipts(identity: Uint8Array | undefined, token: Uint8Array, step: Step): Effect[] {
    const member = identity && this.#members.members.get(toHex(identity));
    if (identity !== undefined && member === undefined) throw new CoreError('unknown-peer');
    const turn = new Turn(step);
    const host = {
      primitives: this.#primitives,
      identity: this.#identity,
      requests: this.#requests,
      legQueries: this.#legQueries,
      relayIdentity: (key: SessionKey) => this.#uplinks.get(key)?.bootstrap.identity,
      memberIdentity: (key: SessionKey) => this.#members.bySessionKey(key)?.identity,
    };
    collectReceipts(host, this.#circuits.held(member?.sessionKey), token, turn);
    return turn.effects;
  }

  /**
   * Signs receipts of the circuits over this relay, as their ends would be given, at most `limit`; of
   * one end's only when `identity` is given. The outcome is a `signed-receipts` effect with `token`.
   */
  signReceipts(identity: Uint8Array | undefined, limit: number, token: Uint8Array, step: Step): Effect[] {
    const turn = new Turn(step);
    const done = (receipts: readonly Uint8Array[], later: Turn): void =>
      later.emit({ type: 'signed-receipts', token, receipts });
    if (this.#relay === undefined) done([], turn);
    else this.#relay.receipts(identity, limit, turn, done);
    return turn.effects;
  }

  status(step: Step): MeshStatus {
    return nodeStatus(
      {
        name: this.#config.name,
        identity: this.#identity,
        sessionKey: this.#sessionKey,
        members: this.#members,
        peers: this.#peers,
        paths: this.#paths,
        direct: this.#direct,
        rules: this.#rules,
        bar: this.#bar,
        ways: (member) => ({
          relayed: this.#relayed(member),
          relayOf: (leg) => this.#relayOf(member, leg),
        }),
        uplinks: this.#uplinks,
        nat: this.#nat,
        udp: this.#udp.state(this.#uplinks.silent()),
        mapped: this.#mapped && {
          address: formatSocketAddress(this.#mapped),
          reach: mappedReach(this.#mapped, this.#observedAddresses()),
        },
        wireguard: this.#wireguard,
        policy: this.#policy,
        relay: this.#relay,
        exits: this.#exits,
        drops: this.#drops,
      },
      step,
    );
  }

  #handleControl(peer: SessionKey, payload: Uint8Array, turn: Turn): void {
    const frame = decodeControlFrame(payload);
    if (frame === undefined) {
      this.#drops.add('control-malformed', 1);
      return;
    }
    switch (frame.kind) {
      case ControlKind.pong: {
        if (this.#uplinks.get(peer)?.handlePong(frame.body, turn) === true) break;
        const identity = this.#pings.answer(peer, frame.body);
        if (identity !== undefined) turn.emit({ type: 'pong', identity, token: frame.body });
        break;
      }
      case ControlKind.message: {
        const envelope = decodeMessage(frame.body);
        if (envelope === undefined) this.#drops.add('control-malformed', 1);
        else if (this.#relay?.admitsMessage(peer, envelope.message, turn) !== false)
          this.#handleMessage(peer, envelope.request, envelope.message, turn);
        break;
      }
    }
  }

  #handleMessage(peer: SessionKey, request: number, message: ControlMessage, turn: Turn): void {
    if (isRequest(message)) {
      const receivers = {
        relay: this.#relay,
        uplink: this.#uplinks.get(peer),
        circuits: this.#circuits,
        direct: this.#direct,
        proofs: this.#proofs,
        exits: this.#exits,
      };
      dispatchRequest(receivers, peer, request, message, turn);
      return;
    }
    if (message.type === 'contact-begin') {
      this.#direct?.handleBegin(peer, turn);
      return;
    }
    if (this.#exits.handleNotice(peer, message, turn)) return;
    this.#requests.handleAnswer(peer, request, message, turn);
    this.#relayRequests.handleAnswer(peer, request, message, turn);
  }

  #pathNeeded(peer: SessionKey, turn: Turn): void {
    if (this.#members.bySessionKey(peer) !== undefined) this.#bar.seek(peer, turn);
    this.#paths.pathNeeded(peer, turn);
  }

  #sendPing(peer: SessionKey, token: Uint8Array, turn: Turn): void {
    const payload = encodeControlFrame({ kind: ControlKind.ping, body: token });
    turn.emit({ type: 'send-control', peer, payload });
  }

  /** Circuits with a member, the one in use last. */
  #relayed(member: SessionKey): Candidate[] {
    return this.#circuits
      .candidates(member)
      .toSorted((a, b) => Number(this.#paths.isActive(a)) - Number(this.#paths.isActive(b)));
  }

  #relayOf(member: SessionKey, leg: number): LegRelay | undefined {
    const { relay } = this.#circuits.candidateAt(member, { leg }) ?? {};
    const uplink = relay === undefined ? undefined : this.#uplinks.get(relay);
    return uplink && { identity: uplink.bootstrap.identity, address: uplink.address };
  }

  #memberGone(peer: SessionKey, turn: Turn): void {
    this.#nat.forget(peer);
    this.#direct?.memberGone(peer);
    this.#bar.memberGone(peer);
    this.#paths.memberGone(peer, turn);
    this.#exits.memberGone(peer, turn);
  }

  // Uplinks

  #lookAtUdp(turn: Turn): void {
    const isHeard = (): boolean =>
      [...this.#members.members.values()].some(
        ({ sessionKey }) => this.#direct?.active(sessionKey)?.state === 'proven',
      );
    this.#udp.look(this.#uplinks.silent(), isHeard, turn);
  }

  #observedAddresses(): readonly SocketAddress[] {
    return this.#uplinks.observed().map(({ address }) => address);
  }

  #registered(uplink: Uplink, fresh: boolean, turn: Turn): void {
    const { sessionKey } = uplink;
    this.#observedBy(uplink, turn);
    this.#circuits.relayReady(uplink, fresh, turn);
    this.#paths.retry(turn);
    this.#relay?.neighbourReady(sessionKey, fresh, turn);
    this.#policy?.relayReady(uplink, fresh, turn);
    this.#askForWireguard(uplink, turn);
    this.#proofs.proveTo(uplink, fresh, turn);
  }

  /** A relay binds those who have shown to be in a network. */
  #askForWireguard(uplink: Uplink, turn: Turn): void {
    if (this.#config.wireguardRelay === true && uplink.shown) this.#wireguard.ask(uplink, turn);
  }

  /** Where a relay sees this node. When that is elsewhere, the others may as well, and are asked. */
  #observedBy({ sessionKey, address, observed }: Uplink, turn: Turn): void {
    if (observed === undefined) return;
    const seen = { observer: sessionKey, to: address, local: undefined, seen: observed, at: turn.now };
    if (!this.#nat.relayObserved(seen)) return;
    for (const other of this.#uplinks.all()) if (other.sessionKey !== sessionKey) other.recordChanged(turn);
  }

  #learn(from: Uplink, page: DirectoryPage, turn: Turn): void {
    this.#relay?.untold(from.sessionKey, page, turn);
    for (const identity of page.gone) this.#members.untold(identity);
    for (const bytes of page.records) {
      const record = openPeerRecord(this.#primitives, bytes, turn.step.wallClock);
      const member =
        typeof record === 'string'
          ? record
          : this.#members.learnOpened(record, turn, page.since, toHex(page.network));
      if (typeof record !== 'string')
        this.#relay?.learned(from.sessionKey, toHex(page.network), record, turn);
      if (member === 'irrelevant') continue;
      if (typeof member === 'string') this.#drops.add(`record-${member}`, 1);
    }
    this.#proofs.proveTo(from, false, turn);
  }

  // Own record

  #signRecord(turn: Turn): PeerRecord {
    return this.#ownRecord.sign(
      {
        networks: [...this.#members.networks.values()].map(({ blindedId }) => blindedId),
        addresses: this.#members.ownAddresses(),
        configured: this.#endpoints,
        observed: this.#uplinks.observed(),
        nat: this.#nat.behaviour(turn.now),
        capabilities: this.#capabilities(),
      },
      turn,
    );
  }

  #capabilities(): string[] {
    const isDirect = this.#direct !== undefined && admitsAnyDirect(this.#rules.policy);
    const paths = [PATHS_CAPABILITY, FILTERING_TESTS_CAPABILITY, MAPPED_CAPABILITY];
    return [...this.#config.capabilities, ...(isDirect ? paths : []), ...this.#exits.capabilities];
  }

  #recordMayHaveChanged(turn: Turn): void {
    const record = this.#signRecord(turn);
    if (record === this.#published) return;
    this.#published = record;
    this.#relay?.publish(record, turn);
    for (const uplink of this.#uplinks.all()) uplink.recordChanged(turn);
  }
}
