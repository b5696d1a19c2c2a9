// What a configuration file may hold: every key, what it takes, and what holds without it. Strict: a key that
// is not known is an error that lists the known ones, because a misspelt limit is a limit that is not held.

import { availableParallelism } from 'node:os';
import { z } from 'zod';
import { fromHex } from '../../wire/bytes.js';
import { MAX_INTERFACE_PRIORITY } from '../../core/path/local-interface.js';
import { MAX_SHARE } from '../../contract/path-control.js';
import { MAX_WEIGHT } from '../../contract/shaping-control.js';
import { MAX_PACKETS_PER_SECOND, PADDING_MODES } from '../../core/members/shaping-policy.js';
import { PATH_USES } from '../../core/path/path-policy.js';
import {
  DEFAULT_PORT_SEARCH,
  MAX_SEARCH_PROBES,
  MAX_SEARCH_RATE,
} from '../../core/path/port-search-limits.js';
import {
  MAX_POLICY_IDENTITIES,
  MAX_POLICY_NETWORKS,
  MAX_SEARCH_PORTS,
} from '../../core/protocol/message-limits.js';
import { isName } from '../../core/protocol/network.js';
import { decodeRelayLink } from '../../core/protocol/relay-link.js';
import { RELAY_LIMITS, type RelayLimitKey, type RelayLimitRow } from '../../core/relay/relay-limits.js';
import { MAX_QUOTA_CLASSES } from '../../core/relay/relay-policy.js';
import { LONGEST_BURST_MS, LOWEST_BYTES_PER_SECOND } from '../../wire/limits.js';
import { parseIp, parseSocketAddress } from '../../wire/socket-address.js';
import { isAnnounceable } from '../../host/own-addresses.js';
import { parsePrefix } from '../../wire/prefix.js';
import { exitSchema, exitUseSchema } from './exit-configuration.js';
import {
  GUEST_MAC_RULE,
  GUEST_SOCKET_RULE,
  GUEST_UID_RULE,
  isGuestMac,
  isGuestSocket,
} from './guest-configuration.js';
import { forwardSchema, forwardsSchema, socksSchema } from './private-ports-configuration.js';
import { routeAcceptSchema, routesSchema } from './route-configuration.js';
import { parseWireguardKey } from '../../host/wireguard-key.js';
import {
  ACCEL_MODE_RULE,
  ACCEL_RULE,
  ANNOUNCE_RULE,
  BIND_RULE,
  CONSENT_NETWORKS_RULE,
  DEFAULT_MTU,
  DEFAULT_PORT,
  ENDPOINT_RULE,
  ENGINE_RULE,
  INTERFACE_RULE,
  IO_RULE,
  isInterfaceName,
  isPeerId,
  NAME_RULE,
  PADDING_BUDGET_RULE,
  PADDING_RULE,
  parseUntil,
  PATHS_RULE,
  PORT_MAPPING_CHOICES,
  PORT_MAPPING_RULE,
  STATUS_ADDRESS_RULE,
  UNTIL_RULE,
} from './config-rules.js';

const integer = (what: string, min: number, max: number): z.ZodType<number> =>
  z
    .number(`${what}, a whole number from ${min} to ${max}`)
    .refine((value) => Number.isInteger(value) && value >= min && value <= max, {
      error: `${what}, a whole number from ${min} to ${max}`,
    });

const text = (expected: string, valid: (value: string) => boolean): z.ZodType<string> =>
  z.string(expected).refine(valid, { error: expected });

const peerIds = z.array(text('a list of peer ids ("omerta1…")', isPeerId), 'a list of peer ids ("omerta1…")');

const RELAY_LINK_RULE = 'a list of relay links ("omerta://relay/…", printed by: omerta relay link)';
const relayLinks = z
  .array(
    text(RELAY_LINK_RULE, (value) => {
      try {
        return decodeRelayLink(value).addresses.length > 0;
      } catch {
        return false;
      }
    }),
    RELAY_LINK_RULE,
  )
  .max(16, { error: 'at most 16 relays' });

const PREFIX_RULE = 'an address with prefix length such as "100.64.9.1/32"';
const wireguardKey = text(
  'a WireGuard public key (44 characters, printed by: wg pubkey)',
  (value) => parseWireguardKey(value) !== undefined,
);
const PEER_ID_RULE = 'a peer id ("omerta1…")';
const WAY_RULE =
  '{ interface = "eth0" }, { remote = "203.0.113.0/24" }, both of these, or { relay = "omerta1…" }';
const REMOTE_RULE = 'an address with prefix length such as "203.0.113.0/24" or "2001:db8::/32"';
const MOST_WAYS = 64;
const MOST_PATH_PEERS = 1024;
const MOST_SHAPED = 64;
const way = z
  .strictObject(
    {
      interface: text(INTERFACE_RULE, (value) => isInterfaceName(value)).optional(),
      remote: text(REMOTE_RULE, (value) => parsePrefix(value) !== undefined).optional(),
      relay: text(PEER_ID_RULE, isPeerId).optional(),
    },
    WAY_RULE,
  )
  .refine(
    ({ interface: name, remote, relay }) =>
      (relay === undefined) !== (name === undefined && remote === undefined),
    { error: WAY_RULE },
  );
const ways = z
  .array(way, `a list; each entry is ${WAY_RULE}`)
  .max(MOST_WAYS, { error: `at most ${MOST_WAYS} ways` });
const PATH_PEER_RULE = 'a table of one member, written [[paths.peer]], with id = "omerta1…"';
const pathPeer = z.strictObject(
  {
    id: text(PEER_ID_RULE, isPeerId),
    use: z.enum(PATH_USES, PATHS_RULE).optional(),
    pin: ways.optional(),
    prefer: ways.optional(),
    forbid: ways.optional(),
    split: z.boolean('true or false').optional(),
  },
  PATH_PEER_RULE,
);
const pathInterface = z.strictObject(
  {
    metered: z.boolean('true or false').default(false),
    priority: integer('place among the interfaces, lower first', 0, MAX_INTERFACE_PRIORITY).default(0),
    control_priority: integer(
      'place among the interfaces for messages of the control plane, lower first',
      0,
      MAX_INTERFACE_PRIORITY,
    ).optional(),
    weight: integer('a weight', 1, MAX_SHARE).default(1),
  },
  'a table of one interface, written [paths.interfaces.NAME]',
);

const shapingKeys = {
  padding: z.enum(PADDING_MODES, PADDING_RULE).optional(),
  padding_budget: z
    .union([z.literal('none'), integer(PADDING_BUDGET_RULE, 1, 100_000)], PADDING_BUDGET_RULE)
    .optional(),
  packets_per_second: integer('packets a second', 1, MAX_PACKETS_PER_SECOND).optional(),
};
const weight = integer('a weight', 1, MAX_WEIGHT);
const shapingInterface = z.strictObject(
  { bytes_per_second: integer('bytes a second', 1000, 1e11) },
  'a table of one interface, written [shaping.interfaces.NAME], with bytes_per_second = 1_250_000',
);
const shapingNetwork = z.strictObject(
  { weight },
  'a table of one network, written [shaping.networks.NAME], with weight = 2',
);
const SHAPING_PEER_RULE =
  'a table of one peer, written [[shaping.peer]], with id = "omerta1…" or public_key = "…" of one in [[wireguard.peers]]';
const shapingPeer = z
  .strictObject(
    {
      id: text(PEER_ID_RULE, isPeerId).optional(),
      public_key: wireguardKey.optional(),
      ...shapingKeys,
      weight: weight.optional(),
    },
    SHAPING_PEER_RULE,
  )
  .refine(({ id, public_key: key }) => (id === undefined) !== (key === undefined), {
    error: SHAPING_PEER_RULE,
  });

const SERVE_RULE = '"own", "any", or a list of blinded network ids (32 hex digits each)';

/** What a rate takes; at least one of the first two. */
const rateKeys = {
  bytes_per_second: integer('bytes per second', LOWEST_BYTES_PER_SECOND, 1e11).optional(),
  packets_per_second: integer('packets per second', 1, 1e9).optional(),
  burst_ms: integer('milliseconds of the rate that may come at once', 1, LONGEST_BURST_MS).optional(),
};
const RATE_RULE =
  'a rate such as { bytes_per_second = 1_250_000, packets_per_second = 2000, burst_ms = 100 }';
const hasRate = (given: { bytes_per_second?: unknown; packets_per_second?: unknown }): boolean =>
  given.bytes_per_second !== undefined || given.packets_per_second !== undefined;
const NO_RATE_RULE = 'bytes_per_second, packets_per_second or both';
const rate = z.strictObject(rateKeys, RATE_RULE).refine(hasRate, { error: NO_RATE_RULE });
const prefixRate = z
  .strictObject(
    {
      ...rateKeys,
      ipv4_bits: integer('leading bits of an IPv4 address that count as one source', 0, 32).optional(),
      ipv6_bits: integer('leading bits of an IPv6 address that count as one source', 0, 64).optional(),
    },
    RATE_RULE,
  )
  .refine(hasRate, { error: NO_RATE_RULE });

const NETWORK_LIST_RULE = 'a list of blinded network ids (32 hex digits each)';
const quotaClass = z.strictObject(
  {
    identities: peerIds.default([]),
    networks: z
      .array(
        text(NETWORK_LIST_RULE, (value) => fromHex(value)?.length === 16),
        NETWORK_LIST_RULE,
      )
      .default([]),
    circuit_limit: rate.optional(),
    circuit_bytes: integer(
      'bytes in each direction of a circuit',
      65_536,
      Number.MAX_SAFE_INTEGER,
    ).optional(),
    circuit_seconds: integer('seconds', 60, 31_536_000).optional(),
    circuits: integer('circuits of one identity', 1, 1_000_000).optional(),
    identity_limit: rate.optional(),
    network_limit: rate.optional(),
  },
  'a table of limits, written [relay.classes.NAME]',
);
const CLASS_NAME_RULE = 'a name of 1 to 63 of a-z, 0-9 and "-"';

const limitKeys = Object.fromEntries(
  Object.values<RelayLimitRow>(RELAY_LIMITS).flatMap((row) =>
    row.key === undefined
      ? []
      : [[row.key, integer(`${row.unit} (${row.of})`, row.least, row.most).default(row.default)]],
  ),
) as Record<RelayLimitKey, z.ZodDefault<z.ZodType<number>>>;

export const schema = z.strictObject({
  node: z
    .strictObject({
      name: text(NAME_RULE, isName).optional(),
      port: integer('a UDP port', 1, 65535).default(DEFAULT_PORT),
      bind: text(BIND_RULE, (value) => parseIp(value) !== undefined).optional(),
      announce: z
        .array(text(ANNOUNCE_RULE, isAnnounceable), `a list; each entry is ${ANNOUNCE_RULE}`)
        .max(8, { error: 'at most 8 addresses' })
        .default([]),
      interface: text(INTERFACE_RULE, (value) => isInterfaceName(value)).default('omerta0'),
      mtu: integer('bytes of the inner MTU', 576, 65535).default(DEFAULT_MTU),
      engine: z.enum(['auto', 'native', 'wasm'], ENGINE_RULE).default('auto'),
      io: z.enum(['auto', 'mmsg', 'io_uring'], IO_RULE).default('auto'),
      workers: integer('threads', 1, 64).default(Math.min(2, availableParallelism())),
      disable: z
        .array(
          text('the name of an accelerator as "omerta doctor" gives it', (value) => value !== ''),
          'a list of accelerator names',
        )
        .default([]),
      tun: z.boolean('true or false').default(true),
      stack: z.boolean('true or false').default(false),
      guest_socket: text(GUEST_SOCKET_RULE, isGuestSocket).optional(),
      guest_mac: text(GUEST_MAC_RULE, isGuestMac).optional(),
      guest_uid: integer(GUEST_UID_RULE, 0, 4_294_967_294).optional(),
    })
    .prefault({}),
  paths: z
    .strictObject({
      use: z.enum(PATH_USES, PATHS_RULE).default('any'),
      pin: ways.default([]),
      prefer: ways.default([]),
      forbid: ways.default([]),
      split: z.boolean('true or false').default(false),
      interfaces: z
        .record(
          z.string().refine((name) => isInterfaceName(name), { error: INTERFACE_RULE }),
          pathInterface,
          'tables of interfaces, written [paths.interfaces.NAME]',
        )
        .default({}),
      peer: z
        .array(pathPeer, PATH_PEER_RULE)
        .max(MOST_PATH_PEERS, { error: `at most ${MOST_PATH_PEERS} members` })
        .default([]),
      port_mapping: z.enum(PORT_MAPPING_CHOICES, PORT_MAPPING_RULE).default('auto'),
      port_search: z.boolean('true or false').default(DEFAULT_PORT_SEARCH.enabled),
      port_search_ports: integer('local ports opened for a search', 1, MAX_SEARCH_PORTS).default(
        DEFAULT_PORT_SEARCH.ports,
      ),
      port_search_probes: integer('packets of a search', 1, MAX_SEARCH_PROBES).default(
        DEFAULT_PORT_SEARCH.probes,
      ),
      port_search_rate: integer('packets a second', 1, MAX_SEARCH_RATE).default(
        DEFAULT_PORT_SEARCH.perSecond,
      ),
    })
    .prefault({}),
  shaping: z
    .strictObject({
      padding: shapingKeys.padding.default('off'),
      padding_budget: shapingKeys.padding_budget,
      packets_per_second: shapingKeys.packets_per_second,
      interfaces: z
        .record(
          z.string().refine((name) => isInterfaceName(name), { error: INTERFACE_RULE }),
          shapingInterface,
          'tables of interfaces, written [shaping.interfaces.NAME]',
        )
        .refine((all) => Object.keys(all).length <= MOST_SHAPED, {
          error: `at most ${MOST_SHAPED} interfaces`,
        })
        .default({}),
      networks: z
        .record(
          z.string().refine(isName, { error: NAME_RULE }),
          shapingNetwork,
          'tables of networks, written [shaping.networks.NAME]',
        )
        .refine((all) => Object.keys(all).length <= MOST_SHAPED, { error: `at most ${MOST_SHAPED} networks` })
        .default({}),
      peer: z
        .array(shapingPeer, SHAPING_PEER_RULE)
        .max(MOST_PATH_PEERS, { error: `at most ${MOST_PATH_PEERS} peers` })
        .default([]),
    })
    .prefault({}),
  relay: z
    .strictObject({
      serve: z
        .union(
          [
            z.literal('own'),
            z.literal('any'),
            z.array(text(SERVE_RULE, (value) => fromHex(value)?.length === 16)),
          ],
          SERVE_RULE,
        )
        .default('own'),
      allow: peerIds.default([]),
      deny: peerIds.default([]),
      ...limitKeys,
      host_limit: rate.optional(),
      prefix_limit: prefixRate.optional(),
      classes: z
        .record(
          z.string().refine(isName, { error: CLASS_NAME_RULE }),
          quotaClass,
          'tables of limits, written [relay.classes.NAME]',
        )
        .refine((classes) => Object.keys(classes).length < MAX_QUOTA_CLASSES, {
          error: `at most ${MAX_QUOTA_CLASSES - 1} classes`,
        })
        .default({}),
      accel: z.enum(['auto', 'xdp', 'native', 'wasm'], ACCEL_RULE).optional(),
      accel_interfaces: z
        .array(
          text(INTERFACE_RULE, (value) => isInterfaceName(value)),
          `a list; each entry is ${INTERFACE_RULE}`,
        )
        .min(1, { error: 'at least one interface' })
        .max(64, { error: 'at most 64 interfaces' })
        .optional(),
      accel_mode: z.enum(['native', 'generic'], ACCEL_MODE_RULE).default('native'),
      detach: z.boolean('true or false').default(false),
      drain_seconds: integer(
        'seconds for clients to move to another relay when this one is stopped; 0 is none',
        0,
        600,
      ).default(3),
      peers: relayLinks.default([]),
      wireguard_servers: z
        .array(
          z.strictObject({
            public_key: wireguardKey,
            endpoint: text(ENDPOINT_RULE, (value) => parseSocketAddress(value) !== undefined),
          }),
          'a list of { public_key = "…", endpoint = "203.0.113.9:51820" }',
        )
        .max(64, { error: 'at most 64 servers' })
        .default([]),
    })
    .prefault({}),
  wireguard: z
    .strictObject({
      relay: z.boolean('true or false').default(false),
      peers: z
        .array(
          z.strictObject({
            public_key: wireguardKey,
            allowed_ips: z.array(
              text(PREFIX_RULE, (value) => parsePrefix(value) !== undefined),
              `a list; each entry is ${PREFIX_RULE}`,
            ),
          }),
          'a list of { public_key = "…", allowed_ips = ["100.64.9.1/32"] }',
        )
        .max(1024, { error: 'at most 1024 peers' })
        .default([]),
    })
    .prefault({}),
  consent: z
    .strictObject({
      networks: z
        .union([z.literal('own'), z.array(text(CONSENT_NETWORKS_RULE, isName))], CONSENT_NETWORKS_RULE)
        .refine((networks) => networks === 'own' || networks.length <= MAX_POLICY_NETWORKS, {
          error: `at most ${MAX_POLICY_NETWORKS} networks`,
        })
        .default([]),
      identities: peerIds
        .max(MAX_POLICY_IDENTITIES, {
          error: `at most ${MAX_POLICY_IDENTITIES} peer ids; "networks" accepts all members of a network`,
        })
        .default([]),
      // TOML has times of its own.
      until: z
        .preprocess(
          (value) => (value instanceof Date ? value.toISOString() : value),
          text(UNTIL_RULE, (value) => parseUntil(value) !== undefined),
        )
        .optional(),
    })
    .prefault({}),
  exit: exitSchema.prefault({}),
  routes: routesSchema.prefault({}),
  socks: socksSchema.optional(),
  forward: forwardsSchema.default([]),
  status: z
    .strictObject({
      listen: text(
        STATUS_ADDRESS_RULE,
        (value) => value === 'off' || parseSocketAddress(value) !== undefined,
      ).optional(),
    })
    .prefault({}),
  log: z
    .strictObject({
      level: z.enum(['debug', 'info', 'warn', 'error'], '"debug", "info", "warn" or "error"').default('info'),
    })
    .prefault({}),
});

export type Parsed = z.infer<typeof schema>;
export type Config = Omit<Parsed, 'node'> & { readonly node: Parsed['node'] & { readonly name: string } };

/** The keys of each section, in the order they are documented. */
const KNOWN_KEYS: Readonly<Record<string, readonly string[]>> = {
  '': Object.keys(schema.shape),
  ...Object.fromEntries(
    Object.entries(schema.shape).flatMap(([section, { def }]) =>
      def.innerType instanceof z.ZodObject ? [[section, Object.keys(def.innerType.shape)]] : [],
    ),
  ),
};

/** The keys a section takes, in the order they are documented; `relay.classes.NAME` and the like for tables within one. */
export function knownKeys(section: string): readonly string[] {
  if (/^relay\.classes\.[^.]+$/.test(section)) return Object.keys(quotaClass.shape);
  if (section === 'relay.prefix_limit') return [...Object.keys(rateKeys), 'ipv4_bits', 'ipv6_bits'];
  if (/^paths\.interfaces\.[^.]+$/.test(section)) return Object.keys(pathInterface.shape);
  if (/^shaping\.peer\.\d+$/.test(section)) return Object.keys(shapingPeer.shape);
  if (/^shaping\.interfaces\.[^.]+$/.test(section)) return Object.keys(shapingInterface.shape);
  if (/^shaping\.networks\.[^.]+$/.test(section)) return Object.keys(shapingNetwork.shape);
  if (/^paths\.peer\.\d+$/.test(section)) return Object.keys(pathPeer.shape);
  if (/^paths\.(peer\.\d+\.)?(pin|prefer|forbid)\.\d+$/.test(section)) return Object.keys(way.shape);
  if (/^routes\.accept\.\d+$/.test(section)) return Object.keys(routeAcceptSchema.shape);
  if (/^forward\.\d+$/.test(section)) return Object.keys(forwardSchema.shape);
  if (section === 'exit.use') return Object.keys(exitUseSchema.shape);
  if (section.endsWith('_limit')) return Object.keys(rateKeys);
  return KNOWN_KEYS[section] ?? [];
}
