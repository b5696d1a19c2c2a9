// Where frames are sent that go back on `deliver` legs, and what was sent there.

import { FRAME_HEADER_SIZE, FrameKind, HOP_LIMIT_DEFAULT, encodeFrame } from '../../wire/frame.js';
import type { LegTarget } from '../../wire/leg.js';
import type { SocketAddress } from '../../wire/socket-address.js';

/** Frames, and their bytes, header included. */
export interface SentCounts {
  readonly packets: number;
  readonly bytes: number;
}

interface WayBack {
  to: LegTarget;
  packets: number;
  bytes: number;
}

export class WaysBack {
  /** By leg id. */
  readonly #ways = new Map<number, WayBack>();

  has(leg: number): boolean {
    return this.#ways.has(leg);
  }

  sent(leg: number): SentCounts {
    return this.#ways.get(leg) ?? { packets: 0, bytes: 0 };
  }

  /** What was sent by the leg stays counted. */
  set(leg: number, to: LegTarget): void {
    const present = this.#ways.get(leg);
    if (present === undefined) this.#ways.set(leg, { to, packets: 0, bytes: 0 });
    else present.to = to;
  }

  /** Whether there was one. */
  forget(leg: number): boolean {
    return this.#ways.delete(leg);
  }

  /** The frame that takes a message back on a leg, counted as sent; undefined: no way leads there. */
  frame(
    leg: number,
    message: Uint8Array,
  ): { readonly to: SocketAddress; readonly frame: Uint8Array } | undefined {
    const way = this.#ways.get(leg);
    if (way === undefined) return undefined;
    const { id, key, epoch, address } = way.to;
    way.packets++;
    way.bytes += FRAME_HEADER_SIZE + message.length;
    const header = { kind: FrameKind.forward, hopLimit: HOP_LIMIT_DEFAULT, epoch, legId: id, key } as const;
    return { to: address, frame: encodeFrame({ ...header, payload: message }) };
  }
}
