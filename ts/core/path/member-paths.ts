// All paths to one member that are or were tried.

import type { PathEnds } from '../../contract/path-control.js';
import type { PeerEndpoint } from '../../contract/engine.js';
import { sameBytes } from '../../wire/bytes.js';
import { sameSocketAddress } from '../../wire/socket-address.js';
import { earliest } from '../runtime/earliest.js';
import { isDead, TrackedPath } from './tracked-path.js';

/** So many at once; more are not tried. */
export const MOST_PATHS = 96;
const MAX_ID = 255;

export class MemberPaths {
  readonly #paths = new Map<number, TrackedPath>();
  readonly #isInUse: (path: TrackedPath) => boolean;
  #lastId = 0;

  /** @param isInUse whether the engine has been told of it: then it makes room for no other, dead as it may be */
  constructor(isInUse: (path: TrackedPath) => boolean) {
    this.#isInUse = isInUse;
  }

  all(): readonly TrackedPath[] {
    return [...this.#paths.values()];
  }

  get(id: number): TrackedPath | undefined {
    return this.#paths.get(id);
  }

  /** The path of these ends. An end without a local address is any of the host's. */
  at(ends: PathEnds): TrackedPath | undefined {
    return this.all().find((path) => sameEnds(path.ends, ends));
  }

  /** @returns the path of these ends, new or known; undefined when there is no room for one more. */
  add(ends: PathEnds): TrackedPath | undefined {
    const known = this.at(ends);
    if (known !== undefined) return known;
    if (this.#paths.size >= MOST_PATHS && !this.#makeRoom()) return undefined;
    do this.#lastId = (this.#lastId % MAX_ID) + 1;
    while (this.#paths.has(this.#lastId));
    const path = new TrackedPath(this.#lastId, ends);
    this.#paths.set(path.id, path);
    return path;
  }

  remove({ id }: TrackedPath): void {
    this.#paths.delete(id);
  }

  /** When the next of them is to be probed, for whatever reason, or looked after. */
  probeAt(): number | undefined {
    return earliest(...this.all().flatMap(({ probeAt, keepAt, mtu }) => [probeAt, keepAt, mtu?.probeAt]));
  }

  #makeRoom(): boolean {
    const useless = this.all().find((path) => (isDead(path) || path.ruledOut) && !this.#isInUse(path));
    if (useless !== undefined) this.remove(useless);
    return useless !== undefined;
  }
}

export function sameEndpoint(a: PeerEndpoint, b: PeerEndpoint): boolean {
  return 'leg' in a
    ? 'leg' in b && a.leg === b.leg
    : 'address' in b && sameSocketAddress(a.address, b.address);
}

function sameEnds(a: PathEnds, b: PathEnds): boolean {
  if (!sameEndpoint(a.remote, b.remote)) return false;
  if (a.local?.port !== b.local?.port) return false;
  return a.local === undefined || b.local === undefined || sameBytes(a.local.ip, b.local.ip);
}
