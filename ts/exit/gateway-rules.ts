// Rules of the private network by which what guests send to anybody else arrives at the gateway's sockets.

import { SERVE_TABLE } from './exit-numbers.js';

/** Of packets that are for the gateway, and of the table in which everything is for this host. */
const MARK = 28_526;
const TABLE = 28_526;

export interface GatewayPorts {
  readonly tunnel: string;
  readonly tcp: number;
  readonly udp: number;
  /** Own inner addresses: what is sent there is for this member. */
  readonly own: readonly string[];
  readonly ipv4: boolean;
  readonly ipv6: boolean;
}

const table = SERVE_TABLE;

/**
 * What a guest's address may begin and send, so that neither the queue of connections that wait to be accepted nor that of
 * datagrams is one guest's. Counted apart from what the gateway refuses (GUEST_BOUNDS).
 */
export const GUEST_RATES = { tcpPerSecond: 200, datagramsPerSecond: 20_000 } as const;

/** For nft(8): replaces what was there. */
export function gatewayTable({ tunnel, tcp, udp, own, ipv4, ipv6 }: GatewayPorts): string {
  const addresses = (v6: boolean): string[] => own.filter((address) => address.includes(':') === v6);
  const own4 = addresses(false);
  const own6 = addresses(true);
  const take = (family: 'ipv4' | 'ipv6', protocol: string, port: number): string =>
    `meta nfproto ${family} meta l4proto ${protocol} tproxy ${family === 'ipv4' ? 'ip' : 'ip6'} to :${port} meta mark set ${MARK} accept`;
  const ping = (protocol: 'icmp' | 'icmpv6'): string =>
    `    ${protocol} type echo-request meta mark set ${MARK} accept`;
  return [
    `table inet ${table} {}`,
    `delete table inet ${table}`,
    `table inet ${table} {`,
    ...['capped_rate', 'capped_datagrams'].map((name) => `  counter ${name} { }`),
    ...rateSets(),
    '  chain gateway {',
    '    type filter hook prerouting priority mangle; policy accept;',
    `    iifname != "${tunnel}" accept`,
    ...ownRules('ip', own4, [tcp, udp]),
    ...ownRules('ip6', own6, [tcp, udp]),
    ...rateRules('ip', 4),
    ...rateRules('ip6', 6),
    ...(ipv4 ? [`    ${take('ipv4', 'tcp', tcp)}`, `    ${take('ipv4', 'udp', udp)}`, ping('icmp')] : []),
    ...(ipv6 ? [`    ${take('ipv6', 'tcp', tcp)}`, `    ${take('ipv6', 'udp', udp)}`, ping('icmpv6')] : []),
    '    drop',
    '  }',
    // The kernel would answer pings of others by itself. What has a file behind its socket is the gateway's answer.
    '  chain answers {',
    '    type filter hook output priority filter; policy accept;',
    `    oifname != "${tunnel}" accept`,
    '    icmp type != echo-reply accept',
    '    icmpv6 type != echo-reply accept',
    '    meta l4proto != { icmp, icmpv6 } accept',
    '    meta skuid != 4294967295 accept',
    ...(own4.length === 0 ? [] : [`    ip saddr { ${own4.join(', ')} } accept`]),
    ...(own6.length === 0 ? [] : [`    ip6 saddr { ${own6.join(', ')} } accept`]),
    '    drop',
    '  }',
    '}',
    '',
  ].join('\n');
}

function rateSets(): string[] {
  return ([4, 6] as const).flatMap((family) =>
    ['begun', 'sent'].map(
      (name) =>
        `  set ${name}${family} { type ipv${family}_addr; size 65535; flags dynamic, timeout; timeout 1h; }`,
    ),
  );
}

/** By first segments and datagrams: nothing of a flow has to be remembered for it. */
function rateRules(family: 'ip' | 'ip6', version: 4 | 6): string[] {
  const { tcpPerSecond, datagramsPerSecond } = GUEST_RATES;
  const over = (set: string, perSecond: number, burst: number): string =>
    `update @${set}${version} { ${family} saddr limit rate over ${perSecond}/second burst ${burst} packets }`;
  return [
    `    tcp flags & (syn | ack) == syn ${over('begun', tcpPerSecond, 2 * tcpPerSecond)} counter name capped_rate drop`,
    `    meta l4proto { udp, icmp, icmpv6 } ${over('sent', datagramsPerSecond, datagramsPerSecond / 10)} counter name capped_datagrams drop`,
  ];
}

/** This member's own: but for the gateway's ports, which take what is for anybody. */
function ownRules(family: 'ip' | 'ip6', own: readonly string[], ports: readonly number[]): string[] {
  if (own.length === 0) return [];
  const daddr = `${family} daddr { ${own.join(', ')} }`;
  const gateway = [...new Set(ports)].join(', ');
  return [`    ${daddr} meta l4proto { tcp, udp } th dport { ${gateway} } drop`, `    ${daddr} accept`];
}

/** For `ip -FAMILY -batch -`: what is marked is for this host, whatever address it is for. */
export const GATEWAY_ROUTES = `rule add fwmark ${MARK} lookup ${TABLE}\nroute replace local default dev lo table ${TABLE}\n`;
export const GATEWAY_ROUTES_REMOVED = `rule del fwmark ${MARK} lookup ${TABLE}\n`;

/** For nft(8). */
export const GATEWAY_REMOVED = `table inet ${table} {}\ndelete table inet ${table}\n`;
