// Whether this user may make private networks: a user and a network namespace, and a TUN interface in it.

import { readFileSync } from 'node:fs';

/** Kernel parameters that close user namespaces to ordinary users, with the value that does, and one that does not. */
const CLOSED_BY: readonly (readonly [parameter: string, closed: string, open: string])[] = [
  ['kernel.unprivileged_userns_clone', '0', '1'],
  ['user.max_user_namespaces', '0', '15000'],
  ['user.max_net_namespaces', '0', '15000'],
  ['kernel.apparmor_restrict_unprivileged_userns', '1', '0'],
];

export interface Closed {
  readonly reason: string;
  /** The command that opens it. */
  readonly remedy: string;
}

/** The value of a kernel parameter; undefined when this kernel has none of that name. */
export function readParameter(name: string): string | undefined {
  try {
    return readFileSync(`/proc/sys/${name.replaceAll('.', '/')}`, 'utf8').trim();
  } catch {
    return undefined;
  }
}

/** Why user namespaces are closed here, as far as kernel parameters say so. */
export function namespacesClosed(
  read: (parameter: string) => string | undefined = readParameter,
): Closed | undefined {
  const found = CLOSED_BY.find(([parameter, closed]) => read(parameter) === closed);
  if (found === undefined) return undefined;
  const [parameter, value, open] = found;
  return {
    reason: `user namespaces are closed (${parameter} = ${value})`,
    remedy: `sudo sysctl -w ${parameter}=${open}`,
  };
}
