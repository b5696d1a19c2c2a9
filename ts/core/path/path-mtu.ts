// How large a datagram one path takes: datagram packetization layer path MTU discovery (RFC 8899). Time, answers and
// signs of loss go in; which size is to be probed, and when, comes out.
//
//            answered            nothing larger is answered
//   base ───────────► searching ───────────────────────────► search-complete
//    │ ▲ ▲                ▲                                     │  │
//    │ │ └── answered ──┐ └──────── after 10 min, with data ────┘  │
//    │ └────────────────┼── what was found is answered no more ────┘
//    └─ no answer ─► error
//
// A probe is not taken for lost by a timer alone: a small probe, sent after the last of a size, was answered. So
// neither a full queue nor a path that is dead for a while is taken for a small MTU, and no timer of seconds
// (5.1.1) is needed. While no data is sent, nothing is probed that was found once.

import { MIN_PLPMTU } from '../../contract/path-control.js';
import { toHex } from '../../wire/bytes.js';
import { isDue } from '../runtime/is-due.js';

/** RFC 8899, 5.1.2. */
export const BASE_PLPMTU = 1200;
const MAX_PROBES = 3;
export const RAISE_AFTER_MS = 600_000;
/** Of a path that loses some, more: that all of them were lost by chance is to be as unlikely. */
export const MOST_PROBES = 10;
const BY_CHANCE = 0.001;
/** Below, a path loses nothing; above, it may lose so much, more than has been seen yet. */
const LOSSLESS = 0.01;
const LEAST_LOSS = 0.3;
/** What is searched for is known when so few bytes are in doubt. */
const GRAIN = 8;
/** Before BASE_PLPMTU is tried again on a path that does not take it; doubles up to RAISE_AFTER_MS. */
const FIRST_RETRY_MS = 30_000;
/** Between two times that what was found is confirmed; while reports go on showing losses it doubles. */
const CONFIRM_EVERY_MS = 2000;
const LONGEST_CONFIRM_MS = 32_000;
/** Padded probes by one path within a minute, whatever its peer answers. */
export const PROBES_PER_MINUTE = 64;
const MINUTE_MS = 60_000;

/**
 * UDP payloads that links of the Internet have room for, by IPv4 and by IPv6, and those of an inner MTU of 1280:
 * tried before others. MTUs of 1280, 1400, 1420, 1440, 1460, 1480, 1492, 1500, 2000, 4352, 9000.
 */
const USUAL_SIZES: readonly number[] = [
  1232, 1252, 1312, 1328, 1352, 1372, 1392, 1412, 1432, 1444, 1452, 1464, 1472, 1972, 4304, 4324, 8952, 8972,
];

export type PathMtuState = 'base' | 'searching' | 'search-complete' | 'error';

/** What its path is known to be like. */
export interface ProbedPath {
  /** When the newest small probe was sent that has been answered. */
  readonly answeredProbeAt: number | undefined;
  /** Milliseconds after which there will be no answer. */
  readonly timeoutMs: number;
  /** Share of small probes that were lost lately. */
  readonly loss: number;
}

/** What is to be sent, in this order. */
export interface PathMtuStep {
  /** The size of a padded probe; undefined = none. */
  readonly size: number | undefined;
  /** Whether a small one: its answer shows that those before it were lost. */
  readonly small: boolean;
}

export class PathMtu {
  state: PathMtuState = 'base';
  /** Bytes of UDP payload that a datagram may have; undefined = not known yet, whatever there is may be sent. */
  plpmtu: number | undefined;
  /** When something is to be done; undefined = not by itself. */
  probeAt: number | undefined;
  /** The largest that was answered since the search began, and the smallest that was not. */
  #confirmed = 0;
  #failed: number;
  /** What is probed, how often it was, and the tokens (hex) of these probes. */
  #size: number;
  #tries = 0;
  readonly #tokens = new Set<string>();
  /** Since when a small probe would have to be sent and answered; undefined = not asked for. */
  #askedAt: number | undefined;
  #confirming = false;
  #paused = false;
  #confirmedAt = -Infinity;
  #confirmEveryMs = CONFIRM_EVERY_MS;
  #raiseAt = Infinity;
  #retryAt = Infinity;
  #retryMs = FIRST_RETRY_MS;
  #minuteAt = -Infinity;
  #inMinute = 0;
  /** The peer's last report: what had been sent then, and how much of what had been before was missing. */
  #reportedSent = 0;
  #reportedMissing = 0;
  /** Bytes that had been sent when they were counted last, and of padded probes since. */
  #countedBytes: number | undefined;
  #paddedBytes = 0;

  /**
   * @param max what datagrams may need at most (MAX_PLPMTU)
   * @param needed what a packet of IPv6's least MTU needs
   * @param now the path was proven
   */
  constructor(
    readonly max: number,
    readonly needed: number,
    now: number,
  ) {
    this.#failed = max + 1;
    this.#size = this.#base;
    this.probeAt = now;
  }

  /** Whether it takes less than datagrams may have. */
  get limited(): boolean {
    return this.plpmtu !== undefined && this.plpmtu < this.max;
  }

  /** Whether it takes less than IPv6 asks of every link (RFC 8200, 5). */
  get narrow(): boolean {
    return this.plpmtu !== undefined && this.plpmtu < Math.min(this.needed, this.max);
  }

  /** @returns what is to be done now. It is asked again when `probeAt` has come. */
  next(now: number, path: ProbedPath): PathMtuStep | undefined {
    if (!isDue(this.probeAt, now)) return undefined;
    this.probeAt = undefined;
    const most = probesFor(path.loss);
    if (this.#tries >= most) {
      if (this.#askedAt === undefined || (path.answeredProbeAt ?? -Infinity) < this.#askedAt) {
        this.#askedAt ??= now;
        this.probeAt = now + path.timeoutMs;
        return { size: undefined, small: true };
      }
      this.#lost(now);
      if (!isDue(this.probeAt, now)) return undefined;
      this.probeAt = undefined;
    }
    if (now - this.#minuteAt >= MINUTE_MS) {
      this.#minuteAt = now;
      this.#inMinute = 0;
    }
    if (this.#inMinute >= PROBES_PER_MINUTE) {
      this.probeAt = this.#minuteAt + MINUTE_MS;
      return undefined;
    }
    const small = this.#tries + 1 >= most;
    if (small) this.#askedAt = now;
    return { size: this.#size, small };
  }

  /** The probe that next() asked for was sent. @param timeoutMs as of ProbedPath: at least a round trip (3.) */
  sent(token: Uint8Array, now: number, timeoutMs: number): void {
    this.#tokens.add(toHex(token));
    this.#tries++;
    this.#inMinute++;
    this.#paddedBytes += this.#size;
    this.probeAt = now + timeoutMs;
  }

  /**
   * @param size of the datagram, by the peer's word: another than was sent is no answer
   * @returns whether it answers a probe of the size that is being probed.
   */
  answered(token: Uint8Array, size: number, now: number): boolean {
    if (!this.#tokens.has(toHex(token)) || size !== this.#size) return false;
    this.#confirmed = Math.max(this.#confirmed, size);
    this.#begin(undefined);
    if (this.#confirming) {
      this.#confirming = false;
      this.#confirmEveryMs = Math.min(2 * this.#confirmEveryMs, LONGEST_CONFIRM_MS);
    } else {
      if (this.state === 'error') {
        this.#retryMs = FIRST_RETRY_MS;
        this.plpmtu = size;
      }
      this.state = 'searching';
      this.#search(now);
    }
    return true;
  }

  /** Data was sent by it. */
  used(now: number): void {
    if (this.state === 'error' && now >= this.#retryAt) {
      this.#retryAt = Infinity;
      this.#size = this.#base;
      this.#begin(now);
    }
    if (this.state !== 'search-complete' || this.#confirming || now < this.#raiseAt) return;
    this.state = 'searching';
    this.#failed = this.max + 1;
    this.#search(now);
  }

  /** Data is lost, as it seems: what was found is confirmed, or found to be lost (4.3). */
  doubted(now: number, atMostEveryMs = CONFIRM_EVERY_MS): void {
    if (this.state !== 'search-complete' || this.#confirming) return;
    if (now - this.#confirmedAt < atMostEveryMs) return;
    this.#confirmedAt = now;
    this.#confirming = true;
    this.#size = this.#confirmed;
    this.#begin(now);
  }

  /** The peer's report: of `sent` messages it had `received` (PathEvent, `path-report`). */
  reported(sent: number, received: number, now: number): void {
    const missing = Math.max(this.#reportedSent - received, 0);
    this.used(now);
    if (missing > this.#reportedMissing) this.doubted(now, this.#confirmEveryMs);
    else this.#confirmEveryMs = CONFIRM_EVERY_MS;
    this.#reportedSent = sent;
    this.#reportedMissing = missing;
  }

  /** So many bytes have been sent by it, path frames included. Where nobody reports, data is a reason to confirm. */
  counted(sentBytes: number, now: number): void {
    const { plpmtu = this.max } = this;
    const grown = sentBytes - (this.#countedBytes ?? sentBytes) - this.#paddedBytes;
    this.#countedBytes = sentBytes;
    this.#paddedBytes = 0;
    if (grown < 2 * plpmtu) return;
    this.used(now);
    this.doubted(now);
  }

  /** The path is not proven any more: nothing of what it is like can be found out. */
  pause(): void {
    this.#begin(undefined);
    this.#paused = true;
  }

  /** It is again, and may lead elsewhere. */
  resume(now: number): void {
    if (!this.#paused) return;
    this.#paused = false;
    this.#confirmedAt = -Infinity;
    if (this.state === 'search-complete' && !this.#confirming) this.doubted(now);
    else this.#begin(now);
  }

  get #base(): number {
    return Math.min(BASE_PLPMTU, this.max);
  }

  /** Probes of another size, or the same anew, from `at` on. */
  #begin(at: number | undefined): void {
    this.#tokens.clear();
    this.#tries = 0;
    this.#askedAt = undefined;
    this.probeAt = at;
  }

  /** The size that was probed is none that the path takes. */
  #lost(now: number): void {
    this.#begin(undefined);
    if (this.#confirming) this.#blackHole(now);
    else if (this.state === 'searching') {
      this.#failed = this.#size;
      this.#search(now);
    } else {
      if (this.state === 'error') this.#retryMs = Math.min(2 * this.#retryMs, RAISE_AFTER_MS);
      this.state = 'error';
      this.plpmtu = Math.min(MIN_PLPMTU, this.max);
      this.#retryAt = now + this.#retryMs;
    }
  }

  /** What was found is found no more: BASE_PLPMTU is used until more is known (4.3, 5.2). */
  #blackHole(now: number): void {
    this.#confirming = false;
    this.#failed = this.#size;
    this.#confirmed = 0;
    this.state = 'base';
    this.#size = this.plpmtu = Math.min(this.#base, this.#size);
    this.#begin(now);
  }

  #search(now: number): void {
    const size = this.#nextSize();
    if (size !== undefined) {
      this.#size = size;
      this.#begin(now);
      return;
    }
    this.state = 'search-complete';
    this.plpmtu = this.#confirmed;
    this.#raiseAt = this.#confirmed < this.max ? now + RAISE_AFTER_MS : Infinity;
  }

  /** The largest that is needed first, then usual ones, by halves; undefined = what it takes is known. */
  #nextSize(): number | undefined {
    const [confirmed, failed] = [this.#confirmed, this.#failed];
    if (confirmed >= this.max) return undefined;
    if (failed > this.max) return this.max;
    if (failed - confirmed <= GRAIN) return undefined;
    const usual = USUAL_SIZES.filter((size) => size > confirmed && size < failed);
    return usual[usual.length >> 1] ?? (confirmed + failed) >> 1;
  }
}

/** Of one size, before it is taken for lost. */
function probesFor(loss: number): number {
  if (loss < LOSSLESS) return MAX_PROBES;
  const enough = Math.ceil(Math.log(BY_CHANCE) / Math.log(Math.min(Math.max(loss, LEAST_LOSS), 0.9)));
  return Math.min(enough, MOST_PROBES);
}
