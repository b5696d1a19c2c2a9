// Engine, names and host as exits and routes want them: what was typed or configured is decided elsewhere (exits.ts,
// routes.ts), here it is carried out, one thing after the other, looked after, and undone.

import { performance } from 'node:perf_hooks';
import type { Logger } from 'pino';
import type { Engine } from '../../contract/engine.js';
import type { ExitEffect } from '../../core/runtime/exit-change.js';
import { EXIT_MARK } from '../../exit/exit-numbers.js';
import type { ExitWish, Routing } from '../../exit/exit-host.js';
import type { ExitPlace } from '../../exit/exit-place.js';
import { ExitCode, messageOf, OperatorError } from '../../host/operator-error.js';
import type { ExitServeSettings, ExitUseSettings } from '../state/exit-settings.js';
import { ExitNames } from './exit-names.js';
import type { Mesh } from './mesh.js';

/** What is to be. */
export interface ExitSettingsInForce {
  readonly serve?: ExitServeSettings | undefined;
  readonly use?: ExitUseSettings | undefined;
  readonly routing: Routing;
}

export class ExitSetup {
  readonly host: ExitPlace;
  readonly names: ExitNames;
  readonly #log: Logger;
  readonly #wanted: () => ExitSettingsInForce;
  #mesh: Mesh | undefined;
  /** The last command that came, done or not. */
  #commands: Promise<unknown> = Promise.resolve();
  #told = '';

  /** @param wanted asked anew each time */
  constructor(host: ExitPlace, log: Logger, wanted: () => ExitSettingsInForce) {
    this.host = host;
    this.#log = log;
    this.#wanted = wanted;
    this.names = new ExitNames({
      host,
      log,
      now: () => performance.now(),
      chosen: () => wanted().serve?.resolvers ?? [],
      own: () => this.#mesh?.shell.node.overlay.flatMap(({ ipv4, ipv6 }) => [ipv4, ipv6]) ?? [],
    });
  }

  /** Before the mesh is opened: what is to be closed is, and what an earlier daemon left and nobody wants goes. */
  async prepare(tunnel: string, port: number): Promise<void> {
    const { use } = this.#wanted();
    if (use !== undefined)
      await this.attempt(this.host.set({ tunnel, port, serving: undefined, using: use }));
    else if (this.host.isChanged) await this.attempt(this.host.clear());
  }

  /** A mesh was opened, the first or another. */
  async attach(mesh: Mesh): Promise<void> {
    this.#mesh = mesh;
    this.#told = ''; // its engine has no rules yet
    this.names.close(); // its addresses may be others now
    mesh.shell.onExitChanged = (change) => this.#changed(change);
    if (this.#isIdle()) return;
    await this.attempt(this.apply());
  }

  /** Once a second: looks after the host. */
  check(): void {
    const { error } = this.host;
    void this.attempt(
      this.host.check().then((isRestored) => {
        if (isRestored) this.#log.warn('exit-host-restored');
        if (error !== undefined) this.#log.info('exit-host-in-order');
      }),
    );
    this.#setRules();
  }

  /**
   * What was changed on the host is undone.
   * @param failed nobody asked for the end: what is closed stays so, as after SIGKILL
   */
  async close(failed: boolean): Promise<void> {
    this.names.close();
    const { use } = this.#wanted();
    if (use !== undefined && (failed || use.paranoid)) {
      await this.host.keepClosed();
      if (failed) this.#log.warn({ remedy: 'omerta up, or omerta exit off' }, 'exit-stays-closed');
    } else if (this.host.isChanged) await this.host.clear();
  }

  /** Engine and host as they are wanted. @throws OperatorError */
  async apply(): Promise<void> {
    const { engine, mesh } = this.opened();
    const { serve, use, routing } = this.#wanted();
    // Its sockets are marked from the start, where that is possible: here it is said where it is not.
    if (use !== undefined && this.host.isMachine) mark(engine);
    this.#setRules();
    const wish: ExitWish = {
      tunnel: engine.describe().tun ?? mesh.settings.config.node.interface,
      port: engine.port,
      serving: serve,
      using: use,
      routing,
    };
    if (this.#isIdle()) await this.host.clear();
    else await this.host.set(wish);
    await this.names.serve(serve?.dns === true);
  }

  /**
   * Commands one after the other, each upon what the one before has left: one that comes while another changes the
   * host would take back half of it.
   */
  inTurn<T>(command: () => Promise<T>): Promise<T> {
    const done = this.#commands.then(command);
    this.#commands = done.catch(() => undefined);
    return done;
  }

  /** What fails is logged once, shown by `exit status`, and tried again. */
  async attempt(done: Promise<void>): Promise<void> {
    const before = this.host.error;
    await done.catch((error: unknown) => {
      if (messageOf(error) !== before) this.#log.error({ error: messageOf(error) }, 'exit-host-failed');
    });
  }

  get mesh(): Mesh | undefined {
    return this.#mesh;
  }

  /** @throws OperatorError while the daemon is starting */
  opened(): { readonly mesh: Mesh; readonly engine: Engine } {
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

  /** @throws OperatorError for a network that is not joined */
  requireJoined(names: readonly string[]): void {
    const joined = this.#mesh?.networks.map(({ name }) => name) ?? [];
    const unknown = names.find((name) => !joined.includes(name));
    if (unknown === undefined) return;
    throw new OperatorError(
      ExitCode.usage,
      'network',
      `"${unknown}" is not joined${joined.length === 0 ? '' : `; joined: ${joined.join(', ')}`}`,
      'Type: omerta network list',
    );
  }

  /** The id of a joined network. */
  readonly networkId = (name: string): Uint8Array | undefined =>
    this.#mesh?.networks.find((known) => known.name === name)?.id;

  #isIdle(): boolean {
    const { serve, use, routing } = this.#wanted();
    const { advertised, accepted } = routing;
    return serve === undefined && use === undefined && advertised.length + accepted.length === 0;
  }

  /** Own addresses and on-link prefixes are denied: they are looked up each time. */
  #setRules(): void {
    const { serve, routing } = this.#wanted();
    const mesh = this.#mesh;
    if ((serve === undefined && routing.advertised.length === 0) || mesh === undefined) {
      this.#told = '';
      return;
    }
    const { engine } = mesh.shell;
    const tunnel = mesh.settings.config.node.interface;
    const rules = this.host.rules(serve?.lan ?? [], tunnel);
    const lan = this.host.lanRules(routing.advertised, tunnel);
    const told = JSON.stringify([engine.port, rules, lan]);
    if (told === this.#told) return;
    engine.exit?.setExitRules(rules, lan);
    this.#told = told;
  }

  #changed(change: ExitEffect): void {
    switch (change.type) {
      case 'exit-guests':
        this.names.setGuests(change.guests.flatMap(({ addresses }) => addresses));
        void this.attempt(this.host.setGuests('exit', change.guests));
        break;
      case 'route-guests':
        void this.attempt(this.host.setGuests('lan', change.guests));
        break;
      case 'exit-in-use':
        void this.attempt(this.host.setInUse(change.use));
        break;
      case 'routes-in-use':
        void this.attempt(this.host.setRoutesInUse(change.routes));
    }
  }
}

/** @throws OperatorError where nothing can leave by the engine */
export function requireInside(engine: Engine): void {
  const { tun, stack, guest } = engine.describe();
  const hasInside = tun !== undefined || stack === true || guest === true;
  if (engine.exit !== undefined && engine.setFwmark !== undefined && hasInside) return;
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
