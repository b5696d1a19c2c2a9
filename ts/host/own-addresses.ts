// The addresses a node tells others to reach it by: those it was told to announce, else those of
// its interfaces.
//
// Which, and in which order. Others can use an address that is unicast and means the same everywhere:
// link-local ones (RFC 4291, section 2.5.6; RFC 3927) mean something on one cable only, loopback ones on one
// machine. They are told when there are no others: a machine without a network, two on one cable. Addresses
// in somebody's tunnel are never told: packets of a tunnel sent into a tunnel go round in circles. First
// come those of the interfaces default routes lead out by, last those of bridges none leads out by, which
// are for virtual machines and containers.

import { existsSync } from 'node:fs';
import { networkInterfaces, type NetworkInterfaceInfo } from 'node:os';
import {
  formatSocketAddress,
  isIPv4,
  parseIp,
  parseSocketAddress,
  type SocketAddress,
} from '../wire/socket-address.js';
import { Reach, reachOf } from '../wire/reach.js';
import { defaultRouteDevices, hostSettings } from './host-tuning.js';

/** A record and an invite have room for this many. */
const MAX_ADDRESSES = 8;
/** Of those, kept for the family that has fewer. */
const OTHER_FAMILY = 2;

export interface AddressSources {
  readonly announce: readonly SocketAddress[];
  /** The address the socket is bound to; undefined = all. */
  readonly bind: string | undefined;
  readonly port: number;
  /** The mesh's own interface. Known by name as well, because /sys may be that of another namespace. */
  readonly ownTunnel?: string;
}

/** Whether others can be told to send to this text, `address:port`. */
export function isAnnounceable(text: string): boolean {
  const address = parseSocketAddress(text);
  return address !== undefined && address.port !== 0 && reachOf(address.ip) !== Reach.nowhere;
}

/** What an interface is, as far as it matters here. */
export interface InterfaceKind {
  /** It leads into somebody's tunnel. */
  readonly tunnel: boolean;
  readonly bridge: boolean;
}

/** linux/if_arp.h: ARPHRD_TUNNEL, _TUNNEL6, _SIT, _IPGRE, _IP6GRE. */
const TUNNEL_TYPES = ['768', '769', '776', '778', '823'];

/** Looks into /sys. */
export function interfaceKind(name: string): InterfaceKind {
  const folder = `/sys/class/net/${name}`;
  const text = (file: string): string => hostSettings.read(`${folder}/${file}`) ?? '';
  return {
    tunnel:
      existsSync(`${folder}/tun_flags`) ||
      /^DEVTYPE=(wireguard|ovpn)$/m.test(text('uevent')) ||
      TUNNEL_TYPES.includes(text('type').trim()),
    bridge: existsSync(`${folder}/bridge`),
  };
}

/** The machine as it is now; tests give another. */
export interface HostInterfaces {
  readonly interfaces: NodeJS.Dict<NetworkInterfaceInfo[]>;
  /** Names of those default routes lead out by, the preferred first. */
  readonly defaultRoutes: readonly string[];
  readonly kind: (name: string) => InterfaceKind;
}

function present(): HostInterfaces {
  return {
    interfaces: networkInterfaces(),
    defaultRoutes: defaultRouteDevices(hostSettings),
    kind: interfaceKind,
  };
}

/** Whether the operator chose the addresses, by announcing them or binding to one. */
export function areChosen({ announce, bind }: AddressSources): boolean {
  return announce.length > 0 || isOneAddress(bind);
}

function isOneAddress(bind: string | undefined): bind is string {
  return (
    bind !== undefined &&
    parseIp(bind)?.some((byte, index) => byte !== 0 && index !== 10 && index !== 11) === true
  );
}

/** Addresses for records and invites, at most 8, in the order others are to try them. */
export function ownAddresses(sources: AddressSources, host: HostInterfaces = present()): SocketAddress[] {
  const { announce, bind, port, ownTunnel } = sources;
  if (announce.length > 0) return announce.slice(0, MAX_ADDRESSES);
  const bound = isOneAddress(bind) ? parseIp(bind) : undefined;
  if (bound !== undefined) return [{ ip: bound, port }];
  const found = Object.entries(host.interfaces)
    .filter(([name]) => name !== ownTunnel && !host.kind(name).tunnel)
    .flatMap(([name, infos]) => {
      const route = host.defaultRoutes.indexOf(name);
      const place = route >= 0 ? route : host.defaultRoutes.length + (host.kind(name).bridge ? 1 : 0);
      return (infos ?? []).flatMap(({ address }) => {
        const ip = parseIp(address.replace(/%.*$/, ''));
        return ip === undefined || (bind === '0.0.0.0' && !isIPv4(ip))
          ? []
          : [{ ip, place, reach: reachOf(ip) }];
      });
    });
  const best = Math.max(...found.map(({ reach }) => reach), Reach.machine);
  return shareOut(
    found
      .filter(({ reach }) => reach === best)
      .sort(
        (a, b) =>
          a.place - b.place ||
          Number(isIPv4(b.ip)) - Number(isIPv4(a.ip)) ||
          Number(isUniqueLocal(a.ip)) - Number(isUniqueLocal(b.ip)),
      )
      .map(({ ip }) => ({ ip, port })),
  );
}

/** RFC 4193. */
function isUniqueLocal(ip: Uint8Array): boolean {
  return ((ip[0] ?? 0) & 0xfe) === 0xfc;
}

/** The first ones, with some of either family: who has one family only is to find an address too. */
function shareOut(addresses: readonly SocketAddress[]): SocketAddress[] {
  const room = (ipv4: boolean): number => {
    const others = addresses.filter(({ ip }) => isIPv4(ip) !== ipv4).length;
    return MAX_ADDRESSES - Math.min(others, OTHER_FAMILY);
  };
  const left = new Map([true, false].map((ipv4) => [ipv4, room(ipv4)]));
  return addresses
    .filter(({ ip }) => {
      const room = left.get(isIPv4(ip)) ?? 0;
      left.set(isIPv4(ip), room - 1);
      return room > 0;
    })
    .slice(0, MAX_ADDRESSES);
}

/** How far the best of these reaches. */
function reachOfBest(addresses: readonly SocketAddress[]): Reach {
  return addresses.reduce<Reach>((best, { ip }) => (reachOf(ip) > best ? reachOf(ip) : best), Reach.nowhere);
}

/**
 * What others are to be told from now on: addresses found while the network is away, as at boot, do not
 * take the place of better ones known before.
 */
export function betterAddresses(
  known: readonly SocketAddress[],
  found: readonly SocketAddress[],
): readonly SocketAddress[] {
  return reachOfBest(found) < reachOfBest(known) ? known : found;
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
