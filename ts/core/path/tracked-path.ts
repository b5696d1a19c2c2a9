// One path to one member, as probes have shown it to be.

import type { PathEnds } from '../../contract/path-control.js';
import { toHex } from '../../wire/bytes.js';
import type { SocketAddress } from '../../wire/socket-address.js';
import type { PathMtu } from './path-mtu.js';
import { PathQuality } from './path-quality.js';
import { ReportLateness } from './report-lateness.js';

/** Waits (ms) after each probe of a path that has not answered: so many are sent. */
const UNTRIED_WAITS_MS: readonly number[] = [40, 80, 160, 320, 640, 640];
/** A proven path is dead after so many probes in a row without an answer. */
const DEAD_AFTER = 4;
/** Bounds of the wait for an answer on a proven path. */
const SHORTEST_WAIT_MS = 50;
const LONGEST_WAIT_MS = 1000;
/** Probes whose answers are awaited. */
export const MAX_OUTSTANDING = 8;

/**
 * `untried`: no probe was answered; `proven`: the last one, or one shortly before, was; `dead`: it was
 * proven; `failed`: it never was.
 */
export type PathState = 'untried' | 'proven' | 'dead' | 'failed';

/** So long nothing had gone by a path. */
export interface Silence {
  readonly ms: number;
  /** Packets that had come by it until then. */
  readonly received: number;
}

export class TrackedPath implements PathEnds {
  readonly quality = new PathQuality();
  readonly lateness = new ReportLateness();
  state: PathState = 'untried';
  /** When a probe was last answered. */
  answeredAt: number | undefined;
  /** When the newest probe was sent that has been answered. */
  answeredProbeAt: number | undefined;
  /** When it is to be probed next; undefined = not by itself. */
  probeAt: number | undefined;
  everProbed = false;
  /** Given up, because addresses that had not answered might be sent no more. */
  heldBack = false;
  /** Left alone, because the operator lets nothing be sent by it. */
  ruledOut = false;
  /** Times it was tried again since it worked last. */
  retries = 0;
  /** When it is looked after next, so that it is not forgotten on the way; undefined = not. */
  keepAt: number | undefined;
  /** After which silence it is probed to be kept; undefined = it is probed for another reason. */
  silence: Silence | undefined;
  /** The same of the probe that was answered at once: whether that was the first to come by it is to be seen. */
  ended: Silence | undefined;
  /** Where the peer saw the last answered probe come from. */
  observed: SocketAddress | undefined;
  /** When something came by it that was no answer to a probe of ours, as far as is known. */
  heardAt: number | undefined;
  /** What size it takes; undefined = it is not to be known. */
  mtu: PathMtu | undefined;
  /** Probes in a row without an answer. */
  #unanswered = 0;
  /** When the probes were sent that may yet be answered, by hex token, oldest first. */
  readonly #outstanding = new Map<string, number>();

  /** @param id 1–255 */
  constructor(
    readonly id: number,
    readonly ends: PathEnds,
  ) {}

  get remote(): PathEnds['remote'] {
    return this.ends.remote;
  }

  get local(): PathEnds['local'] {
    return this.ends.local;
  }

  /** Whether it leads over relays. */
  get relayed(): boolean {
    return 'leg' in this.ends.remote;
  }

  /** Probes since the last answer. */
  get unanswered(): number {
    return this.#unanswered;
  }

  /** Begins again, at `at`, to find out whether it works. */
  retry(at: number): void {
    if (this.state === 'failed') this.state = 'untried';
    this.heldBack = this.ruledOut = false;
    this.#unanswered = 0;
    this.probeAt = at;
  }

  /** The operator lets nothing be sent by it. */
  ruleOut(): void {
    this.ruledOut = true;
    this.probeAt = this.keepAt = undefined;
  }

  /** It may be dead: finds out now, unless it is about to. */
  suspect(now: number): void {
    if (this.state === 'proven' && this.#unanswered === 0) this.probeAt = now;
  }

  /** `probeAt` has come. @returns whether a probe is to be sent; not, when it is given up. */
  due(): boolean {
    this.probeAt = undefined;
    // Before it is proven, probes follow each other faster than answers come.
    // What a NAT has forgotten in a silence is no loss of the path.
    if (this.state === 'proven' && this.#unanswered > 0 && this.silence === undefined) this.quality.lost();
    const limit = this.state === 'proven' ? DEAD_AFTER : UNTRIED_WAITS_MS.length;
    if (this.#unanswered < limit) return true;
    this.state = this.state === 'proven' || this.state === 'dead' ? 'dead' : 'failed';
    return false;
  }

  sent(token: Uint8Array, now: number): void {
    const [oldest] = this.#outstanding.keys();
    if (oldest !== undefined && this.#outstanding.size >= MAX_OUTSTANDING) this.#outstanding.delete(oldest);
    this.#outstanding.set(toHex(token), now);
    this.everProbed = true;
    const wait =
      this.state === 'proven'
        ? Math.min(Math.max(this.quality.timeoutMs, SHORTEST_WAIT_MS), LONGEST_WAIT_MS)
        : (UNTRIED_WAITS_MS[this.#unanswered] ?? LONGEST_WAIT_MS);
    this.#unanswered++;
    this.probeAt = now + wait;
  }

  /**
   * An answer came by its ends.
   * @param rttMs by the stamp in it, where the peer may have written anything: it counts as far as it can be true
   * @returns whether one of its probes was answered.
   */
  answered(token: Uint8Array, rttMs: number, now: number): boolean {
    const key = toHex(token);
    const sentAt = this.#outstanding.get(key);
    if (sentAt === undefined) return false;
    this.#outstanding.delete(key);
    if (this.state !== 'proven') this.quality.revived();
    this.quality.answered(Math.min(Math.max(rttMs, 0), now - sentAt));
    this.state = 'proven';
    this.answeredAt = now;
    this.answeredProbeAt = Math.max(this.answeredProbeAt ?? sentAt, sentAt);
    this.retries = 0;
    this.#unanswered = 0;
    this.probeAt = undefined;
    return true;
  }
}

/** Whether no probe of it has been waited for in vain since the last answer. */
export const isAnswering = ({ state, unanswered }: TrackedPath): boolean =>
  state === 'proven' && unanswered < 2;

/** Whether probes of it are waited for in vain: not, when none was sent yet. */
export const isFailing = (path: TrackedPath): boolean =>
  isDead(path) || (path.state === 'proven' && !isAnswering(path));

/** Whether nothing is sent by it but now and then a probe. */
export const isDead = ({ state }: TrackedPath): boolean => state === 'dead' || state === 'failed';
