// Several ways to one peer (contract/path-control.ts): what the session of a peer does with its path set and
// with path frames. Sans-IO like the session: it is told what came by where, and puts out what is to be sent.
// The simulator's sessions (sim/mesh/simulated-session.ts) use it too.

import type { SessionKey } from '../../contract/engine.js';
import type { PathCounts, PathEnds, PathEvent, PathProbe, PeerPaths } from '../../contract/path-control.js';
import type { Step } from '../../contract/step.js';
import { FRAME_HEADER_SIZE } from '../../wire/frame.js';
import {
  decodePathFrame,
  encodePathReport,
  encodeProbe,
  encodeProbeAnswer,
  probePayloadSize,
  TRANSPORT_OVERHEAD,
  type PathFrame,
} from '../../wire/path-frame.js';
import type { Counters } from './counters.js';
import { TYPE_TRANSPORT } from './messages.js';
import { PathSet, type Path } from './path-set.js';
import type { SessionOutput } from './session-output.js';

/** What a peer's paths ask of its session. @typeParam To as in SessionOutput. */
export interface PeerPathsHost<To> {
  readonly sessionKey: SessionKey;
  readonly counters: Pick<Counters, 'add'>;
  /** As PathControl.keepsWhole. */
  readonly keepsWhole: boolean;
  /** Where something came from and to, as the control plane is told it. */
  endsOf(at: To): PathEnds;
  /** By which a datagram goes by these ends; it leaves from nowhere else. */
  at(ends: PathEnds): To;
  /** Seals a payload under the keys in use; undefined: there is no session. */
  seal(payload: Uint8Array, step: Step): Uint8Array | undefined;
  /** Sends a sealed message by these ends. */
  send(message: Uint8Array, to: To, step: Step, outputs: SessionOutput<To>[]): void;
}

export class PeerPathUse<To> {
  readonly #host: PeerPathsHost<To>;
  #set: PathSet | undefined;

  constructor(host: PeerPathsHost<To>) {
    this.#host = host;
  }

  /** By which the peer is reached and nowhere else; undefined: it roams. */
  get active(): Path | undefined {
    return this.#set?.active;
  }

  set(settings: PeerPaths, step: Step): void {
    if (settings.paths === undefined) {
      this.#set = undefined;
      return;
    }
    this.#set ??= new PathSet(step.now);
    this.#set.set(settings);
  }

  counts(now: number): PathCounts[] {
    return this.#set?.counts(now) ?? [];
  }

  /** Monotonic ms at which `serve` wants to be called. */
  deadline(): number | undefined {
    return this.#set?.deadline();
  }

  /**
   * To where the peer is reached, and by the standby too while the active path is silent.
   * @param isControl whether the control plane sends it (wire/control-plane.ts)
   */
  transmit(message: Uint8Array, isControl: boolean, step: Step, outputs: SessionOutput<To>[]): void {
    for (const [index, path] of (this.#set?.sendingBy(isControl) ?? []).entries()) {
      if (index > 0) this.#host.counters.add('path_duplicates_sent');
      this.#transmitBy(path, message, step, outputs);
    }
  }

  /** By these ends, wherever else the peer is reached. */
  answer(message: Uint8Array, to: To, step: Step, outputs: SessionOutput<To>[]): void {
    const path = this.#set?.pathAt(this.#host.endsOf(to));
    if (path === undefined) this.#host.send(message, to, step, outputs);
    else this.#transmitBy(path, message, step, outputs);
  }

  /** Data went by where the peer is reached. @param isControl as for `transmit` */
  dataSent(isControl: boolean, step: Step): void {
    this.#set?.dataSent(step.now, isControl);
  }

  sendProbe({ token, to, size }: PathProbe, step: Step, outputs: SessionOutput<To>[]): boolean {
    // A padded one that was fragmented on its way would prove nothing.
    if (size !== 0 && !this.#host.keepsWhole) return false;
    const stamp = nanoseconds(step.now);
    const framing = 'leg' in to.remote ? FRAME_HEADER_SIZE : 0;
    const message = this.#host.seal(encodeProbe(token, stamp, probePayloadSize(size, framing)), step);
    if (message === undefined) return false;
    this.answer(message, this.#host.at(to), step, outputs);
    return true;
  }

  /** A transport message came that is no path frame. */
  received(from: To, size: number, data: boolean, step: Step, outputs: SessionOutput<To>[]): void {
    if (this.#set === undefined) return;
    const ends = this.#host.endsOf(from);
    const path = this.#set.received(ends, size, step.now);
    const arrival = data ? this.#set.dataReceived(path, ends, step.now) : undefined;
    if (arrival !== undefined) this.#tell({ ...arrival, peer: this.#host.sessionKey }, outputs);
    this.serve(step, outputs);
  }

  receivedFrame(payload: Uint8Array, from: To, size: number, step: Step, outputs: SessionOutput<To>[]): void {
    const { counters, sessionKey: peer } = this.#host;
    const ends = this.#host.endsOf(from);
    const path = this.#set?.received(ends, size, step.now);
    const frame = decodePathFrame(payload);
    if (this.#set === undefined || frame === undefined) {
      counters.add('drop_path_frame');
      return;
    }
    if (frame.kind === 'probe') this.#receivedProbe(frame, payload.length, from, path, step, outputs);
    else {
      if (path !== undefined && this.#set.heard(path, step.now))
        this.#tell({ type: 'path-heard', peer, path: path.id }, outputs);
      if (frame.kind === 'report') this.#receivedReport(frame, path, step, outputs);
      else if (!this.#set.mayTellOfAnswer(step.now)) counters.add('drop_path_rate');
      else {
        const { token, stamp, observed, size: arrived } = frame;
        const rttMs = Number(nanoseconds(step.now) - stamp) / 1e6;
        this.#tell({ type: 'probe-answer', peer, token, at: ends, rttMs, observed, size: arrived }, outputs);
      }
    }
    this.serve(step, outputs);
  }

  /** Sends what reports are due, and finds out whether the active path is silent. */
  serve(step: Step, outputs: SessionOutput<To>[]): void {
    if (this.#set === undefined) return;
    for (const path of this.#set.takeReports(step.now)) {
      const report = this.#host.seal(encodePathReport(BigInt(path.receivedPackets)), step);
      if (report !== undefined) this.#transmitBy(path, report, step, outputs);
    }
    const silent = this.#set.takeSilence(step.now);
    if (silent !== undefined)
      this.#tell({ type: 'path-silent', peer: this.#host.sessionKey, path: silent.id }, outputs);
  }

  #receivedProbe(
    probe: Extract<PathFrame, { readonly kind: 'probe' }>,
    size: number,
    from: To,
    path: Path | undefined,
    step: Step,
    outputs: SessionOutput<To>[],
  ): void {
    const { counters, sessionKey: peer } = this.#host;
    const ends = this.#host.endsOf(from);
    if (this.#set?.refusesProbe(ends) === true) {
      counters.add('drop_path_frame');
      return;
    }
    if (this.#set?.mayAnswer(step.now) !== true) {
      counters.add('drop_path_rate');
      return;
    }
    const framing = 'leg' in ends.remote ? FRAME_HEADER_SIZE : 0;
    const observed = 'address' in ends.remote ? ends.remote.address : undefined;
    const answer = this.#host.seal(
      encodeProbeAnswer(probe, observed, size + TRANSPORT_OVERHEAD + framing),
      step,
    );
    if (answer === undefined) return;
    counters.add('path_probes_answered');
    this.answer(answer, from, step, outputs);
    if (path === undefined && this.#set.mayTellOfProbe(step.now))
      this.#tell({ type: 'probe-from', peer, from: ends }, outputs);
  }

  #receivedReport(
    { received }: Extract<PathFrame, { readonly kind: 'report' }>,
    path: Path | undefined,
    step: Step,
    outputs: SessionOutput<To>[],
  ): void {
    if (path === undefined || this.#set?.reportReceived(path, step.now) !== true) return;
    const { id, sentPackets: sent } = path;
    const event = { type: 'path-report', peer: this.#host.sessionKey, path: id, sent } as const;
    this.#tell({ ...event, received: Number(received) }, outputs);
  }

  #transmitBy(path: Path, message: Uint8Array, step: Step, outputs: SessionOutput<To>[]): void {
    if (message[0] === TYPE_TRANSPORT) {
      path.sentPackets++;
      path.sentBytes += message.length;
    }
    this.#host.send(message, this.#host.at(path), step, outputs);
  }

  #tell(event: PathEvent, outputs: SessionOutput<To>[]): void {
    outputs.push({ type: 'event', event });
  }
}

function nanoseconds(ms: number): bigint {
  return BigInt(Math.round(ms * 1e6));
}
