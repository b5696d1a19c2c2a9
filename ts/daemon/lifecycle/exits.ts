// Exits as the daemon runs them: what the operator typed is kept, the node is told, the engine gets rules and a
// mark, and the host follows what the node says.

import { performance } from 'node:perf_hooks';
import type { Logger } from 'pino';
import type { ExitEffect } from '../../core/runtime/exit-change.js';
import type { Engine } from '../../contract/engine.js';
import { BootGuard } from '../../exit/boot-guard.js';
import type { ExitConfiguration } from '../config/exit-configuration.js';
import { ExitHost, type ExitWish } from '../../exit/exit-host.js';
import type { ExitPlace } from '../../exit/exit-place.js';
import { EXIT_MARK } from '../../exit/exit-numbers.js';
import { ExitCode, messageOf, OperatorError } from '../../host/operator-error.js';
import { exitReport, type ExitReport } from '../../status/model/exit-report.js';
import type { DaemonStatus } from '../../status/model/daemon-status.js';
import {
  loadExitSettings,
  saveExitSettings,
  type ExitGrantSetting,
  type ExitServeSettings,
  type ExitSubjectSetting,
  type ExitUseSettings,
  type StoredExitSettings,
} from '../state/exit-settings.js';
import type { StateDirectory } from '../state/state-directory.js';
import { ExitNames } from './exit-names.js';
import { nodeExitSettings, rightsLeft, type ExitRightLeft } from './granted-rights.js';
import type { Mesh } from './mesh.js';

/** Ended rights are kept so long, to be told from rights that never were. */
const REMEMBERED_MS = 7 * 24 * 3_600_000;
/** So often it is looked whether another program took the machine's guard away. */
const GUARD_LOOK_MS = 5000;

export interface ExitRevoked {
  readonly found: boolean;
  readonly left: readonly ExitRightLeft[];
}

export interface ExitsOptions {
  /** What the configuration says of exits, and where it is. */
  readonly configuration: ExitConfiguration;
  readonly source: string;
  readonly state: StateDirectory;
  readonly log: Logger;
  /** Default: the machine. */
  readonly host?: ExitPlace;
  readonly bootGuard?: BootGuard;
}

export class Exits {
  readonly #state: StateDirectory;
  readonly #log: Logger;
  readonly #host: ExitPlace;
  readonly #bootGuard: BootGuard;
  #lookedAtGuard = -Infinity;
  /** What was typed. */
  #typed: StoredExitSettings;
  /** What the file says, in its place. */
  #file: ExitConfiguration;
  readonly #source: string;
  readonly #names: ExitNames;
  #mesh: Mesh | undefined;
  /** The last command that came, done or not. */
  #commands: Promise<unknown> = Promise.resolve();
  #told = '';

  /** @throws OperatorError when the settings cannot be read. */
  constructor({ state, log, host, bootGuard = new BootGuard(), configuration, source }: ExitsOptions) {
    this.#file = configuration;
    this.#source = source;
    this.#bootGuard = bootGuard;
    this.#state = state;
    this.#log = log;
    this.#typed = loadExitSettings(state);
    this.#requireStillClosed(configuration);
    const now = (): number => performance.now();
    this.#host = host ?? new ExitHost({ journal: state.exitJournal, now });
    this.#names = new ExitNames({
      host: this.#host,
      log,
      now,
      chosen: () => this.#settings.serve?.resolvers ?? [],
      own: () => this.#mesh?.shell.node.overlay.flatMap(({ ipv4, ipv6 }) => [ipv4, ipv6]) ?? [],
    });
  }

  /** Before the mesh is opened: what is to be closed is, and what an earlier daemon left and nobody wants goes. */
  async prepare(tunnel: string, port: number): Promise<void> {
    const { use } = this.#settings;
    if (use !== undefined)
      await this.#attempt(this.#host.set({ tunnel, port, serving: undefined, using: use }));
    else if (this.#host.isChanged) await this.#attempt(this.#host.clear());
  }

  /** A mesh was opened, the first or another. */
  async attach(mesh: Mesh): Promise<void> {
    this.#mesh = mesh;
    this.#told = ''; // its engine has no rules yet
    this.#names.close(); // its addresses may be others now
    mesh.shell.onExitChanged = (change) => this.#changed(change);
    if (this.#settings.serve === undefined && this.#settings.use === undefined) return;
    await this.#attempt(this.#apply());
    this.#tellNode(mesh);
  }

  /** Once a second: looks after the host. */
  check(): void {
    const { error } = this.#host;
    void this.#attempt(
      this.#host.check().then(() => {
        if (error !== undefined) this.#log.info('exit-host-in-order');
      }),
    );
    this.#setRules();
    const now = performance.now();
    if (now - this.#lookedAtGuard < GUARD_LOOK_MS || !this.#bootGuard.isInstalled) return;
    this.#lookedAtGuard = now;
    void this.#bootGuard.restore().then(
      (restored) => restored && this.#log.warn('guard-loaded-again'),
      (error: unknown) => this.#log.error({ error: messageOf(error) }, 'guard-not-on'),
    );
  }

  /**
   * What was changed on the host is undone; the settings stay.
   * @param failed nobody asked for the end: what is closed stays so, as after SIGKILL
   */
  async close(failed: boolean): Promise<void> {
    this.#names.close();
    const { use } = this.#settings;
    if (use !== undefined && (failed || use.paranoid)) {
      await this.#host.keepClosed();
      if (failed) this.#log.warn({ remedy: 'omerta up, or omerta exit off' }, 'exit-stays-closed');
    } else if (this.#host.isChanged) await this.#host.clear();
  }

  /** The file decides, as far as it says anything. */
  get #settings(): StoredExitSettings {
    const { grants, ...typed } = this.#typed;
    const serve = this.#file.serve === undefined ? typed.serve : this.#file.serve.settings;
    const use = this.#file.use ?? typed.use;
    return { grants, ...(serve && { serve }), ...(use && { use }) };
  }

  /** The file has changed. @throws OperatorError; then all is as before. */
  configure(configuration: ExitConfiguration): Promise<void> {
    return this.#inTurn(async () => {
      const before = this.#file;
      if (JSON.stringify(before) === JSON.stringify(configuration)) return;
      this.#requireStillClosed(configuration);
      if (configuration.use !== undefined || configuration.serve?.settings !== undefined)
        requireInside(this.#opened().engine);
      this.#requireNotOwn(configuration.use);
      if (this.#settings.use === undefined && configuration.use !== undefined)
        await this.#host.requireNoRival();
      this.#file = configuration;
      await this.#change(this.#typed).catch(async (error: unknown) => {
        this.#file = before;
        await this.#attempt(this.#apply());
        throw error;
      });
    });
  }

  /** The guard does not go unasked: who typed --paranoid is not opened by a file without it. @throws OperatorError */
  #requireStillClosed({ use }: ExitConfiguration): void {
    if (this.#typed.use?.paranoid !== true || use?.paranoid !== false) return;
    throw new OperatorError(
      ExitCode.usage,
      'config exit.use.paranoid',
      'this machine is closed by omerta exit use --paranoid, and without it the guard would be gone',
      `Write paranoid = true in ${this.#source}, or open the machine first: omerta exit off --use`,
    );
  }

  #requireNotOwn(use: ExitUseSettings | undefined): void {
    if (use?.exits.includes(this.#opened().mesh.shell.status().peerId) !== true) return;
    throw new OperatorError(
      ExitCode.usage,
      'exit',
      'this machine cannot be its own exit',
      'Name another: omerta exit list',
    );
  }

  /** @throws OperatorError where the file says it. */
  #requireTyped(section: 'exit' | 'exit.use', says: boolean): void {
    if (!says) return;
    throw new OperatorError(
      ExitCode.usage,
      section,
      `[${section}] of ${this.#source} says it, and holds in place of what is typed`,
      `Change it there, then type: omerta reload`,
    );
  }

  serve(serve: ExitServeSettings): Promise<void> {
    return this.#inTurn(async () => {
      this.#requireTyped('exit', this.#file.serve !== undefined);
      const { engine } = this.#opened();
      requireInside(engine);
      for (const name of serve.networks) this.#networkId(name);
      await this.#change({ ...this.#typed, serve });
    });
  }

  use(use: ExitUseSettings): Promise<void> {
    return this.#inTurn(async () => {
      this.#requireTyped('exit.use', this.#file.use !== undefined);
      requireInside(this.#opened().engine);
      this.#requireNotOwn(use);
      if (use.paranoid && use.exclude.length + use.include.length > 0)
        throw new OperatorError(
          ExitCode.usage,
          '--paranoid',
          'it leaves nothing out, so it goes with neither --exclude nor --include',
          'Leave out one of them',
        );
      if (this.#settings.use?.paranoid === true && !use.paranoid)
        throw new OperatorError(
          ExitCode.usage,
          '--paranoid',
          'this machine is closed by it, and without it the guard would be gone',
          'Type the same with --paranoid; to open the machine: omerta exit off --use',
        );
      if (this.#settings.use === undefined) await this.#host.requireNoRival();
      await this.#change({ ...this.#typed, use });
    });
  }

  grant(grant: ExitGrantSetting): Promise<void> {
    return this.#inTurn(async () => {
      const others = this.#typed.grants.filter(({ subject }) => !sameSubject(subject, grant.subject));
      const old = Date.now() - REMEMBERED_MS;
      const grants = [...others.filter(({ until }) => until === undefined || until > old), grant];
      await this.#change({ ...this.#typed, grants });
    });
  }

  /** @returns whether there was such a right, and by which others its holder still may leave. */
  revoke(subject: ExitSubjectSetting): Promise<ExitRevoked> {
    return this.#inTurn(async () => {
      const grants = this.#typed.grants.filter((each) => !sameSubject(each.subject, subject));
      const { serve } = this.#typed;
      const allow = serve?.allow.filter((peer) => !('peer' in subject) || peer !== subject.peer);
      const found = grants.length < this.#typed.grants.length || allow?.length !== serve?.allow.length;
      await this.#change({
        ...this.#typed,
        grants,
        ...(serve && allow && { serve: { ...serve, allow } }),
      });
      const status = this.#opened().mesh.shell.status();
      const file = this.#file.serve === undefined ? undefined : this.#source;
      return { found, left: rightsLeft(subject, this.#settings, status, file) };
    });
  }

  off(which: { readonly serve: boolean; readonly use: boolean }): Promise<void> {
    return this.#inTurn(async () => {
      this.#requireTyped('exit', which.serve && this.#file.serve?.settings !== undefined);
      this.#requireTyped('exit.use', which.use && this.#file.use !== undefined);
      const { serve, use, grants } = this.#typed;
      await this.#change({
        grants: which.serve ? [] : grants,
        ...(!which.serve && serve && { serve }),
        ...(!which.use && use && { use }),
      });
    });
  }

  /** What is known without a look at the host. */
  status(): NonNullable<DaemonStatus['exit']> {
    const { use } = this.#settings;
    return { error: this.#host.error, paranoid: use?.paranoid === true, include: use?.include ?? [] };
  }

  /** Once the host is as the node said last. */
  async report(): Promise<ExitReport> {
    await this.#host.done;
    const isServing = this.#settings.serve !== undefined;
    const foreignDrops = isServing ? await this.#host.foreignDrops() : [];
    const capped = isServing ? await this.#host.capped() : {};
    const guarded = this.#bootGuard.isInstalled ? await this.#isGuardOn() : undefined;
    const { mesh, engine } = this.#opened();
    const { serve, use, grants } = this.#settings;
    return exitReport(mesh.shell.status(), engine.peers(), {
      networks: serve?.networks ?? [],
      rights: [
        ...(serve?.allow ?? []).map((peer) => ({ peerId: peer, key: undefined, until: undefined })),
        ...grants.map(({ subject, until }) => ({
          peerId: 'peer' in subject ? subject.peer : undefined,
          key: 'key' in subject ? subject.key : undefined,
          until,
        })),
      ],
      use: use && {
        paranoid: use.paranoid,
        allowLan: use.allowLan,
        include: use.include,
        exclude: use.exclude,
        hops: use.hops,
      },
      error: this.#host.error,
      guarded,
      configured: [
        ...(this.#file.serve === undefined ? [] : (['exit'] as const)),
        ...(this.#file.use === undefined ? [] : (['exit.use'] as const)),
      ],
      foreignDrops,
      capped,
      tunnel: mesh.settings.config.node.interface,
      backend: this.#host.isMachine ? 'kernel' : 'namespace',
      gateway: this.#host.gateway,
      refused: engine.counters(),
      dns: this.#names.status(),
    });
  }

  async #isGuardOn(): Promise<boolean> {
    const status = await this.#bootGuard.status().catch(() => undefined);
    return status?.isOn === true;
  }

  /**
   * Commands one after the other, each upon what the one before has left: one that comes while another changes the
   * host would take back half of it.
   */
  #inTurn<T>(command: () => Promise<T>): Promise<T> {
    const done = this.#commands.then(command);
    this.#commands = done.catch(() => undefined);
    return done;
  }

  /** Host first where something is to be closed; kept once it is done; undone where it cannot be done. */
  async #change(typed: StoredExitSettings): Promise<void> {
    const { mesh } = this.#opened();
    const before = this.#typed;
    this.#typed = typed;
    try {
      await this.#apply();
      if (typed !== before) saveExitSettings(this.#state, typed);
    } catch (error) {
      this.#typed = before;
      await this.#attempt(this.#apply());
      throw error;
    }
    this.#tellNode(mesh);
  }

  /** Engine and host as the settings want them. */
  async #apply(): Promise<void> {
    const { engine, mesh } = this.#opened();
    const { serve, use } = this.#settings;
    // Its sockets are marked from the start, where that is possible: here it is said where it is not.
    if (use !== undefined && this.#host.isMachine) mark(engine);
    this.#setRules();
    const wish: ExitWish = {
      tunnel: engine.describe().tun ?? mesh.settings.config.node.interface,
      port: engine.port,
      serving: serve,
      using: use,
    };
    if (serve === undefined && use === undefined) await this.#host.clear();
    else await this.#host.set(wish);
    await this.#names.serve(serve?.dns === true);
  }

  /** Own addresses and on-link prefixes are denied: they are looked up each time. */
  #setRules(): void {
    const { serve } = this.#settings;
    const mesh = this.#mesh;
    if (serve === undefined || mesh === undefined) {
      this.#told = '';
      return;
    }
    const { engine } = mesh.shell;
    const rules = this.#host.rules(serve.lan, mesh.settings.config.node.interface);
    const told = JSON.stringify([engine.port, rules]);
    if (told === this.#told) return;
    engine.exit?.setExitRules(rules);
    this.#told = told;
  }

  #tellNode(mesh: Mesh): void {
    const networkId = (name: string): Uint8Array | undefined =>
      this.#mesh?.networks.find((known) => known.name === name)?.id;
    const settings = nodeExitSettings(this.#settings, networkId, this.#names.areResolved);
    mesh.shell.command((node, step) => node.setExits(settings, step));
  }

  #changed(change: ExitEffect): void {
    if (change.type === 'exit-guests')
      this.#names.setGuests(change.guests.flatMap(({ addresses }) => addresses));
    void this.#attempt(
      change.type === 'exit-guests' ? this.#host.setGuests(change.guests) : this.#host.setInUse(change.use),
    );
  }

  /** What fails is logged once, shown by `exit status`, and tried again. */
  async #attempt(done: Promise<void>): Promise<void> {
    const before = this.#host.error;
    await done.catch((error: unknown) => {
      if (messageOf(error) !== before) this.#log.error({ error: messageOf(error) }, 'exit-host-failed');
    });
  }

  #opened(): { readonly mesh: Mesh; readonly engine: Engine } {
    const mesh = this.#mesh;
    if (mesh === undefined)
      throw new OperatorError(
        ExitCode.failure,
        'exit',
        'the daemon is still starting',
        'Try again in a moment',
      );
    return { mesh, engine: mesh.shell.engine };
  }

  #networkId(name: string): Uint8Array {
    const networks = this.#mesh?.networks ?? [];
    const found = networks.find((network) => network.name === name);
    if (found !== undefined) return found.id;
    throw new OperatorError(
      ExitCode.usage,
      'network',
      `"${name}" is not joined${networks.length === 0 ? '' : `; joined: ${networks.map((network) => network.name).join(', ')}`}`,
      'Type: omerta network list',
    );
  }
}

function requireInside(engine: Engine): void {
  if (engine.exit !== undefined && engine.setFwmark !== undefined && engine.describe().tun !== undefined)
    return;
  throw new OperatorError(
    ExitCode.failure,
    'engine',
    `it is ${engine.describe().kind} and has no interface here, so nothing can leave by it`,
    'Start the member with the native engine: engine = "native" under [node], then omerta down, and omerta up',
  );
}

function mark(engine: Engine): void {
  try {
    engine.setFwmark?.(EXIT_MARK);
  } catch (error) {
    throw new OperatorError(
      ExitCode.permission,
      'exit',
      `the engine's datagrams cannot be marked (${messageOf(error)})`,
      'Run the daemon as root, or with CAP_NET_ADMIN',
    );
  }
}

function sameSubject(a: ExitSubjectSetting, b: ExitSubjectSetting): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}
