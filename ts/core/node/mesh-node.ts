// One node of the mesh: its identity, its networks, its bootstraps, its circuits and, if the policy
// says so, its service as bootstrap and relay to others. Sans-IO: see component.ts.
//
//   engine events ─► MeshNode ─┬─► Uplink (one each)   admission, session, directory
//                              ├─► PathAgent ─► CircuitClient    ways to members
//                              ├─► RelayService                  the same two, for others
//                              └─► MemberTable ─► PeerTable      what the engine is told of peers
//
// Everything returns effects; requests and their repetition are the RequestTable's.

import type { EngineEvent, LegCounts, SessionKey } from '../../contract/engine.js';
import { CONTACT_LEG, parseFrame } from '../../wire/frame.js';
import { MAX_SLOTS } from '../../wire/leg-slots.js';
import { formatSocketAddress, type SocketAddress } from '../../wire/socket-address.js';
import { Uplink, type DirectoryPage } from '../uplink/uplink.js';
import { isZero, sameBytes, toHex, utf8 } from '../../wire/bytes.js';
import { CircuitClient } from '../path/circuit-client.js';
import { PathAgent } from '../path/path-agent.js';
import { earliest } from '../runtime/earliest.js';
import {
  ControlKind,
  decodeControlFrame,
  encodeControlFrame,
  PING_TOKEN_SIZE,
} from '../protocol/control-frame.js';
import { decodeMessage, type ControlMessage, type MessageOf } from '../protocol/control-message.js';
import { CoreError } from '../protocol/core-error.js';
import { Counter } from '../runtime/counter.js';
import type { Component } from '../runtime/component.js';
import type { Effect } from '../runtime/effect.js';
import type { Primitives } from '../../contract/primitives.js';
import type { Step } from '../../contract/step.js';
import { LegIds } from '../runtime/leg-ids.js';
import { LegQueries } from '../runtime/leg-queries.js';
import { MemberTable, type Member } from '../members/member-table.js';
import type {
  MemberStatus,
  MeshStatus,
  NetworkStatus,
  WireguardReachStatus,
} from '../runtime/mesh-status.js';
import {
  blindedNetworkId,
  isName,
  membershipProof,
  type Bootstrap,
  type Network,
} from '../protocol/network.js';
import { checkConsent, OwnPolicy, type Consent } from '../path/own-policy.js';
import { OwnRecord } from '../members/own-record.js';
import { encodePeerId } from '../protocol/peer-id.js';
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
import { RelayService } from '../relay/relay-service.js';
import { RequestTable } from '../runtime/request-table.js';
import { Turn } from '../runtime/turn.js';

/** Observed addresses of up to eight bootstraps fit beside them in a record. */
const MAX_ENDPOINTS = 8;
const MAX_CAPABILITIES = 16;
const MAX_CAPABILITY_BYTES = 32;
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

export interface MeshNodeConfig {
  /** Ed25519 seed, 32 bytes. */
  readonly identitySeed: Uint8Array;
  /** X25519 private key, 32 bytes; the engine is given the same. */
  readonly sessionPrivateKey: Uint8Array;
  /** The machine's name inside its networks: 1–63 of `[a-z0-9-]`. */
  readonly name: string;
  /** Own addresses to put in the record, at most 8. A relay refuses them as a next hop. */
  readonly endpoints: readonly SocketAddress[];
  /** At most 8. */
  readonly networks: readonly Network[];
  /** Undefined = neither bootstrap nor relay. */
  readonly relay: RelayPolicy | undefined;
  /** At most 16 texts of at most 32 bytes. */
  readonly capabilities: readonly string[];
  /** Legs the engine has room for, 1 to 2^28. */
  readonly maxLegs: number;
  /** Whether relays are asked to relay stock WireGuard clients to this node. */
  readonly wireguardRelay?: boolean | undefined;
  /** Whom circuits need not be asked for of; undefined = for each one this node is asked. */
  readonly consent?: Consent | undefined;
}

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
  /** What came of asking relays for stock WireGuard clients. */
  readonly #wireguard = new Map<SessionKey, WireguardReachStatus['state']>();
  readonly #drops = new Counter(DROPS);
  readonly #members: MemberTable;
  readonly #ownRecord: OwnRecord;
  readonly #policy: OwnPolicy | undefined;
  readonly #paths: PathAgent;
  readonly #circuits: CircuitClient;
  readonly #uplinks = new Map<SessionKey, Uplink>();
  #relay: RelayService | undefined;
  /** Relays the operator named. */
  #relayPeers: readonly Bootstrap[];
  #endpoints: readonly SocketAddress[];
  #boot: Uint8Array = new Uint8Array(8);
  #published: PeerRecord | undefined;
  #sweepAt: number | undefined;

  /** @throws RangeError that names the field and what it may be. */
  constructor(config: MeshNodeConfig, primitives: Primitives) {
    checkConfig(config);
    this.#config = config;
    this.#primitives = primitives;
    this.#endpoints = config.endpoints;
    this.#relayPeers = config.relay?.peers ?? [];
    this.#legs = new LegIds(config.maxLegs);
    this.#identity = primitives.ed25519PublicKey(config.identitySeed);
    this.#sessionKey = primitives.x25519PublicKey(config.sessionPrivateKey);
    const self = {
      identitySeed: config.identitySeed,
      identity: this.#identity,
      sessionKey: this.#sessionKey,
    };
    this.#members = new MemberTable(primitives, this.#identity, toHex(this.#sessionKey), this.#peers);
    this.#ownRecord = new OwnRecord(primitives, self, config.name, config.capabilities);
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
      uplinks: () => this.#uplinks.values(),
    };
    this.#paths = new PathAgent(host);
    this.#circuits = new CircuitClient(host, this.#paths);
    this.#paths.addSource(this.#circuits);
  }

  /** Own identity (Ed25519 public key, 32 bytes). */
  get identity(): Uint8Array {
    return this.#identity;
  }

  /** Call once, with all that earlier `persist` effects kept. */
  start(restored: ReadonlyMap<string, Uint8Array>, step: Step): Effect[] {
    const turn = new Turn(step);
    this.#boot = turn.random(8);
    this.#sweepAt = turn.now + SWEEP_MS;
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
        uplinks: () => this.#uplinks.values(),
        isJoined: (network) => this.#members.networks.has(network),
        holderOf: (key) =>
          this.#uplinks.get(key)?.bootstrap.identity ?? this.#members.bySessionKey(key)?.identity,
        recordRegistered: (record, later) => void this.#members.learnOpened(record, later),
      });
    }
    this.#useUplinks(turn);
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
          for (const bootstrap of this.#uplinks.values())
            if (bootstrap.replyLeg === event.leg) bootstrap.handleFrame(event.from, frame, turn);
        break;
      }
      case 'control':
        this.#handleControl(event.peer, new Uint8Array(event.payload), turn);
        break;
      case 'session':
        this.#requests.resend(event.peer, turn);
        this.#relayRequests.resend(event.peer, turn);
        this.#relay?.handleEngineEvent(event, turn);
        this.#uplinks.get(event.peer)?.handleSession(turn);
        this.#paths.sessionUp(event.peer, event.endpoint, turn);
        break;
      case 'endpoint':
        this.#relay?.handleEngineEvent(event, turn);
        this.#paths.sessionMoved(event.peer, event.endpoint, turn);
        break;
      case 'path-needed':
        this.#paths.pathNeeded(event.peer, turn);
        break;
      case 'session-lost':
        this.#paths.sessionLost(event.peer, turn);
        break;
      case 'interface-gone':
        // Circuits and sessions go on without it; whoever deleted it gets it back by a restart.
        turn.notify('warn', 'interface-gone');
        break;
      case 'accelerator-demoted':
        turn.notify('warn', 'accelerator-demoted', { accelerator: event.name, reason: event.reason });
        break;
      case 'interface-up':
      case 'interface-down':
        break; // a relay goes on relaying, and its sessions carry control messages all the same
    }
    return turn.effects;
  }

  handleLegCounts(query: number, counts: readonly (LegCounts | undefined)[], step: Step): Effect[] {
    const turn = new Turn(step);
    this.#legQueries.answer(query, counts, turn);
    return turn.effects;
  }

  handleTimeout(step: Step): Effect[] {
    const turn = new Turn(step);
    for (const peer of this.#requests.handleTimeout(turn)) this.#uplinks.get(peer)?.suspect(turn);
    this.#relayRequests.handleTimeout(turn);
    for (const bootstrap of this.#uplinks.values()) bootstrap.handleTimeout(turn);
    this.#circuits.handleTimeout(turn);
    this.#paths.handleTimeout(turn);
    this.#relay?.handleTimeout(turn);
    for (const peer of this.#pings.handleTimeout(turn.now)) {
      const { relay } = this.#paths.path(peer);
      this.#uplinks.get(relay ?? peer)?.suspect(turn);
    }
    if (this.#sweepAt !== undefined && this.#sweepAt <= turn.now) {
      this.#sweepAt = turn.now + SWEEP_MS;
      for (const peer of this.#members.expire(turn)) this.#paths.memberGone(peer, turn);
      this.#relay?.sweep(turn);
      this.#recordMayHaveChanged(turn);
      this.#policy?.renew(turn);
    }
    return turn.effects;
  }

  deadline(): number | undefined {
    return earliest(
      this.#requests.deadline(),
      this.#relayRequests.deadline(),
      this.#circuits.deadline(),
      this.#paths.deadline(),
      this.#relay?.deadline(),
      this.#pings.deadline(),
      this.#sweepAt,
      ...[...this.#uplinks.values()].map((uplink) => uplink.deadline()),
    );
  }

  /**
   * Joins a network. The shell keeps the list of networks; the node does not persist it.
   * @throws RangeError when eight networks are joined already.
   */
  addNetwork(network: Network, step: Step): Effect[] {
    const turn = new Turn(step);
    const blindedId = toHex(blindedNetworkId(this.#primitives, network.id));
    if (this.#members.networks.has(blindedId)) return [];
    checkNetwork(network);
    if (this.#members.networks.size >= MAX_RECORD_NETWORKS)
      throw new RangeError(`networks: at most ${MAX_RECORD_NETWORKS} can be joined; leave one first`);
    this.#members.addNetwork(network, turn);
    this.#useUplinks(turn);
    this.#recordMayHaveChanged(turn);
    this.#policy?.renew(turn);
    return turn.effects;
  }

  /** Leaves the network with this (unblinded) id. */
  removeNetwork(id: Uint8Array, step: Step): Effect[] {
    const turn = new Turn(step);
    const blindedId = toHex(blindedNetworkId(this.#primitives, id));
    for (const peer of this.#members.removeNetwork(blindedId, turn)) this.#paths.memberGone(peer, turn);
    this.#dropUplinks(turn);
    this.#recordMayHaveChanged(turn);
    this.#policy?.renew(turn);
    return turn.effects;
  }

  /** The network with this (unblinded) id is called so on this machine from now on. */
  renameNetwork(id: Uint8Array, name: string, step: Step): Effect[] {
    const turn = new Turn(step);
    this.#members.renameNetwork(toHex(blindedNetworkId(this.#primitives, id)), name);
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

  /**
   * A relay goes on by other rules, for those who are connected already too. Relays that are not named
   * any more are no neighbours from now on.
   * @throws RangeError that names the field and what it may be; then nothing has changed.
   */
  setRelayPolicy(policy: RelayPolicy, step: Step): Effect[] {
    checkRelayPolicy(policy);
    const turn = new Turn(step);
    this.#relayPeers = policy.peers ?? [];
    this.#dropUplinks(turn);
    this.#relay?.setPolicy(policy, turn);
    this.#useUplinks(turn);
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
    const bootstraps = [...this.#uplinks.values()];
    const peer =
      this.#members.members.get(toHex(identity))?.sessionKey ??
      bootstraps.find(({ bootstrap }) => sameBytes(bootstrap.identity, identity))?.sessionKey;
    if (peer === undefined) throw new CoreError('unknown-peer');
    this.#pings.add(peer, identity, token, step.now);
    return [
      { type: 'send-control', peer, payload: encodeControlFrame({ kind: ControlKind.ping, body: token }) },
    ];
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
    return {
      peerId: encodePeerId(this.#identity),
      name: this.#config.name,
      sessionKey: toHex(this.#sessionKey),
      networks: [...this.#members.networks].map(([blindedId, { network, own }]): NetworkStatus => ({
        name: network.name,
        blindedId,
        ipv6: own.ipv6,
        ipv4: this.#members.ownsIpv4(own.ipv4, this.#identity) ? own.ipv4 : undefined,
        members: [...this.#members.members.values()].flatMap((member) =>
          this.#memberStatus(member, blindedId),
        ),
      })),
      bootstraps: [...this.#uplinks.values()].map((bootstrap) => bootstrap.status(step.now)),
      wireguard: [...this.#wireguard].flatMap(([key, state]): WireguardReachStatus[] => {
        const bootstrap = this.#uplinks.get(key);
        if (bootstrap === undefined) return [];
        const relayPeerId = encodePeerId(bootstrap.bootstrap.identity);
        return [{ relayPeerId, address: formatSocketAddress(bootstrap.address), state }];
      }),
      standingPolicies: this.#policy?.status() ?? [],
      relay: this.#relay?.status(step),
      drops: this.#drops.toRecord(),
    };
  }

  #memberStatus(member: Member, network: string): MemberStatus[] {
    const overlay = member.overlay.get(network);
    if (overlay === undefined) return [];
    const { sessionKey, record, identity } = member;
    const { kind, relay, refused } = this.#paths.path(sessionKey);
    const bootstrap = relay === undefined ? undefined : this.#uplinks.get(relay);
    return [
      {
        peerId: encodePeerId(identity),
        name: record.name,
        ipv6: overlay.ipv6,
        ipv4: this.#members.ownsIpv4(overlay.ipv4, identity) ? overlay.ipv4 : undefined,
        sessionKey,
        path: this.#peers.isProven(sessionKey, network) ? 'direct' : kind,
        refused,
        relayPeerId: bootstrap === undefined ? undefined : encodePeerId(bootstrap.bootstrap.identity),
      },
    ];
  }

  #handleControl(peer: SessionKey, payload: Uint8Array, turn: Turn): void {
    const frame = decodeControlFrame(payload);
    if (frame === undefined) {
      this.#drops.add('control-malformed', 1);
      return;
    }
    switch (frame.kind) {
      case ControlKind.ping:
        turn.emit({
          type: 'send-control',
          peer,
          payload: encodeControlFrame({ kind: ControlKind.pong, body: frame.body }),
        });
        break;
      case ControlKind.pong: {
        if (this.#uplinks.get(peer)?.handlePong(frame.body, turn) === true) break;
        const identity = this.#pings.answer(peer, frame.body);
        if (identity !== undefined) turn.emit({ type: 'pong', identity, token: frame.body });
        break;
      }
      case ControlKind.message: {
        const envelope = decodeMessage(frame.body);
        if (envelope === undefined) this.#drops.add('control-malformed', 1);
        else if (this.#relay?.admitsMessage(peer, turn.now) !== false)
          this.#handleMessage(peer, envelope.request, envelope.message, turn);
        break;
      }
    }
  }

  #handleMessage(peer: SessionKey, request: number, message: ControlMessage, turn: Turn): void {
    const relay = this.#relay;
    const bootstrap = this.#uplinks.get(peer);
    switch (message.type) {
      case 'register':
        if (relay) relay.handleRegister(peer, request, message, turn);
        else turn.refuse(peer, request, message.type, 'not-served');
        break;
      case 'lookup':
        if (relay) relay.handleLookup(peer, request, message, turn);
        else turn.refuse(peer, request, message.type, 'not-served');
        break;
      case 'circuit-open':
        if (relay) relay.handleOpen(peer, request, message, turn);
        else turn.refuse(peer, request, message.type, 'not-served');
        break;
      case 'circuit-extend':
        if (relay) relay.handleExtend(peer, request, message, turn);
        else turn.refuse(peer, request, message.type, 'not-served');
        break;
      case 'circuit-refresh':
        if (relay) relay.handleRefresh(peer, request, message, turn);
        else turn.refuse(peer, request, message.type, 'unknown-circuit');
        break;
      case 'circuit-close':
        // Two relays may be each other's clients: whoever knows the circuit closes it.
        if (relay?.knowsCircuit(message.circuit) === true || bootstrap === undefined)
          relay?.handleClose(peer, request, message, turn);
        else this.#circuits.handleClose(peer, request, message, turn);
        break;
      case 'wireguard-bind':
        if (relay) relay.handleWireguardBind(peer, request, turn);
        else turn.refuse(peer, request, message.type, 'not-served');
        break;
      case 'standing-policy':
        if (relay) relay.handleStandingPolicy(peer, request, message, turn);
        else turn.refuse(peer, request, message.type, 'not-served');
        break;
      case 'receipt':
        if (relay) relay.handleReceipt(peer, request, message, turn);
        else turn.refuse(peer, request, message.type, 'unknown-circuit');
        break;
      case 'circuit-offer':
        if (bootstrap) this.#circuits.handleOffer(bootstrap, request, message, turn);
        else turn.refuse(peer, request, message.type, 'no-consent');
        break;
      case 'circuit-opened':
        if (bootstrap) this.#circuits.handleOpened(bootstrap, request, message, turn);
        else turn.refuse(peer, request, message.type, 'no-consent');
        break;
      case 'records-changed':
        if (bootstrap) bootstrap.handleRecordsChanged(request, message, turn);
        else turn.refuse(peer, request, message.type, 'no-consent');
        break;
      case 'address-challenge':
        // Only a relay that serves us has a use for the answer.
        if (bootstrap) turn.send(peer, request, { type: 'address-answer', nonce: message.nonce });
        break;
      case 'prove-membership':
        this.#handleProof(peer, request, message, turn);
        break;
      default:
        this.#requests.handleAnswer(peer, request, message, turn);
        this.#relayRequests.handleAnswer(peer, request, message, turn);
    }
  }

  // Networks and bootstraps

  /** Blinded ids (hex) of the networks that name this bootstrap. */
  #networksOf(key: SessionKey): string[] {
    return [...this.#members.networks]
      .filter(([, { network }]) => network.bootstraps.some(({ sessionKey }) => toHex(sessionKey) === key))
      .map(([blindedId]) => blindedId);
  }

  /** Whether the operator named this bootstrap as a relay to carry circuits on. */
  #isPeer({ bootstrap }: Uplink): boolean {
    return this.#relayPeers.some(({ identity }) => sameBytes(identity, bootstrap.identity));
  }

  /** Lets go of those no network and no operator names any more. */
  #dropUplinks(turn: Turn): void {
    for (const [key, bootstrap] of this.#uplinks) {
      if (this.#networksOf(key).length > 0 || this.#isPeer(bootstrap)) continue;
      this.#circuits.relayGone(key, turn);
      this.#paths.retry(turn);
      this.#policy?.relayGone(key, turn);
      this.#relay?.neighbourGone(key, turn);
      this.#uplinks.delete(key);
      bootstrap.close(turn);
    }
  }

  #useUplinks(turn: Turn): void {
    const ofNetworks = [...this.#members.networks.values()].map(({ network }) => network.bootstraps);
    for (const bootstraps of [...ofNetworks, this.#relayPeers])
      for (const bootstrap of bootstraps) {
        const key = toHex(bootstrap.sessionKey);
        if (this.#uplinks.has(key) || sameBytes(bootstrap.identity, this.#identity)) continue;
        const client = new Uplink(
          bootstrap,
          {
            primitives: this.#primitives,
            self: {
              identitySeed: this.#config.identitySeed,
              identity: this.#identity,
              sessionKey: this.#sessionKey,
            },
            boot: this.#boot,
            requests: this.#requests,
            legs: this.#legs,
            peers: this.#peers,
            networksOf: () => [
              ...new Set([...this.#networksOf(key), ...(this.#relay?.followed(bootstrap) ?? [])]),
            ],
            record: (later) => this.#signRecord(later).bytes,
            reachChanged: (later) => this.#recordMayHaveChanged(later),
            registered: (registered, fresh, later) => {
              this.#circuits.relayReady(registered, fresh, later);
              this.#paths.retry(later);
              this.#relay?.neighbourReady(key, fresh, later);
              this.#policy?.relayReady(registered, fresh, later);
              this.#askForWireguard(registered, later);
              this.#proveTo(registered, fresh, later);
            },
            depthOf: (network) =>
              this.#members.networks.has(network) ? 0 : (this.#relay?.followDepth(network, key) ?? 0),
            learned: (page, later) => this.#learn(client, page, later),
            lost: (lost, later) => {
              this.#paths.relayLost(lost.sessionKey, later);
              this.#relay?.neighbourLost(key, later);
            },
          },
          turn,
        );
        this.#uplinks.set(key, client);
      }
  }

  /** Again with every registration: it ends with the one before. */
  #askForWireguard({ sessionKey }: Uplink, turn: Turn): void {
    if (this.#config.wireguardRelay !== true) return;
    if (!this.#wireguard.has(sessionKey)) this.#wireguard.set(sessionKey, 'asking');
    this.#requests.send(sessionKey, { type: 'wireguard-bind' }, turn, (answer, later) => {
      const state = answer?.type === 'wireguard-bound' ? 'bound' : (answer?.reason ?? 'unanswered');
      if (state !== this.#wireguard.get(sessionKey) && state !== 'bound')
        later.notify('warn', 'wireguard-relay-refused', { reason: state });
      this.#wireguard.set(sessionKey, state);
    });
  }

  #learn(from: Uplink, page: DirectoryPage, turn: Turn): void {
    this.#relay?.untold(from.sessionKey, page, turn);
    for (const bytes of page.records) {
      const record = openPeerRecord(this.#primitives, bytes, turn.step.wallClock);
      const member = typeof record === 'string' ? record : this.#members.learnOpened(record, turn);
      if (typeof record !== 'string')
        this.#relay?.learned(from.sessionKey, toHex(page.network), record, turn);
      if (member === 'irrelevant') continue;
      if (typeof member === 'string') this.#drops.add(`record-${member}`, 1);
    }
    this.#proveTo(from, false, turn);
  }

  // Own record

  #signRecord(turn: Turn): PeerRecord {
    const observed = [...this.#uplinks.values()].flatMap(({ bootstrap, observed: address }) =>
      address === undefined ? [] : [{ relay: bootstrap.identity, address }],
    );
    return this.#ownRecord.sign(
      {
        networks: [...this.#members.networks.values()].map(({ blindedId }) => blindedId),
        configured: this.#endpoints,
        observed,
      },
      turn,
    );
  }

  #recordMayHaveChanged(turn: Turn): void {
    const record = this.#signRecord(turn);
    if (record === this.#published) return;
    this.#published = record;
    this.#relay?.publish(record, turn);
    for (const bootstrap of this.#uplinks.values()) bootstrap.recordChanged(turn);
  }

  // Membership of bootstraps and their clients

  /** A bootstrap that is a member of a network of ours gets, and gives, a proof of it. */
  #proveTo(bootstrap: Uplink, again: boolean, turn: Turn): void {
    const member = this.#members.bySessionKey(bootstrap.sessionKey);
    if (member === undefined || !bootstrap.usable) return;
    for (const id of member.overlay.keys()) {
      const joined = this.#members.networks.get(id);
      if (joined === undefined || (!again && this.#peers.isProven(bootstrap.sessionKey, id))) continue;
      const theirs = bootstrap.bootstrap.sessionKey;
      const message = {
        type: 'prove-membership',
        network: joined.blindedId,
        proof: membershipProof(this.#primitives, joined.network, this.#sessionKey, theirs),
      } as const;
      this.#requests.send(bootstrap.sessionKey, message, turn, (answer, later) => {
        if (answer?.type !== 'membership-proven') return;
        const expected = membershipProof(this.#primitives, joined.network, theirs, this.#sessionKey);
        if (this.#primitives.equal(answer.proof, expected))
          this.#peers.prove(bootstrap.sessionKey, id, later);
      });
    }
  }

  #handleProof(peer: SessionKey, request: number, message: MessageOf<'prove-membership'>, turn: Turn): void {
    const id = toHex(message.network);
    const joined = this.#members.networks.get(id);
    const member = this.#members.bySessionKey(peer);
    if (joined === undefined || member?.overlay.has(id) !== true || this.#relay?.isClient(peer) !== true) {
      turn.refuse(peer, request, message.type, 'not-a-member');
      return;
    }
    const theirs = member.record.sessionKey;
    const expected = membershipProof(this.#primitives, joined.network, theirs, this.#sessionKey);
    if (!this.#primitives.equal(message.proof, expected)) {
      this.#drops.add('membership-proof', 1);
      turn.refuse(peer, request, message.type, 'not-a-member');
      return;
    }
    this.#peers.prove(peer, id, turn);
    turn.send(peer, request, {
      type: 'membership-proven',
      network: message.network,
      proof: membershipProof(this.#primitives, joined.network, this.#sessionKey, theirs),
    });
  }
}

function checkConfig(config: MeshNodeConfig): void {
  checkLength('identitySeed', config.identitySeed, 32);
  checkLength('sessionPrivateKey', config.sessionPrivateKey, 32);
  if (!isName(config.name))
    throw new RangeError(`name: "${config.name}" given, must be 1–63 of a–z, 0–9 and -`);
  checkEndpoints(config.endpoints);
  if (config.networks.length > MAX_RECORD_NETWORKS)
    throw new RangeError(
      `networks: ${config.networks.length} given, at most ${MAX_RECORD_NETWORKS} are possible`,
    );
  config.networks.forEach(checkNetwork);
  if (config.relay !== undefined) checkRelayPolicy(config.relay);
  if (config.consent !== undefined) checkConsent(config.consent);
  if (!Number.isInteger(config.maxLegs) || config.maxLegs < 1 || config.maxLegs > MAX_SLOTS)
    throw new RangeError(`maxLegs: ${config.maxLegs} given, must be an integer from 1 to ${MAX_SLOTS}`);
  if (config.capabilities.length > MAX_CAPABILITIES)
    throw new RangeError(
      `capabilities: ${config.capabilities.length} given, at most ${MAX_CAPABILITIES} are possible`,
    );
  for (const capability of config.capabilities)
    if (utf8(capability).length > MAX_CAPABILITY_BYTES)
      throw new RangeError(`capabilities: "${capability}" is longer than ${MAX_CAPABILITY_BYTES} bytes`);
}

function checkEndpoints(addresses: readonly SocketAddress[]): void {
  if (addresses.length > MAX_ENDPOINTS)
    throw new RangeError(`endpoints: ${addresses.length} given, at most ${MAX_ENDPOINTS} are possible`);
  for (const { ip, port } of addresses)
    if (ip.length !== 16 || isZero(ip) || port < 1 || port > 0xffff)
      throw new RangeError('endpoints: not an address and port that others could reach');
}

function checkNetwork(network: Network): void {
  checkLength('network id', network.id, 16);
  checkLength('network key', network.key, 32);
  if (!isName(network.name))
    throw new RangeError(`network name: "${network.name}" given, must be 1–63 of a–z, 0–9 and -`);
  for (const { identity, sessionKey, addresses } of network.bootstraps) {
    checkLength('bootstrap identity', identity, 32);
    checkLength('bootstrap session key', sessionKey, 32);
    if (addresses.length === 0)
      throw new RangeError('bootstrap addresses: none given, at least one is needed');
  }
}

function checkLength(field: string, bytes: Uint8Array, length: number): void {
  if (bytes.length !== length)
    throw new RangeError(`${field}: ${bytes.length} bytes given, must be ${length}`);
}
