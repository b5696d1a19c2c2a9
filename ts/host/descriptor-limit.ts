// How many descriptors this process may have open, and has.

import { readdirSync, readFileSync } from 'node:fs';
import { performance } from 'node:perf_hooks';

/** The limit in force of `text`, as /proc/self/limits is written (proc_pid_limits(5)); Infinity = none. */
export function descriptorLimit(text: string): number {
  const [, soft] = /^Max open files +(\d+|unlimited) /m.exec(text) ?? [];
  return soft === undefined || soft === 'unlimited' ? Infinity : Number(soft);
}

/** Those it may open yet; Infinity where it cannot be known. */
export function freeDescriptors(): number {
  try {
    return descriptorLimit(readFileSync('/proc/self/limits', 'utf8')) - readdirSync('/proc/self/fd').length;
  } catch {
    return Infinity;
  }
}

/** Left to the rest of a process by what opens descriptors because others ask for them. */
export const SPARE_DESCRIPTORS = 256;
const LOOK_MS = 250;

/** What may be opened so that SPARE_DESCRIPTORS stay: it is looked now and then, and counted between. */
export class DescriptorReserve {
  #left = 0;
  #lookedAt = -Infinity;

  /** @param now monotonic ms */
  constructor(
    private readonly free: () => number,
    private readonly now: () => number,
  ) {}

  /** Whether `count` more may be opened. */
  take(count: number): boolean {
    const now = this.now();
    if (now - this.#lookedAt >= LOOK_MS) {
      this.#left = this.free() - SPARE_DESCRIPTORS;
      this.#lookedAt = now;
    }
    if (this.#left < count) return false;
    this.#left -= count;
    return true;
  }
}

/** That of this process. */
export const processDescriptors = new DescriptorReserve(freeDescriptors, () => performance.now());
