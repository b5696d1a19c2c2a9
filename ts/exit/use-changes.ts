// What using an exit needs of the host: everything but the engine's own datagrams is looked up in a table of ours
// first, which leads into the tunnel, and where there is no exit, nowhere.
//
//   rule 5101  to what is excluded   → main
//   rule 5102  private and on-link (--allow-lan) → main
//   rule 5103  all without the mark  → our table: default by the tunnel, then unreachable
//   nftables   port 53, not loopback → the exit's resolver, where it has one

import type { ExitInUse } from '../core/runtime/exit-change.js';
import { formatPrefix, parsePrefix } from '../wire/prefix.js';
import { networkOf } from './denied-ranges.js';
import { EXIT_MARK, EXIT_TABLE, GUARD_TABLE, RULE_PRIORITIES, USE_TABLE } from './exit-numbers.js';
import { guardTables, type GuardFacts } from './guard-table.js';
import type { Family, HostChange, Sysctls } from './host-change.js';
import { acceptedRoutes, LAST_METRIC } from './route-changes.js';

const FIRST_METRIC = 10;

export interface UseFacts {
  /** The tunnel's interface. */
  readonly tunnel: string;
  /** Own addresses in the tunnel with the length of their mesh's prefix. */
  readonly meshes: readonly string[];
  /** The engine's UDP port. */
  readonly port: number;
  /** Undefined while none of the exits grants. */
  readonly use: ExitInUse | undefined;
  /** Private on-link prefixes that are reached directly; empty without --allow-lan. */
  readonly onLink: readonly string[];
  /** These alone; empty = everything. */
  readonly include: readonly string[];
  readonly exclude: readonly string[];
  /** Whether the host knows IPv6 at all. */
  readonly hasIpv6: boolean;
  /** Interfaces whose address check of what comes in is strict (rp_filter 1). */
  readonly strictInterfaces: readonly string[];
  /** Whether nftables knows whose socket a packet is for (nft_socket). */
  readonly knowsSockets: boolean;
  /** What the guard lets through; undefined = there is none. */
  readonly guard: Omit<GuardFacts, 'tunnel'> | undefined;
  /** LANs behind members: those stay in the tunnel, and lead nowhere while they are not granted. */
  readonly accepted: readonly string[];
  readonly granted: ReadonlyMap<string, string>;
}

/** In the order they are made: the table ends at `unreachable` before a rule leads to it. */
export function useChanges(facts: UseFacts): HostChange[] {
  const families: readonly Family[] = facts.hasIpv6 ? [4, 6] : [4];
  return [
    ...guardChanges(facts),
    ...families.map((family): HostChange => ({
      kind: 'routes',
      family,
      table: EXIT_TABLE,
      routes: routesOf(facts, family),
    })),
    ...families.flatMap((family) => rulesOf(facts, family)),
    ...tableChanges(facts),
  ];
}

function guardChanges({ tunnel, guard }: UseFacts): HostChange[] {
  if (guard === undefined) return [];
  const text = guardTables({ tunnel, ...guard });
  return [{ kind: 'nft', table: GUARD_TABLE, families: ['inet', 'netdev'], text }];
}

/** Other members are reached while no exit grants too: whoever looks after this machine by the mesh is not shut out. */
function meshRoutes({ tunnel, meshes }: UseFacts, family: Family): string[] {
  const routes = new Map<string, string>();
  for (const text of meshes) {
    const prefix = parsePrefix(text);
    if (prefix?.family !== family || text.startsWith('fe80:')) continue;
    const mesh = formatPrefix(networkOf(prefix));
    if (!routes.has(mesh))
      routes.set(mesh, `${mesh} dev ${tunnel} src ${text.replace(/\/.*/, '')} metric ${FIRST_METRIC}`);
  }
  return [...routes.values()];
}

function routesOf(facts: UseFacts, family: Family): string[] {
  const { tunnel, use, include } = facts;
  const source = family === 4 ? use?.ipv4 : use?.ipv6;
  const destinations =
    include.length === 0
      ? ['default']
      : include.flatMap((text) => {
          const prefix = parsePrefix(text);
          // ip takes no bits beyond the length.
          return prefix?.family === family ? [formatPrefix(networkOf(prefix))] : [];
        });
  const routes = destinations.flatMap((destination) => [
    `unreachable ${destination} metric ${LAST_METRIC}`,
    ...(source === undefined ? [] : [`${destination} dev ${tunnel} src ${source} metric ${FIRST_METRIC}`]),
  ]);
  return [...routes, ...meshRoutes(facts, family), ...acceptedRoutes(facts, family, FIRST_METRIC)];
}

/** By prefix: of all of main, whoever answers DHCP on the link (option 121) would decide what leaves directly. */
function rulesOf({ onLink: lan, exclude }: UseFacts, family: Family): HostChange[] {
  const { excluded, onLink, exit } = RULE_PRIORITIES;
  const isOf = (prefix: string): boolean => familyOf(prefix) === family;
  const rules = [
    ...exclude.filter(isOf).map((prefix) => `priority ${excluded} to ${prefix} lookup main`),
    ...lan.filter(isOf).map((prefix) => `priority ${onLink} to ${prefix} lookup main`),
    `priority ${exit} not fwmark ${EXIT_MARK} lookup ${EXIT_TABLE}`,
  ];
  return rules.map((rule) => ({ kind: 'rule', family, rule }));
}

function tableChanges(facts: UseFacts): HostChange[] {
  const { tunnel, port, strictInterfaces: strict, knowsSockets } = facts;
  const names = nameRules(facts);
  if (strict.length === 0 && names.length === 0) return [];
  const text = [
    `table inet ${USE_TABLE} {`,
    // Where the address of what comes in is checked strictly, the way back of the engine's datagrams has to be looked
    // up by their mark: it is put on them as they come in. So it is for other daemons of this machine, and for sockets
    // beside the engine's, which are told by their own mark.
    'chain incoming {',
    'type filter hook prerouting priority mangle; policy accept;',
    ...(strict.length === 0 ? [] : [`iifname != "${tunnel}" udp dport ${port} meta mark set ${EXIT_MARK}`]),
    ...(strict.length === 0 || !knowsSockets
      ? []
      : [`iifname != "${tunnel}" meta l4proto udp socket mark ${EXIT_MARK} meta mark set ${EXIT_MARK}`]),
    '}',
    ...names,
    '}',
    '',
  ].join('\n');
  return [
    { kind: 'nft', table: USE_TABLE, text },
    ...(strict.length === 0
      ? []
      : [{ kind: 'sysctl', path: 'net/ipv4/conf/all/src_valid_mark', value: '1' } as const]),
  ];
}

/**
 * Questions for names go to the exit, whichever resolver they were for: no file is edited, and one on the LAN would not
 * be reached. Those to a resolver on this machine stay; what that asks goes to the exit.
 */
function nameRules({ tunnel, use, include, exclude }: UseFacts): string[] {
  if (use === undefined || use.resolvers.length === 0 || include.length > 0) return [];
  const resolver = (family: Family): string | undefined =>
    use.resolvers.find((address) => address.includes(':') === (family === 6));
  const [ipv4, ipv6] = [resolver(4), resolver(6)];
  const excluded = exclude.map((prefix) => `${familyOf(prefix) === 4 ? 'ip' : 'ip6'} daddr ${prefix} return`);
  return [
    'chain names {',
    // dstnat, which nft knows by that name before routing only.
    'type nat hook output priority -100; policy accept;',
    `meta mark ${EXIT_MARK} return`,
    'ip daddr 127.0.0.0/8 return',
    'ip6 daddr ::1 return',
    ...excluded,
    ...(ipv4 === undefined
      ? []
      : [`meta nfproto ipv4 meta l4proto { tcp, udp } th dport 53 dnat ip to ${ipv4}`]),
    ...(ipv6 === undefined
      ? []
      : [`meta nfproto ipv6 meta l4proto { tcp, udp } th dport 53 dnat ip6 to ${ipv6}`]),
    '}',
    // A question that was to go out elsewhere has the address of there.
    'chain sources {',
    'type nat hook postrouting priority srcnat; policy accept;',
    `oifname "${tunnel}" ct status dnat meta l4proto { tcp, udp } th dport 53 masquerade`,
    '}',
  ];
}

/** For `nft -c`: refused where nftables does not know sockets. */
export const SOCKET_PROBE = `table inet ${USE_TABLE}_probe {
chain incoming {
type filter hook prerouting priority mangle; policy accept;
socket mark ${EXIT_MARK} accept
}
}
`;

/** Interfaces that drop what does not come from where it would be answered to. */
export function strictInterfaces(names: readonly string[], tunnel: string, sysctls: Sysctls): string[] {
  const filter = (name: string): number => Number(sysctls.read(`net/ipv4/conf/${name}/rp_filter`) ?? 0);
  const all = filter('all');
  return names.filter((name) => name !== tunnel && name !== 'lo' && Math.max(all, filter(name)) === 1);
}

const familyOf = (prefix: string): Family | undefined => parsePrefix(prefix)?.family;
