// Which paths are probed for how large a datagram they take, and what is found is good for: those in a member's path
// set that are proven, so that no padded probe goes where nobody has shown to be. Ways over relays are among them; their
// datagrams have a frame header, which the size includes.

import type { SessionKey } from '../../contract/engine.js';
import { PROBE_TOKEN_SIZE, type PathCounts, type PathEvent } from '../../contract/path-control.js';
import { FRAME_HEADER_SIZE } from '../../wire/frame.js';
import { TRANSPORT_OVERHEAD } from '../../wire/path-frame.js';
import type { Turn } from '../runtime/turn.js';
import type { Contact } from './contact.js';
import { PathMtu } from './path-mtu.js';
import type { TrackedPath } from './tracked-path.js';

/** What every link has to carry of IPv6 (RFC 8200, 5). */
const LEAST_MTU_IPV6 = 1280;
/** Of UDP over IPv4. */
const MAX_UDP_PAYLOAD = 65_507;
/** Bounds of the wait for an answer. */
const SHORTEST_WAIT_MS = 50;
const LONGEST_WAIT_MS = 1000;

/** What a member can be sent, bytes. */
export interface MemberMtu {
  /** UDP payload of a datagram by the path in use (PLPMTU). */
  readonly path: number;
  /** The longest packet inside that it has room for. */
  readonly inner: number;
}

export class MtuDiscovery {
  readonly #innerMtu: number | undefined;

  /** @param innerMtu of the tunnel; undefined = nothing is probed */
  constructor(innerMtu: number | undefined) {
    this.#innerMtu = innerMtu;
  }

  /** Whether it is known what size the path takes, or will not be. */
  isKnown({ mtu }: TrackedPath): boolean {
    return this.#innerMtu === undefined || mtu?.plpmtu !== undefined;
  }

  /** These paths are used, or would be if they take what the inner MTU needs. */
  used(paths: readonly TrackedPath[], now: number): void {
    if (this.#innerMtu === undefined) return;
    for (const path of paths) {
      if (path.state !== 'proven') continue;
      const max = Math.min(this.#innerMtu + overhead(path), MAX_UDP_PAYLOAD);
      path.mtu ??= new PathMtu(max, LEAST_MTU_IPV6 + overhead(path), now);
      path.mtu.resume(now);
    }
  }

  /** Sends the probes that are due. @returns whether something was found out. */
  run(member: SessionKey, contact: Contact, turn: Turn): boolean {
    let changed = false;
    for (const path of contact.paths.all()) {
      const { mtu } = path;
      if (mtu === undefined) continue;
      if (path.state !== 'proven') {
        mtu.pause();
        continue;
      }
      const before = mtu.plpmtu;
      const { answeredProbeAt, quality } = path;
      const timeoutMs = Math.min(Math.max(quality.timeoutMs, SHORTEST_WAIT_MS), LONGEST_WAIT_MS);
      const { size, small = false } =
        mtu.next(turn.now, { answeredProbeAt, timeoutMs, loss: quality.loss }) ?? {};
      changed ||= mtu.plpmtu !== before;
      if (small) path.suspect(turn.now);
      if (size === undefined) continue;
      const token = turn.random(PROBE_TOKEN_SIZE);
      mtu.sent(token, turn.now, timeoutMs);
      turn.emit({ type: 'send-probe', probe: { peer: member, token, to: path.ends, size } });
    }
    return changed;
  }

  /** Nothing that was sent seems to have arrived; it is sent by the standby too, which may have the same bottleneck. */
  silent({ paths }: Contact, now: number): void {
    for (const { mtu } of paths.all()) mtu?.doubted(now);
  }

  /** @returns whether it was a padded probe of ours that was answered. */
  answered(contact: Contact, event: Extract<PathEvent, { type: 'probe-answer' }>, now: number): boolean {
    return contact.paths.at(event.at)?.mtu?.answered(event.token, event.size, now) === true;
  }

  /** The engine's counts of the paths: without a direct path nobody reports what arrives. */
  counted(contact: Contact, counts: readonly PathCounts[], now: number): void {
    if (contact.active !== undefined) return;
    for (const { id, sentBytes } of counts) contact.paths.get(id)?.mtu?.counted(sentBytes, now);
  }

  /** Undefined = nothing is known of the path in use. */
  of({ used }: Contact): MemberMtu | undefined {
    const plpmtu = used?.mtu?.plpmtu;
    if (used === undefined || plpmtu === undefined || this.#innerMtu === undefined) return undefined;
    return { path: plpmtu, inner: Math.min(plpmtu - overhead(used), this.#innerMtu) };
  }
}

/** Bytes of a datagram by it beside the packet inside. */
const overhead = ({ relayed }: TrackedPath): number => TRANSPORT_OVERHEAD + (relayed ? FRAME_HEADER_SIZE : 0);
