// What QEMU becomes before it is QEMU: a process without rights, in an empty network namespace, which ends with the one
// that started it and leaves no core dump. By Debian's util-linux, each program of which becomes the next.

import { randomInt } from 'node:crypto';
import { readFileSync, readdirSync } from 'node:fs';

export interface Confinement {
  /** As whom it runs; undefined: as this process's user, who may not choose. */
  readonly user: number | undefined;
  /** The one group it has beside; only where the user is chosen. */
  readonly group: number | undefined;
  /** What it writes its number into. */
  readonly processFiles: readonly string[];
  /** Whether it runs only when nothing else wants to. */
  readonly isIdle: boolean;
}

/** Systemd keeps these for services whose users exist while they run (DynamicUser=): they own no file. */
const FIRST_USER = 61_184;
const LAST_USER = 65_519;

/** A user for one machine alone, so that none can look into another; undefined for who may not choose one. */
export function machineUser(taken: readonly number[]): number | undefined {
  if (process.getuid?.() !== 0) return undefined;
  // Of services, and of machines of another state directory.
  const running = runningUsers();
  for (;;) {
    const user = randomInt(FIRST_USER, LAST_USER + 1);
    if (!taken.includes(user) && !running.has(user)) return user;
  }
}

/** Users any process of this host runs as: the same one could end it, or look into it. */
export function runningUsers(): Set<number> {
  const users = readdirSync('/proc').flatMap((pid) => {
    if (!/^\d+$/.test(pid)) return [];
    try {
      const status = readFileSync(`/proc/${pid}/status`, 'utf8');
      return /^Uid:(.*)$/m.exec(status)?.[1]?.trim().split('\t').map(Number) ?? [];
    } catch {
      return []; // it ended meanwhile
    }
  });
  return new Set(users);
}

/** Writes the number of the process into the files before `--`, and becomes what is after it. */
const JOIN = 'while [ "$1" != -- ]; do echo $$ > "$1" || exit 125; shift; done; shift; exec "$@"';

/** The command that becomes `command`, confined. */
export function confined(
  { user, group, processFiles, isIdle }: Confinement,
  command: readonly string[],
): string[] {
  return [
    ...['sh', '-c', JOIN, 'sh', ...processFiles, '--'],
    ...(isIdle ? ['chrt', '--idle', '0'] : []),
    ...['prlimit', '--core=0', '--'],
    ...['unshare', ...(user === undefined ? ['--user'] : []), '--net', '--ipc', '--uts', '--'],
    ...['setpriv', '--no-new-privs', '--pdeathsig', 'KILL'],
    ...(user === undefined
      ? []
      : [
          ...['--reuid', String(user), '--regid', String(user)],
          ...(group === undefined ? ['--clear-groups'] : ['--groups', String(group)]),
          ...['--inh-caps=-all', '--bounding-set=-all'],
        ]),
    '--',
    ...command,
  ];
}
