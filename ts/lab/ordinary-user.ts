// A user without any capability, on a machine as Debian is after its installation: /dev/net/tun is open to all.

import { execFileSync } from 'node:child_process';
import { chmodSync, chownSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Debian's nobody and nogroup. */
const USER = 65_534;
const BECOME = ['setpriv', '--reuid', String(USER), '--regid', String(USER), '--clear-groups'];
const INSTALLATION = fileURLToPath(new URL('../../..', import.meta.url));

/** What stands before a command that is run as this user. */
export const asOrdinaryUser: readonly string[] = [...BECOME, '--'];

/** The same for a daemon. @param mode permissions of /dev/net/tun, as octal digits */
export function withTunDevice(mode = '666'): readonly string[] {
  const device = `mount -t tmpfs -o mode=755 none /dev/net && mknod -m ${mode} /dev/net/tun c 10 200`;
  return ['unshare', '-m', 'sh', '-c', `${device} && exec ${BECOME.join(' ')} -- "$0" "$@"`];
}

/** Gives a state directory to this user, who may pass the folder of the world it is in. */
export function giveToOrdinaryUser(folder: string): void {
  chmodSync(dirname(folder), 0o711);
  for (const name of ['.', ...readdirSync(folder, { recursive: true, encoding: 'utf8' })])
    chownSync(join(folder, name), USER, USER);
}

/** Why nothing can be run as this user here; undefined when it can. */
export function ordinaryUserUnavailable(): string | undefined {
  try {
    const [file = '', ...args] = asOrdinaryUser;
    execFileSync(file, [...args, 'test', '-x', join(INSTALLATION, 'bin', 'omerta')], { stdio: 'ignore' });
    execFileSync(file, [...args, 'unshare', '-Un', 'true'], { stdio: 'ignore' });
    return undefined;
  } catch {
    return 'user namespaces are closed, or this folder is, to a user without rights';
  }
}
