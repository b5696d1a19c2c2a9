// How many descriptors this process may have open, and has.

import { readdirSync, readFileSync } from 'node:fs';

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
