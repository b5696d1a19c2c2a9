// When leases of exits and routes are renewed, and who did not grant one is asked again.

import { randomU32 } from '../../wire/bytes.js';
import type { Turn } from '../runtime/turn.js';

/** A guest that says nothing for so long is none any more. */
export const LEASE_MS = 120_000;
/** A lease is renewed so often: who is silent is found out within this and ASK_TRIES. */
export const RENEW_MS = 20_000;
/** Asked so often, within 8 s. */
export const ASK_TRIES = 5;
/** A member that is not known, or serves none, is looked at again: nothing is sent for it. */
export const LOOK_AGAIN_MS = 2000;
export const FIRST_RETRY_MS = 5000;
export const LONGEST_RETRY_MS = 60_000;
/** The same where nothing was answered: a way to the member is sought for a minute each time, so without a pause. */
export const LONGEST_UNANSWERED_RETRY_MS = 30_000;

/** Not all at the same time: two that refuse each other would do so for ever. */
export function scattered(retryMs: number, turn: Turn): number {
  return retryMs * (0.75 + randomU32((n) => turn.random(n)) / 2 ** 33);
}
