// Where one peer is reached: by its paths, or, without any, where it was heard last; and what the control plane is told
// of that. Sans-IO like the session.

import type { PeerConfig, PeerEndpoint, SessionKey } from '../../contract/engine.js';
import type { PathCounts, PathProbe, PeerPaths } from '../../contract/path-control.js';
import type { Step } from '../../contract/step.js';
import { ENDPOINT_INTERVAL, PATH_NEEDED_INTERVAL } from '../../wire/session-constants.js';
import type { Counters } from './counters.js';
import { endpointAt, endsOf, sameEndpoint, toldEndpoint, type Endpoint } from './endpoint.js';
import type { IsForgotten } from './local-address.js';
import { PeerPathUse } from './peer-paths.js';
import { RoamingEndpoint } from './roaming-endpoint.js';
import type { SessionOutput } from './session-output.js';
import { Timers } from './timers.js';

/** What this asks of the peer's session. */
export interface PeerReachHost {
  readonly sessionKey: SessionKey;
  readonly counters: Counters;
  /** Seals a payload under the keys in use; undefined: there is no session. */
  seal(payload: Uint8Array, step: Step): Uint8Array | undefined;
  /** Sends an authenticated message. */
  send(message: Uint8Array, to: Endpoint, step: Step, outputs: SessionOutput[]): void;
}

export class PeerReach {
  readonly #host: PeerReachHost;
  readonly #paths: PeerPathUse<Endpoint>;
  /** Where it is reached, unless it has paths. */
  readonly #endpoint = new RoamingEndpoint();
  readonly #timers = new Timers({
    /** That it has moved was just told. */
    endpointTold: {
      delay: () => ENDPOINT_INTERVAL,
      fired: (step, outputs) => {
        if (this.#endpointUntold) this.#tellEndpoint(step, outputs);
      },
    },
    /** A path is silent, or reported on, from the moment it is started for. */
    paths: {
      delay: () => 0,
      fired: (step, outputs) => {
        this.#paths.serve(step, outputs);
        this.#armPaths(step);
      },
    },
  });
  /** It has moved since that was told. */
  #endpointUntold = false;
  #pathNeededAt: number | undefined;

  constructor(host: PeerReachHost) {
    this.#host = host;
    this.#paths = new PeerPathUse({
      sessionKey: host.sessionKey,
      counters: host.counters,
      keepsWhole: false, // node:dgram has no way to say that a datagram is not to be fragmented
      endsOf,
      at: endpointAt,
      seal: (payload, step) => host.seal(payload, step),
      send: (message, to, step, outputs) => host.send(message, to, step, outputs),
    });
  }

  /** Whether it is reached by its paths and nothing moves it. */
  get isPinned(): boolean {
    return this.#paths.active !== undefined;
  }

  /** Whether something could be sent to it. */
  get isKnown(): boolean {
    return this.isPinned || this.#endpoint.current !== undefined;
  }

  /** Where that is, as the control plane is told it. */
  get toldAt(): PeerEndpoint | undefined {
    const { active } = this.#paths;
    const at = active === undefined ? this.#endpoint.current : endpointAt(active);
    return at && toldEndpoint(at);
  }

  /**
   * The control plane says where it is.
   * @param usable whether there is a session
   * @returns whether it was not known before
   */
  give({ endpoint, redirect }: PeerConfig, usable: boolean): boolean {
    if (endpoint === undefined) return false;
    const appears = this.#endpoint.current === undefined;
    this.#endpoint.give(endpoint, redirect !== true && !this.isPinned && usable);
    return appears;
  }

  /** As PathControl.setPaths. */
  setPaths(settings: PeerPaths, step: Step): void {
    const { active } = this.#paths;
    this.#paths.set(settings, step);
    if (this.isPinned) {
      this.#endpointUntold = false;
      this.#endpoint.settle();
    } else if (active !== undefined)
      this.#endpoint.fallBackTo('leg' in active.remote ? active.remote : { address: active.remote.address });
    this.#armPaths(step);
  }

  /** false: there is no session to send it in, or no such way. */
  sendProbe(probe: PathProbe, step: Step, outputs: SessionOutput[]): boolean {
    return this.#paths.sendProbe(probe, step, outputs);
  }

  pathCounts(now: number): PathCounts[] {
    return this.#paths.counts(now);
  }

  /** A handshake completed, wherever that was. */
  forgetGiven(): void {
    this.#endpoint.forgetGiven();
  }

  /** Forgets an endpoint that led through a leg which is gone, for one that was given meanwhile. Whether it did. */
  forgetLeg(leg: number): boolean {
    return this.#endpoint.forgetLeg(leg);
  }

  /** Forgets a sticky source that routing is to choose again. */
  forgetLocal(isForgotten: IsForgotten): void {
    this.#endpoint.forgetLocal(isForgotten);
  }

  /**
   * Where an initiation goes; `to` undefined: wherever the peer is reached. Nothing: it is not known where it is.
   * @param usable as for give
   */
  forInitiation(repeated: boolean, usable: boolean): { readonly to: Endpoint | undefined } | undefined {
    if (this.isPinned) return { to: undefined };
    const to = this.#endpoint.forInitiation(repeated, usable);
    return to && { to };
  }

  /** To wherever the peer is reached. @param isControl whether the control plane sends it (wire/control-plane.ts) */
  transmit(message: Uint8Array, step: Step, outputs: SessionOutput[], isControl = false): void {
    const { current } = this.#endpoint;
    if (this.isPinned) this.#paths.transmit(message, isControl, step, outputs);
    else if (current !== undefined) this.#host.send(message, current, step, outputs);
  }

  /** By the way something came, wherever else the peer is reached. */
  answer(message: Uint8Array, to: Endpoint, step: Step, outputs: SessionOutput[]): void {
    this.#paths.answer(message, to, step, outputs);
  }

  /** Data was sent to it. */
  dataSent(step: Step, isControl: boolean): void {
    this.#paths.dataSent(isControl, step);
    this.#armPaths(step);
  }

  /** A transport message came that is no path frame. */
  received(from: Endpoint, size: number, holdsData: boolean, step: Step, outputs: SessionOutput[]): void {
    this.#paths.received(from, size, holdsData, step, outputs);
    this.#armPaths(step);
  }

  receivedFrame(
    payload: Uint8Array,
    from: Endpoint,
    size: number,
    step: Step,
    outputs: SessionOutput[],
  ): void {
    this.#paths.receivedFrame(payload, from, size, step, outputs);
    this.#armPaths(step);
  }

  /** An authentic message that is not a replay: the peer is where it came from, unless its paths say where it is. */
  heard(from: Endpoint, step: Step, outputs: SessionOutput[]): void {
    if (this.isPinned) return;
    const change = this.#endpoint.heard(from);
    if (change === undefined) return;
    outputs.push({ type: 'heard', at: from });
    if (change.before === undefined || sameEndpoint(change.before, from)) return;
    if (this.#timers.running('endpointTold')) this.#endpointUntold = true;
    else this.#tellEndpoint(step, outputs);
  }

  /** A session with it is up, by a message from there. */
  tellSession(from: Endpoint, outputs: SessionOutput[]): void {
    const at = this.isPinned ? from : this.#endpoint.current;
    if (at === undefined) return; // its leg went away within this very step
    const endpoint = toldEndpoint(at);
    outputs.push({ type: 'event', event: { type: 'session', peer: this.#host.sessionKey, endpoint } });
  }

  askForPath(step: Step, outputs: SessionOutput[]): void {
    if (this.#pathNeededAt !== undefined && step.now - this.#pathNeededAt < PATH_NEEDED_INTERVAL) return;
    this.#pathNeededAt = step.now;
    outputs.push({ type: 'event', event: { type: 'path-needed', peer: this.#host.sessionKey } });
  }

  handleTimeout(step: Step, outputs: SessionOutput[]): void {
    this.#timers.fire(step, outputs);
  }

  /** Monotonic ms at which handleTimeout wants to be called. */
  deadline(): number | undefined {
    return this.#timers.deadline();
  }

  /** Whoever lets packets come from here and there in turns causes no event for each. */
  #tellEndpoint(step: Step, outputs: SessionOutput[]): void {
    this.#endpointUntold = false;
    const { current } = this.#endpoint;
    if (current === undefined || this.isPinned) return;
    this.#timers.start('endpointTold', step);
    this.#host.counters.add('endpoint_changes');
    const endpoint = toldEndpoint(current);
    outputs.push({ type: 'event', event: { type: 'endpoint', peer: this.#host.sessionKey, endpoint } });
  }

  #armPaths(step: Step): void {
    const at = this.#paths.deadline();
    if (at === undefined) this.#timers.stop('paths');
    else this.#timers.start('paths', step, at);
  }
}
