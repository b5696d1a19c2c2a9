// The guard of --paranoid: two tables of nftables that no process owns. What is not for the tunnel is dropped in the IP
// layer, whatever route or socket it came by, and once more where frames leave (AF_PACKET, what is forwarded).

import { EXIT_MARK, GUARD_TABLE } from './exit-numbers.js';

export interface GuardFacts {
  readonly tunnel: string;
  /** Interfaces that routes with a gateway lead out by. */
  readonly devices: readonly string[];
  /** Own IPv4 addresses in the tunnel: nobody on the link is told that they are here. */
  readonly inner: readonly string[];
  /** On-link prefixes that are reached directly; empty without --allow-lan. */
  readonly onLink: readonly string[];
}

/** Both tables: made, replaced and removed in one transaction. */
export function guardTables({ tunnel, devices, inner, onLink }: GuardFacts): string {
  const lan = onLink.map((prefix) => `${prefix.includes(':') ? 'ip6' : 'ip'} daddr ${prefix} accept`);
  const allowed = [
    // The engine's own datagrams.
    `meta mark ${EXIT_MARK} meta l4proto udp accept`,
    // Without these there is no link: neighbours, routers, an address.
    'icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit } accept',
    'udp sport 68 udp dport 67 accept',
    'udp sport 546 udp dport 547 accept',
    // Names never: also where the LAN is allowed.
    'meta l4proto { tcp, udp } th dport 53 drop',
    ...lan,
  ];
  return [
    `table inet ${GUARD_TABLE} {`,
    'chain output {',
    'type filter hook output priority filter + 10; policy drop;',
    `oifname { "lo", "${tunnel}" } accept`,
    ...allowed,
    '}',
    'chain forward {',
    'type filter hook forward priority filter + 10; policy drop;',
    `oifname "${tunnel}" accept`,
    `iifname "${tunnel}" accept`,
    ...lan,
    '}',
    // Who is on the link finds out nothing about connections in the tunnel (CVE-2019-14899).
    'chain input {',
    'type filter hook prerouting priority raw; policy accept;',
    `iifname { "lo", "${tunnel}" } accept`,
    'fib daddr type local fib daddr . iif type != local drop',
    '}',
    '}',
    `table netdev ${GUARD_TABLE} {`,
    ...(devices.length === 0
      ? []
      : [
          'chain egress {',
          `type filter hook egress devices = { ${devices.map((name) => `"${name}"`).join(', ')} } priority filter; policy drop;`,
          ...(inner.length === 0 ? [] : [`arp saddr ip { ${inner.join(', ')} } drop`]),
          'ether type arp accept',
          ...allowed,
          '}',
        ]),
    '}',
    '',
  ].join('\n');
}
