// Whether this user may open ping sockets (icmp(7)), by which an exit without rights sends pings of its guests on.

import { readParameter, type Closed } from './namespace-access.js';

const RANGE = 'net.ipv4.ping_group_range';

/** Why not; undefined = it may. @param groups of this process, the effective one among them */
export function pingsClosed(
  read: (parameter: string) => string | undefined = readParameter,
  groups: readonly number[] = [process.getegid?.() ?? -1, ...(process.getgroups?.() ?? [])],
): Closed | undefined {
  const range = read(RANGE);
  const [first = 1, last = 0] = (range ?? '1 0').split(/\s+/).map(Number);
  if (groups.some((group) => group >= first && group <= last)) return undefined;
  return {
    reason: `ping sockets are closed to this user (${RANGE} = ${range?.replace(/\s+/, ' ') ?? 'not readable'})`,
    remedy: `sudo sysctl -w ${RANGE}="0 2147483647"`,
  };
}
