// The path set of one peer (see contract/path-control.ts): which path is used, what came by which, who has to be
// told. The simulator's engine has the same.

import {
  NO_PATH_TIMES,
  sameSource,
  type PathArrivalEvent,
  type PathCounts,
  type PathEnds,
  type PeerPath,
  type PeerPaths,
  type ProbeRule,
} from '../../contract/path-control.js';
import { sameBytes } from '../../wire/bytes.js';
import { containsIp } from '../../wire/prefix.js';
import { CONTROL_FRAMES_PER_SECOND } from '../../wire/session-constants.js';
import { sameEndpoint } from './endpoint.js';
import { TokenBucket } from './token-bucket.js';

/** Events of one kind a second, of one peer. */
const EVENTS_PER_SECOND = 10;
const REPORT_EVENT_INTERVAL = 1000;
/** So many reports may come within a round trip, for the silence to be found whatever that is. */
const MAX_MARKS = 32;

export interface Path extends PeerPath {
  sentPackets: number;
  sentBytes: number;
  receivedPackets: number;
  receivedBytes: number;
  lastReceived: number | undefined;
  /** When a report or an answer came last. */
  answeredAt: number;
  /** The first data sent by it since then. */
  unansweredSince: number | undefined;
  /** The same of the times between the reports before, newest last. */
  marks: readonly number[];
  /** When its next report is due: data came by it that the peer was not told of. */
  reportAt: number | undefined;
  reportedAt: number;
  toldReportAt: number;
}

/** All of PeerPaths but whose they are. */
export type PathSettings = Omit<PeerPaths, 'peer'>;

export class PathSet {
  #paths: Path[] = [];
  #times = NO_PATH_TIMES;
  #probeRules: readonly ProbeRule[] = [];
  /** By which the control plane's messages go instead of the active path. */
  #control: Path | undefined;
  /** Whether what is sent goes by the standby too. */
  #silent = false;
  #arrival: number | undefined;
  readonly #answers: TokenBucket;
  readonly #told: TokenBucket;
  readonly #strangeProbes: TokenBucket;
  readonly #arrivals: TokenBucket;

  constructor(now: number) {
    this.#answers = new TokenBucket(CONTROL_FRAMES_PER_SECOND, 2 * CONTROL_FRAMES_PER_SECOND, now);
    this.#told = new TokenBucket(CONTROL_FRAMES_PER_SECOND, 2 * CONTROL_FRAMES_PER_SECOND, now);
    this.#strangeProbes = new TokenBucket(EVENTS_PER_SECOND, EVENTS_PER_SECOND, now);
    this.#arrivals = new TokenBucket(EVENTS_PER_SECOND, EVENTS_PER_SECOND, now);
  }

  set({ paths = [], control, probeRules = [], ...times }: PathSettings): void {
    this.#probeRules = probeRules;
    const [before] = this.#paths;
    this.#paths = paths.map((path): Path => {
      const known = this.#paths.find(({ id }) => id === path.id);
      return known !== undefined && sameEnds(known, path)
        ? { ...known, ...path }
        : {
            ...path,
            sentPackets: 0,
            sentBytes: 0,
            receivedPackets: 0,
            receivedBytes: 0,
            lastReceived: undefined,
            answeredAt: -Infinity,
            unansweredSince: undefined,
            marks: [],
            reportAt: undefined,
            reportedAt: -Infinity,
            toldReportAt: -Infinity,
          };
    });
    this.#times = times;
    this.#control = this.#paths.slice(1).find(({ id }) => id === control);
    if (before?.id !== this.active?.id) {
      this.#silent = false;
      for (const path of this.#paths) {
        path.unansweredSince = undefined;
        path.marks = [];
      }
    }
  }

  get active(): Path | undefined {
    return this.#paths[0];
  }

  /** By which what is sent to the peer goes. @param isControl whether the control plane sends it */
  sendingBy(isControl: boolean): readonly Path[] {
    const [active, standby] = this.#paths;
    const first = (isControl ? this.#control : undefined) ?? active;
    return [first, this.#silent && first !== standby ? standby : undefined].filter(
      (path) => path !== undefined,
    );
  }

  counts(now: number): PathCounts[] {
    return this.#paths.map(
      ({ id, sentPackets, sentBytes, receivedPackets, receivedBytes, lastReceived }) => ({
        id,
        sentPackets,
        sentBytes,
        receivedPackets,
        receivedBytes,
        lastReceivedMs: lastReceived === undefined ? undefined : now - lastReceived,
      }),
    );
  }

  pathAt({ remote, local }: PathEnds): Path | undefined {
    return this.#paths.find(
      (path) =>
        sameEndpoint(path.remote, remote) &&
        (path.local === undefined
          ? local?.port === undefined
          : local !== undefined && sameSource(path.local, local)),
    );
  }

  /** Something authentic came in. */
  received(from: PathEnds, bytes: number, now: number): Path | undefined {
    const path = this.pathAt(from);
    if (path === undefined) return undefined;
    path.receivedPackets++;
    path.receivedBytes += bytes;
    path.lastReceived = now;
    return path;
  }

  /** A report or an answer: what we send by it arrives. @returns whether it had been silent. */
  heard(path: Path, now: number): boolean {
    path.answeredAt = now;
    if (path.unansweredSince !== undefined)
      path.marks = [...path.marks.slice(1 - MAX_MARKS), path.unansweredSince];
    path.unansweredSince = undefined;
    const wasSilent = this.#silent && path === this.active;
    if (wasSilent) this.#silent = false;
    return wasSilent;
  }

  /** Data came in. @returns what is to be told of where. */
  dataReceived(
    path: Path | undefined,
    from: PathEnds,
    now: number,
  ): Omit<PathArrivalEvent, 'peer'> | undefined {
    if (path !== undefined && this.#times.reportEveryMs > 0)
      path.reportAt ??= Math.max(now, path.reportedAt + this.#times.reportEveryMs);
    if (this.active === undefined || (path !== undefined && path.id === this.#arrival)) return undefined;
    if (!this.#arrivals.take(now)) return undefined;
    this.#arrival = path?.id;
    return { type: 'path-arrival', path: path?.id, from };
  }

  /** Data goes out. @param isControl as for `sendingBy`: by another path it is no question of the active one's silence */
  dataSent(now: number, isControl = false): void {
    const { active } = this;
    if (active !== undefined && !(isControl && this.#control !== undefined)) active.unansweredSince ??= now;
  }

  /** Whether a rule says that a probe by these ends is not answered. */
  refusesProbe({ remote, local }: PathEnds): boolean {
    if ('leg' in remote) return false;
    const rule = this.#probeRules.find(
      (each) =>
        (each.local === undefined || (local !== undefined && sameBytes(each.local, local.ip))) &&
        (each.from === undefined || containsIp(each.from, remote.address.ip)),
    );
    return rule?.answered === false;
  }

  mayAnswer(now: number): boolean {
    return this.#answers.take(now);
  }

  mayTellOfAnswer(now: number): boolean {
    return this.#told.take(now);
  }

  mayTellOfProbe(now: number): boolean {
    return this.#strangeProbes.take(now);
  }

  /** Paths a report is due on. */
  takeReports(now: number): Path[] {
    return this.#paths.filter((path) => {
      if (path.reportAt === undefined || path.reportAt > now) return false;
      path.reportAt = undefined;
      path.reportedAt = now;
      return true;
    });
  }

  /** The active path, when it has fallen silent just now. */
  takeSilence(now: number): Path | undefined {
    const at = this.#silentAt();
    if (at === undefined || at > now) return undefined;
    this.#silent = true;
    return this.active;
  }

  reportReceived(path: Path, now: number): boolean {
    if (now - path.toldReportAt < REPORT_EVENT_INTERVAL) return false;
    path.toldReportAt = now;
    return true;
  }

  deadline(): number | undefined {
    const times = [this.#silentAt(), ...this.#paths.map(({ reportAt }) => reportAt)];
    const set = times.filter((at) => at !== undefined);
    return set.length === 0 ? undefined : Math.min(...set);
  }

  #silentAt(): number | undefined {
    const { active } = this;
    const { silentAfterMs, leastRoundTripMs, silentBetweenReportsMs, reportEveryMs } = this.#times;
    if (active === undefined || this.#silent || silentAfterMs === 0) return undefined;
    // What was sent before may have been reported on.
    const begin = active.answeredAt - leastRoundTripMs;
    const since = active.marks.find((mark) => mark > begin) ?? active.unansweredSince;
    if (since === undefined) return undefined;
    const flows = silentBetweenReportsMs > 0 && since - begin <= reportEveryMs;
    return flows ? active.answeredAt + silentBetweenReportsMs : since + silentAfterMs;
  }
}

function sameEnds(a: PathEnds, b: PathEnds): boolean {
  const sameLocal =
    a.local === undefined || b.local === undefined
      ? a.local === b.local
      : a.local.interface === b.local.interface && sameSource(a.local, b.local);
  return sameLocal && sameEndpoint(a.remote, b.remote);
}
