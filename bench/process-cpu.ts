// CPU of other processes, from the kernel's own accounting.

import { readdirSync, readFileSync } from 'node:fs';
import type { ChildProcess } from 'node:child_process';

export function idOf(child: ChildProcess): number {
  if (child.pid === undefined) throw new Error(`cannot start ${child.spawnfile}`);
  return child.pid;
}

/** ns on a CPU of all threads of a process: the scheduler's own sum, of which user + sys are the parts. */
export function processCpu(processId: number): number {
  const tasks = `/proc/${processId}/task`;
  return readdirSync(tasks).reduce(
    (sum, task) => sum + Number(readFileSync(`${tasks}/${task}/schedstat`, 'utf8').split(' ')[0]),
    0,
  );
}

/** Resident memory of a process in bytes. */
export function residentBytes(processId: number): number {
  const kilobytes = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${processId}/status`, 'utf8'))?.[1];
  return Number(kilobytes) * 1024;
}
