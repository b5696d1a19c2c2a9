// A name for a running process that is never given twice: its number alone is used again.

import { readFileSync } from 'node:fs';

/** `pid start-time boot-id` (proc(5)); undefined when no such process lives. */
export function processIdentity(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // The name in parentheses may hold anything; after it come state (field 3) … start time (22).
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    const [state, startTime] = [fields[0], fields[19]];
    if (state === 'Z' || state === 'X' || startTime === undefined) return undefined;
    return `${pid} ${startTime} ${readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()}`;
  } catch {
    return undefined;
  }
}

/** Whether it is stopped, by SIGSTOP or a debugger: it does nothing until somebody lets it go on. */
export function isProcessStopped(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return /^[Tt]/.test(stat.slice(stat.lastIndexOf(')') + 2));
  } catch {
    return false;
  }
}

/** The name of this process. */
export function ownProcessIdentity(): string {
  const identity = processIdentity(process.pid);
  if (identity === undefined) throw new Error('/proc/self/stat: cannot be read; mount /proc');
  return identity;
}

/** Whether the process with this name still lives. */
export function isProcessAlive(identity: string): boolean {
  return processIdentity(Number(identity.split(' ')[0])) === identity;
}
