// Inner packets from one member to another at a steady pace: which of them arrive, and when.

import { keyOf, type PairWorld } from '../sim/mesh/pair-world.js';
import type { SimNode } from '../sim/mesh/simulation.js';

const EVERY_MS = 5;
/** An IPv4 packet, as far as the simulated engine looks; its number stands behind the header. */
const SIZE = 100;
const NUMBER_AT = 20;

export class InnerStream {
  /** When each was sent, by its number. */
  readonly #sentAt: number[] = [];
  /** When each came first. */
  readonly #arrivedAt: (number | undefined)[] = [];
  #stopped = false;

  /** Begins at once. `to` hears packets of this stream alone from now on. */
  constructor({ simulation }: PairWorld, from: SimNode, to: SimNode) {
    const { queue } = simulation;
    to.inner = (packet) => {
      const number = new DataView(packet.buffer, packet.byteOffset).getUint32(NUMBER_AT);
      this.#arrivedAt[number] ??= queue.now;
    };
    const send = (): void => {
      if (this.#stopped) return;
      const packet = new Uint8Array(SIZE);
      packet[0] = 0x45;
      new DataView(packet.buffer).setUint32(NUMBER_AT, this.#sentAt.push(queue.now) - 1);
      from.sendInner(keyOf(to), packet);
      queue.at(queue.now + EVERY_MS, send);
    };
    send();
  }

  stop(): void {
    this.#stopped = true;
  }

  /** When the first of those sent at `begin` or later arrived; undefined = none has. */
  firstArrivalOf(begin: number): number | undefined {
    const first = this.#sentAt.findIndex((at) => at >= begin);
    return first === -1 ? undefined : this.#arrivedAt.slice(first).find((at) => at !== undefined);
  }

  /** Of those sent at `begin` or later. */
  since(begin: number): { readonly sent: number; readonly arrived: number } {
    const sent = this.#sentAt.filter((at) => at >= begin).length;
    const first = this.#sentAt.length - sent;
    return { sent, arrived: this.#arrivedAt.slice(first).filter((at) => at !== undefined).length };
  }
}
