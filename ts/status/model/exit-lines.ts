// What `omerta status` and the status page say of exits: who leaves by this node, and by whom it leaves.

import { formatBytes, formatDuration } from '../../host/units.js';
import type { RouteStatus } from '../../core/runtime/exit-change.js';
import type { DaemonStatus, PrivatePortStatus } from './daemon-status.js';
import { wordBackend, wordExitState } from './exit-report.js';

/** Guests that are named; `omerta exit status` has all of them. */
const MAX_GUESTS = 8;

/** Term and text; none where this node has nothing of exits, routes and ports of a private network. */
export function exitLines({
  mesh,
  sessions,
  exit: host,
  privatePorts = [],
}: Pick<DaemonStatus, 'mesh' | 'sessions' | 'exit' | 'privatePorts'>): [string, string][] {
  const { service, guests, choice } = mesh.exit;
  const members = mesh.networks.flatMap((network) => network.members);
  const memberOf = (peerId: string) => members.find((member) => member.peerId === peerId);
  const nameOf = (peerId: string): string => memberOf(peerId)?.name ?? `${peerId.slice(0, 14)}…`;
  const lines: [string, string][] = [];
  if (host?.error !== undefined) lines.push(['exit', `NOT IN ORDER: ${host.error}. See: omerta exit status`]);
  if (service !== undefined) {
    const served = families(service);
    const names = service.dns ? 'names resolved' : 'names not resolved';
    lines.push([
      'exit served',
      `${served}, ${names}, by ${wordBackend[host?.backend ?? 'kernel']}, ${guests.length} leave by it`,
    ]);
    for (const { peerId, sinceMs } of guests.slice(0, MAX_GUESTS)) {
      const session = sessions.find(({ sessionKey }) => sessionKey === memberOf(peerId)?.sessionKey);
      const bytes =
        session === undefined
          ? ''
          : `, session: ${formatBytes(session.rxBytes)} from it, ${formatBytes(session.txBytes)} to it`;
      lines.push(['', `${nameOf(peerId)} since ${formatDuration(sinceMs / 1000)}${bytes}`]);
    }
    if (guests.length > MAX_GUESTS) lines.push(['', 'and others: omerta exit status']);
  }
  const [first] = choice;
  if (first !== undefined) {
    const active = choice.find(({ isActive }) => isActive);
    const what = host === undefined || host.include.length === 0 ? 'everything' : host.include.join(' ');
    const guard = host?.paranoid === true ? ', with the guard on' : '';
    lines.push([
      'exit used',
      active === undefined
        ? `CLOSED${guard}: ${nameOf(first.peerId)} ${wordExitState(first.state)?.what ?? first.state}. See: omerta exit status`
        : `${what} leaves by ${nameOf(active.peerId)} (${families(active)}${active.dns ? ', names too' : ''})${guard}`,
    ]);
  }
  lines.push(...routeLines(mesh.routes, nameOf), ...privatePorts.map(portLine));
  return lines;
}

/** LANs behind this node, and those behind members. */
function routeLines(
  { advertised, guests, accepted }: RouteStatus,
  nameOf: (peerId: string) => string,
): [string, string][] {
  const reached = accepted.filter(({ isActive }) => isActive);
  const missing = accepted.filter(({ isActive, state }) => !isActive && state !== 'standby');
  return [
    ...(advertised.length === 0
      ? []
      : [['routes advertised', `${advertised.join(' ')}, ${guests.length} reach them`] as [string, string]]),
    ...(accepted.length === 0
      ? []
      : [
          [
            'routes accepted',
            [
              ...reached.map(({ prefix, peerId }) => `${prefix} by ${nameOf(peerId)}`),
              ...(missing.length === 0
                ? []
                : [`UNREACHABLE: ${missing.map(({ prefix }) => prefix).join(' ')}. See: omerta route list`]),
            ].join(', '),
          ] as [string, string],
        ]),
  ];
}

/** A port of [socks] or [[forward]]. */
function portLine(port: PrivatePortStatus): [string, string] {
  const isUdp = port.kind === 'forward' && port.udp;
  const used = `${port.open} open${port.refused === 0 ? '' : `, ${port.refused} refused`}`;
  if (port.kind === 'socks')
    return ['socks', `at ${port.listen}, ${port.hasPassword ? 'by password, ' : ''}${used}`];
  return ['forward', `${port.side} ${port.spec}${isUdp ? ' (UDP)' : ''}, ${used}`];
}

function families({ ipv4, ipv6 }: { readonly ipv4: boolean; readonly ipv6: boolean }): string {
  if (ipv4 && ipv6) return 'IPv4 and IPv6';
  return ipv4 ? 'IPv4 alone' : 'IPv6 alone';
}
