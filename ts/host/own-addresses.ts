// The addresses a node tells others to reach it by: those it was told to announce, else those of
// its interfaces.

import { existsSync } from 'node:fs';
import { networkInterfaces, type NetworkInterfaceInfo } from 'node:os';
import { formatSocketAddress, parseIp, type SocketAddress } from '../wire/socket-address.js';

/** A record and an invite have room for this many. */
const MAX_ADDRESSES = 8;

export interface AddressSources {
  readonly announce: readonly SocketAddress[];
  /** The address the socket is bound to; undefined = all. */
  readonly bind: string | undefined;
  readonly port: number;
  /** The mesh's own interface. Known by name as well, because /sys may be that of another namespace. */
  readonly ownTunnel?: string;
}

/** Whether an interface is a TUN or TAP device: its addresses lead into somebody's tunnel. */
function isTunnel(name: string): boolean {
  return existsSync(`/sys/class/net/${name}/tun_flags`);
}

/**
 * Addresses for records and invites, at most 8, IPv4 first. Loopback addresses are given only when
 * there are no others; link-local ones never, since they mean nothing without an interface; those of
 * tunnels never, since packets of a tunnel sent into a tunnel go round in circles.
 */
export function ownAddresses(
  sources: AddressSources,
  interfaces: NodeJS.Dict<NetworkInterfaceInfo[]> = networkInterfaces(),
  tunnel: (name: string) => boolean = isTunnel,
): SocketAddress[] {
  if (sources.announce.length > 0) return sources.announce.slice(0, MAX_ADDRESSES);
  const bound = sources.bind === undefined ? undefined : parseIp(sources.bind);
  if (bound !== undefined && bound.some((byte) => byte !== 0) && sources.bind !== '0.0.0.0')
    return [{ ip: bound, port: sources.port }];
  const all = Object.entries(interfaces)
    .filter(([name]) => name !== sources.ownTunnel && !tunnel(name))
    .flatMap(([, infos]) => infos ?? [])
    .filter(
      ({ address, family }) =>
        !/^fe[89ab]/i.test(address) && (sources.bind !== '0.0.0.0' || family === 'IPv4'),
    );
  const outside = all.filter(({ internal }) => !internal);
  return (outside.length > 0 ? outside : all)
    .sort((a, b) => (a.family === b.family ? 0 : a.family === 'IPv4' ? -1 : 1))
    .flatMap(({ address }) => {
      const ip = parseIp(address);
      return ip === undefined ? [] : [{ ip, port: sources.port }];
    })
    .slice(0, MAX_ADDRESSES);
}

/** Interfaces with an address others could send to: neither loopback nor the mesh's own tunnel. */
export function addressedInterfaces(
  ownTunnel: string,
  interfaces: NodeJS.Dict<NetworkInterfaceInfo[]> = networkInterfaces(),
): string[] {
  return Object.entries(interfaces)
    .filter(([name, infos]) => name !== ownTunnel && infos?.some(({ internal }) => !internal) === true)
    .map(([name]) => name);
}

/** Whether two address lists are the same, in the same order. */
export function sameAddresses(a: readonly SocketAddress[], b: readonly SocketAddress[]): boolean {
  const text = (list: readonly SocketAddress[]): string => list.map(formatSocketAddress).join(' ');
  return text(a) === text(b);
}
