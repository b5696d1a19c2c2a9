// What is known of finding direct paths to one member: who asks when, and what came of it.

import type { FilteringTest } from './filtering-test.js';
import { MemberPaths } from './member-paths.js';
import { isFailing, type TrackedPath } from './tracked-path.js';

/** Between contacts that came to nothing; doubles. */
const FIRST_RETRY_MS = 5000;
const LONGEST_RETRY_MS = 600_000;
/** After the last data was reported. */
const BUSY_MS = 30_000;
/** Between two times that relays are asked where they see this node for one member's sake. */
const ASK_RELAYS_EVERY_MS = 1000;

export class Contact {
  /** Whether the engine was told that the member agreed. */
  agreed = false;
  /** The member does not want direct paths. */
  refused = false;
  /** Our request is under way. */
  asking = false;
  /** The last one had no answer: the member may have been out of reach. */
  unanswered = false;
  readonly paths = new MemberPaths((path) => this.set.includes(path));
  /** The direct path in use. */
  active: TrackedPath | undefined;
  /** What the engine sends by: that one, or one over relays. */
  used: TrackedPath | undefined;
  /** What the engine sends the control plane's messages by, where that is not what it sends data by. */
  control: TrackedPath | undefined;
  /** The direct one by which the member's data came last, whichever this node uses. */
  listened: TrackedPath | undefined;
  /** Addresses learned from the member's probes since the last contact. */
  learned = 0;
  /** Contacts in vain since there was a direct path. */
  failures = 0;
  /** When we ask for a contact. */
  askAt: number | undefined;
  /** When we begin to probe what the member named. */
  beginAt: number | undefined;
  /** When data was sent to the member last, as far as it has reported. */
  dataSentAt = -Infinity;
  /** The direct path may have been forgotten on its way: a contact opens it again. */
  forgotten = false;
  /** Tests of who gets in here that the member was asked for, and that have not been understood. */
  filteringTests: readonly FilteringTest[] = [];
  /** Whether the engine was told to answer the member's probes for such a test. */
  tested = false;
  /** Until then nothing is sent to the member's addresses: what it sends meanwhile shows whether it gets in. */
  quietUntil = -Infinity;
  /** What the engine was told last. */
  told: string | undefined;
  /** The paths in it, in its order. */
  set: readonly TrackedPath[] = [];
  /** Those of them that data is split over, with the share of each; empty = it is not split. */
  shares: ReadonlyMap<TrackedPath, number> = new Map();
  /** Whether what is sent goes by the standby too. */
  duplicated = false;
  /** When relays were asked for this member's sake last. */
  #relaysAskedAt = -Infinity;

  /**
   * @param sessionAt when a session was made or renewed last
   * @param first whether this side has the lower identity of the two
   */
  constructor(
    public sessionAt: number,
    readonly first = false,
  ) {}

  /** Our request was refused or not answered, or its probes begin and may be in vain: the next one is later. */
  failed(now: number): void {
    this.failures++;
    if (this.active !== undefined) return;
    this.askAt = now + Math.min(FIRST_RETRY_MS * 2 ** (this.failures - 1), LONGEST_RETRY_MS);
  }

  /** Whether data is being sent. */
  isBusy(now: number): boolean {
    return now - this.dataSentAt < BUSY_MS;
  }

  /** Whether relays may be asked again: a member begins contacts as often as it likes. */
  mayAskRelays(now: number): boolean {
    if (now - this.#relaysAskedAt < ASK_RELAYS_EVERY_MS) return false;
    this.#relaysAskedAt = now;
    return true;
  }
}

/** Whether all ways that the engine was told of are dead, or about to be. */
export const isStranded = ({ set }: Contact): boolean => set.length > 0 && set.every(isFailing);
