// The [relay] section as the core takes it, and what of a changed configuration a running relay can
// take over.

import { fromHex } from '../../wire/bytes.js';
import { blindedNetworkId, type Network } from '../../core/protocol/network.js';
import { decodePeerId } from '../../core/protocol/peer-id.js';
import { decodeRelayLink } from '../../core/protocol/relay-link.js';
import {
  RELAY_LIMITS,
  RELAY_LIMIT_NAMES,
  type LimitChange,
  type RelayLimitKey,
  type RelayLimits,
} from '../../core/relay/relay-limits.js';
import type { QuotaClass, RelayPolicy, WireguardPolicy } from '../../core/relay/relay-policy.js';
import { nodePrimitives } from '../../engine/node-primitives.js';
import type { PrefixLimit, RateLimit } from '../../wire/limits.js';
import { parseSocketAddress } from '../../wire/socket-address.js';
import type { DaemonMode } from '../../status/model/daemon-status.js';
import { parseConfig, type Config } from './config.js';
import { parseWireguardKey } from '../../host/wireguard-key.js';

type RelayConfig = Config['relay'];
type RateConfig = NonNullable<RelayConfig['host_limit']>;

export function relayLimits({ relay }: Config): RelayLimits {
  const limits = RELAY_LIMIT_NAMES.map((name) => {
    const { key, default: fixed } = RELAY_LIMITS[name];
    return [name, key === undefined ? fixed : relay[key]];
  });
  return Object.fromEntries(limits) as RelayLimits;
}

function rateLimit(rate: RateConfig | undefined): RateLimit | undefined {
  return (
    rate && {
      bytesPerSecond: rate.bytes_per_second,
      packetsPerSecond: rate.packets_per_second,
      burstMs: rate.burst_ms,
    }
  );
}

function prefixLimit(prefix: RelayConfig['prefix_limit']): PrefixLimit | undefined {
  return prefix && { ...rateLimit(prefix), ipv4Bits: prefix.ipv4_bits, ipv6Bits: prefix.ipv6_bits };
}

function networkIds(list: readonly string[]): Uint8Array[] {
  return list.map(fromHex).filter((id) => id !== undefined); // the configuration has checked them
}

function quotaClasses({ classes }: RelayConfig): QuotaClass[] {
  return Object.entries(classes).map(([name, given]) => ({
    name,
    identities: given.identities.map(decodePeerId),
    networks: networkIds(given.networks),
    circuit: { rate: rateLimit(given.circuit_limit), byteCap: given.circuit_bytes },
    identity: rateLimit(given.identity_limit),
    network: rateLimit(given.network_limit),
    circuits: given.circuits,
    seconds: given.circuit_seconds,
  }));
}

function wireguardPolicy(relay: RelayConfig): WireguardPolicy {
  const servers = relay.wireguard_servers.flatMap(({ public_key: key, endpoint }) => {
    const publicKey = parseWireguardKey(key);
    const address = parseSocketAddress(endpoint);
    return publicKey === undefined || address === undefined ? [] : [{ publicKey, address }];
  });
  return { servers };
}

/**
 * @param networks those the relay is in.
 * @param wireguardRelay whether the engine relays stock WireGuard clients.
 */
export function relayPolicy(
  config: Config,
  networks: readonly Network[],
  wireguardRelay: boolean,
): RelayPolicy {
  const { serve, allow, deny, peers, host_limit: host, prefix_limit: prefix } = config.relay;
  const own = networks.map((network) => blindedNetworkId(nodePrimitives, network));
  return {
    serve: serve === 'any' ? 'any' : serve === 'own' ? own : networkIds(serve),
    allow: allow.map(decodePeerId),
    deny: deny.map(decodePeerId),
    peers: peers.map(decodeRelayLink),
    wireguard: wireguardRelay ? wireguardPolicy(config.relay) : undefined,
    limits: relayLimits(config),
    classes: quotaClasses(config.relay),
    host: rateLimit(host),
    prefix: prefixLimit(prefix),
  };
}

/** Whether a relay of this configuration relays stock WireGuard clients. */
export function relaysWireguard({ relay }: Config): boolean {
  return relay.wireguard_bindings + relay.wireguard_servers.length > 0;
}

/** What a running relay made of a changed configuration: the keys that differ. */
export interface ConfigurationChange {
  readonly applied: readonly string[];
  /** Those of `applied` that are back at their default, which is null where there is none. */
  readonly removed: readonly { readonly key: string; readonly default: unknown }[];
  /** They count from the next start on. */
  readonly restart: readonly string[];
}

/** The keys of the limits that change so. */
function limitKeys(change: LimitChange): RelayLimitKey[] {
  return RELAY_LIMIT_NAMES.flatMap((name) => {
    const row = RELAY_LIMITS[name];
    return row.key !== undefined && row.change === change ? [row.key] : [];
  });
}

/** Made when the engine is opened, and fixed until the next start. */
const FIXED_RELAY_KEYS: ReadonlySet<string> = new Set([
  'accel',
  'accel_interfaces',
  'accel_mode',
  'detach',
  ...limitKeys('next-start'),
]);

type Tables = Readonly<Record<string, unknown>>;

const isTable = (value: unknown): value is Tables =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** Keys, with the sections they are in, whose values differ. */
function differences(before: Tables, after: Tables, section = ''): string[] {
  return [...new Set([...Object.keys(before), ...Object.keys(after)])].flatMap((key) => {
    const [a, b] = [before[key], after[key]];
    const name = `${section}${key}`;
    if (isTable(a) && isTable(b)) return differences(a, b, `${name}.`);
    return JSON.stringify(a) === JSON.stringify(b) ? [] : [name];
  });
}

/** What stands under a key as `differences` names it. */
function valueOf(config: Tables, key: string): unknown {
  return key.split('.').reduce<unknown>((value, name) => (isTable(value) ? value[name] : undefined), config);
}

/**
 * Which part of `wanted` a relay that runs by `running`, and was opened with `opened`, can take over:
 * the configuration it goes on by, and the keys.
 */
export function changeWhileRunning(
  mode: DaemonMode,
  opened: Config,
  running: Config,
  wanted: Config,
): { readonly config: Config; readonly change: ConfigurationChange } {
  const relay: Record<string, unknown> = { ...wanted.relay };
  for (const key of FIXED_RELAY_KEYS) relay[key] = (running.relay as Tables)[key];
  for (const key of limitKeys('up-to-start')) {
    const room = opened.relay[key];
    if (wanted.relay[key] > room) relay[key] = room;
  }
  if (!relaysWireguard(opened)) {
    relay['wireguard_bindings'] = running.relay.wireguard_bindings;
    relay['wireguard_servers'] = running.relay.wireguard_servers;
  }
  const defaults = parseConfig('', '');
  const config: Config = {
    ...running,
    relay: mode === 'relay' ? (relay as RelayConfig) : running.relay,
    paths: { ...wanted.paths, port_mapping: running.paths.port_mapping },
    shaping: mode === 'up' ? wanted.shaping : running.shaping,
    log: wanted.log,
    exit: mode === 'up' ? wanted.exit : running.exit,
    routes: mode === 'up' ? wanted.routes : running.routes,
    socks: mode === 'up' ? wanted.socks : running.socks,
    forward: mode === 'up' ? wanted.forward : running.forward,
  };
  const applied = differences(running, config);
  return {
    config,
    change: {
      applied,
      removed: applied.flatMap((key) => {
        const [standard, present] = [valueOf(defaults, key), valueOf(config, key)];
        const isBack = JSON.stringify(present) === JSON.stringify(standard);
        return isBack ? [{ key, default: standard ?? null }] : [];
      }),
      restart: differences(config, wanted),
    },
  };
}
