// Where an exit never forwards to, unless the operator names it: what is private, special or the exit's own.
// The engine holds packets against it (setExitRules); nftables does so once more.

import type { NetworkInterfaceInfo } from 'node:os';
import type { ExitRule } from '../contract/exit-control.js';
import { isPrivate } from '../wire/reach.js';
import { isIPv4, parseIp } from '../wire/socket-address.js';
import { containsIp, formatPrefix, parsePrefix, type Prefix } from '../wire/prefix.js';

/** RFC 6890 and its registries: what is nobody's on the Internet, or somebody else's in each network. */
export const DENIED_IPV4: readonly string[] = [
  '0.0.0.0/8',
  '10.0.0.0/8',
  '100.64.0.0/10',
  '127.0.0.0/8',
  '168.63.129.16/32', // Azure's platform: it hands secrets to whoever sends from a machine there
  '169.254.0.0/16',
  '172.16.0.0/12',
  '192.0.0.0/24',
  '192.168.0.0/16',
  '198.18.0.0/15',
  '224.0.0.0/3',
];
export const DENIED_IPV6: readonly string[] = ['::/8', '2001::/32', 'fc00::/7', 'fe80::/9', 'ff00::/8'];
/** Of ::/8, this is permitted where the IPv4 address inside is (RFC 6052). */
export const NAT64 = '64:ff9b::/96';

export type Interfaces = NodeJS.Dict<NetworkInterfaceInfo[]>;

/**
 * The exit's own addresses and what is on-link at its interfaces, but for `tunnel`, which the ranges above hold, as
 * they do the loopback addresses; others of the interface lo are its own.
 */
export function ownRanges(interfaces: Interfaces, tunnel: string): string[] {
  const found = Object.entries(interfaces).flatMap(([name, infos]) =>
    (name === tunnel ? [] : (infos ?? [])).flatMap(({ address, cidr }) => {
      const ip = parseIp(address.replace(/%.*$/, ''));
      if (ip === undefined || isLoopback(address)) return [];
      const onLink = cidr === null ? undefined : parsePrefix(cidr.replace(/%[^/]*/, ''));
      const own: Prefix = { family: isIPv4(ip) ? 4 : 6, length: isIPv4(ip) ? 32 : 128, ip };
      return [formatPrefix(own), ...(onLink === undefined ? [] : [formatPrefix(networkOf(onLink))])];
    }),
  );
  return [...new Set(found)].sort();
}

/**
 * The host's addresses (16 bytes each) as prefixes of one address: at one of an interface without a carrier too it
 * answers, which `ownRanges` is not told of.
 */
export function hostRanges(addresses: readonly Uint8Array[]): string[] {
  return addresses.map((ip) =>
    formatPrefix(isIPv4(ip) ? { family: 4, length: 32, ip } : { family: 6, length: 128, ip }),
  );
}

/** Private on-link prefixes: whoever gives out addresses on a link does not make a part of the Internet on-link so. */
export function onLinkRanges(interfaces: Interfaces, tunnel: string): string[] {
  return ownRanges(interfaces, tunnel).filter((text) => {
    const prefix = parsePrefix(text);
    const isLinkLocal = prefix?.ip[0] === 0xfe && ((prefix.ip[1] ?? 0) & 0xc0) === 0x80;
    return prefix !== undefined && !isHost(text) && (isPrivate(prefix.ip) || isLinkLocal);
  });
}

/** What the engine is told: of equal prefixes the last counts, so what the operator permits comes last. */
export function exitRules(own: readonly string[], lan: readonly string[]): ExitRule[] {
  const denied = (prefix: string): ExitRule => ({ prefix, denied: true });
  const permitted = (prefix: string): ExitRule => ({ prefix, denied: false });
  return [
    ...[...DENIED_IPV4, ...DENIED_IPV6].map(denied),
    permitted(NAT64),
    ...own.map(denied),
    ...lan.map(permitted),
    // The exit's own addresses stay its own, also in a LAN that is permitted.
    ...own.filter(isHost).map(denied),
  ];
}

/** What the engine is told of LANs behind this node: all that none of them holds is denied. */
export function lanRules(own: readonly string[], advertised: readonly string[]): ExitRule[] {
  return [
    ...advertised.map((prefix) => ({ prefix, denied: false })),
    ...own.filter(isHost).map((prefix) => ({ prefix, denied: true })),
  ];
}

export const isLoopback = (address: string): boolean => address === '::1' || address.startsWith('127.');

const isHost = (prefix: string): boolean => /\/(32|128)$/.test(prefix) && !/:.*\/32$/.test(prefix);

/** The prefix with the bits beyond its length cleared. */
export function networkOf({ family, length, ip }: Prefix): Prefix {
  const bits = family === 4 ? 96 + length : length;
  const cleared = ip.map((byte, index) => {
    const kept = Math.min(Math.max(bits - index * 8, 0), 8);
    return byte & (0xff << (8 - kept)) & 0xff;
  });
  return { family, length, ip: cleared };
}

/** Of the prefixes of this interface that hold an address of `prefix`. */
export function interfaceTowards(interfaces: Interfaces, prefix: Prefix): string | undefined {
  return Object.entries(interfaces).find(([, infos]) =>
    infos?.some(({ cidr }) => {
      const onLink = cidr === null ? undefined : parsePrefix(cidr.replace(/%[^/]*/, ''));
      return onLink !== undefined && onLink.length > 0 && containsIp(onLink, prefix.ip);
    }),
  )?.[0];
}

/** The same ranges by which IPv6 has an IPv4 address inside: RFC 6052 (/96), RFC 3056 (2002::/16). */
export function embedded(ipv4: readonly string[]): string[] {
  return ipv4.flatMap((text) => {
    const prefix = parsePrefix(text);
    if (prefix?.family !== 4) return [];
    const v4 = prefix.ip.subarray(12);
    const nat64 = new Uint8Array(16);
    nat64.set([0x00, 0x64, 0xff, 0x9b]);
    nat64.set(v4, 12);
    const sixToFour = new Uint8Array(16);
    sixToFour.set([0x20, 0x02]);
    sixToFour.set(v4, 2);
    return [
      formatPrefix({ family: 6, length: 96 + prefix.length, ip: nat64 }),
      formatPrefix({ family: 6, length: 16 + prefix.length, ip: sixToFour }),
    ];
  });
}
