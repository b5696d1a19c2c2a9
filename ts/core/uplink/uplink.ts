// A node's client of one bootstrap or relay: admission → session → register → lookup, then keepalive.
//
//   admitting ──grant──► connecting ──session──► registering ──registered──► registered
//       ▲ │                  │                        ▲                       │    ▲
//       │ └─no answer─► backoff                       └───────session─────────┤    │ pong
//       └──────────no session────────────────────────◄ probing ◄──no pong─────┘────┘
//
// Whenever a session comes up, whoever started it, the node registers again: that is how it learns
// that the bootstrap restarted (another boot id) and forgot, or did not forget, what it knew.

import type { PeerEndpoint, SessionKey } from '../../contract/engine.js';
import type { ParsedFrame } from '../../wire/frame.js';
import { formatSocketAddress, sameSocketAddress, type SocketAddress } from '../../wire/socket-address.js';
import { AdmissionClient, type AdmissionOutcome, type AdmissionSelf } from './admission-client.js';
import { GrantStatus } from '../protocol/admission-payload.js';
import { fromHex, toHex } from '../../wire/bytes.js';
import { PING_TOKEN_SIZE } from '../../wire/ping-frame.js';
import { ControlKind, encodeControlFrame } from '../protocol/control-frame.js';
import type { AnswerTo, MessageOf, TenureGrant } from '../protocol/control-message.js';
import { earliest } from '../runtime/earliest.js';
import { HANDSHAKE_WAITS_MS } from '../runtime/handshake-waits.js';
import type { Primitives } from '../../contract/primitives.js';
import type { LegIds } from '../runtime/leg-ids.js';
import type { BootstrapStatus, UplinkError, UplinkState } from '../runtime/mesh-status.js';
import type { Bootstrap } from '../protocol/network.js';
import { encodePeerId } from '../protocol/peer-id.js';
import type { PeerTable } from '../runtime/peer-table.js';
import type { RequestTable } from '../runtime/request-table.js';
import type { Turn } from '../runtime/turn.js';
import { DirectoryReader, type DirectoryPage } from './directory-reader.js';
import { RelayDeparture } from './relay-departure.js';

export const KEEPALIVE_MS = 10_000;
/** Waits after a ping and after each of its three repetitions; then the session is given up. */
const PONG_WAITS_MS = [250, 250, 500, 1000];
/** Wait after the one handshake with a bootstrap that fell silent; then comes admission. */
const PROBE_WAITS_MS = [600];
/** A bootstrap heard from this lately is not suspected. */
const TRUST_MS = 500;
const REGISTER_TRIES = 5;
const LEAVE_TRIES = 3;
/** A relay that was left is asked again when it should be gone, but not at once and not after longer than this. */
const SOONEST_RETURN_MS = 1000;
const LATEST_RETURN_MS = 60_000;
const FIRST_BACKOFF_MS = 500;
const LONGEST_BACKOFF_MS = 60_000;

/** What the node lends to its uplinks. */
export interface UplinkHost {
  readonly primitives: Primitives;
  readonly self: AdmissionSelf;
  /** 8 bytes, new at each start of the node. */
  readonly boot: Uint8Array;
  readonly requests: RequestTable;
  readonly legs: LegIds;
  readonly peers: PeerTable;
  /** Blinded ids (hex) of the networks that use this uplink. */
  networksOf(uplink: Uplink): readonly string[];
  /** The present signed record. */
  record(turn: Turn): Uint8Array;
  /** The bootstrap told us our address, or is reachable no longer: the record may change. */
  reachChanged(turn: Turn): void;
  /** What proves there that we are in a network (hex); undefined = we are not, and ask for others. */
  membership(
    uplink: Uplink,
    network: string,
    boot: Uint8Array,
  ): Omit<MessageOf<'join-network'>, 'type'> | undefined;
  /** It takes us for a member of one more network. */
  joined(uplink: Uplink, turn: Turn): void;
  /** The bootstrap vouches for how long we have had our addresses. */
  vouched(uplink: Uplink, tenures: readonly TenureGrant[], turn: Turn): void;
  /** Registered. `fresh`: after an admission or a restart of the bootstrap, circuits may be gone. */
  registered(uplink: Uplink, fresh: boolean, turn: Turn): void;
  /** Relays a question about this network (hex) has come by, this node included; 0 = it is our own. */
  depthOf(network: string): number;
  /** A page of the bootstrap's directory. */
  learned(uplink: Uplink, page: DirectoryPage, turn: Turn): void;
  /** Whether this node has an address of that family, as far as it knows its addresses. */
  canSendTo(address: SocketAddress): boolean;
  /** It is reached at another address now. */
  moved(uplink: Uplink, turn: Turn): void;
  /** The session fell silent, or the relay was left. */
  lost(uplink: Uplink, turn: Turn): void;
  /** It will go: what leads over it is moved, as far as there is another. */
  draining(uplink: Uplink, turn: Turn): void;
  /** It stays after all. */
  undrained(uplink: Uplink, turn: Turn): void;
  /** Whether other relays do for us what this one does. @param since those count that have answered since then, and are asked */
  mayLeave(uplink: Uplink, since: number, turn: Turn): boolean;
  /** Whether a circuit of ours leads over it, or one is being opened. */
  isUsed(uplink: Uplink): boolean;
}

export class Uplink {
  readonly bootstrap: Bootstrap;
  readonly sessionKey: SessionKey;
  readonly #host: UplinkHost;
  #state: UplinkState = 'admitting';
  #addressIndex = 0;
  /** The address of the invite that is tried. */
  #tried: SocketAddress;
  /** Where it is known to receive; undefined = not known yet, an address of the invite is tried. */
  #reachedAt: SocketAddress | undefined;
  /** Where its packets came from last. */
  #heardAt: SocketAddress | undefined;
  #observed: SocketAddress | undefined;
  #leaseSeconds: number | undefined;
  #lastPong: number | undefined;
  #lastError: UplinkError | undefined;

  #admission: AdmissionClient | undefined;
  /** Attempts that failed since the last registration. */
  #failures = 0;
  #admittedSinceRegistered = false;
  /** Step within the state's waits. */
  #wait = 0;
  /** When the state wants to go on; the admission client has its own. */
  #timer: number | undefined;
  /** Tokens of the pings of this round; undefined = none is under way. */
  #pings: string[] | undefined;
  #renewAt: number | undefined;
  readonly #departure: RelayDeparture;
  #leaving = false;
  #silentSince: number | undefined;
  #registering = false;
  #shown = false;
  #registerAgain = false;
  readonly #directory: DirectoryReader;
  /** Networks (hex) that membership of is being proven. */
  readonly #joining = new Set<string>();

  constructor(bootstrap: Bootstrap, host: UplinkHost, turn: Turn) {
    this.bootstrap = bootstrap;
    this.sessionKey = toHex(bootstrap.sessionKey);
    this.#host = host;
    this.#tried = this.#nextAddress();
    this.#directory = new DirectoryReader({
      sessionKey: this.sessionKey,
      requests: host.requests,
      isRegistered: () => this.#state === 'registered',
      wants: (network) => host.networksOf(this).includes(network),
      depthOf: (network) => host.depthOf(network),
      learned: (page, later) => host.learned(this, page, later),
    });
    this.#departure = new RelayDeparture({
      move: (later) => host.draining(this, later),
      stays: (later) => host.undrained(this, later),
      isFree: (since, later) => !host.isUsed(this) && host.mayLeave(this, since, later),
      leave: (later) => this.#leave(later),
    });
    host.peers.addRole(this.sessionKey, 'bootstrap', undefined, turn);
    this.#admit(turn);
  }

  get state(): UplinkState {
    return this.#state;
  }

  /** Whether it can be asked for something new: registered, not known to be silent, and there to stay. */
  get usable(): boolean {
    return this.#state === 'registered' && !this.#departure.isOn;
  }

  heardSince(at: number): boolean {
    return (this.#lastPong ?? -Infinity) >= at;
  }

  /** Whether it will go, and what leads over it works until then. */
  get isDraining(): boolean {
    return this.#state === 'registered' && this.#departure.isOn;
  }

  /** Whether it has been shown that we are in a network, or there is none to show. */
  get shown(): boolean {
    return this.#shown;
  }

  /** Where it is reached: by the session, or, until there is one, where it is tried. */
  get address(): SocketAddress {
    return this.#reachedAt ?? this.#tried;
  }

  /** The address of the invite whose turn it is. Where nothing can be sent from here comes last. */
  #nextAddress(): SocketAddress {
    const { addresses } = this.bootstrap;
    const canSendTo = (address: SocketAddress): boolean => this.#host.canSendTo(address);
    const order = [...addresses.filter(canSendTo), ...addresses.filter((address) => !canSendTo(address))];
    const address = order[this.#addressIndex % order.length];
    if (address === undefined) throw new RangeError('bootstrap: no address; an invite names at least one');
    return address;
  }

  /** Our own address as the bootstrap saw it, while it is within reach. */
  get observed(): SocketAddress | undefined {
    return this.#observed;
  }

  /** Since when it has been asked in vain; undefined = it has answered what it was asked last. */
  get silentSince(): number | undefined {
    return this.#silentSince;
  }

  /** The leg that frames of a running admission come in by. */
  get replyLeg(): number | undefined {
    return this.#admission?.replyLeg;
  }

  status(now: number): BootstrapStatus {
    return {
      peerId: encodePeerId(this.bootstrap.identity),
      address: formatSocketAddress(this.address),
      state: this.#state,
      observedAddress: this.#observed === undefined ? undefined : formatSocketAddress(this.#observed),
      leaseSeconds: this.#leaseSeconds,
      drainsInSeconds: this.#drainsIn(now),
      lastPongAgeMs: this.#lastPong === undefined ? undefined : now - this.#lastPong,
      lastError: this.#lastError,
    };
  }

  handleFrame(from: SocketAddress, frame: ParsedFrame, turn: Turn): void {
    this.#silentSince = undefined;
    this.#admissionWent(this.#admission?.handleFrame(from, frame, turn), turn);
  }

  /**
   * A session with the bootstrap came up: ours, its own after a restart, or a rekeyed one. The bootstrap may
   * have begun it from another address than the one that was being tried.
   */
  handleSession(endpoint: PeerEndpoint, turn: Turn): void {
    this.#silentSince = undefined;
    this.#closeAdmission(turn);
    this.#pings = undefined;
    this.handleEndpoint(endpoint, turn);
    if (this.#state !== 'registered') this.#enter('registering', undefined);
    this.#register(turn);
  }

  /** Its packets come from here now. */
  handleEndpoint(endpoint: PeerEndpoint, turn: Turn): void {
    if (!('address' in endpoint)) return;
    const { address } = endpoint;
    this.#heardAt = address;
    if (this.#reachedAt !== undefined && sameSocketAddress(address, this.#reachedAt)) return;
    // An address the invite does not name could be somebody else's: an answer to what is sent there shows
    // that it is not.
    if (this.bootstrap.addresses.some((named) => sameSocketAddress(named, address))) this.#follow(turn);
    else if (this.#state === 'registered') this.#startPings(turn);
  }

  /** All that is sent to it goes where its packets came from last. */
  #follow(turn: Turn): void {
    const { address } = this;
    this.#reachedAt = this.#heardAt;
    if (!sameSocketAddress(address, this.address)) this.#host.moved(this, turn);
  }

  handlePong(token: Uint8Array, turn: Turn): boolean {
    if (this.#pings?.includes(toHex(token)) !== true) return false;
    this.#pings = undefined;
    this.#lastPong = turn.now;
    this.#silentSince = undefined;
    this.#follow(turn);
    if (this.#state === 'probing') this.#state = 'registered';
    if (this.#state === 'registered') this.#timer = turn.now + KEEPALIVE_MS;
    return true;
  }

  handleRecordsChanged(request: number, message: MessageOf<'records-changed'>, turn: Turn): void {
    this.#directory.handleChanged(request, message, turn);
  }

  /** It says that it will go, or that it stays. */
  handleDrain(request: number, { seconds }: MessageOf<'relay-drain'>, turn: Turn): void {
    this.#departure.told(seconds === 0 ? undefined : turn.now + seconds * 1000, turn);
    const leaves = seconds > 0 && this.#host.mayLeave(this, -Infinity, turn);
    turn.send(this.sessionKey, request, { type: 'relay-drain-noted', leaves });
  }

  /** It refused something new because it will go. */
  refusedDraining(turn: Turn): void {
    this.#departure.refused(turn);
  }

  /** One more network whose records are wanted. */
  follow(network: string, turn: Turn): void {
    if (this.#state === 'registered') this.#directory.read(network, turn);
  }

  /** The node's record has changed. */
  recordChanged(turn: Turn): void {
    if (this.#state === 'registered' || this.#registering) this.#register(turn);
  }

  /** A request sent through this bootstrap stays unanswered: find out now whether the bootstrap is there. */
  suspect(turn: Turn): void {
    if (this.#state !== 'registered' || this.#pings !== undefined) return;
    if (turn.now - (this.#lastPong ?? -Infinity) >= TRUST_MS) this.#startPings(turn);
  }

  handleTimeout(turn: Turn): void {
    const { now } = turn;
    if (this.#admission !== undefined && this.#admission.deadline() <= now)
      this.#admissionWent(this.#admission.handleTimeout(turn), turn);
    if (this.#renewAt !== undefined && this.#renewAt <= now) {
      this.#renewAt = undefined;
      if (this.#state === 'registered') this.#register(turn);
    }
    if (this.#state === 'registered') this.#departure.handleTimeout(turn);
    if (this.#timer === undefined || this.#timer > now) return;
    this.#timer = undefined;
    switch (this.#state) {
      case 'backoff':
        this.#admit(turn);
        break;
      case 'connecting':
        this.#connect(HANDSHAKE_WAITS_MS, turn);
        break;
      case 'probing':
        this.#connect(PROBE_WAITS_MS, turn);
        break;
      case 'registered':
        if (this.#pings === undefined) this.#startPings(turn);
        else this.#continuePings(turn);
        break;
      case 'admitting':
      case 'registering':
        break; // the admission client and the request table have their own timers
    }
  }

  deadline(): number | undefined {
    const departure = this.#state === 'registered' ? this.#departure.deadline() : undefined;
    return earliest(this.#admission?.deadline(), this.#timer, this.#renewAt, departure);
  }

  /** Ends all that runs towards this bootstrap. */
  close(turn: Turn): void {
    this.#closeAdmission(turn);
    this.#host.requests.cancel(this.sessionKey);
    this.#host.peers.removeRole(this.sessionKey, 'bootstrap', turn);
  }

  #enter(state: UplinkState, timer: number | undefined): void {
    this.#state = state;
    this.#timer = timer;
    this.#wait = 0;
  }

  #admit(turn: Turn): void {
    this.#asked(turn);
    this.#enter('admitting', undefined);
    this.#reachedAt = this.#heardAt = undefined;
    this.#tried = this.#nextAddress();
    const [network] = this.#host.networksOf(this);
    this.#admission = new AdmissionClient(
      this.#host.primitives,
      this.#host.self,
      this.bootstrap,
      this.#tried,
      fromHex(network ?? '00'.repeat(16)) ?? new Uint8Array(16),
      this.#host.legs,
      turn,
    );
  }

  /** Something is sent that it would answer. */
  #asked({ now }: Turn): void {
    this.#silentSince ??= now;
  }

  #admissionWent(outcome: AdmissionOutcome, turn: Turn): void {
    if (outcome === undefined) return;
    this.#closeAdmission(turn);
    if (typeof outcome === 'string') {
      this.#fail(outcome, turn);
    } else if (outcome.status === GrantStatus.draining) {
      this.#fail('draining', turn, outcome.lifetime * 1000);
    } else if (outcome.status !== GrantStatus.granted) {
      this.#fail(outcome.status === GrantStatus.refused ? 'not-admitted' : 'no-room', turn);
    } else {
      const moved = this.#observed === undefined || !sameSocketAddress(this.#observed, outcome.observed);
      this.#departure.forget(); // it says it again
      this.#observed = outcome.observed;
      this.#admittedSinceRegistered = true;
      this.#enter('connecting', undefined);
      this.#host.peers.addRole(this.sessionKey, 'bootstrap', { address: this.#tried }, turn);
      if (moved) this.#host.reachChanged(turn);
      this.#connect(HANDSHAKE_WAITS_MS, turn);
    }
  }

  #closeAdmission(turn: Turn): void {
    this.#admission?.close(turn);
    this.#admission = undefined;
  }

  /** One more handshake, or, when all waits are over, admission anew. */
  #connect(waits: readonly number[], turn: Turn): void {
    const wait = waits[this.#wait];
    if (wait === undefined) {
      if (this.#state === 'probing') this.#admit(turn);
      else this.#fail('no-session', turn);
      return;
    }
    this.#wait++;
    this.#timer = turn.now + wait;
    this.#asked(turn);
    turn.emit({ type: 'handshake', peer: this.sessionKey });
  }

  /** @param goneIn ms after which it is worth asking again; undefined: as often as it was in vain. */
  #fail(error: UplinkError, turn: Turn, goneIn?: number): void {
    const { addresses } = this.bootstrap;
    this.#lastError = error;
    this.#failures++;
    this.#addressIndex = (this.#addressIndex + 1) % addresses.length;
    if (this.#observed !== undefined) {
      this.#observed = undefined;
      this.#host.reachChanged(turn);
    }
    turn.notify('warn', 'bootstrap-unreachable', {
      peer: encodePeerId(this.bootstrap.identity),
      error,
      failures: this.#failures,
    });
    // Every address gets its turn before the wait grows.
    const round = Math.floor((this.#failures - 1) / addresses.length);
    const backoff = Math.min(FIRST_BACKOFF_MS * 2 ** round, LONGEST_BACKOFF_MS);
    const [jitter = 0] = turn.random(1);
    this.#enter(
      'backoff',
      goneIn === undefined ? turn.now + backoff * (0.75 + jitter / 512) : returnAt(goneIn, jitter, turn),
    );
  }

  #drainsIn(now: number): number | undefined {
    const { until } = this.#departure;
    return until === undefined ? undefined : Math.max(0, Math.ceil((until - now) / 1000));
  }

  /** Nothing leads over it any more: it need not wait for us. */
  #leave(turn: Turn): void {
    if (this.#leaving || this.#registering) return;
    this.#leaving = true;
    this.#host.requests.send(
      this.sessionKey,
      { type: 'unregister' },
      turn,
      (answer, later) => {
        this.#leaving = false;
        if (this.#state === 'registered' && answer?.type !== 'refused') this.#left(later);
      },
      LEAVE_TRIES,
    );
  }

  #left(turn: Turn): void {
    const goneIn = (this.#departure.until ?? turn.now) - turn.now;
    const [jitter = 0] = turn.random(1);
    this.#departure.forget();
    this.#lastError = 'draining';
    this.#observed = this.#renewAt = this.#pings = undefined;
    this.#shown = false;
    this.#enter('backoff', returnAt(goneIn, jitter, turn));
    this.#host.lost(this, turn);
    this.#host.reachChanged(turn);
    turn.notify('info', 'relay-left', { peer: encodePeerId(this.bootstrap.identity) });
  }

  #register(turn: Turn): void {
    if (this.#registering) {
      this.#registerAgain = true;
      return;
    }
    this.#registering = true;
    const askedAt = this.#heardAt;
    const { requests, boot } = this.#host;
    const record = this.#host.record(turn);
    const settle = (answer: AnswerTo<'register'> | undefined, later: Turn): void => {
      this.#registering = false;
      if (answer === undefined) {
        if (this.#state === 'registering') this.#fail('register-unanswered', later);
      } else if (answer.type === 'refused') {
        this.#registerAgain = false;
        this.#fail(answer.reason, later);
      } else {
        this.#registered(answer, askedAt, later);
      }
    };
    requests.send(this.sessionKey, { type: 'register', record, boot }, turn, settle, REGISTER_TRIES);
  }

  /** @param askedAt where the request was sent to */
  #registered(answer: MessageOf<'registered'>, askedAt: SocketAddress | undefined, turn: Turn): void {
    this.#closeAdmission(turn); // the session was not as dead as it seemed
    const { address } = this;
    this.#reachedAt = askedAt ?? this.#reachedAt; // what was sent there has been answered
    if (!sameSocketAddress(address, this.address)) this.#host.moved(this, turn);
    const rebooted = this.#directory.rebooted(answer.boot);
    const fresh = rebooted || this.#admittedSinceRegistered;
    const moved = this.#observed === undefined || !sameSocketAddress(this.#observed, answer.observed);
    if (rebooted) this.#departure.forget();
    this.#observed = answer.observed;
    this.#leaseSeconds = answer.lease;
    this.#admittedSinceRegistered = false;
    this.#failures = 0;
    this.#lastError = undefined;
    this.#lastPong = turn.now;
    this.#silentSince = undefined;
    this.#pings = undefined;
    this.#renewAt = turn.now + (answer.lease * 1000) / 2;
    if (this.#state !== 'registered') {
      turn.notify('info', 'bootstrap-registered', { peer: encodePeerId(this.bootstrap.identity) });
    }
    this.#enter('registered', turn.now + KEEPALIVE_MS);
    const networks = this.#host.networksOf(this);
    const unproven = answer.unproven.map(toHex);
    // A relay that only the operator names is a bootstrap of none of our networks, and keeps nobody either who
    // shows nothing: it is shown those it serves, and not asked about them.
    const ours = networks.filter((network) => this.#host.depthOf(network) === 0);
    const toShow = ours.length > 0 ? ours : unproven;
    this.#shown = toShow.length === 0 || toShow.some((network) => !unproven.includes(network));
    this.#host.vouched(this, answer.tenures, turn);
    this.#host.registered(this, fresh, turn);
    this.#directory.keepOnly(networks);
    for (const network of networks) if (!unproven.includes(network)) this.#directory.read(network, turn);
    for (const network of toShow) if (unproven.includes(network)) this.#join(network, answer.boot, turn);
    if (moved) this.#host.reachChanged(turn);
    if (this.#registerAgain) {
      this.#registerAgain = false;
      this.#register(turn);
    }
  }

  /** The relay is shown that we know the network key, before it tells us who is in the network. */
  #join(network: string, boot: Uint8Array, turn: Turn): void {
    const membership = this.#host.membership(this, network, boot);
    if (membership === undefined || this.#joining.has(network)) return;
    this.#joining.add(network);
    this.#host.requests.send(
      this.sessionKey,
      { type: 'join-network', ...membership },
      turn,
      (answer, later) => {
        this.#joining.delete(network);
        if (answer?.type === 'refused' && answer.reason === 'capacity' && !this.#shown)
          this.#fail(answer.reason, later); // what it gave is for members; it ends the rest in a minute
        if (answer?.type !== 'network-joined') return;
        this.#host.vouched(this, answer.tenures, later);
        this.#shown = true;
        this.#host.joined(this, later);
        if (this.#host.networksOf(this).includes(network)) this.#directory.read(network, later);
      },
    );
  }

  #startPings(turn: Turn): void {
    this.#asked(turn);
    this.#pings = [];
    this.#wait = 0;
    this.#continuePings(turn);
  }

  #continuePings(turn: Turn): void {
    const pings = this.#pings ?? [];
    const wait = PONG_WAITS_MS[pings.length];
    if (wait === undefined) {
      this.#pings = undefined;
      this.#enter('probing', undefined);
      this.#host.lost(this, turn);
      turn.notify('info', 'bootstrap-silent', { peer: encodePeerId(this.bootstrap.identity) });
      this.#connect(PROBE_WAITS_MS, turn);
      return;
    }
    const token = turn.random(PING_TOKEN_SIZE);
    this.#pings = [...pings, toHex(token)];
    this.#timer = turn.now + wait;
    turn.emit({
      type: 'send-control',
      peer: this.sessionKey,
      payload: encodeControlFrame({ kind: ControlKind.ping, body: token }),
    });
  }
}

/** When a relay that will be gone in so many ms is asked again. @param jitter 0–255 */
function returnAt(goneIn: number, jitter: number, { now }: Turn): number {
  return now + Math.min(Math.max(goneIn, SOONEST_RETURN_MS), LATEST_RETURN_MS) + jitter * 4;
}
