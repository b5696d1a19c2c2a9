// Which paths work: probes of what is to be tried and of what is kept, within what may go to addresses that
// have not answered.

import type { SessionKey } from '../../contract/engine.js';
import { PROBE_TOKEN_SIZE, type PathEnds, type PathEvent } from '../../contract/path-control.js';
import { isDue } from '../runtime/is-due.js';
import type { Turn } from '../runtime/turn.js';
import { isReachable, type OwnAddresses } from './contact-addresses.js';
import type { Contact } from './contact.js';
import { rankOf } from './local-interface.js';
import type { PortPrediction } from './port-prediction.js';
import { isDead, type TrackedPath } from './tracked-path.js';
import { UnprovenBudget } from './unproven-budget.js';

/** Between probes of a path that is kept. */
export const PATH_KEEPALIVE_MS = 15_000;
/** Before a path that died or was of no use is tried again. */
const RETRY_PATH_MS = 30_000;
/** The same for the one that is used, dead as it is, because nothing else works either. */
const RETRY_USED_MS = 5000;
/** Addresses learned from probes that came in, for one contact. */
const MOST_LEARNED = 8;

/** What the node lends to its probes. */
export interface ProbingHost {
  own(): Pick<OwnAddresses, 'interfaces'>;
}

export class PathProbing {
  readonly #host: ProbingHost;
  readonly #prediction: PortPrediction;
  readonly #budget = new UnprovenBudget();

  constructor(host: ProbingHost, prediction: PortPrediction) {
    this.#host = host;
    this.#prediction = prediction;
  }

  /** Probes to addresses that had not answered, and those that were not sent. */
  get unproven(): { readonly sent: number; readonly refused: number } {
    return this.#budget;
  }

  /** Sends the probes that are due. @returns whether paths were given up: the choice may be another. */
  run(member: SessionKey, contact: Contact, turn: Turn): boolean {
    let changed = false;
    for (const path of contact.paths.all()) {
      if (!isDue(path.probeAt, turn.now)) continue;
      if (path.due()) {
        this.#probe(member, contact, path, turn);
        continue;
      }
      changed = true;
      if (path.relayed || path.state === 'dead')
        path.retry(turn.now + (path === contact.active ? RETRY_USED_MS : RETRY_PATH_MS));
    }
    return changed;
  }

  /** @returns whether it was one of ours that was answered. */
  answered(contact: Contact, event: Extract<PathEvent, { type: 'probe-answer' }>, turn: Turn): boolean {
    const path = contact.paths.at(event.at);
    if (path?.answered(event.token, event.rttMs, turn.now) !== true) return false;
    path.probeAt = turn.now + PATH_KEEPALIVE_MS;
    return true;
  }

  /** The member sends from there: a path to try, if it is none yet. @returns whether something may be due now. */
  learn(contact: Contact, from: PathEnds, turn: Turn): boolean {
    const known = contact.paths.at(from);
    if (known !== undefined) {
      // Its probe came through: ours may, now.
      this.retryDead(known, turn);
      return true;
    }
    if ('leg' in from.remote || !isReachable(from.remote.address) || contact.learned >= MOST_LEARNED)
      return false;
    contact.learned++;
    const { interfaces } = this.#host.own();
    contact.paths.add(from, rankOf(from.local, interfaces))?.retry(turn.now);
    return true;
  }

  /** The path in use may be dead: it and those that would take its place are probed at once. */
  suspect({ active, paths }: Contact, { now }: Turn): void {
    for (const path of paths.all()) if (path === active || path.relayed) path.suspect(now);
  }

  /** Something of the member's came by it: ours may come through as well, now. */
  retryDead(path: TrackedPath | undefined, { now }: Turn): void {
    if (path !== undefined && isDead(path)) path.retry(now);
  }

  #probe(member: SessionKey, contact: Contact, path: TrackedPath, turn: Turn): void {
    const { remote } = path;
    // Where data is sent to, probes are none too many.
    const unproven = 'address' in remote && path.state !== 'proven' && path !== contact.active;
    if (unproven && !this.#budget.take(member, remote.address, turn.now)) {
      path.state = 'failed';
      return;
    }
    if ('address' in remote && !path.everProbed) this.#prediction.newDestination();
    const token = turn.random(PROBE_TOKEN_SIZE);
    path.sent(token, turn.now);
    turn.emit({ type: 'send-probe', probe: { peer: member, token, to: path.ends, size: 0 } });
  }
}
