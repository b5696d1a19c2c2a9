// The daemon: one per state directory. Claims the directory, then takes the control socket, the
// identity, the mesh and the status page, in this order, and gives them up in the reverse one.

import { performance } from 'node:perf_hooks';
import type { Logger } from 'pino';
import type { Network } from '../../core/protocol/network.js';
import { formatIp, formatSocketAddress, parseIp, parseSocketAddress } from '../../wire/socket-address.js';
import type { Config } from '../config/config.js';
import { DEFAULT_STATUS_ADDRESS } from '../config/config-rules.js';
import { requireJoined } from '../config/consent-configuration.js';
import { exitConfiguration, requireExitNetworks } from '../config/exit-configuration.js';
import { guestConfiguration, type GuestConfiguration } from '../config/guest-configuration.js';
import {
  privatePorts,
  requirePrivateNetwork,
  type WithoutNetwork,
} from '../config/private-ports-configuration.js';
import { requireRouteNetworks, routeConfiguration } from '../config/route-configuration.js';
import type { GuestSocket } from '../../contract/guest-control.js';
import { openGuestSocket } from '../../engine/native/guest-socket.js';
import { removeKernelPath } from '../../engine/xdp/kernel-path-engine.js';
import { ControlServer } from '../control/control-server.js';
import { alreadyRunning } from '../control/live-socket.js';
import type {
  DaemonMode,
  DaemonStatus,
  LogStatus,
  MachineStatus,
  NoPrivateNetwork,
  TunnelStatus,
} from '../../status/model/daemon-status.js';
import { loadOrCreateIdentity, type Identity } from '../state/identity.js';
import { Mesh, configuredAddresses, ownBootstrap, withOwnAddresses, type MeshSettings } from './mesh.js';
import { addNetwork, loadNetworks, newNetwork, replaceNetwork } from '../state/network-files.js';
import { ExitCode, OperatorError, messageOf } from '../../host/operator-error.js';
import { defaultGateway, defaultGateway6 } from '../../host/default-gateway.js';
import { isProcessAlive, ownProcessIdentity } from '../../host/process-identity.js';
import { RateSampler, SAMPLE_INTERVAL_MS } from '../../status/model/rate-sampler.js';
import type { StateDirectory } from '../state/state-directory.js';
import type { ConfigurationChange } from '../config/relay-configuration.js';
import type { StatusServer } from '../../status/server/status-server.js';
import { deviceProblem } from '../../host/tun-access.js';
import { GuestExit } from '../../exit/guest-exit.js';
import type { ExitPlace } from '../../exit/exit-place.js';
import { PrivateExit } from '../../exit/private-exit.js';
import { PrivateNetwork } from '../../exit/private-network.js';
import { StackExit } from '../../exit/stack-exit.js';
import { answerControl, type AnsweringDaemon } from './control-answers.js';
import { daemonStatus } from './daemon-snapshot.js';
import { engineFailure } from './engine-failure.js';
import { Exits } from './exits.js';
import { HostChecks } from './host-checks.js';
import { machineStatus } from './machine-status.js';
import { PortMapping } from './port-mapping.js';
import { PrivatePorts } from './private-ports.js';
import { RelayDraining } from './relay-draining.js';
import { TunnelWatch, privateFacts } from './tunnel-watch.js';
import { Store } from '../state/store.js';
import { VERSION } from '../../host/version.js';

/** The network a relay makes when it has none. */
export const DEFAULT_NETWORK = 'home';
const ADDRESS_CHECK_INTERVAL_MS = 2000;
const OBSERVED_CHECK_INTERVAL_MS = 2000;
const KERNEL_PATH_CHECK_INTERVAL_MS = 1000;
const STORE_CHECK_INTERVAL_MS = 2000;
const HOST_TICK_MS = 1000;

export interface DaemonSettings {
  readonly mode: DaemonMode;
  readonly state: StateDirectory;
  readonly config: Config;
  readonly log: Logger;
  readonly logStatus: () => LogStatus;
  /** Called when the daemon should end: asked by `omerta down`, or because of a failure. The caller closes it. */
  readonly onEnd: (failure?: Error) => void;
  /** Reads the configuration again, with what the command line overrides. @throws OperatorError */
  readonly reload?: () => Config;
  /** Path of that file; default: that of the state directory. */
  readonly source?: string;
  /** Opens the engine; tests give another. */
  readonly open?: MeshSettings['open'];
}

/** What is closed when the daemon ends, last opened first. */
type Closer = (end: DaemonEnd) => Promise<void> | void;
/** Whether somebody asked for it. */
export type DaemonEnd = 'asked' | 'failed';

export class Daemon {
  readonly #startedAt = performance.now();
  readonly #sampler = new RateSampler();
  readonly #hostChecks = new HostChecks();
  readonly #closers: Closer[] = [];
  #mesh: Mesh | undefined;
  #store: Store | undefined;
  #storeError: string | undefined;
  #tunnel: TunnelWatch | undefined;
  #portMapping: PortMapping | undefined;
  #pinhole: PortMapping | undefined;
  #exits: Exits | undefined;
  #network: PrivateNetwork | undefined;
  #networkError: string | undefined;
  #ports: PrivatePorts | undefined;
  /** There is neither an interface nor a private network. */
  #isStack = false;
  /** The inside is a virtual machine's. */
  #machine: { readonly socket: GuestSocket; readonly mac: string } | undefined;
  /** Why there is no private network, though one was asked for. */
  #noNetwork: NoPrivateNetwork | undefined;
  /** Another helper has taken the place of one that is gone. */
  #onHelper: () => void = () => undefined;
  #statusServer: StatusServer | undefined;
  #reload: Promise<void> = Promise.resolve();
  #closing: Promise<void> | undefined;
  readonly #draining = new RelayDraining(
    () => this.#running,
    () => this.settings.onEnd(),
  );
  #unload: true | undefined;
  /** True when this start made the identity. */
  created = false;

  private constructor(readonly settings: DaemonSettings) {}

  /** @throws OperatorError; then nothing is left open. */
  static async start(settings: DaemonSettings): Promise<Daemon> {
    const daemon = new Daemon(settings);
    try {
      await daemon.#open();
    } catch (error) {
      await daemon.close('failed');
      throw error;
    }
    return daemon;
  }

  async #open(): Promise<void> {
    const { state, config, log, mode } = this.settings;
    state.prepare();
    const store = new Store(state.store);
    this.#closers.push(() => store.close());
    const self = ownProcessIdentity();
    if (store.claim(self, isProcessAlive) !== undefined) throw alreadyRunning(state.socket);
    this.#closers.push(() => store.release(self));
    store.load();
    if (store.damaged !== undefined) log.warn(store.damaged, 'store-damaged');
    this.#store = store;
    const control = await ControlServer.listen(state.socket);
    this.#closers.push(() => control.close());
    const { identity, created } = loadOrCreateIdentity(state);
    this.created = created;
    if (mode === 'relay') this.#keepOwnNetworks(identity);
    const networks = loadNetworks(state);
    requireJoined(config, networks);
    if (mode === 'up') {
      requireExitNetworks(config, networks);
      requireRouteNetworks(config, networks);
    } else this.#requireNoExit(config);
    if (mode === 'up' && networks.length === 0)
      throw new OperatorError(
        ExitCode.usage,
        'network',
        'none is joined yet, so there is nobody to connect to',
        'Type: omerta network join LINK (the link comes from: omerta network invite)',
      );
    const machine = guestConfiguration(config, mode);
    if (machine !== undefined) this.#openMachine(machine);
    else if (mode === 'up' && config.node.stack) this.#isStack = true;
    else if (mode === 'up' && !config.node.tun) this.#makeNetwork();
    requirePrivateNetwork(config, this.#withoutNetwork, this.#source);
    if (mode === 'up') await this.#prepareExits();
    await this.#openMesh(
      {
        mode,
        state: state.path,
        config,
        identity,
        store,
        log,
        channel: () => this.#network?.channel,
        stack: () => this.#isStack,
        guest: this.#machine,
        ...(this.settings.open && { open: this.settings.open }),
      },
      networks,
    );
    this.#closers.push(() => this.#mesh?.close(this.#unload));
    this.#closers.push(() => this.#draining.close());
    this.#openPortMapping();
    if (mode === 'relay') this.#reportKernelPath();
    await this.#openStatusPage();
    this.#every(SAMPLE_INTERVAL_MS, () =>
      this.#sampler.sample(performance.now(), this.#running.shell.engine.counters()),
    );
    this.#hostChecks.add(ADDRESS_CHECK_INTERVAL_MS, () => {
      this.#checkAddresses(identity);
      return true;
    });
    if (mode === 'up') this.#watchTunnel();
    await this.#openPorts();
    this.#every(HOST_TICK_MS, () =>
      this.#hostChecks.tick(performance.now(), this.#running.shell.engine.describe().kind === 'native'),
    );
    this.#every(STORE_CHECK_INTERVAL_MS, () => this.#checkStore(store));
    this.#every(KERNEL_PATH_CHECK_INTERVAL_MS, () => this.#checkKernelPath());
    control.handle((request) => answerControl(request, this.#answering()));
    log.info(
      { mode, port: this.#running.shell.engine.port, peer: identity.peerId, version: VERSION },
      'started',
    );
  }

  /** Where a virtual machine is connected, before it has anybody to speak to. @throws OperatorError */
  #openMachine({ path, mac, uid }: GuestConfiguration): void {
    try {
      const socket = openGuestSocket(path, uid);
      this.#machine = { socket, mac };
      this.#closers.push(() => socket.close());
    } catch (error) {
      const { config } = this.settings;
      const { port, bind } = config.node;
      throw engineFailure(error, { port, bind, state: this.settings.state.path, ownTunnel: false });
    }
  }

  /** A network of its own for the interface; where this user may make none, the engine's own stack serves. */
  #makeNetwork(): void {
    const { log } = this.settings;
    const network = this.#madeNetwork();
    if (network === undefined) return;
    this.#closers.push(() => network.close());
    network.onHelper = (error) => {
      this.#networkError = error?.message;
      if (error === undefined) this.#onHelper();
      if (error === undefined) log.warn({ pid: network.pid }, 'network-helper-replaced');
      else log.error({ error: error.message }, 'network-helper-gone');
    };
    this.#network = network;
    // The gateway's thread asks it as well.
    this.#every(HOST_TICK_MS, () => network.endIfStopped());
  }

  /** @throws OperatorError where something else is wrong than a right */
  #madeNetwork(): PrivateNetwork | undefined {
    try {
      const network = PrivateNetwork.make();
      const device = deviceProblem();
      if (device === undefined) return network;
      network.close();
      this.#noNetwork = device;
    } catch (error) {
      if (!(error instanceof OperatorError) || error.exitCode !== ExitCode.permission) throw error;
      this.#noNetwork = { reason: error.expected, remedy: error.next.replace(/^Type: /, '') };
    }
    this.#isStack = true;
    this.settings.log.warn({ ...this.#noNetwork }, 'no-private-network');
    return undefined;
  }

  /** Why nothing can lead into a private network; undefined = there is one. */
  get #withoutNetwork(): WithoutNetwork | undefined {
    if (this.settings.mode === 'relay') return 'relay';
    if (this.#network !== undefined) return undefined;
    if (this.#machine !== undefined) return 'guest';
    return this.#noNetwork ?? (this.#isStack ? 'stack' : 'interface');
  }

  /** What is to be closed is, before there is a mesh; what an earlier daemon left goes. */
  async #prepareExits(): Promise<void> {
    const { state, log, config } = this.settings;
    const place = this.#exitBesideHost() ?? (await this.#privateExit());
    const exits = new Exits({
      state,
      log,
      configuration: exitConfiguration(config),
      routes: routeConfiguration(config),
      source: this.#source,
      ...(place && { host: place }),
    });
    this.#exits = exits;
    this.#closers.push((end) => exits.close(end === 'failed'));
    await exits.prepare(config.node.interface, config.node.port);
    this.#every(HOST_TICK_MS, () => exits.check());
  }

  #requireNoExit(config: Config): void {
    const isExit = config.exit.serve === true || config.exit.use !== undefined;
    const { advertise, accept } = config.routes;
    if (!isExit && (advertise?.length ?? 0) + (accept?.length ?? 0) === 0) return;
    throw new OperatorError(
      ExitCode.usage,
      isExit ? 'config exit' : 'config routes',
      'a relay has no interface that traffic could leave by',
      `Remove the section from ${this.#source}, or run a member: omerta up`,
    );
  }

  /** Path of the configuration, for messages. */
  get #source(): string {
    return this.settings.source ?? this.settings.state.config;
  }

  /** Ports of the configuration that lead into the private network, and out of it. @throws OperatorError */
  async #openPorts(): Promise<void> {
    const network = this.#network;
    if (network === undefined) return;
    const { log, config } = this.settings;
    const ports = new PrivatePorts({ network, log, source: this.#source, status: () => this.status() });
    this.#ports = ports;
    this.#closers.push(() => ports.close());
    await ports.configure(privatePorts(config));
  }

  #exitBesideHost(): ExitPlace | undefined {
    const options = { now: () => performance.now(), engine: () => this.#mesh?.shell.engine };
    if (this.#machine !== undefined) return new GuestExit(options);
    return this.#isStack ? new StackExit(options) : undefined;
  }

  /** Exits of a private network, where the interface is in one. */
  async #privateExit(): Promise<PrivateExit | undefined> {
    const network = this.#network;
    if (network === undefined) return undefined;
    const place = new PrivateExit({
      network,
      now: () => performance.now(),
      own: () => this.#mesh?.shell.node.overlay.flatMap(({ ipv4, ipv6 }) => [ipv4, ipv6]) ?? [],
    });
    await place.begin();
    this.#closers.push(() => place.end());
    this.#onHelper = () => place.helperReplaced();
    return place;
  }

  get #running(): Mesh {
    if (this.#mesh === undefined) throw new Error('the mesh is not open');
    return this.#mesh;
  }

  async #openMesh(settings: MeshSettings, networks: readonly Network[]): Promise<void> {
    this.#mesh = await Mesh.open(settings, networks);
    await this.#exits?.attach(this.#mesh);
    this.#mesh.shell.onHostChanged = () => this.#hostChecks.changed(performance.now());
    if (this.#mesh.engineFallback !== undefined)
      settings.log.warn({ reason: this.#mesh.engineFallback }, 'native-engine-unavailable');
  }

  /** One line when legs go by the sockets although they need not; nothing an earlier daemon left stays. */
  #reportKernelPath(): void {
    const { log } = this.settings;
    const { kernelPath } = this.#running;
    if (kernelPath?.off !== undefined)
      log.warn({ reason: kernelPath.off.message, remedy: kernelPath.off.remedy }, 'kernel-path-off');
    if (kernelPath !== undefined || this.settings.open !== undefined) return;
    try {
      if (removeKernelPath(this.#running.shell.engine.port)) log.info('kernel-path-removed');
    } catch (error) {
      log.debug({ reason: messageOf(error) }, 'kernel-path-unknown'); // no XDP here: nothing can be left
    }
  }

  /** Asks the gateway to let the port in; a new mesh is told of what the one before had. */
  #openPortMapping(): void {
    const { config, log } = this.settings;
    const { node, paths } = config;
    const choice = paths.use === 'relay-only' && this.settings.mode === 'up' ? 'off' : paths.port_mapping;
    const mapping = new PortMapping({
      choice,
      family: 4,
      log,
      onChange: (mapped) => this.#running.setMapped(mapped),
      openSocket: (local) => this.#openSideSocket(local),
    });
    this.#portMapping = mapping;
    // What a firewall lets in by it needs to be told to nobody: members are told this address anyway.
    const pinhole = new PortMapping({ choice, family: 6, log, onChange: () => undefined });
    this.#pinhole = pinhole;
    this.#closers.push(async () => {
      await Promise.all([mapping.close(), pinhole.close()]);
    });
    let seen = '';
    this.#every(OBSERVED_CHECK_INTERVAL_MS, () => {
      const now = this.#running.shell.node.observed
        .map(({ ip }) => formatIp(ip))
        .sort()
        .join(' ');
      if (now !== '' && seen !== '' && now !== seen) mapping.recheck();
      seen = now === '' ? seen : now;
    });
    if (this.settings.open !== undefined) return; // a test's engine has no port that others could send to
    const look = (): boolean => {
      const { port } = this.#running.shell.engine;
      mapping.setNetwork(defaultGateway(node.bind, node.interface), port);
      pinhole.setNetwork(defaultGateway6(node.bind, node.interface), port);
      return true;
    };
    look();
    this.#hostChecks.add(ADDRESS_CHECK_INTERVAL_MS, look);
  }

  /** What is said to the gateway has to reach it while an exit is used as well. */
  #openSideSocket(local: string): number | undefined {
    const ip = parseIp(local);
    try {
      return ip && this.#running.shell.engine.openSideSocket?.(ip);
    } catch (error) {
      this.settings.log.debug({ reason: messageOf(error) }, 'side-socket-unmarked');
      return undefined;
    }
  }

  #watchTunnel(): void {
    if (this.#isStack || this.#machine !== undefined) {
      this.#every(HOST_TICK_MS, () => this.#renewInside());
      return;
    }
    const tunnel = new TunnelWatch(
      this.settings.config.node.interface,
      this.settings.log,
      () => this.#reopenMesh(),
      this.#network && privateFacts(() => this.#running.tunnelAddresses),
    );
    this.#tunnel = tunnel;
    if (this.settings.open !== undefined) return;
    const check = (): boolean => {
      tunnel.check(this.#running.shell.engine, this.#running.tunnelAddresses, performance.now());
      const { state, missing, unrouted } = tunnel.status();
      return state === 'up' && missing.length === 0 && unrouted.length === 0;
    };
    check();
    this.#hostChecks.add(HOST_TICK_MS, check);
    this.#every(HOST_TICK_MS, () => this.#renewInside());
  }

  /** Opens everything anew with the same networks: only so is there a new interface. */
  #reopenMesh(): void {
    this.#reload = this.#reload.then(() => this.#exchangeMesh(this.#running.networks)).catch(() => undefined);
  }

  /** Opens everything anew when the node has other addresses than its inside. */
  #renewInside(): void {
    // The store has the new ones: the log says whose the former one is.
    if (!this.#running.tunnelOutdated) return;
    this.#reload = this.#reload
      .then(() => (this.#running.tunnelOutdated ? this.#exchangeMesh(this.#running.networks) : undefined))
      .catch(() => undefined);
  }

  /** What the disk refused is tried again; that it refuses, and that it takes it again, is said once. */
  #checkStore(store: Store): void {
    const before = this.#storeError;
    this.#storeError = store.error;
    if (store.error !== undefined) store.retry();
    if (store.error === undefined && before !== undefined) {
      this.settings.log.info('store-written-again');
      this.#storeError = undefined;
    } else if (store.error !== undefined && store.error !== before)
      this.settings.log.error({ error: store.error, path: this.settings.state.store }, 'store-not-written');
  }

  #checkKernelPath(): void {
    for (const { attached, ...change } of this.#running.kernelPath?.check() ?? [])
      if (attached) this.settings.log.info(change, 'kernel-path-attached');
      else this.settings.log.warn(change, 'kernel-path-lost');
  }

  /** Makes the default network of a relay, and keeps its own addresses in invites up to date. */
  #keepOwnNetworks(identity: Identity): void {
    const { state, config } = this.settings;
    const addresses = configuredAddresses(config, config.node.port);
    if (loadNetworks(state).length === 0)
      addNetwork(state, newNetwork(DEFAULT_NETWORK, [ownBootstrap(identity, addresses)]));
    this.#refreshInvites(identity);
  }

  /** Own addresses in the invites, as they are now. */
  #refreshInvites(identity: Identity): void {
    const { state, config } = this.settings;
    for (const network of loadNetworks(state)) {
      const present = withOwnAddresses(network, identity, config);
      if (present !== network) replaceNetwork(state, present);
    }
  }

  #checkAddresses(identity: Identity): void {
    if (!this.#running.refreshAddresses()) return;
    const addresses = this.#running.addresses.map(formatSocketAddress).join(' ');
    this.settings.log.info({ addresses }, 'addresses-changed');
    if (this.settings.mode === 'relay') this.#refreshInvites(identity);
  }

  async #openStatusPage(): Promise<void> {
    const { config, log } = this.settings;
    const listen = config.status.listen ?? DEFAULT_STATUS_ADDRESS;
    const address = parseSocketAddress(listen);
    if (address === undefined) return; // "off": the configuration has checked the rest
    // A node without a page does without what serves it, and so does its memory.
    const { StatusServer } = await import('../../status/server/status-server.js');
    try {
      const server = await StatusServer.listen(address, {
        status: () => this.status(),
        series: () => this.#sampler.series(),
      });
      this.#statusServer = server;
      this.#closers.push(() => server.close());
    } catch (error) {
      // Nobody asked for the default address: a second node on a machine goes without a page.
      if (config.status.listen !== undefined) throw error;
      log.warn({ reason: messageOf(error) }, 'status-page-off');
    }
  }

  /** What commands are answered with. */
  #answering(): AnsweringDaemon {
    return {
      mode: this.settings.mode,
      mesh: this.#running,
      exits: this.#exits,
      status: () => this.status(),
      draining: this.#draining,
      drainSeconds: this.#drainSeconds,
      end: (unload) => {
        if (unload) this.#unload = true;
        setImmediate(() => this.settings.onEnd()); // after the answer is on its way
      },
      reloadNetworks: () => this.reloadNetworks(),
      reloadConfiguration: () => this.reloadConfiguration(),
    };
  }

  #every(ms: number, run: () => void): void {
    const timer = setInterval(() => {
      try {
        run();
      } catch (error) {
        this.settings.log.error({ error: messageOf(error) }, 'periodic-check-failed');
      }
    }, ms);
    timer.unref();
    this.#closers.push(() => clearInterval(timer));
  }

  /**
   * Takes over the configuration file as it is now.
   * @throws OperatorError naming what is wrong in it; then nothing has changed.
   */
  async reloadConfiguration(): Promise<ConfigurationChange> {
    const { reload, log } = this.settings;
    if (reload === undefined) throw new Error('not started from a configuration');
    const wanted = reload();
    requirePrivateNetwork(wanted, this.#withoutNetwork, this.#source);
    if (this.#exits === undefined) this.#requireNoExit(wanted);
    else {
      requireExitNetworks(wanted, this.#running.networks);
      requireRouteNetworks(wanted, this.#running.networks);
      const before = this.#ports?.ports ?? [];
      await this.#ports?.configure(privatePorts(wanted));
      try {
        await this.#exits.configure(exitConfiguration(wanted));
        await this.#exits.routes.configure(routeConfiguration(wanted));
      } catch (error) {
        await this.#ports?.configure(before);
        throw error;
      }
    }
    const change = this.#running.changeConfiguration(wanted);
    log.info(
      { applied: change.applied.join(' '), restart: change.restart.join(' ') },
      'configuration-reloaded',
    );
    return change;
  }

  /** Takes over what the CLI changed in the state directory; one at a time. */
  reloadNetworks(): Promise<void> {
    const done = this.#reload.then(async () => {
      const networks = loadNetworks(this.settings.state);
      const mesh = this.#running;
      if (mesh.changeNetworks(networks)) return;
      await this.#exchangeMesh(networks);
    });
    this.#reload = done.catch(() => undefined);
    return done;
  }

  async #exchangeMesh(networks: readonly Network[]): Promise<void> {
    const mesh = this.#running;
    await mesh.close(false); // the next one takes the kernel path over
    try {
      await this.#openMesh(mesh.settings, networks);
      this.#running.setMapped(this.#portMapping?.mapped);
    } catch (error) {
      // Without an engine there is nothing left to serve.
      this.settings.log.error({ error: messageOf(error) }, 'reopen-failed');
      setImmediate(() => this.settings.onEnd(error instanceof Error ? error : new Error(messageOf(error))));
      throw error;
    }
  }

  status(): DaemonStatus {
    return daemonStatus({
      mode: this.settings.mode,
      stateDirectory: this.settings.state.path,
      startedAt: this.#startedAt,
      mesh: this.#running,
      statusPage: this.#statusServer?.url,
      tunnel: this.#tunnelStatus(),
      portMapping: this.#portMapping?.status(),
      pinhole: this.#pinhole?.status(),
      noPrivateNetwork: this.#noNetwork,
      guest: this.#machineStatus(),
      privatePorts: this.#ports?.status(),
      exit: this.#exits?.status(),
      log: this.settings.logStatus(),
      store: { error: this.#store?.error, damaged: this.#store?.damaged?.path },
    });
  }

  #machineStatus(): MachineStatus | undefined {
    if (this.#machine === undefined) return undefined;
    const { socket, mac } = this.#machine;
    return machineStatus(socket, mac, () => this.#running.shell.engine.counters());
  }

  #tunnelStatus(): TunnelStatus | undefined {
    const tunnel = this.#tunnel?.status();
    if (tunnel === undefined || this.#network === undefined) return tunnel;
    const { pid, namespace } = this.#network;
    return { ...tunnel, private: { pid, namespace, error: this.#networkError } };
  }

  /** What the end of a relay may take for clients that move to others. What a kernel path goes on with needs nobody to move. */
  get #drainSeconds(): number {
    const goesOn = this.#running.kernelPath?.staysBehind === true && this.#unload !== true;
    return this.settings.mode === 'relay' && !goesOn ? this.#running.drainSeconds : 0;
  }

  /** Before the end of a relay that was told to end: clients with another relay move to it. */
  async drain(): Promise<void> {
    if (this.#drainSeconds > 0) await this.#draining.beforeEnd(this.#drainSeconds);
  }

  /** Whoever ends the daemon does not wait for clients any longer. */
  hurry(): void {
    this.#draining.hurry();
  }

  /** Closes everything that was opened, last opened first. Idempotent. */
  close(end: DaemonEnd = 'asked'): Promise<void> {
    this.#closing ??= (async () => {
      await this.#reload;
      for (const close of this.#closers.reverse())
        try {
          await close(end);
        } catch (error) {
          this.settings.log.error({ error: messageOf(error) }, 'close-failed');
        }
    })();
    return this.#closing;
  }
}
