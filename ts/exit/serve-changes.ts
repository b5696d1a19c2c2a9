// What an exit that is served, or a LAN that is advertised, needs of the host: forwarding between the tunnel and the way
// out, masquerading, and a table of nftables that forwards for guests alone.

import type { HostChange, SysctlChange, Sysctls } from './host-change.js';
import { SERVE_TABLE } from './exit-numbers.js';
import { DENIED_IPV4, DENIED_IPV6, embedded, NAT64 } from './denied-ranges.js';

export interface ServeFacts {
  /** The tunnel's interface. */
  readonly tunnel: string;
  /** Where what is forwarded leaves by. */
  readonly uplinks: readonly string[];
  readonly ipv4: boolean;
  readonly ipv6: boolean;
  /** Own and on-link prefixes. */
  readonly own: readonly string[];
  readonly lan: readonly string[];
  /** LANs that are forwarded to for whom they were granted. */
  readonly advertised: readonly string[];
  /** Ways out that did not forward IPv4 before. */
  readonly closed4: readonly string[];
  /** Whether nothing forwarded IPv6 before. */
  readonly closed6: boolean;
  /** Whether it may leave by the tunnel again, to another exit. */
  readonly chain: boolean;
  /** Whether nftables can say how long the kernel remembers a flow. */
  readonly knowsTimeouts: boolean;
}

/** A guest's inner address, what it is a guest of, and for how many seconds it is forwarded for. */
export interface GuestAddress {
  readonly of: 'exit' | 'lan';
  readonly address: string;
  readonly seconds: number;
}

/** In the order they are made: nothing is forwarded before the table says for whom. */
export function serveChanges(
  facts: ServeFacts,
  guests: readonly GuestAddress[],
  sysctls: Sysctls,
): HostChange[] {
  const { tunnel, uplinks } = facts;
  const forwarding = [...new Set([tunnel, ...uplinks])];
  const ipv4 = facts.ipv4
    ? forwarding.map((name): HostChange => ({
        ...sysctl(`net/ipv4/conf/${name}/forwarding`, '1'),
        wider: 'net/ipv4/conf/all/forwarding',
      }))
    : [];
  return [
    { kind: 'nft', table: SERVE_TABLE, text: serveTable(facts), elements: guestElements(guests) },
    ...ipv4,
    ...(facts.ipv6 ? forwardIpv6(forwarding, uplinks, sysctls) : []),
  ];
}

const sysctl = (path: string, value: string, keeps?: readonly string[]): SysctlChange => ({
  kind: 'sysctl',
  path,
  value,
  ...(keeps && { keeps }),
});

/**
 * IPv6 forwards by interface since Linux 6.17 (force_forwarding); before, on all interfaces or none, and one that
 * forwards takes no router advertisements unless accept_ra is 2.
 */
function forwardIpv6(names: readonly string[], uplinks: readonly string[], sysctls: Sysctls): HostChange[] {
  const path = (name: string, setting: string): string => `net/ipv6/conf/${name}/${setting}`;
  if (names.every((name) => sysctls.read(path(name, 'force_forwarding')) !== undefined))
    return names.map((name) => sysctl(path(name, 'force_forwarding'), '1'));
  const advertised = uplinks.filter((name) => sysctls.read(path(name, 'accept_ra')) === '1');
  return [
    ...advertised.map((name) => sysctl(path(name, 'accept_ra'), '2')),
    sysctl(path('all', 'forwarding'), '1', [
      path('default', 'forwarding'),
      ...uplinks.map((name) => path(name, 'forwarding')),
    ]),
  ];
}

/** Of exits, and of LANs that are advertised. */
const GUEST_SETS = [
  ['guests4', 'exit', false],
  ['guests6', 'exit', true],
  ['route_guests4', 'lan', false],
  ['route_guests6', 'lan', true],
] as const;

/** Whom it forwards for, in place of all before: counts and limits of those who stay go on. */
function guestElements(guests: readonly GuestAddress[]): string {
  return GUEST_SETS.flatMap(([name, kind, isV6]) => {
    const elements = guests
      .filter(({ of, address }) => of === kind && address.includes(':') === isV6)
      .map(({ address, seconds }) => `${address} timeout ${seconds}s`);
    const set = `inet ${SERVE_TABLE} ${name}`;
    return [
      `flush set ${set}`,
      ...(elements.length === 0 ? [] : [`add element ${set} { ${elements.join(', ')} }`]),
    ];
  })
    .join('\n')
    .concat('\n');
}

/**
 * What a guest's address may have at once and begin, so that no guest has it all: what is beyond it is refused and
 * counted. nftables cannot count connections that are not established yet by themselves; the rate bounds those.
 */
export const GUEST_CAPS = { tcp: 1024, other: 512, perSecond: 200, all: 16_384 } as const;
/** Counters of what is refused at each of them. */
export const CAP_COUNTERS = ['capped_rate', 'capped_tcp', 'capped_other', 'capped_all'] as const;

function capSets(): string[] {
  // The kernel forgets who has no flow by itself where flows are counted, and takes no timeout there.
  const set = (name: string, type: string): string =>
    `set ${name} { type ${type}; size 65535; flags dynamic${name.startsWith('rate') ? ', timeout; timeout 1h' : ''}; }`;
  return [
    ...CAP_COUNTERS.map((name) => `counter ${name} { }`),
    ...(['rate', 'tcp', 'other'] as const).flatMap((name) => [
      set(`${name}4`, 'ipv4_addr'),
      set(`${name}6`, 'ipv6_addr'),
    ]),
  ];
}

/** For the first packet of a flow. */
function capRules(): string[] {
  const { tcp, other, perSecond, all } = GUEST_CAPS;
  const ofEach = (name: string, match: string, limit: string): string[] =>
    (['4', '6'] as const).map(
      (family) =>
        `${match}${name === 'rate' ? 'update' : 'add'} @${name}${family} { ${family === '4' ? 'ip' : 'ip6'} saddr ${limit} } counter name capped_${name} jump refuse`,
    );
  return [
    'chain caps {',
    ...ofEach('rate', '', `limit rate over ${perSecond}/second burst ${2 * perSecond} packets`),
    ...ofEach('tcp', 'meta l4proto tcp ', `ct count over ${tcp}`),
    ...ofEach('other', 'meta l4proto != tcp ', `ct count over ${other}`),
    `ct count over ${all} counter name capped_all jump refuse`,
    '}',
    'chain refuse {',
    'meta l4proto tcp reject with tcp reset',
    'reject with icmpx type admin-prohibited',
    '}',
  ];
}

/**
 * How long flows of guests count: the kernel's own times keep a connection that nobody answers for minutes, and a silent one
 * for days. Seconds; what is not said is as the kernel has it. One that has been answered is a flow of datagrams once they go
 * on for more than 2 s: a question for a name is forgotten after 30 s.
 */
const TIMEOUTS = {
  tcp: 'syn_sent : 10, syn_recv : 10, established : 7440', // RFC 5382, REQ-5
  udp: 'replied : 300', // RFC 4787, REQ-5
} as const;
const TIMED = (['ip', 'ip6'] as const).flatMap((family) =>
  (['tcp', 'udp'] as const).map((protocol) => ({ family, protocol, name: `${protocol}_${family}` })),
);
const timeoutObjects = TIMED.map(
  ({ family, protocol, name }) =>
    `ct timeout ${name} { protocol ${protocol}; l3proto ${family}; policy = { ${TIMEOUTS[protocol]} }; }`,
);
const timeoutRules = TIMED.map(
  ({ family, protocol, name }) =>
    `meta nfproto ${family === 'ip' ? 'ipv4' : 'ipv6'} meta l4proto ${protocol} ct timeout set "${name}"`,
);

/** For `nft -c`: whether the kernel has such times (CONFIG_NF_CONNTRACK_TIMEOUT). */
export const TIMEOUT_PROBE = [
  `table inet ${SERVE_TABLE}_probe {`,
  ...timeoutObjects,
  'chain fresh {',
  ...timeoutRules,
  '}',
  '}',
  '',
].join('\n');

function serveTable(facts: ServeFacts): string {
  const { tunnel, own, lan, chain, advertised, knowsTimeouts } = facts;
  const isV6 = (prefix: string): boolean => prefix.includes(':');
  const v4 = [...DENIED_IPV4, ...own.filter((prefix) => !isV6(prefix))];
  // NAT64 is of ::/8 and permitted, but for the IPv4 addresses inside: its ranges are said one by one.
  const v6 = [...DENIED_IPV6.filter((prefix) => prefix !== '::/8'), ...own.filter(isV6), ...embedded(v4)];
  const set = (name: string, type: string, elements: readonly string[]): string =>
    `set ${name} { type ${type}; flags interval; auto-merge; ${elementsOf(elements)} }`;
  const lanSets = (name: string, prefixes: readonly string[]): string[] => [
    set(
      `${name}4`,
      'ipv4_addr',
      prefixes.filter((prefix) => !isV6(prefix)),
    ),
    set(`${name}6`, 'ipv6_addr', prefixes.filter(isV6)),
  ];
  return [
    `table inet ${SERVE_TABLE} {`,
    ...GUEST_SETS.map(
      ([name, , v6]) => `set ${name} { type ${v6 ? 'ipv6_addr' : 'ipv4_addr'}; flags timeout; size 4096; }`,
    ),
    ...capSets(),
    ...(knowsTimeouts ? timeoutObjects : []),
    set('denied4', 'ipv4_addr', v4),
    set('denied6', 'ipv6_addr', v6),
    ...lanSets('lan', lan),
    ...lanSets('routes', advertised),
    'chain forward {',
    'type filter hook forward priority filter - 10; policy accept;',
    // In a chain answers come in by the tunnel as well.
    `oifname "${tunnel}" ct direction reply jump inward`,
    `iifname "${tunnel}" jump outward`,
    `oifname "${tunnel}" jump inward`,
    ...strangersRules(facts),
    '}',
    // This host's other addresses, also those no interface that is up shows.
    'chain own {',
    'type filter hook input priority filter - 10; policy accept;',
    `iifname "${tunnel}" fib daddr type local fib daddr . iif type != local drop`,
    '}',
    'chain outward {',
    ...(chain ? [] : [`oifname "${tunnel}" drop`]),
    'ip saddr @route_guests4 ip daddr @routes4 goto behind',
    'ip6 saddr @route_guests6 ip6 daddr @routes6 goto behind',
    'meta nfproto ipv4 ip saddr != @guests4 drop',
    'meta nfproto ipv6 ip6 saddr != @guests6 drop',
    'tcp dport 25 reject with tcp reset',
    'tcp flags syn tcp option maxseg size set rt mtu',
    'ip daddr @lan4 goto fresh',
    'ip6 daddr @lan6 goto fresh',
    'ip daddr @denied4 drop',
    'ip6 daddr @denied6 drop',
    `ip6 daddr ::/8 ip6 daddr != ${NAT64} drop`,
    'goto fresh',
    '}',
    ...capRules(),
    'chain behind {',
    'tcp flags syn tcp option maxseg size set rt mtu',
    'goto fresh',
    '}',
    'chain fresh {',
    'ct state new jump caps',
    ...(knowsTimeouts ? ['ct state new jump times'] : []),
    'accept',
    '}',
    ...(knowsTimeouts ? ['chain times {', ...timeoutRules, '}'] : []),
    'chain inward {',
    // Answers to guests alone: nobody outside begins anything into the mesh by this host.
    'ct state != { established, related } drop',
    'meta nfproto ipv4 ip daddr != @guests4 ip daddr != @route_guests4 drop',
    'meta nfproto ipv6 ip6 daddr != @guests6 ip6 daddr != @route_guests6 drop',
    'tcp flags syn tcp option maxseg size set rt mtu',
    'accept',
    '}',
    'chain translate {',
    'type nat hook postrouting priority srcnat; policy accept;',
    `ip saddr @guests4 ${chain ? '' : `oifname != "${tunnel}" `}masquerade`,
    `ip6 saddr @guests6 ${chain ? '' : `oifname != "${tunnel}" `}masquerade`,
    `ip saddr @route_guests4 ip daddr @routes4 oifname != "${tunnel}" masquerade`,
    `ip6 saddr @route_guests6 ip6 daddr @routes6 oifname != "${tunnel}" masquerade`,
    '}',
    '}',
    '',
  ].join('\n');
}

/** What forwards because of the exit alone: what comes in there and is for no guest goes nowhere, as before. */
function strangersRules({ tunnel, closed4, closed6 }: ServeFacts): string[] {
  return [
    ...closed4.map((name) => `meta nfproto ipv4 iifname "${name}" drop`),
    ...(closed6 ? [`meta nfproto ipv6 iifname != "${tunnel}" drop`] : []),
  ];
}

const elementsOf = (elements: readonly string[]): string =>
  elements.length === 0 ? '' : `elements = { ${elements.join(', ')} };`;
