// The interfaces a node can send from, as the core is told of them: each address that others can send to,
// the mesh's own tunnel and other tunnels left out, and bridges of virtual machines.

import { networkInterfaces, type NetworkInterfaceInfo } from 'node:os';
import type { LocalInterface } from '../core/path/local-interface.js';
import { Reach, reachOf } from '../wire/reach.js';
import { isIPv4, parseIp } from '../wire/socket-address.js';
import { defaultRouteDevices, hostSettings, type HostSettings } from './host-tuning.js';
import { interfaceKind, type HostInterfaces } from './own-addresses.js';

/** A contact has room for more than interfaces. */
const MAX_INTERFACES = 8;

export interface InterfaceSources {
  /** The address the socket is bound to; undefined = all. */
  readonly bind: string | undefined;
  readonly port: number;
  /** The mesh's own interface. */
  readonly ownTunnel: string;
  /** In what order interfaces are used, by name, lower first; default: all are equal. */
  readonly ranks?: ((name: string) => Pick<LocalInterface, 'rank' | 'controlRank'>) | undefined;
}

/** What the machine has, and the index of an interface by its name; tests give another. */
export interface LocalHost extends HostInterfaces {
  readonly index: (name: string) => number;
}

/**
 * The indexes of the interfaces that have addresses, by name. From /proc/net, which is of the network namespace
 * this process is in; what /sys shows may be another's, and an index of that one sends nothing.
 */
export function interfaceIndexes(settings: Pick<HostSettings, 'read'>): ReadonlyMap<string, number> {
  const lines = (path: string): string[] => (settings.read(path) ?? '').split('\n');
  const indexes = new Map<string, number>();
  for (const line of lines('/proc/net/igmp')) {
    const [, index, name] = /^(\d+)\s+(\S+)\s*:/.exec(line) ?? [];
    if (name !== undefined) indexes.set(name, Number(index));
  }
  for (const line of lines('/proc/net/if_inet6')) {
    const [, index, , , , name] = line.trim().split(/\s+/);
    if (name !== undefined && index !== undefined) indexes.set(name, Number.parseInt(index, 16));
  }
  return indexes;
}

function present(): LocalHost {
  const indexes = interfaceIndexes(hostSettings);
  return {
    interfaces: networkInterfaces(),
    defaultRoutes: defaultRouteDevices(hostSettings),
    kind: interfaceKind,
    // 0: routing chooses, where the kernel has neither list.
    index: (name) => indexes.get(name) ?? 0,
  };
}

/** At most 8, those default routes lead out by first. */
export function localInterfaces(sources: InterfaceSources, host: LocalHost = present()): LocalInterface[] {
  const bound = sources.bind === undefined ? undefined : parseIp(sources.bind);
  const place = (name: string): number => {
    const route = host.defaultRoutes.indexOf(name);
    return route < 0 ? host.defaultRoutes.length : route;
  };
  return Object.keys(host.interfaces)
    .filter((name) => name !== sources.ownTunnel && isUplink(name, host))
    .toSorted((a, b) => place(a) - place(b))
    .flatMap((name) =>
      (host.interfaces[name] ?? [])
        .flatMap((info) => addressOf(info, bound))
        .map((ip) => ({
          source: { ip, interface: host.index(name) },
          name,
          port: sources.port,
          ...(sources.ranks?.(name) ?? { rank: 0 }),
        })),
    )
    .slice(0, MAX_INTERFACES);
}

/** Whether two lists are of the same addresses on the same interfaces. */
export function sameInterfaces(a: readonly LocalInterface[], b: readonly LocalInterface[]): boolean {
  const text = (list: readonly LocalInterface[]): string =>
    list
      .map(({ source: { ip, interface: index }, port, rank, controlRank }) =>
        [ip.join('.'), index, port, rank, controlRank].join(),
      )
      .join(' ');
  return text(a) === text(b);
}

function isUplink(name: string, host: LocalHost): boolean {
  const { tunnel, bridge } = host.kind(name);
  return !tunnel && (!bridge || host.defaultRoutes.includes(name));
}

function addressOf({ address }: NetworkInterfaceInfo, bound: Uint8Array | undefined): Uint8Array[] {
  const ip = parseIp(address.replace(/%.*$/, ''));
  if (ip === undefined || reachOf(ip) < Reach.cable) return [];
  const isAny =
    bound === undefined || bound.every((byte, index) => byte === 0 || (index >= 10 && index < 12));
  if (!isAny && ip.join() !== bound.join()) return [];
  // Bound to 0.0.0.0, a socket has no IPv6.
  return bound !== undefined && isAny && isIPv4(bound) && !isIPv4(ip) ? [] : [ip];
}
