// What a closed machine sends, as tables of nftables that no process owns: what is not for the tunnel is dropped in the IP
// layer, whatever route or socket it came by, and once more where frames leave (AF_PACKET, what is forwarded).
//
//   --paranoid      omerta_guard, of the daemon that uses an exit: both families, gone with `exit off`
//   omerta guard    omerta_boot, of the machine: IP layer alone, since no interface is there yet; gone with `guard remove`

import { BOOT_TABLE, EXIT_MARK, GUARD_TABLE } from './exit-numbers.js';

export interface GuardFacts {
  readonly tunnel: string;
  /** Interfaces that routes with a gateway lead out by. */
  readonly devices: readonly string[];
  /** Own IPv4 addresses in the tunnel: nobody on the link is told that they are here. */
  readonly inner: readonly string[];
  /** On-link prefixes that are reached directly; empty without --allow-lan. */
  readonly onLink: readonly string[];
}

/** Before the network there are no on-link prefixes to be known: with --allow-lan it is what is nobody's on the Internet. */
const PRIVATE = [
  '10.0.0.0/8',
  '169.254.0.0/16',
  '172.16.0.0/12',
  '192.168.0.0/16',
  'fc00::/7',
  'fe80::/10',
] as const;

/** Of both tables at the IP layer. */
export const IP_CHAINS = ['output', 'forward', 'input'] as const;

/** Both tables: made, replaced and removed in one transaction. */
export function guardTables({ tunnel, devices, inner, onLink }: GuardFacts): string {
  return [
    ...ipTable(GUARD_TABLE, tunnel, onLink),
    `table netdev ${GUARD_TABLE} {`,
    ...(devices.length === 0
      ? []
      : [
          'chain egress {',
          `type filter hook egress devices = { ${devices.map((name) => `"${name}"`).join(', ')} } priority filter; policy drop;`,
          ...(inner.length === 0 ? [] : [`arp saddr ip { ${inner.join(', ')} } drop`]),
          'ether type arp accept',
          ...allowed(onLink),
          '}',
        ]),
    '}',
    '',
  ].join('\n');
}

/** The machine's own table, in place of the one that is there: a file for `nft -f`, in one transaction. */
export function bootTable(tunnel: string, allowLan: boolean): string {
  const former = [`table inet ${BOOT_TABLE}`, `delete table inet ${BOOT_TABLE}`];
  return [...former, ...ipTable(BOOT_TABLE, tunnel, allowLan ? PRIVATE : []), ''].join('\n');
}

function ipTable(table: string, tunnel: string, onLink: readonly string[]): string[] {
  return [
    `table inet ${table} {`,
    'chain output {',
    'type filter hook output priority filter + 10; policy drop;',
    `oifname { "lo", "${tunnel}" } accept`,
    ...allowed(onLink),
    '}',
    'chain forward {',
    'type filter hook forward priority filter + 10; policy drop;',
    `oifname "${tunnel}" accept`,
    `iifname "${tunnel}" accept`,
    ...lanRules(onLink),
    '}',
    // Who is on the link finds out nothing about connections in the tunnel (CVE-2019-14899).
    'chain input {',
    'type filter hook prerouting priority raw; policy accept;',
    `iifname { "lo", "${tunnel}" } accept`,
    'fib daddr type local fib daddr . iif type != local drop',
    '}',
    '}',
  ];
}

function allowed(onLink: readonly string[]): string[] {
  return [
    // The engine's own datagrams.
    `meta mark ${EXIT_MARK} meta l4proto udp accept`,
    // Without these there is no link: neighbours, routers, an address.
    'icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit } accept',
    'udp sport 68 udp dport 67 accept',
    'udp sport 546 udp dport 547 accept',
    // Names never: also where the LAN is allowed.
    'meta l4proto { tcp, udp } th dport 53 drop',
    ...lanRules(onLink),
  ];
}

const lanRules = (onLink: readonly string[]): string[] =>
  onLink.map((prefix) => `${prefix.includes(':') ? 'ip6' : 'ip'} daddr ${prefix} accept`);
