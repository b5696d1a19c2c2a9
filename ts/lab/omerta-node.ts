// The shipped binary, bin/omerta, in a node of the world, with a state directory of its own.

import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { ControlClient } from '../daemon/control/control-client.js';
import type { ControlCommand } from '../daemon/control/control-request.js';
import { asOrdinaryUser, giveToOrdinaryUser, withTunDevice } from './ordinary-user.js';
import type { Node, World } from './world.js';

const INSTALLATION = fileURLToPath(new URL('../../..', import.meta.url));
const START_TIMEOUT_MS = 20_000;

export interface OmertaNodeOptions {
  /** Reaches members directly where that is possible; default: by relays, which most tests are about. */
  readonly direct?: boolean;
  /** How it asks its gateway for a port; default: as shipped. */
  readonly portMapping?: 'pcp' | 'nat-pmp' | 'upnp' | 'off';
}

export class OmertaNode {
  /** Its state directory. */
  readonly state: string;
  private daemon: ChildProcess | undefined;
  private starts = 0;
  /** What start() starts it by, such as `unshare`; it has to become the daemon (exec). */
  through: readonly string[] = [];
  /** Whether it is a user's without root: see ordinary-user.ts. */
  isOrdinary = false;
  /** The folder of the release whose bin/omerta it runs. */
  installation = INSTALLATION;

  constructor(
    world: World,
    readonly node: Node,
    readonly name: string,
    private readonly options: OmertaNodeOptions = {},
  ) {
    this.state = join(world.folder, name);
    mkdirSync(this.state, { mode: 0o700 });
    this.configure('');
  }

  /** Writes its configuration: what every node of the lab has, and `more`: keys of [node], then tables. */
  configure(more: string): void {
    // All namespaces share the host's name, which would be every node's name otherwise.
    const { direct, portMapping } = this.options;
    const keys = [
      ...(direct === true ? [] : ['use = "relay-only"']),
      ...(portMapping === undefined ? [] : [`port_mapping = "${portMapping}"`]),
    ];
    const paths = keys.length === 0 ? '' : `[paths]\n${keys.join('\n')}\n`;
    const text = `${paths}[node]\nname = "${this.name}"\n${more}\n`;
    writeFileSync(join(this.state, 'omerta.toml'), text, { mode: 0o600 });
  }

  private get binary(): string {
    return join(this.installation, 'bin', 'omerta');
  }

  private arguments(command: readonly string[]): string[] {
    return [this.binary, ...command, '--state', this.state, '--json'];
  }

  /** What a person would type to run a command in this node. */
  shellCommand(...command: readonly string[]): string {
    return `nsenter --net=/run/netns/${this.node.name} -- ${this.binary} ${command.join(' ')} --state ${this.state}`;
  }

  /** From now on it is a user's without root, on a machine that has /dev/net/tun open to all. */
  becomeOrdinary(): void {
    giveToOrdinaryUser(this.state);
    this.through = withTunDevice();
    this.isOrdinary = true;
  }

  /** A program and its arguments: a command as whoever runs this node types it, for people to read. */
  typed(...command: readonly string[]): readonly string[] {
    const user = this.isOrdinary ? asOrdinaryUser : [];
    return [...user, process.execPath, this.binary, '--state', this.state, ...command];
  }

  /** What Node.js runs a command of this node by. */
  commandLine(...command: readonly string[]): readonly string[] {
    return this.arguments(command);
  }

  /**
   * Runs a command to its end, with `input` on its standard input, and returns the JSON it printed.
   * @throws Error with what it said.
   */
  async command(command: readonly string[], input = ''): Promise<unknown> {
    return JSON.parse(
      await this.node.mustRun(process.execPath, this.arguments(command), { input }),
    ) as unknown;
  }

  /**
   * Asks its daemon over the control socket, as the command line does: for tests that ask often, and are not
   * about what a command prints. @throws OperatorError with what the daemon refuses it for.
   */
  async request(command: ControlCommand): Promise<unknown> {
    const client = await ControlClient.connect(join(this.state, 'omerta.sock'));
    try {
      return await client.request(command);
    } finally {
      client.close();
    }
  }

  private get outputFile(): string {
    return `${this.state}-${this.starts}.out`;
  }

  private get errorFile(): string {
    return `${this.state}-${this.starts}.err`;
  }

  /**
   * Starts a command that stays (`relay`, `up --foreground`) and resolves to the JSON it prints once
   * it serves. Its output goes to files, so that it can outlive this process.
   */
  async start(...command: readonly string[]): Promise<unknown> {
    this.starts++;
    const files = [openSync(this.outputFile, 'w', 0o600), openSync(this.errorFile, 'w', 0o600)] as const;
    const [file = process.execPath, ...args] = [
      ...this.through,
      process.execPath,
      ...this.arguments(command),
    ];
    const daemon = this.node.spawn(file, args, {
      stdio: ['ignore', ...files],
      detached: true,
    });
    files.forEach(closeSync);
    daemon.unref();
    this.daemon = daemon;
    const deadline = performance.now() + START_TIMEOUT_MS;
    const ended = (): boolean => daemon.exitCode !== null || daemon.signalCode !== null;
    while (!ended() && performance.now() < deadline) {
      try {
        return JSON.parse(readFileSync(this.outputFile, 'utf8')) as unknown;
      } catch {
        await setTimeout(10); // nothing yet, or half of it
      }
    }
    const how = ended() ? `ended with ${daemon.signalCode ?? `code ${daemon.exitCode}`}` : 'is silent';
    throw new Error(`omerta ${command.join(' ')} in ${this.node.name} ${how}: ${this.log}`);
  }

  /** What its daemon has logged: to a file when it runs in the background, else to standard error. */
  get log(): string {
    const file = [join(this.state, 'omerta.log'), this.errorFile].find((name) => existsSync(name));
    return file === undefined ? '' : readFileSync(file, 'utf8').trim();
  }

  /** SIGKILL: the daemon gets no chance to say goodbye. */
  async kill(): Promise<void> {
    const { daemon } = this;
    if (daemon === undefined || daemon.exitCode !== null || daemon.signalCode !== null) return;
    const gone = once(daemon, 'exit');
    daemon.ref(); // somebody waits for it now
    daemon.kill('SIGKILL');
    await gone;
  }
}
