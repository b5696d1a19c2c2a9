// The gateway this machine reaches the Internet by, and its own address towards it: whom a port mapping, or for IPv6 a
// hole in the firewall, is asked of.

import { networkInterfaces, type NetworkInterfaceInfo } from 'node:os';
import { fromHex } from '../wire/bytes.js';
import { isPrivate } from '../wire/reach.js';
import { isIPv4, parseIp } from '../wire/socket-address.js';
import { hostSettings, type HostSettings } from './host-tuning.js';

export interface DefaultGateway {
  /** 16 bytes. */
  readonly gateway: Uint8Array;
  /** Own address towards it, 16 bytes. */
  readonly local: Uint8Array;
  /** By which a gateway with a link-local address is reached. */
  readonly device: string;
}

/** What is looked at; tests give another. */
export interface GatewayHost {
  readonly settings: Pick<HostSettings, 'read'>;
  readonly interfaces: NodeJS.Dict<NetworkInterfaceInfo[]>;
}

const FLAG_GATEWAY = 2;
const SCOPE_GLOBAL = '00';
/** IFA_F_TEMPORARY. */
const TEMPORARY = 0x01;
/** IFA_F_DADFAILED, IFA_F_DEPRECATED, IFA_F_TENTATIVE. */
const UNUSABLE = 0x08 | 0x20 | 0x40;

/**
 * Of the default route of IPv4 with the lowest metric. Undefined where there is none, where it needs no gateway, and
 * where the own address is not a private one: nothing translates it then.
 * @param bind the address the node is bound to; undefined = all
 */
export function defaultGateway(
  bind: string | undefined,
  ownTunnel: string,
  host: GatewayHost = { settings: hostSettings, interfaces: networkInterfaces() },
): DefaultGateway | undefined {
  const bound = bind === undefined ? undefined : parseIp(bind);
  for (const { device, gateway } of defaultRoutes(host.settings)) {
    if (device === ownTunnel) continue;
    const local = (host.interfaces[device] ?? []).find((info) => isTowards(info, gateway));
    const ip = local && parseIp(local.address);
    if (ip === undefined || !isPrivate(ip)) return undefined;
    return bound === undefined || isAny(bound) || bound.join() === ip.join()
      ? { gateway, local: ip, device }
      : undefined;
  }
  return undefined;
}

/**
 * The same of IPv6, where nothing translates as a rule, but a firewall lets nothing in unasked: own addresses that others
 * can send to alone. Undefined where the default route has no gateway, or the interface no such address.
 */
export function defaultGateway6(
  bind: string | undefined,
  ownTunnel: string,
  settings: Pick<HostSettings, 'read'> = hostSettings,
): DefaultGateway | undefined {
  const bound = bind === undefined ? undefined : parseIp(bind);
  for (const { device, gateway } of defaultRoutes6(settings)) {
    if (device === ownTunnel) continue;
    const own = addresses6(settings, device);
    const local =
      bound === undefined || isAny(bound) ? own[0] : own.find((each) => each.join() === bound.join());
    return local && { gateway, local, device };
  }
  return undefined;
}

/** From /proc/net/ipv6_route: destination, its length, source, its length, next hop, metric, …, flags, device, in hex. */
function defaultRoutes6(settings: Pick<HostSettings, 'read'>): { device: string; gateway: Uint8Array }[] {
  return lines(settings, '/proc/net/ipv6_route')
    .flatMap(([destination, length, , , via = '', metric = '', , , flags = '', device]) => {
      const isDefault = length === '00' && destination === '0'.repeat(32);
      if (device === undefined || !isDefault || (Number.parseInt(flags, 16) & FLAG_GATEWAY) === 0) return [];
      const gateway = fromHex(via);
      return gateway?.length === 16 ? [{ device, gateway, metric: Number.parseInt(metric, 16) }] : [];
    })
    .toSorted((a, b) => a.metric - b.metric);
}

/**
 * Own addresses of an interface that others can send to, from /proc/net/if_inet6: address, index, length, scope, flags,
 * device, in hex. Those that stay come before temporary ones (RFC 8981), of which each would want a hole of its own.
 */
function addresses6(settings: Pick<HostSettings, 'read'>, device: string): Uint8Array[] {
  return lines(settings, '/proc/net/if_inet6')
    .flatMap(([text = '', , , scope, flags = '', name]) => {
      const ip = fromHex(text);
      const bits = Number.parseInt(flags, 16);
      const isUsable = name === device && scope === SCOPE_GLOBAL && (bits & UNUSABLE) === 0;
      return isUsable && ip?.length === 16 && !isPrivate(ip) ? [{ ip, bits }] : [];
    })
    .toSorted((a, b) => (a.bits & TEMPORARY) - (b.bits & TEMPORARY))
    .map(({ ip }) => ip);
}

const lines = (settings: Pick<HostSettings, 'read'>, path: string): string[][] =>
  (settings.read(path) ?? '').split('\n').map((line) => line.trim().split(/\s+/));

/** From /proc/net/route: numbers in hex, addresses in the machine's byte order (of which Linux runs on little-endian here). */
function defaultRoutes(settings: Pick<HostSettings, 'read'>): { device: string; gateway: Uint8Array }[] {
  return lines(settings, '/proc/net/route')
    .flatMap(([device, destination, via = '', flags = '', , , metric, mask]) => {
      const isDefault = destination === '00000000' && mask === '00000000';
      if (device === undefined || !isDefault || (Number.parseInt(flags, 16) & FLAG_GATEWAY) === 0) return [];
      const bytes = Buffer.from(via, 'hex').reverse();
      const gateway = parseIp(bytes.join('.'));
      return gateway === undefined ? [] : [{ device, gateway, metric: Number(metric) }];
    })
    .toSorted((a, b) => a.metric - b.metric);
}

/** Whether the gateway is in this address's network. */
function isTowards({ address, netmask, family }: NetworkInterfaceInfo, gateway: Uint8Array): boolean {
  const [own, mask] = [parseIp(address), parseIp(netmask)];
  if (family !== 'IPv4' || own === undefined || mask === undefined) return false;
  return [12, 13, 14, 15].every(
    (at) => ((own[at] ?? 0) & (mask[at] ?? 0)) === ((gateway[at] ?? 0) & (mask[at] ?? 0)),
  );
}

function isAny(ip: Uint8Array): boolean {
  return ip.every((byte, at) => byte === 0 || (at === 10 && isIPv4(ip)) || (at === 11 && isIPv4(ip)));
}
