// Hosts as a private network knows them: members by their names, all others as its resolver has them.

import { peerRows, type DaemonStatus } from '../status/model/daemon-status.js';
import { parseIp } from '../wire/socket-address.js';
import type { InnerNetwork } from './inner-network.js';
import { NameResolver } from './name-resolver.js';

/** Where programs of a private network ask for names: in it. */
export const PRIVATE_RESOLVER = '127.0.0.1';

/**
 * Addresses of a host; empty = it has none.
 * @param status of the daemon whose network it is
 */
export function hostsIn(
  network: InnerNetwork,
  status: () => DaemonStatus | Promise<DaemonStatus>,
): (host: string) => Promise<readonly string[]> {
  const names = new NameResolver(network, PRIVATE_RESOLVER);
  return async (host) => {
    if (parseIp(host) !== undefined) return [host];
    if (!host.includes('.')) {
      const rows = peerRows(await status());
      const member = rows.find(({ kind, name }) => kind === 'member' && name === host.toLowerCase());
      if (member !== undefined) return member.addresses;
    }
    return names.resolve(host);
  };
}
