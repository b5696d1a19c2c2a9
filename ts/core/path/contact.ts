// What is known of finding direct paths to one member: who asks when, and what came of it.

import { MemberPaths } from './member-paths.js';
import type { TrackedPath } from './tracked-path.js';

/** Between contacts that came to nothing; doubles. */
const FIRST_RETRY_MS = 5000;
const LONGEST_RETRY_MS = 600_000;

export class Contact {
  /** Whether the engine was told that the member agreed. */
  agreed = false;
  /** Our request is under way. */
  asking = false;
  readonly paths = new MemberPaths();
  /** The direct path in use. */
  active: TrackedPath | undefined;
  /** Addresses learned from the member's probes since the last contact. */
  learned = 0;
  /** Contacts in vain since there was a direct path. */
  failures = 0;
  /** When we ask for a contact. */
  askAt: number | undefined;
  /** When we begin to probe what the member named. */
  beginAt: number | undefined;
  /** What the engine was told last. */
  told: string | undefined;

  /** @param sessionAt when a session was made or renewed last */
  constructor(public sessionAt: number) {}

  /** Our request was refused or not answered, or its probes begin and may be in vain: the next one is later. */
  failed(now: number): void {
    this.failures++;
    if (this.active !== undefined) return;
    this.askAt = now + Math.min(FIRST_RETRY_MS * 2 ** (this.failures - 1), LONGEST_RETRY_MS);
  }
}
