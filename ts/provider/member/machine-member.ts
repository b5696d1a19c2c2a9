// The member of a network that is a machine's: a daemon of its own, with an identity of its own that nobody had before, in
// a folder that goes with it. The machine's frames go into its sessions, and nowhere else (native/guest).

import { spawn, type ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { existsSync, mkdirSync, rmSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { DEFAULT_GUEST_MAC } from '../../contract/guest-control.js';
import type { Network } from '../../core/protocol/network.js';
import { ControlClient } from '../../daemon/control/control-client.js';
import { addNetwork } from '../../daemon/state/network-files.js';
import { StateDirectory, writePrivate } from '../../daemon/state/state-directory.js';
import { ownProcessIdentity, processIdentity } from '../../host/process-identity.js';
import { packageRoot } from '../../host/version.js';
import type { DaemonStatus } from '../../status/model/daemon-status.js';
import { LastWords } from '../machine/last-words.js';
import { markerPath } from '../machine/leftovers.js';
import { machineError } from '../machine/qemu-host.js';

const START_MS = 60_000;
const POLL_MS = 50;
/** After this it is killed: what it has to say is said to relays, who notice by themselves. */
const END_MS = 3000;
const MAX_SOCKET_PATH = 107;

export interface MemberSettings {
  /** Of markers; the member's own folder is beside its. */
  readonly folder: string;
  readonly network: Network;
}

export class MachineMember {
  #isStopped = false;
  readonly #ended: Promise<unknown>;

  private constructor(
    readonly state: StateDirectory,
    private readonly marker: string,
    private readonly process: ChildProcess,
    private readonly said: LastWords,
  ) {
    this.#ended = once(process, 'close').catch(() => undefined);
  }

  /** @throws OperatorError with the reason when it does not come up: then nothing is left of it */
  static async start({ folder, network }: MemberSettings): Promise<MachineMember> {
    const name = `${randomBytes(6).toString('hex')}.member`;
    const state = new StateDirectory(join(folder, name));
    const socket = socketOf(state);
    if (Buffer.byteLength(socket) > MAX_SOCKET_PATH)
      throw machineError(
        `${socket} is longer than ${MAX_SOCKET_PATH} bytes, which no socket can be`,
        'Choose a shorter --state DIR',
      );
    const port = await freePort();
    const marker = markerPath(folder, name);
    const owned = { owner: ownProcessIdentity(), cgroups: [] };
    writePrivate('machines', marker, JSON.stringify(owned), 'create');
    mkdirSync(state.path, { mode: 0o700 });
    addNetwork(state, network);
    writePrivate(
      'config',
      state.config,
      '[paths]\nport_mapping = "off"\n[status]\nlisten = "off"\n',
      'create',
    );
    const words = [
      '--state',
      state.path,
      'up',
      '--foreground',
      '--guest-socket',
      socket,
      '--port',
      String(port),
    ];
    // It ends with this process, and is told nothing by its terminal.
    const child = spawn(
      'setpriv',
      ['--pdeathsig', 'KILL', '--', process.execPath, join(packageRoot(), 'bin/omerta'), ...words],
      { stdio: ['ignore', 'ignore', 'pipe'], cwd: '/', detached: true },
    );
    const machine = child.pid === undefined ? undefined : processIdentity(child.pid);
    if (machine !== undefined)
      writePrivate('machines', marker, JSON.stringify({ ...owned, machine }), 'replace');
    const member = new MachineMember(state, marker, child, new LastWords(child.stderr));
    try {
      await member.#isUp();
    } catch (error) {
      await member.stop();
      throw error;
    }
    return member;
  }

  async #isUp(): Promise<void> {
    const deadline = performance.now() + START_MS;
    while (performance.now() < deadline && !this.isGone) {
      const client = await ControlClient.connectIfRunning(this.state.socket);
      client?.close();
      // The device's socket is made with the engine, after the other.
      if (client !== undefined && existsSync(socketOf(this.state))) return;
      await setTimeout(POLL_MS);
    }
    throw machineError(
      `its member of the network did not come up: ${this.said.lines || 'it said nothing'}`,
      'Type: omerta doctor',
    );
  }

  get isGone(): boolean {
    return (
      this.process.exitCode !== null || this.process.signalCode !== null || this.process.pid === undefined
    );
  }

  /** Settles when it ends by itself; does not when it is stopped. */
  async lost(): Promise<string> {
    await this.#ended;
    if (this.#isStopped) return new Promise(() => undefined);
    return `its member of the network is gone: ${this.said.lines || 'it said nothing'}`;
  }

  async status(): Promise<DaemonStatus> {
    const client = await ControlClient.connect(this.state.socket);
    try {
      return (await client.request({ command: 'status' })) as DaemonStatus;
    } finally {
      client.close();
    }
  }

  /** The network device of a machine is to lead here. */
  async connect(): Promise<{ readonly socket: Socket; readonly mac: string }> {
    const socket = connect(socketOf(this.state));
    await once(socket, 'connect');
    return { socket, mac: DEFAULT_GUEST_MAC };
  }

  /** Ends it. @returns when nothing is left of it */
  async stop(): Promise<void> {
    this.#isStopped = true;
    if (!this.isGone) {
      this.process.kill('SIGTERM');
      const late = new AbortController();
      const killed = setTimeout(END_MS, undefined, { signal: late.signal }).then(
        () => this.process.kill('SIGKILL'),
        () => undefined,
      );
      await Promise.race([this.#ended, killed]);
      late.abort();
      await this.#ended;
    }
    rmSync(this.state.path, { recursive: true, force: true });
    rmSync(this.marker, { force: true });
  }
}

const socketOf = (state: StateDirectory): string => join(state.path, 'vm.sock');

/** A UDP port nobody has at the moment. */
async function freePort(): Promise<number> {
  const socket = createSocket('udp4');
  socket.bind(0);
  await once(socket, 'listening');
  const { port } = socket.address();
  socket.close();
  return port;
}
