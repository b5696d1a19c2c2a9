// One guest machine: QEMU, confined, with the agent in the guest at the other end of a socket. It has no name in the
// file system but its marker, and nothing of it outlives the process that started it.
//
//   starting ─► running ─► stopping ─► gone     from each to gone, when QEMU or the guest ends by itself

import { spawn, type ChildProcess, type StdioOptions } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { closeSync, openSync, rmSync } from 'node:fs';
import type { Socket } from 'node:net';
import { setTimeout } from 'node:timers/promises';
import { writePrivate } from '../../daemon/state/state-directory.js';
import { OperatorError, messageOf } from '../../host/operator-error.js';
import { ownProcessIdentity, processIdentity } from '../../host/process-identity.js';
import type { GuestImage } from '../image/guest-image.js';
import { confined, machineUser } from './confinement.js';
import { GuestAgent, type CommandEnd, type GuestCommand } from './guest-agent.js';
import { LastWords } from './last-words.js';
import { markerPath, takenUsers, type Marker } from './leftovers.js';
import { MachineCgroup } from './machine-cgroup.js';
import { QmpClient, type QmpEvent } from './qmp-client.js';
import { FD, STREAM_NETDEV, TRANSLATION_MIB, qemuArguments, type Accelerator } from './qemu-arguments.js';
import { kvmAccess, machineError, type QemuHost } from './qemu-host.js';

/** Until the agent says that it runs. Emulated on a busy machine, booting takes long. */
const START_MS = 120_000;
/** What QEMU itself takes beside the guest's memory. */
const OVERHEAD_MIB = 192;
const TASKS = 64;
/** After this QEMU is killed; it has nothing to save. */
const QUIT_MS = 1000;
/** So long QEMU may go on when the agent is gone. */
const GRACE_MS = 2000;

export type MachineState = 'starting' | 'running' | 'stopping' | 'gone';

export interface MachineSettings {
  readonly qemu: QemuHost;
  readonly image: Pick<GuestImage, 'kernel' | 'initramfs'>;
  /** Where the markers are. */
  readonly folder: string;
  readonly accelerator: Accelerator;
  readonly cpus: number;
  readonly memoryMiB: number;
  /** Whether it runs only when nothing else on the host wants to. */
  readonly isIdle: boolean;
  /** Where its network device leads to, connected; without one it has no network device. Given away. */
  readonly network?: { readonly socket: Socket; readonly mac: string };
  /** Ends the start early. */
  readonly signal?: AbortSignal;
}

export class Machine {
  #state: MachineState = 'starting';
  #wentBy: string | undefined;
  readonly #monitor: QmpClient;
  readonly #console: LastWords;
  readonly #complaints: LastWords;
  /** The agent in the guest: commands run by it. */
  readonly agent: GuestAgent;
  /** Settles with the reason when it is gone, and all of it with it. */
  readonly gone: Promise<string>;

  private constructor(
    readonly name: string,
    readonly settings: MachineSettings,
    /** What the host limits it in; see MachineCgroup. */
    readonly limited: readonly string[],
    private readonly cgroup: MachineCgroup,
    private readonly process: ChildProcess,
  ) {
    const stream = (fd: number): Socket => process.stdio[fd] as Socket;
    this.#console = new LastWords(stream(FD.console));
    this.#complaints = new LastWords(stream(2));
    this.#monitor = new QmpClient(stream(FD.monitor), (event) => this.#heard(event));
    this.agent = new GuestAgent(stream(FD.command));
    this.gone = new Promise((resolve, reject) => {
      process.once('error', (error) => (this.#wentBy ??= `it cannot be started: ${messageOf(error)}`));
      process.once('close', (code, signal) => {
        this.#cleanUp(code, signal).then(resolve, reject);
      });
    });
  }

  get state(): MachineState {
    return this.#state;
  }

  /** Of QEMU. */
  get pid(): number | undefined {
    return this.process.pid;
  }

  /**
   * Starts one; it is there when its agent runs.
   * @throws OperatorError with the reason when it does not come up: then nothing is left of it
   */
  static async start(settings: MachineSettings): Promise<Machine> {
    const machine = Machine.#spawn(settings);
    const failed = machine.gone.then((reason) => Promise.reject(new Error(reason)));
    failed.catch(() => undefined);
    const late = new AbortController();
    try {
      await Promise.race([
        machine.agent.ready,
        failed,
        setTimeout(START_MS, undefined, { signal: late.signal }).then(() => {
          throw new Error(`it did not come up within ${START_MS / 1000} s`);
        }),
        aborted(settings.signal),
      ]);
    } catch (error) {
      // The agent is gone before QEMU is; QEMU knows why.
      const reason = machine.process.exitCode === null ? messageOf(error) : await machine.gone;
      const said = machine.lastWords;
      await machine.stop();
      throw error instanceof OperatorError
        ? error
        : machineError(`${reason}${said === '' ? '' : `: ${said}`}`, 'Type: omerta doctor');
    } finally {
      late.abort();
    }
    if (machine.#state === 'starting') machine.#state = 'running';
    return machine;
  }

  static #spawn(settings: MachineSettings): Machine {
    const { qemu, image, folder, network, isIdle, cpus, memoryMiB, accelerator } = settings;
    const name = randomBytes(6).toString('hex');
    const user = machineUser(takenUsers(folder));
    const access = accelerator === 'kvm' ? kvmAccess(user === undefined) : { group: undefined };
    if ('why' in access) throw machineError(access.why, 'Choose --accelerator tcg');
    const translated = accelerator === 'tcg' ? TRANSLATION_MIB : 0;
    const cgroup = MachineCgroup.make(name, {
      memoryMiB: memoryMiB + OVERHEAD_MIB + translated,
      tasks: TASKS,
      isIdle,
    });
    const marker: Marker = {
      owner: ownProcessIdentity(),
      cgroups: [...cgroup.folders],
      ...(user === undefined ? {} : { user }),
    };
    const path = markerPath(folder, name);
    writePrivate('machines', path, JSON.stringify(marker), 'create');
    const files = [image.kernel, image.initramfs].map((file) => openSync(file, 'r'));
    const [file = '', ...words] = confined(
      { user, group: access.group, processFiles: cgroup.processFiles, isIdle },
      [
        qemu.path,
        ...qemuArguments({
          accelerator,
          cpus,
          memoryMiB,
          network: network && { netdev: STREAM_NETDEV, mac: network.mac },
        }),
      ],
    );
    const [kernel, initramfs] = files;
    // In the order of FD.
    const stdio = ['ignore', 'ignore', 'pipe', 'pipe', 'pipe', 'pipe', kernel, initramfs, network?.socket];
    const child = spawn(file, words, {
      stdio: stdio.filter((each) => each !== undefined) as StdioOptions,
      cwd: '/',
      // The terminal's signals are for this process, which passes them on to the command: QEMU would end by them.
      detached: true,
      env: { PATH: process.env['PATH'] ?? '', LC_ALL: 'C' },
    });
    files.forEach(closeSync);
    network?.socket.destroy();
    const machine = child.pid === undefined ? undefined : processIdentity(child.pid);
    if (machine !== undefined)
      writePrivate('machines', path, JSON.stringify({ ...marker, machine }), 'replace');
    return new Machine(name, settings, cgroup.limited, cgroup, child);
  }

  /**
   * Runs a command to its end.
   * @throws OperatorError with the reason when the machine ends before it
   */
  async run(command: GuestCommand): Promise<CommandEnd> {
    try {
      return await this.agent.run(command);
    } catch (error) {
      // The agent is gone a moment before QEMU is, which knows why.
      await Promise.race([this.gone, setTimeout(GRACE_MS)]);
      await this.stop(messageOf(error));
      const said = this.lastWords;
      throw machineError(
        `it ended before the command: ${await this.gone}${said === '' ? '' : ` (${said})`}`,
        'Where it had too little memory, give it more: --memory MIB',
      );
    }
  }

  /** Of the console and of QEMU, the last lines. */
  get lastWords(): string {
    return [this.#complaints.lines, this.#console.lines].filter((each) => each !== '').join(' | ');
  }

  /** Its processors stand still. @throws Error when QEMU does not do it */
  async pause(): Promise<void> {
    await this.#monitor.execute('stop');
  }

  /** They go on. @throws Error when QEMU does not do it */
  async resume(): Promise<void> {
    await this.#monitor.execute('cont');
  }

  /** Ends it, whatever it does. @returns when nothing is left of it */
  async stop(reason = 'it was stopped'): Promise<void> {
    if (this.#state !== 'gone') {
      this.#state = 'stopping';
      this.#wentBy ??= reason;
      this.#monitor.execute('quit').catch(() => undefined);
      const late = new AbortController();
      const killed = setTimeout(QUIT_MS, undefined, { signal: late.signal }).then(
        () => this.process.kill('SIGKILL'),
        () => undefined,
      );
      await Promise.race([this.gone, killed]);
      late.abort();
    }
    await this.gone;
  }

  /** What QEMU tells when a guest ends by itself: why it will be gone. */
  #heard({ event, data }: QmpEvent): void {
    if (event === 'SHUTDOWN' && data?.['guest'] === true)
      this.#wentBy ??=
        data['reason'] === 'guest-reset'
          ? "the guest's kernel crashed, or started again"
          : 'the guest switched itself off';
  }

  async #cleanUp(code: number | null, signal: NodeJS.Signals | null): Promise<string> {
    this.#state = 'gone';
    const { folder } = this.settings;
    const left = await this.cgroup.remove();
    // A marker that stays tells the next start of what could not be removed.
    if (left.length === 0) rmSync(markerPath(folder, this.name), { force: true });
    const ended = signal === null ? `QEMU ended with code ${code}` : `QEMU was ended by ${signal}`;
    return this.#wentBy ?? (code === 0 ? 'the guest switched itself off' : ended);
  }
}

function aborted(signal: AbortSignal | undefined): Promise<never> {
  return new Promise((_, reject) => {
    const end = (): void => reject(new Error('it was stopped while it started'));
    if (signal?.aborted === true) end();
    signal?.addEventListener('abort', end, { once: true });
  });
}
