// Counters and instruments of the native engine, a row a thread, in memory its threads write while it is read here.

import type { WorkerStatus } from '../../contract/engine.js';
import type { NativeAddon } from './native-addon.js';

/** Numbers of `queues` a worker has. */
const QUEUE_NUMBERS = 4;

export class WorkerRows {
  readonly #addon: NativeAddon;
  readonly #counters: BigUint64Array;
  readonly #instruments: BigUint64Array;

  constructor(addon: NativeAddon, counters: ArrayBuffer, instruments: ArrayBuffer) {
    this.#addon = addon;
    this.#counters = new BigUint64Array(counters);
    this.#instruments = new BigUint64Array(instruments);
  }

  /** The sum of all threads, by name. */
  counters(): ReadonlyMap<string, number> {
    const stride = this.#addon.counterRowBytes / 8;
    const totals = new Map<string, number>();
    this.#addon.counterNames.forEach((name, index) => {
      let total = 0n;
      for (let at = index; at < this.#counters.length; at += stride) total += this.#counters[at] ?? 0n;
      totals.set(name, Number(total));
    });
    return totals;
  }

  /** @param queues of each worker: receive queue, its limit, send queue, its limit, in bytes */
  workers(queues: Uint32Array): readonly WorkerStatus[] {
    const { counterNames, counterRowBytes, instrumentRowBytes, latencyBuckets, latencyFirstBits } =
      this.#addon;
    const rows = this.#counters.length / (counterRowBytes / 8);
    return Array.from({ length: rows }, (_, row): WorkerStatus => {
      const first = (row * counterRowBytes) / 8;
      const counters = new Map(
        counterNames.map((name, index) => [name, Number(this.#counters[first + index] ?? 0n)]),
      );
      // The last row is the control thread's.
      if (row === rows - 1) return { name: 'control', counters, queues: undefined, latency: undefined };
      const at = (row * instrumentRowBytes) / 8;
      const [peak = 0, sumNs = 0, ...counts] = Array.from(
        this.#instruments.subarray(at, at + 2 + latencyBuckets),
        Number,
      );
      const [receiveBytes = 0, receiveLimitBytes = 0, sendBytes = 0, sendLimitBytes = 0] = queues.subarray(
        QUEUE_NUMBERS * row,
      );
      return {
        name: String(row),
        counters,
        queues: {
          receiveBytes,
          receiveLimitBytes,
          receivePeakBytes: Math.max(peak, receiveBytes),
          sendBytes,
          sendLimitBytes,
        },
        latency: {
          boundsNs: Array.from(
            { length: latencyBuckets - 1 },
            (__, bucket) => 2 ** (latencyFirstBits + bucket),
          ),
          counts,
          sumNs,
        },
      };
    });
  }
}
