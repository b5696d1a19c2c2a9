// A socket that nobody waits for (the same for the native engine: native/udp/send_lanes.h). What was sent stays in
// its buffer until its device has sent it: one way out that is slow and holds megabytes fills the buffer, and all
// who are reached by other ways would wait for it, in memory of Node's that has no end. So while the buffer is full
// each destination is sent to by a lane, a further socket of the same address and port. A lane that is full loses what
// is sent by it.
//
// The kernel may give any of these sockets what comes in, so all of them are listened to.

import type { Socket } from 'node:dgram';

/** Destinations share one by a hash of their address. */
const LANES = 64;
/** What may wait in Node for a socket without lanes, and while one is made. */
const MOST_WAITING_BYTES = 1 << 20;
/** After the buffer was found full, lanes are used for so long; then the socket is tried again. */
const TIME_MS = 100;
const CLOSED_AFTER_MS = 10_000;

/** How to make one more socket of the same address and port; undefined: there can be none. */
export type OpenLane = (() => Promise<Socket>) | undefined;

export class SendLanes {
  readonly #socket: Socket;
  readonly #openLane: OpenLane;
  /** Undefined while it is being made. */
  readonly #lanes = new Map<number, Socket | undefined>();
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
    const lane = this.#lane(destination);
    if (lane !== undefined) return lane.getSendQueueSize() === 0 ? lane : undefined;
    return this.#socket.getSendQueueSize() < MOST_WAITING_BYTES ? this.#socket : undefined;
  }

  /** To be called now and then: closes lanes that were not used for a while. */
  closeUnused(now: number): void {
    if (now < this.#usedUntil + CLOSED_AFTER_MS) return;
    for (const lane of this.#lanes.values()) lane?.close();
    this.#lanes.clear();
  }

  close(): void {
    this.#closed = true;
    for (const lane of this.#lanes.values()) lane?.close();
    this.#lanes.clear();
  }

  #lane(destination: string): Socket | undefined {
    let hash = 0;
    for (let index = 0; index < destination.length; index++)
      hash = (Math.imul(hash, 31) + destination.charCodeAt(index)) | 0;
    const index = (hash >>> 0) % LANES;
    if (this.#openLane !== undefined && !this.#lanes.has(index)) {
      this.#lanes.set(index, undefined);
      void this.#open(index, this.#openLane);
    }
    return this.#lanes.get(index);
  }

  async #open(index: number, openLane: () => Promise<Socket>): Promise<void> {
    try {
      const lane = await openLane();
      if (this.#closed || !this.#lanes.has(index)) lane.close();
      else this.#lanes.set(index, lane);
    } catch {
      this.#lanes.delete(index); // no descriptors left, or the address is gone
    }
  }
}
