// Exits as the daemon runs them: what the operator typed or configured is kept and decided between, and the node is told.
// ExitSetup carries it out.

import { performance } from 'node:perf_hooks';
import type { Logger } from 'pino';
import { BootGuard } from '../../exit/boot-guard.js';
import type { ExitConfiguration } from '../config/exit-configuration.js';
import type { RouteConfiguration } from '../config/route-configuration.js';
import { ExitHost } from '../../exit/exit-host.js';
import type { ExitPlace } from '../../exit/exit-place.js';
import { ExitCode, messageOf, OperatorError } from '../../host/operator-error.js';
import { pingsClosed } from '../../host/ping-access.js';
import { exitReport, type ExitReport } from '../../status/model/exit-report.js';
import type { DaemonStatus } from '../../status/model/daemon-status.js';
import {
  isSameSubject,
  loadExitSettings,
  saveExitSettings,
  withGrant,
  type ExitGrantSetting,
  type ExitServeSettings,
  type ExitSubjectSetting,
  type ExitUseSettings,
  type StoredExitSettings,
} from '../state/exit-settings.js';
import type { StateDirectory } from '../state/state-directory.js';
import { ExitSetup, requireInside } from './exit-setup.js';
import { nodeExitSettings, rightsLeft, type ExitRightLeft } from './granted-rights.js';
import type { Mesh } from './mesh.js';
import { Routes } from './routes.js';

/** So often it is looked whether another program took the machine's guard away. */
const GUARD_LOOK_MS = 5000;

export interface ExitRevoked {
  readonly found: boolean;
  readonly left: readonly ExitRightLeft[];
}

export interface ExitsOptions {
  /** What the configuration says of exits and routes, and where it is. */
  readonly configuration: ExitConfiguration;
  readonly routes: RouteConfiguration;
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
  readonly #bootGuard: BootGuard;
  #lookedAtGuard = -Infinity;
  /** What was typed. */
  #typed: StoredExitSettings;
  /** What the file says, in its place. */
  #file: ExitConfiguration;
  readonly #source: string;
  readonly #setup: ExitSetup;
  readonly routes: Routes;

  /** @throws OperatorError when the settings cannot be read. */
  constructor({
    state,
    log,
    host,
    bootGuard = new BootGuard(),
    configuration,
    routes,
    source,
  }: ExitsOptions) {
    this.#file = configuration;
    this.#source = source;
    this.#bootGuard = bootGuard;
    this.#state = state;
    this.#log = log;
    this.#typed = loadExitSettings(state);
    this.#requireStillClosed(configuration);
    const now = (): number => performance.now();
    this.#setup = new ExitSetup(host ?? new ExitHost({ journal: state.exitJournal, now }), log, () => ({
      ...this.#settings,
      routing: this.routes.routing,
    }));
    this.routes = new Routes({ setup: this.#setup, configuration: routes, source, state });
  }

  /** Before the mesh is opened: what is to be closed is, and what an earlier daemon left and nobody wants goes. */
  prepare(tunnel: string, port: number): Promise<void> {
    return this.#setup.prepare(tunnel, port);
  }

  /** A mesh was opened, the first or another. */
  async attach(mesh: Mesh): Promise<void> {
    await this.#setup.attach(mesh);
    this.#tellNode();
    this.routes.tellNode();
  }

  /** Once a second: looks after the host. */
  check(): void {
    this.#setup.check();
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
  close(failed: boolean): Promise<void> {
    return this.#setup.close(failed);
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
    return this.#setup.inTurn(async () => {
      const before = this.#file;
      if (JSON.stringify(before) === JSON.stringify(configuration)) return;
      this.#requireStillClosed(configuration);
      if (configuration.use !== undefined || configuration.serve?.settings !== undefined)
        requireInside(this.#setup.opened().engine);
      this.#requireNotOwn(configuration.use);
      if (this.#settings.use === undefined && configuration.use !== undefined)
        await this.#setup.host.requireNoRival();
      this.#file = configuration;
      await this.#change(this.#typed).catch(async (error: unknown) => {
        this.#file = before;
        await this.#setup.attempt(this.#setup.apply());
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
    if (use?.exits.includes(this.#setup.opened().mesh.shell.status().peerId) !== true) return;
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
    return this.#setup.inTurn(async () => {
      this.#requireTyped('exit', this.#file.serve !== undefined);
      const { engine } = this.#setup.opened();
      requireInside(engine);
      this.#setup.requireJoined(serve.networks);
      await this.#change({ ...this.#typed, serve });
    });
  }

  use(use: ExitUseSettings): Promise<void> {
    return this.#setup.inTurn(async () => {
      this.#requireTyped('exit.use', this.#file.use !== undefined);
      requireInside(this.#setup.opened().engine);
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
      if (this.#settings.use === undefined) await this.#setup.host.requireNoRival();
      await this.#change({ ...this.#typed, use });
    });
  }

  grant(grant: ExitGrantSetting): Promise<void> {
    return this.#setup.inTurn(async () => {
      const grants = withGrant(this.#typed.grants, grant, Date.now());
      await this.#change({ ...this.#typed, grants });
    });
  }

  /** @returns whether there was such a right, and by which others its holder still may leave. */
  revoke(subject: ExitSubjectSetting): Promise<ExitRevoked> {
    return this.#setup.inTurn(async () => {
      const grants = this.#typed.grants.filter((each) => !isSameSubject(each.subject, subject));
      const { serve } = this.#typed;
      const allow = serve?.allow.filter((peer) => !('peer' in subject) || peer !== subject.peer);
      const found = grants.length < this.#typed.grants.length || allow?.length !== serve?.allow.length;
      await this.#change({
        ...this.#typed,
        grants,
        ...(serve && allow && { serve: { ...serve, allow } }),
      });
      const status = this.#setup.opened().mesh.shell.status();
      const file = this.#file.serve === undefined ? undefined : this.#source;
      return { found, left: rightsLeft(subject, this.#settings, status, file) };
    });
  }

  off(which: { readonly serve: boolean; readonly use: boolean }): Promise<void> {
    return this.#setup.inTurn(async () => {
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
    const { error, backend } = this.#setup.host;
    return {
      error,
      paranoid: use?.paranoid === true,
      backend,
      include: use?.include ?? [],
    };
  }

  /** Once the host is as the node said last. */
  async report(): Promise<ExitReport> {
    await this.#setup.host.done;
    const isServing = this.#settings.serve !== undefined;
    const foreignDrops = isServing ? await this.#setup.host.foreignDrops() : [];
    const capped = isServing ? await this.#setup.host.capped() : {};
    const guarded = this.#bootGuard.isInstalled ? await this.#isGuardOn() : undefined;
    const { mesh, engine } = this.#setup.opened();
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
      error: this.#setup.host.error,
      guarded,
      configured: [
        ...(this.#file.serve === undefined ? [] : (['exit'] as const)),
        ...(this.#file.use === undefined ? [] : (['exit.use'] as const)),
      ],
      foreignDrops,
      capped,
      tunnel: mesh.settings.config.node.interface,
      backend: this.#setup.host.backend,
      gateway: this.#setup.host.gateway,
      pingsClosed: this.#setup.host.gateway && pingsClosed(),
      refused: engine.counters(),
      dns: this.#setup.names.status(),
    });
  }

  async #isGuardOn(): Promise<boolean> {
    const status = await this.#bootGuard.status().catch(() => undefined);
    return status?.isOn === true;
  }

  /** Host first where something is to be closed; kept once it is done; undone where it cannot be done. */
  async #change(typed: StoredExitSettings): Promise<void> {
    this.#setup.opened();
    const before = this.#typed;
    this.#typed = typed;
    try {
      await this.#setup.apply();
      if (typed !== before) saveExitSettings(this.#state, typed);
    } catch (error) {
      this.#typed = before;
      await this.#setup.attempt(this.#setup.apply());
      throw error;
    }
    this.#tellNode();
  }

  #tellNode(): void {
    const { mesh, names, networkId } = this.#setup;
    const settings = nodeExitSettings(this.#settings, networkId, names.areResolved);
    mesh?.shell.command((node, step) => node.setExits(settings, step));
  }
}
