// The gateway this machine reaches the Internet by, and its own address towards it: whom a port mapping is asked of.

import { networkInterfaces, type NetworkInterfaceInfo } from 'node:os';
import { isPrivate } from '../wire/reach.js';
import { isIPv4, parseIp } from '../wire/socket-address.js';
import { hostSettings, type HostSettings } from './host-tuning.js';

export interface DefaultGateway {
  /** IPv4, 16 bytes. */
  readonly gateway: Uint8Array;
  /** Own address on the same network, 16 bytes. */
  readonly local: Uint8Array;
}

/** What is looked at; tests give another. */
export interface GatewayHost {
  readonly settings: Pick<HostSettings, 'read'>;
  readonly interfaces: NodeJS.Dict<NetworkInterfaceInfo[]>;
}

const FLAG_GATEWAY = 2;

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
      ? { gateway, local: ip }
      : undefined;
  }
  return undefined;
}

/** From /proc/net/route: numbers in hex, addresses in the machine's byte order (of which Linux runs on little-endian here). */
function defaultRoutes(settings: Pick<HostSettings, 'read'>): { device: string; gateway: Uint8Array }[] {
  return (settings.read('/proc/net/route') ?? '')
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
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
