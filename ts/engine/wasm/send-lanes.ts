// A socket that nobody waits for (the same for the native engine: native/udp/send_lanes.h). What was sent stays in
// its buffer until its device has sent it: one way out that is slow and holds megabytes fills the buffer, and all
// who are reached by other ways would wait for it, in memory of Node's that has no end. So while the buffer is full
// each destination is sent to by a lane, a further socket of the same address and port. A lane that is full loses what
// is sent by it.
//
// The kernel may give any of these sockets what comes in, so all of them are listened to.

import type { Socket } from 'node:dgram';

/** Each destination has its own; only where there are more at once are they shared. */
const LANES = 64;
/** A lane whose destination was sent nothing for so long passes on to another. */
const IDLE_MS = 1000;
/** What may wait in Node for a socket without lanes, and while one is made. */
const MOST_WAITING_BYTES = 1 << 20;
/** After the buffer was found full, lanes are used for so long; then the socket is tried again. */
const TIME_MS = 100;
const CLOSED_AFTER_MS = 10_000;

/** How to make one more socket of the same address and port; undefined: there can be none. */
export type OpenLane = (() => Promise<Socket>) | undefined;

interface Lane {
  /** Undefined while it is being made. */
  socket: Socket | undefined;
  used: number;
}

export class SendLanes {
  readonly #socket: Socket;
  readonly #openLane: OpenLane;
  /** By destination. */
  readonly #lanes = new Map<string, Lane>();
  #usedUntil = -Infinity;
  #closed = false;

  constructor(socket: Socket, openLane: OpenLane) {
    this.#socket = socket;
    this.#openLane = openLane;
  }

  /** The socket to send to this address by; undefined = there is no room for what goes there. */
  towards(destination: string, now: number): Socket | undefined {
    if (now >= this.#usedUntil) {
      if (this.#socket.getSendQueueSize() === 0) return this.#socket;
      this.#usedUntil = now + TIME_MS;
    }
    const lane = this.#lane(destination, now);
    if (lane !== undefined) return lane.getSendQueueSize() === 0 ? lane : undefined;
    return this.#socket.getSendQueueSize() < MOST_WAITING_BYTES ? this.#socket : undefined;
  }

  /** To be called now and then: closes lanes that were not used for a while. */
  closeUnused(now: number): void {
    if (now < this.#usedUntil + CLOSED_AFTER_MS) return;
    for (const { socket } of this.#lanes.values()) socket?.close();
    this.#lanes.clear();
  }

  close(): void {
    this.#closed = true;
    for (const { socket } of this.#lanes.values()) socket?.close();
    this.#lanes.clear();
  }

  #lane(destination: string, now: number): Socket | undefined {
    const lane = this.#lanes.get(destination) ?? this.#newLane(destination, now);
    if (lane !== undefined) lane.used = now;
    return lane?.socket;
  }

  /** @returns one that others have too, where all are in use. */
  #newLane(destination: string, now: number): Lane | undefined {
    if (this.#openLane === undefined) return undefined;
    if (this.#lanes.size >= LANES) {
      const all = [...this.#lanes];
      const [oldest] = all.toSorted(([, a], [, b]) => a.used - b.used);
      if (oldest === undefined || now - oldest[1].used < IDLE_MS)
        return all[hashOf(destination) % LANES]?.[1];
      this.#lanes.delete(oldest[0]);
      oldest[1].socket?.close();
    }
    const lane: Lane = { socket: undefined, used: now };
    this.#lanes.set(destination, lane);
    void this.#open(destination, lane, this.#openLane);
    return lane;
  }

  async #open(destination: string, lane: Lane, openLane: () => Promise<Socket>): Promise<void> {
    try {
      const socket = await openLane();
      if (this.#closed || this.#lanes.get(destination) !== lane) socket.close();
      else lane.socket = socket;
    } catch {
      // No descriptors left, or the address is gone.
      if (this.#lanes.get(destination) === lane) this.#lanes.delete(destination);
    }
  }
}

function hashOf(destination: string): number {
  let hash = 0;
  for (let index = 0; index < destination.length; index++)
    hash = (Math.imul(hash, 31) + destination.charCodeAt(index)) | 0;
  return hash >>> 0;
}
