// One node of the mesh: its identity, its networks, its uplinks, its circuits and, if the policy
// says so, its service as bootstrap and relay to others. Sans-IO: see component.ts. How its parts are
// tied together stands in node-parts.ts; here is what comes in: events, time, and what is asked of it.
//
//   engine events ─► MeshNode ─┬─► UplinkSet ─► Uplink           admission, session, directory; one each
//                              ├─► PathAgent ─► CircuitClient    ways to members
//                              ├─► RelayService                  the same two, for others
//                              └─► MemberTable ─► PeerTable      what the engine is told of peers
//
// Everything returns effects; requests and their repetition are the RequestTable's.

import { MAX_DRAIN_SECONDS, MAX_RECORD_NETWORKS } from '../protocol/message-limits.js';
import type { EngineEvent, LegCounts, SessionKey } from '../../contract/engine.js';
import type { PathCounts } from '../../contract/path-control.js';
import { CONTACT_LEG, parseFrame } from '../../wire/frame.js';
import { PING_TOKEN_SIZE } from '../../wire/ping-frame.js';
import { formatSocketAddress, type SocketAddress } from '../../wire/socket-address.js';
import { toHex } from '../../wire/bytes.js';
import type { ExitSettings, RouteSettings } from '../exit/exit-agent.js';
import type { LocalInterface } from '../path/local-interface.js';
import { mappedReach } from '../path/mapped-address.js';
import type { PathPolicy } from '../path/path-policy.js';
import { earliest } from '../runtime/earliest.js';
import { ControlKind, decodeControlFrame } from '../protocol/control-frame.js';
import { decodeMessage, isRequest, type ControlMessage } from '../protocol/control-message.js';
import { CoreError } from '../protocol/core-error.js';
import type { Component } from '../runtime/component.js';
import type { Effect } from '../runtime/effect.js';
import type { Primitives } from '../../contract/primitives.js';
import type { Step } from '../../contract/step.js';
import type { ShapingPolicy } from '../members/shaping-policy.js';
import type { MeshStatus } from '../runtime/mesh-status.js';
import type { Network, OverlayAddresses } from '../protocol/network.js';
import { collectReceipts } from '../receipts/receipt-collector.js';
import { checkRelayPolicy, type RelayPolicy } from '../relay/relay-policy.js';
import type { RelayService } from '../relay/service/relay-service.js';
import { Turn } from '../runtime/turn.js';
import { dispatchRequest } from './message-dispatch.js';
import { checkEndpoints, checkNetwork, type MeshNodeConfig } from './node-config.js';
import { nodeStatus } from './node-status.js';
import { NodeParts } from './node-parts.js';

/** How often run-out records are looked for, ours included. */
const SWEEP_MS = 60_000;

export class MeshNode implements Component {
  readonly #parts: NodeParts;
  #sweepAt: number | undefined;

  /** @throws RangeError that names the field and what it may be. */
  constructor(config: MeshNodeConfig, primitives: Primitives) {
    this.#parts = new NodeParts(config, primitives);
  }

  /** Own identity (Ed25519 public key, 32 bytes). */
  get identity(): Uint8Array {
    return this.#parts.identity;
  }

  /** Where relays see this node. */
  get observed(): readonly SocketAddress[] {
    return this.#parts.observedAddresses();
  }

  /** Own addresses inside the networks, in their order. */
  get overlay(): readonly OverlayAddresses[] {
    return [...this.#parts.members.networks.values()].map(({ own }) => own);
  }

  /** Probes to addresses that had not answered, those that were not sent there, and packets of port searches. */
  get pathBudget(): { readonly sent: number; readonly refused: number; readonly searched: number } {
    return this.#parts.direct?.unproven ?? { sent: 0, refused: 0, searched: 0 };
  }

  /** Call once, with all that earlier `persist` effects kept. */
  start(restored: ReadonlyMap<string, Uint8Array>, step: Step): Effect[] {
    const turn = new Turn(step);
    const parts = this.#parts;
    const { config, members, uplinks } = parts;
    parts.boot = turn.random(8);
    this.#sweepAt = turn.now + SWEEP_MS;
    members.restore(restored, config.networks, turn);
    parts.ownRecord.restore(restored);
    parts.policy?.restore(restored);
    for (const network of config.networks) members.addNetwork(network, turn);
    if (config.relay !== undefined) parts.relay = parts.makeRelay(config.relay);
    uplinks.use(parts.boot, turn);
    parts.relay?.start(restored, turn); // its circuits may lead to bootstraps
    parts.recordMayHaveChanged(turn);
    return turn.effects;
  }

  handleEngineEvent(event: EngineEvent, step: Step): Effect[] {
    const turn = new Turn(step);
    switch (event.type) {
      case 'frame': {
        const frame = parseFrame(new Uint8Array(event.frame)); // the engine may reuse its memory
        if (frame === undefined) this.#parts.drops.add('frame-malformed', 1);
        else if (event.leg === CONTACT_LEG) this.#parts.relay?.handleFrame(event.from, frame, turn);
        else
          for (const uplink of this.#parts.uplinks.all())
            if (uplink.replyLeg === event.leg) uplink.handleFrame(event.from, frame, turn);
        break;
      }
      case 'control':
        this.#handleControl(event.peer, new Uint8Array(event.payload), turn);
        break;
      case 'session':
        this.#parts.reached(event.peer, turn);
        this.#parts.relayRequests.resend(event.peer, turn);
        this.#parts.relay?.handleEngineEvent(event, turn);
        this.#parts.uplinks.get(event.peer)?.handleSession(event.endpoint, turn);
        if (this.#parts.direct?.sessionUp(event.peer, event.endpoint, turn) === true)
          this.#parts.paths.sessionBeside(event.peer);
        else this.#parts.paths.sessionUp(event.peer, event.endpoint, turn);
        break;
      case 'endpoint':
        this.#parts.relay?.handleEngineEvent(event, turn);
        this.#parts.uplinks.get(event.peer)?.handleEndpoint(event.endpoint, turn);
        this.#parts.paths.sessionMoved(event.peer, event.endpoint, turn);
        break;
      case 'path-needed':
        this.#parts.pathNeeded(event.peer, turn);
        break;
      case 'session-lost':
        this.#parts.paths.sessionLost(event.peer, turn);
        this.#parts.exits.sessionLost(event.peer, turn);
        break;
      case 'probe-answer':
      case 'probe-from':
      case 'path-arrival':
      case 'path-silent':
      case 'path-heard':
      case 'path-report':
        this.#parts.direct?.handleEvent(event, turn);
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
    if (this.#parts.udp.isBlocked) this.#lookAtUdp(turn);
    return turn.effects;
  }

  handleLegCounts(query: number, counts: readonly (LegCounts | undefined)[], step: Step): Effect[] {
    const turn = new Turn(step);
    this.#parts.legQueries.answer(query, counts, turn);
    return turn.effects;
  }

  handlePathCounts(peer: SessionKey, counts: readonly PathCounts[], step: Step): Effect[] {
    const turn = new Turn(step);
    this.#parts.direct?.handleCounts(peer, counts, turn);
    return turn.effects;
  }

  handleTimeout(step: Step): Effect[] {
    const turn = new Turn(step);
    for (const peer of this.#parts.requests.handleTimeout(turn)) this.#parts.suspect(peer, turn);
    this.#parts.relayRequests.handleTimeout(turn);
    this.#parts.uplinks.handleTimeout(turn);
    this.#parts.circuits.handleTimeout(turn);
    this.#parts.paths.handleTimeout(turn);
    this.#parts.direct?.handleTimeout(turn);
    this.#parts.exits.handleTimeout(turn);
    this.#parts.bar.handleTimeout(turn);
    this.#parts.relay?.handleTimeout(turn);
    for (const peer of this.#parts.pings.handleTimeout(turn.now)) this.#parts.suspect(peer, turn);
    if (this.#sweepAt !== undefined && this.#sweepAt <= turn.now) {
      this.#sweepAt = turn.now + SWEEP_MS;
      this.#parts.members.expire(turn);
      this.#parts.relay?.sweep(turn);
      this.#parts.recordMayHaveChanged(turn);
      this.#parts.policy?.renew(turn);
    }
    this.#lookAtUdp(turn);
    return turn.effects;
  }

  deadline(): number | undefined {
    return earliest(
      this.#parts.requests.deadline(),
      this.#parts.relayRequests.deadline(),
      this.#parts.circuits.deadline(),
      this.#parts.paths.deadline(),
      this.#parts.direct?.deadline(),
      this.#parts.exits.deadline(),
      this.#parts.bar.deadline(),
      this.#parts.relay?.deadline(),
      this.#parts.pings.deadline(),
      this.#sweepAt,
      this.#parts.uplinks.deadline(),
      this.#parts.udp.deadline(this.#parts.uplinks.silent()),
    );
  }

  /**
   * Joins a network. The shell keeps the list of networks; the node does not persist it.
   * @throws RangeError when eight networks are joined already.
   */
  addNetwork(network: Network, step: Step): Effect[] {
    const turn = new Turn(step);
    if (this.#parts.members.joined(network.id) !== undefined) return [];
    checkNetwork(network);
    if (this.#parts.members.networks.size >= MAX_RECORD_NETWORKS)
      throw new RangeError(`networks: at most ${MAX_RECORD_NETWORKS} are possible`);
    this.#parts.members.addNetwork(network, turn);
    this.#parts.uplinks.use(this.#parts.boot, turn);
    this.#parts.recordMayHaveChanged(turn);
    this.#parts.policy?.renew(turn);
    return turn.effects;
  }

  /** Leaves the network with this (unblinded) id. */
  removeNetwork(id: Uint8Array, step: Step): Effect[] {
    const turn = new Turn(step);
    const joined = this.#parts.members.joined(id);
    if (joined === undefined) return [];
    this.#parts.members.removeNetwork(toHex(joined.blindedId), turn);
    this.#parts.uplinks.drop(turn);
    this.#parts.recordMayHaveChanged(turn);
    this.#parts.policy?.renew(turn);
    return turn.effects;
  }

  /** The network with this (unblinded) id is called so on this machine from now on. */
  renameNetwork(id: Uint8Array, name: string, step: Step): Effect[] {
    const turn = new Turn(step);
    const joined = this.#parts.members.joined(id);
    if (joined !== undefined) this.#parts.members.renameNetwork(toHex(joined.blindedId), name, turn);
    this.#parts.policy?.renew(turn); // it names networks
    return turn.effects;
  }

  /** Own addresses have changed. @throws RangeError when there are more than 8. */
  setEndpoints(addresses: readonly SocketAddress[], step: Step): Effect[] {
    checkEndpoints(addresses);
    const turn = new Turn(step);
    this.#parts.endpoints = addresses;
    this.#parts.recordMayHaveChanged(turn);
    return turn.effects;
  }

  /** What is sent from has changed. */
  setInterfaces(interfaces: readonly LocalInterface[], step: Step): Effect[] {
    const turn = new Turn(step);
    this.#parts.interfaces = interfaces;
    this.#parts.nat.interfacesChanged(interfaces, turn.now);
    this.#parts.direct?.addressesChanged(turn);
    return turn.effects;
  }

  /** Which ways to members are used from now on; sessions go on. */
  setPathPolicy(policy: PathPolicy, step: Step): Effect[] {
    const turn = new Turn(step);
    this.#parts.rules.policy = policy;
    this.#parts.paths.rulesChanged(turn);
    this.#parts.direct?.rulesChanged(turn);
    this.#parts.recordMayHaveChanged(turn);
    return turn.effects;
  }

  /** How packets to members are shaped from now on. */
  setShaping(policy: ShapingPolicy, step: Step): Effect[] {
    const turn = new Turn(step);
    this.#parts.members.setShaping(policy, turn);
    return turn.effects;
  }

  /** A gateway lets everybody in at this address, or, undefined, at none. */
  setMapped(address: SocketAddress | undefined, step: Step): Effect[] {
    const turn = new Turn(step);
    this.#parts.mapped = address;
    if (address !== undefined) this.#parts.direct?.addressesChanged(turn);
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
    this.#parts.uplinks.setRelayPeers(policy.peers ?? []);
    this.#parts.uplinks.drop(turn);
    this.#parts.relay?.setPolicy(policy, turn);
    this.#parts.uplinks.use(this.#parts.boot, turn);
    return turn.effects;
  }

  /**
   * A relay that will go in so many seconds, a day at most: it tells its clients, and takes on nobody and nothing new.
   * `automatic`: it is over when those have left that have another relay. When it is over, `isRelayDrained` is true.
   * @throws CoreError when this node is no relay, RangeError for a time that cannot be.
   */
  drainRelay(seconds: number, automatic: boolean, step: Step): Effect[] {
    if (!Number.isInteger(seconds) || seconds < 1 || seconds > MAX_DRAIN_SECONDS)
      throw new RangeError(`drain: ${seconds} s given, must be 1 to ${MAX_DRAIN_SECONDS}`);
    const turn = new Turn(step);
    this.#relay.beginDrain(seconds, automatic, turn);
    return turn.effects;
  }

  /** The relay stays after all. @throws CoreError when this node is no relay. */
  undrainRelay(step: Step): Effect[] {
    const turn = new Turn(step);
    this.#relay.endDrain(turn);
    return turn.effects;
  }

  get isRelayDrained(): boolean {
    return this.#parts.relay?.isDrained === true;
  }

  /**
   * Serves and uses exits by these settings from now on. The shell keeps them; the node does not persist them.
   * @throws RangeError that names what cannot be; then nothing has changed.
   */
  setExits(settings: ExitSettings, step: Step): Effect[] {
    const turn = new Turn(step);
    this.#parts.exits.set(settings, turn);
    this.#parts.recordMayHaveChanged(turn);
    return turn.effects;
  }

  /**
   * Forwards to LANs behind it and sends to those behind members by these settings, kept by the shell as well.
   * @throws RangeError that names what cannot be; then nothing has changed.
   */
  setRoutes(settings: RouteSettings, step: Step): Effect[] {
    const turn = new Turn(step);
    this.#parts.exits.setRoutes(settings, turn);
    this.#parts.recordMayHaveChanged(turn);
    return turn.effects;
  }

  /** Asks members which LANs are behind them; their answers are in the status. */
  surveyRoutes(step: Step): Effect[] {
    const turn = new Turn(step);
    this.#parts.exits.surveyRoutes(turn);
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
      this.#parts.members.members.get(toHex(identity))?.sessionKey ??
      this.#parts.uplinks.ofIdentity(identity)?.sessionKey;
    if (peer === undefined) throw new CoreError('unknown-peer');
    const turn = new Turn(step);
    // A ping shows that data gets there, so it goes where data goes.
    const held =
      !this.#parts.rules.admitRelayed(peer) &&
      this.#parts.members.bySessionKey(peer) !== undefined &&
      !this.#parts.peers.hasRole(peer) &&
      this.#parts.direct?.active(peer) === undefined;
    this.#parts.pings.add(peer, identity, token, held, step.now);
    if (!held) this.#parts.sendPing(peer, token, turn);
    else if (this.#parts.paths.active(peer) === undefined) this.#parts.pathNeeded(peer, turn);
    else this.#parts.direct?.wanted(peer, turn);
    return turn.effects;
  }

  /**
   * Fetches usage receipts of the circuits with a member, or of all, and checks them against own
   * counts. The outcome is a `receipts` effect with `token`.
   * @throws CoreError when the identity is not known.
   */
  fetchReceipts(identity: Uint8Array | undefined, token: Uint8Array, step: Step): Effect[] {
    const member = identity && this.#parts.members.members.get(toHex(identity));
    if (identity !== undefined && member === undefined) throw new CoreError('unknown-peer');
    const turn = new Turn(step);
    const host = {
      primitives: this.#parts.primitives,
      identity: this.#parts.identity,
      requests: this.#parts.requests,
      legQueries: this.#parts.legQueries,
      relayIdentity: (key: SessionKey) => this.#parts.uplinks.get(key)?.bootstrap.identity,
      memberIdentity: (key: SessionKey) => this.#parts.members.bySessionKey(key)?.identity,
    };
    collectReceipts(host, this.#parts.circuits.held(member?.sessionKey), token, turn);
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
    if (this.#parts.relay === undefined) done([], turn);
    else this.#parts.relay.receipts(identity, limit, turn, done);
    return turn.effects;
  }

  status(step: Step): MeshStatus {
    return nodeStatus(
      {
        name: this.#parts.config.name,
        identity: this.#parts.identity,
        sessionKey: this.#parts.sessionKey,
        members: this.#parts.members,
        peers: this.#parts.peers,
        paths: this.#parts.paths,
        direct: this.#parts.direct,
        rules: this.#parts.rules,
        bar: this.#parts.bar,
        ways: (member) => ({
          relayed: this.#parts.relayed(member),
          relayOf: (leg) => this.#parts.relayOf(member, leg),
        }),
        uplinks: this.#parts.uplinks,
        nat: this.#parts.nat,
        udp: this.#parts.udp.state(this.#parts.uplinks.silent()),
        mapped: this.#parts.mapped && {
          address: formatSocketAddress(this.#parts.mapped),
          reach: mappedReach(this.#parts.mapped, this.#parts.observedAddresses()),
        },
        wireguard: this.#parts.wireguard,
        policy: this.#parts.policy,
        relay: this.#parts.relay,
        exits: this.#parts.exits,
        drops: this.#parts.drops,
      },
      step,
    );
  }

  get #relay(): RelayService {
    const { relay } = this.#parts;
    if (relay === undefined) throw new CoreError('not-a-relay');
    return relay;
  }

  #handleControl(peer: SessionKey, payload: Uint8Array, turn: Turn): void {
    const frame = decodeControlFrame(payload);
    if (frame === undefined) {
      this.#parts.drops.add('control-malformed', 1);
      return;
    }
    switch (frame.kind) {
      case ControlKind.pong: {
        if (this.#parts.uplinks.get(peer)?.handlePong(frame.body, turn) === true) break;
        const identity = this.#parts.pings.answer(peer, frame.body);
        if (identity !== undefined) turn.emit({ type: 'pong', identity, token: frame.body });
        break;
      }
      case ControlKind.message: {
        const envelope = decodeMessage(frame.body);
        if (envelope === undefined) this.#parts.drops.add('control-malformed', 1);
        else if (this.#parts.relay?.admitsMessage(peer, envelope.message, turn) !== false)
          this.#handleMessage(peer, envelope.request, envelope.message, turn);
        break;
      }
    }
  }

  #handleMessage(peer: SessionKey, request: number, message: ControlMessage, turn: Turn): void {
    if (isRequest(message)) {
      const receivers = {
        relay: this.#parts.relay,
        uplink: this.#parts.uplinks.get(peer),
        circuits: this.#parts.circuits,
        direct: this.#parts.direct,
        proofs: this.#parts.proofs,
        exits: this.#parts.exits,
      };
      dispatchRequest(receivers, peer, request, message, turn);
      return;
    }
    if (message.type === 'contact-begin') {
      this.#parts.direct?.handleBegin(peer, turn);
      return;
    }
    if (message.type === 'port-search-begin') {
      this.#parts.direct?.handlePortSearchBegin(peer, turn);
      return;
    }
    if (this.#parts.exits.handleNotice(peer, message, turn)) return;
    this.#parts.requests.handleAnswer(peer, request, message, turn);
    this.#parts.relayRequests.handleAnswer(peer, request, message, turn);
  }

  /** Whether UDP is blocked is found out where every uplink is silent. */
  #lookAtUdp(turn: Turn): void {
    const isHeard = (): boolean =>
      [...this.#parts.members.members.values()].some(
        ({ sessionKey }) => this.#parts.direct?.active(sessionKey)?.state === 'proven',
      );
    this.#parts.udp.look(this.#parts.uplinks.silent(), isHeard, turn);
  }
}
