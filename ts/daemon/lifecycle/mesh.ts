// One running mesh: an engine and the MeshNode that decides for it, made from the configuration, the
// identity and the networks of a state directory.

import type { Logger } from 'pino';
import { sameBytes, toHex } from '../../wire/bytes.js';
import { MeshNode } from '../../core/node/mesh-node.js';
import {
  blindedNetworkId,
  OVERLAY_PREFIX_IPV4,
  OVERLAY_PREFIX_IPV6,
  overlayAddresses,
  type Bootstrap,
  type Network,
  type OverlayAddresses,
} from '../../core/protocol/network.js';
import { accountCapacity } from '../../core/relay/relay-accounts.js';
import { MAX_MEMBERS, type StockPeer } from '../../core/members/member-table.js';
import { storedRound } from '../../core/members/own-addresses.js';
import type { Engine, EngineOptions, PeerConfig } from '../../contract/engine.js';
import type { GuestSocket } from '../../contract/guest-control.js';
import type { Ceiling, CeilingCounts } from '../../contract/shaping-control.js';
import { nodePrimitives } from '../../engine/node-primitives.js';
import {
  KernelPathEngine,
  accelerationError,
  type Acceleration,
} from '../../engine/xdp/kernel-path-engine.js';
import {
  openKernelPath,
  openEngine,
  type EngineChoice,
  type OpenedEngine,
} from '../../engine/open-engine.js';
import { NO_ACCOUNTS } from '../../wire/forwarding-table.js';
import { parseSocketAddress, type SocketAddress } from '../../wire/socket-address.js';
import type { Config } from '../config/config.js';
import { pathPolicy, ranksOfInterface } from '../config/paths-configuration.js';
import { asksForShaping, ceilingsOf, shapingPolicy, stockShaping } from '../config/shaping-configuration.js';
import { nodeConsent } from '../config/consent-configuration.js';
import type { DaemonMode } from '../../status/model/daemon-status.js';
import { engineFailure } from './engine-failure.js';
import type { Identity } from '../state/identity.js';
import { EXIT_MARK } from '../../exit/exit-numbers.js';
import { ExitCode, messageOf, OperatorError } from '../../host/operator-error.js';
import type { LocalInterface } from '../../core/path/local-interface.js';
import { localInterfaces, sameInterfaces } from '../../host/local-interfaces.js';
import { MeshShell } from './mesh-shell.js';
import {
  addressedInterfaces,
  areChosen,
  betterAddresses,
  ownAddresses,
  sameAddresses,
} from '../../host/own-addresses.js';
import {
  changeWhileRunning,
  relayLimits,
  relayPolicy,
  relaysWireguard,
  type ConfigurationChange,
} from '../config/relay-configuration.js';
import type { Store } from '../state/store.js';
import { parseWireguardKey } from '../../host/wireguard-key.js';

/** Room in the engine's tables beside what the relay's caps allow: own legs, bootstraps, members. */
const OWN_LEGS = 8192;
const OWN_PEERS = MAX_MEMBERS + 256;
const CONTROL_FRAMES_PER_SECOND = 2000;

export interface MeshSettings {
  readonly mode: DaemonMode;
  /** Path of the state directory. */
  readonly state: string;
  readonly config: Config;
  readonly identity: Identity;
  readonly store: Store;
  readonly log: Logger;
  /** Channel to the helper of the private network its interface is made in; undefined = on the machine. */
  readonly channel?: () => number | undefined;
  /** Instead of an interface there is a stack of the engine's own, for guests of an exit. */
  readonly stack?: () => boolean;
  /** Instead of an interface there is a virtual machine's network device. */
  readonly guest?: { readonly socket: GuestSocket; readonly mac: string } | undefined;
  /** Opens the engine; tests give another. */
  readonly open?: (choice: EngineChoice, options: EngineOptions) => Promise<OpenedEngine>;
}

/** Which engine and kernel path `accel` asks for. */
/**
 * Whatever this host closes, the datagrams of its daemons leave: an exit may be used by another of them, or a guard be
 * installed. Where marking takes a capability this one has not, neither can be its own.
 */
function markSockets(engine: Engine, log: Logger): void {
  try {
    engine.setFwmark?.(EXIT_MARK);
  } catch (error) {
    log.debug({ reason: messageOf(error) }, 'sockets-not-marked');
  }
}

function warnUnshaped(log: Logger): void {
  log.warn({ remedy: 'npm run build, and engine = "native"' }, 'shaping-needs-native-engine');
}

function choices({ node, relay }: Config, mode: DaemonMode): { engine: EngineChoice; kernelPath: boolean } {
  const accel = mode === 'relay' ? relay.accel : undefined;
  if (accel === 'xdp' && node.engine === 'wasm')
    throw new OperatorError(
      ExitCode.usage,
      'accel',
      '"xdp" needs the native engine, and engine is "wasm"',
      'Leave one of the two out',
    );
  if (accel === 'xdp') return { engine: 'native', kernelPath: true };
  if (accel === 'native' || accel === 'wasm') return { engine: accel, kernelPath: false };
  return { engine: node.engine, kernelPath: accel === 'auto' };
}

function acceleration(
  { node, relay }: Config,
  { maxLegs, wireguardSessions = 0, accounts = NO_ACCOUNTS }: EngineOptions,
): Acceleration {
  return {
    required: relay.accel === 'xdp',
    interfaces: relay.accel_interfaces,
    mode: relay.accel_mode,
    detach: relay.detach,
    bind: node.bind,
    maxLegs,
    wireguardSessions,
    accounts,
    addressed: addressedInterfaces(node.interface),
  };
}

export class Mesh {
  readonly #tunnelAddresses: readonly string[];
  #addresses: readonly SocketAddress[];
  #interfaces: readonly LocalInterface[] = [];
  #networks: readonly Network[];
  /** What it runs by now; the settings have what it was opened with. */
  #config: Config;

  private constructor(
    readonly settings: MeshSettings,
    readonly shell: MeshShell<MeshNode>,
    readonly engineFallback: string | undefined,
    networks: readonly Network[],
    addresses: readonly SocketAddress[],
    tunnelAddresses: readonly string[],
  ) {
    this.#tunnelAddresses = tunnelAddresses;
    this.#networks = networks;
    this.#addresses = addresses;
    this.#config = settings.config;
    const { engine } = shell;
    if (engine.paths !== undefined) this.#interfaces = interfacesOf(settings.config, engine.port);
  }

  /** Opens the engine and starts the node. @throws OperatorError */
  static async open(settings: MeshSettings, networks: readonly Network[]): Promise<Mesh> {
    const { config, identity, mode, state, store, log } = settings;
    const limits = relayLimits(config);
    const relaysStock = mode === 'relay' && relaysWireguard(config);
    const { port, bind } = config.node;
    const isStack = mode === 'up' && settings.stack?.() === true;
    const inside = (): { readonly addresses: string[]; readonly mtu: number } => ({
      addresses: innerAddresses(settings, networks),
      mtu: config.node.mtu,
    });
    const options: EngineOptions = {
      privateKey: Uint8Array.from(identity.sessionPrivateKey),
      port,
      bind,
      workers: isStack || settings.guest !== undefined ? 1 : config.node.workers,
      io: config.node.io,
      maxLegs: OWN_LEGS + (mode === 'relay' ? 2 * limits.circuits : 0),
      maxPeers: OWN_PEERS + (mode === 'relay' ? limits.admissions : 0),
      wireguardSessions: relaysStock ? config.relay.wireguard_sessions : 0,
      accounts: mode === 'relay' ? accountCapacity(limits) : undefined,
      controlFramesPerSecond: CONTROL_FRAMES_PER_SECOND,
      // Only relays answer STUN.
      stunPerSecond: mode === 'relay' ? config.relay.stun_per_second : 0,
      tun:
        mode === 'up' && !isStack && settings.guest === undefined
          ? tunOptions(settings, networks)
          : undefined,
      stack: isStack ? inside() : undefined,
      guest: settings.guest && { ...settings.guest, ...inside() },
      disable: config.node.disable,
    };
    const choice = choices(config, mode);
    const open = async (): Promise<OpenedEngine> => {
      const { engine, fallback } = await (settings.open ?? openEngine)(choice.engine, options);
      markSockets(engine, log); // before it sends anything
      if (!choice.kernelPath) return { engine, fallback };
      const kernelPath = await openKernelPath(engine, acceleration(config, options));
      return { engine: kernelPath ?? engine, fallback };
    };
    const { engine, fallback } = await open().catch((error: unknown) => {
      throw engineFailure(error, { port, bind, state, ownTunnel: config.node.tun });
    });
    options.privateKey.fill(0);
    let shell: MeshShell<MeshNode> | undefined;
    try {
      const addresses = configuredAddresses(config, engine.port);
      const { wireguardRelay } = engine.describe();
      const node = new MeshNode(
        {
          identitySeed: identity.seed,
          sessionPrivateKey: identity.sessionPrivateKey,
          name: config.node.name,
          endpoints: addresses,
          networks: networks.map((network) => withoutSelf(network, identity)),
          relay: mode === 'relay' ? relayPolicy(config, networks, wireguardRelay) : undefined,
          capabilities: mode === 'relay' ? ['bootstrap', 'relay'] : [],
          maxLegs: options.maxLegs,
          wireguardRelay: mode === 'up' && config.wireguard.relay,
          consent: nodeConsent(config),
          // Only an engine that keeps several ways to a peer can find out whether there is a direct one.
          directPaths: engine.paths !== undefined,
          pathPolicy: pathPolicy(config),
          // A relay has no packets of its own.
          shaping: mode === 'up' ? shapingPolicy(config) : undefined,
          innerMtu: engine.paths?.keepsWhole === true ? insideOf(options)?.mtu : undefined,
          interfaces: engine.paths === undefined ? undefined : interfacesOf(config, engine.port),
          stockPeers: mode === 'up' ? config.wireguard.peers.map(stockPeer) : [],
        },
        nodePrimitives,
      );
      shell = new MeshShell(node, engine, store, log);
      shell.start();
      if (relaysStock && !wireguardRelay)
        log.warn({ remedy: 'npm run build, and engine = "native"' }, 'wireguard-relay-needs-native-engine');
      if (mode === 'up') {
        engine.setPeers(config.wireguard.peers.map(stockPeer));
        engine.shaping?.setCeilings(ceilingsOf(config));
        engine.shaping?.setShaping(stockShaping(config));
        if (engine.shaping === undefined && asksForShaping(config)) warnUnshaped(log);
      }
      // Now the table holds what the store held.
      if (engine instanceof KernelPathEngine) engine.activate();
      const inner = insideOf(options)?.addresses ?? [];
      return new Mesh(settings, shell, fallback, networks, addresses, inner);
    } catch (error) {
      shell?.close();
      await engine.close();
      throw engineFailure(accelerationError(error), { port, bind, state, ownTunnel: config.node.tun });
    }
  }

  get addresses(): readonly SocketAddress[] {
    return this.#addresses;
  }

  get networks(): readonly Network[] {
    return this.#networks;
  }

  /**
   * Takes over a changed list of networks.
   * @returns false when the mesh has to be opened anew for it: a TUN interface gets the addresses of
   * a joined network only when it is made.
   */
  changeNetworks(networks: readonly Network[]): boolean {
    const { mode, identity } = this.settings;
    const without = (list: readonly Network[], others: readonly Network[]): Network[] =>
      list.filter((network) => !others.some(({ id }) => sameBytes(id, network.id)));
    const joined = without(networks, this.#networks);
    const left = without(this.#networks, networks);
    if (mode === 'up' && joined.length > 0) return false;
    for (const network of left) this.shell.command((node, step) => node.removeNetwork(network.id, step));
    for (const network of joined)
      this.shell.command((node, step) => node.addNetwork(withoutSelf(network, identity), step));
    for (const { id, name } of networks)
      if (this.#networks.some((known) => sameBytes(known.id, id) && known.name !== name))
        this.shell.command((node, step) => node.renameNetwork(id, name, step));
    this.#networks = networks;
    if (mode === 'relay' && joined.length + left.length > 0) this.#applyPolicy();
    return true;
  }

  /** Goes on by a changed configuration, as far as that is possible without a new start. */
  changeConfiguration(wanted: Config): ConfigurationChange {
    const { config, change } = changeWhileRunning(
      this.settings.mode,
      this.settings.config,
      this.#config,
      wanted,
    );
    this.#config = config;
    this.settings.log.level = config.log.level;
    if (this.settings.mode === 'relay') this.#applyPolicy();
    if (change.applied.some((key) => key.startsWith('paths.'))) this.#applyPathPolicy();
    if (change.applied.some((key) => key.startsWith('shaping.'))) this.#applyShaping();
    return change;
  }

  #applyShaping(): void {
    const policy = shapingPolicy(this.#config);
    this.shell.command((node, step) => node.setShaping(policy, step));
    // The WireGuard peers are those it was opened with.
    const { wireguard } = this.settings.config;
    const { shaping } = this.shell.engine;
    if (shaping === undefined && asksForShaping(this.#config)) warnUnshaped(this.settings.log);
    shaping?.setCeilings(ceilingsOf(this.#config));
    shaping?.setShaping(stockShaping({ ...this.#config, wireguard }));
  }

  /** What leaves by interfaces at most, and what has left; undefined: the engine has no ceilings. */
  ceilings(): (Ceiling & CeilingCounts)[] | undefined {
    const counts = this.shell.engine.shaping?.ceilingCounts();
    if (counts === undefined) return undefined;
    return ceilingsOf(this.#config).flatMap((ceiling, index) => {
      const count = counts[index];
      return count === undefined ? [] : [{ ...ceiling, ...count }];
    });
  }

  #applyPathPolicy(): void {
    const policy = pathPolicy(this.#config);
    this.#refreshInterfaces();
    this.shell.command((node, step) => node.setPathPolicy(policy, step));
  }

  #applyPolicy(): void {
    const { wireguardRelay } = this.shell.engine.describe();
    const policy = relayPolicy(this.#config, this.#networks, wireguardRelay);
    this.shell.command((node, step) => node.setRelayPolicy(policy, step));
  }

  /** Looks whether the interfaces have other addresses now and tells the node. @returns whether they have. */
  refreshAddresses(): boolean {
    const { engine } = this.shell;
    const addresses = configuredAddresses(this.#config, engine.port, this.#addresses);
    this.#refreshInterfaces();
    if (sameAddresses(addresses, this.#addresses)) return false;
    this.#addresses = addresses;
    this.shell.command((node, step) => node.setEndpoints(addresses, step));
    return true;
  }

  #refreshInterfaces(): void {
    const { engine } = this.shell;
    const interfaces = engine.paths === undefined ? [] : interfacesOf(this.#config, engine.port);
    if (sameInterfaces(interfaces, this.#interfaces)) return;
    this.#interfaces = interfaces;
    this.shell.command((node, step) => node.setInterfaces(interfaces, step));
  }

  /** A gateway lets everybody in there; undefined = at none. */
  setMapped(address: SocketAddress | undefined): void {
    this.shell.command((node, step) => node.setMapped(address, step));
  }

  /** What the end of a relay may take for clients that move to others. */
  get drainSeconds(): number {
    return this.#config.relay.drain_seconds;
  }

  /** Addresses the interface was made with, with prefix length. */
  get tunnelAddresses(): readonly string[] {
    return this.#tunnelAddresses;
  }

  /** Whether the node has other addresses than the interface: it needs a new one. */
  get tunnelOutdated(): boolean {
    const present = this.shell.node.overlay.flatMap(tunnelPrefixes);
    return present.length > 0 && present.some((address) => !this.#tunnelAddresses.includes(address));
  }

  /** The kernel path in front of the engine, if one was asked for. */
  get kernelPath(): KernelPathEngine | undefined {
    const { engine } = this.shell;
    return engine instanceof KernelPathEngine ? engine : undefined;
  }

  /** @param unload whether the kernel path goes too; default: what the configuration says. */
  async close(unload?: boolean): Promise<void> {
    this.shell.close();
    await (this.kernelPath?.close(unload) ?? this.shell.engine.close());
  }
}

/**
 * Addresses others are told, with the port the node listens on.
 * @param known what they were told before, which worse ones do not replace unless the operator chose them
 */
export function configuredAddresses(
  { node }: Config,
  port: number,
  known: readonly SocketAddress[] = [],
): readonly SocketAddress[] {
  const announce = node.announce.map(parseSocketAddress).filter((address) => address !== undefined);
  const sources = { announce, bind: node.bind, port, ownTunnel: node.interface };
  const found = ownAddresses(sources);
  return areChosen(sources) ? found : betterAddresses(known, found);
}

/** What is sent from. */
function interfacesOf(config: Config, port: number): LocalInterface[] {
  const { bind, interface: ownTunnel } = config.node;
  return localInterfaces({ bind, port, ownTunnel, ranks: (name) => ranksOfInterface(config, name) });
}

/** A node does not register with itself, so its own entry among the bootstraps is left out. */
function withoutSelf(network: Network, identity: Identity): Network {
  return {
    ...network,
    bootstraps: network.bootstraps.filter((bootstrap) => !sameBytes(bootstrap.identity, identity.publicKey)),
  };
}

function stockPeer({
  public_key: key,
  allowed_ips: allowedIps,
}: Config['wireguard']['peers'][number]): PeerConfig & StockPeer {
  return {
    sessionKey: toHex(parseWireguardKey(key) ?? new Uint8Array(32)), // the configuration has checked it
    presharedKey: undefined,
    allowedIps,
    endpoint: undefined,
    persistentKeepalive: 0,
  };
}

/** An engine has one of them at most. */
function insideOf({ tun, stack, guest }: EngineOptions): EngineOptions['stack'] {
  return tun ?? stack ?? guest;
}

function tunOptions(settings: MeshSettings, networks: readonly Network[]): NonNullable<EngineOptions['tun']> {
  const { interface: name, mtu } = settings.config.node;
  return { name, mtu, channel: settings.channel?.(), addresses: innerAddresses(settings, networks) };
}

/** With prefix length. */
function innerAddresses({ identity, store }: MeshSettings, networks: readonly Network[]): string[] {
  const stored = store.load();
  return networks.flatMap((network) => {
    const round = storedRound(stored, toHex(blindedNetworkId(nodePrimitives, network)));
    return tunnelPrefixes(overlayAddresses(nodePrimitives, network.id, identity.publicKey, round));
  });
}

function tunnelPrefixes({ ipv4, ipv6 }: OverlayAddresses): string[] {
  return [`${ipv4}/${OVERLAY_PREFIX_IPV4}`, `${ipv6}/${OVERLAY_PREFIX_IPV6}`];
}

/** Own entry in the bootstraps of a network, for invites. @throws OperatorError without an address. */
export function ownBootstrap(identity: Identity, addresses: readonly SocketAddress[]): Bootstrap {
  if (addresses.length === 0)
    throw new OperatorError(
      ExitCode.failure,
      'announce',
      'this machine has no address others could reach it at',
      'Bring an interface up, or give the address with --announce ADDR:PORT (or announce under [node])',
    );
  return { identity: identity.publicKey, sessionKey: identity.sessionPublicKey, addresses };
}

/** The network with this node's own bootstrap entry brought up to date; the same object if it was. */
export function withOwnAddresses(network: Network, identity: Identity, config: Config): Network {
  const own = network.bootstraps.find((bootstrap) => sameBytes(bootstrap.identity, identity.publicKey));
  if (own === undefined) return network;
  const addresses = configuredAddresses(config, config.node.port, own.addresses);
  if (addresses.length === 0) return network;
  if (sameAddresses(own.addresses, addresses) && sameBytes(own.sessionKey, identity.sessionPublicKey))
    return network;
  return {
    ...network,
    bootstraps: network.bootstraps.map((bootstrap) =>
      bootstrap === own ? ownBootstrap(identity, addresses) : bootstrap,
    ),
  };
}
