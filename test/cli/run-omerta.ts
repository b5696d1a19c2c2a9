// Runs the real bin/omerta the way an operator does.

import { spawn, type ChildProcess } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { packageRoot } from '../../ts/host/version.js';

const BIN = join(packageRoot(), 'bin/omerta');

export interface Outcome {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  readonly input?: string;
  /** Capabilities root runs it without (`net_admin`, …): what another user would lack. */
  readonly without?: readonly string[];
  readonly env?: NodeJS.ProcessEnv;
  /** A process group of its own, as a shell gives one to what is typed: a terminal signals all of it. */
  readonly isGroup?: boolean;
}

/** A command in front that gives capabilities up. The user stays: another one may not read the checkout. */
function dropping(capabilities: readonly string[]): readonly string[] {
  if (capabilities.length === 0) return [];
  const list = capabilities.map((name) => `-${name}`).join(',');
  return ['setpriv', `--inh-caps=${list}`, `--bounding-set=${list}`];
}

/** Starts a command and leaves it running; the caller ends it. */
export function start(
  args: readonly string[],
  { without = [], env, isGroup = false }: RunOptions = {},
): ChildProcess {
  const environment = { ...process.env, ...env };
  // A test runs with IPC to its runner; the command must not take that for a waiting parent.
  delete environment['NODE_CHANNEL_FD'];
  const [file = process.execPath, ...rest] = [...dropping(without), process.execPath, BIN, ...args];
  return spawn(file, rest, { stdio: 'pipe', env: environment, detached: isGroup });
}

/** Runs a command to its end. */
export async function omerta(args: readonly string[], options: RunOptions = {}): Promise<Outcome> {
  const child = start(args, options);
  let stdout = '';
  let stderr = '';
  child.stdout?.on('data', (chunk) => (stdout += String(chunk)));
  child.stderr?.on('data', (chunk) => (stderr += String(chunk)));
  child.stdin?.on('error', () => undefined); // it may not read its input
  child.stdin?.end(options.input ?? '');
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, stdout, stderr };
}

export interface Relay {
  readonly child: ChildProcess;
  /** The JSON banner. */
  readonly banner: {
    readonly created: boolean;
    readonly port: number;
    readonly addresses: readonly string[];
    readonly statusPage: string | undefined;
    readonly mesh: { readonly peerId: string };
    readonly networks: readonly { readonly name: string; readonly invite: string }[];
  };
  /** Ends it with a signal and waits. @returns its exit code or signal. */
  stop(signal: NodeJS.Signals): Promise<number | string>;
}

/** Starts `omerta relay --json` and waits for its banner. */
export async function startRelay(t: TestContext, state: string, args: readonly string[]): Promise<Relay> {
  const child = start(['--state', state, 'relay', '--json', ...args], {});
  const ended = once(child, 'close');
  t.after(async () => {
    child.kill('SIGKILL');
    await ended;
  });
  let stderr = '';
  child.stderr?.on('data', (chunk) => (stderr += String(chunk)));
  let stdout = '';
  const banner = await new Promise<Relay['banner']>((resolve, reject) => {
    child.stdout?.on('data', (chunk) => {
      stdout += String(chunk);
      if (stdout.endsWith('}\n')) resolve(JSON.parse(stdout) as Relay['banner']);
    });
    child.once('close', () => reject(new Error(`the relay ended: ${stderr}`)));
  });
  return {
    child,
    banner,
    async stop(signal) {
      child.kill(signal);
      const [code, name] = (await ended) as [number | null, string | null];
      return code ?? name ?? 'unknown';
    },
  };
}

/** A UDP port nobody has at the moment. */
export async function freeUdpPort(): Promise<number> {
  const socket = createSocket('udp4');
  socket.bind(0);
  await once(socket, 'listening');
  const { port } = socket.address();
  socket.close();
  await once(socket, 'close');
  return port;
}

/** A TCP port nobody has at the moment. */
export async function freeTcpPort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  if (typeof address !== 'object' || address === null) throw new Error('no address');
  return address.port;
}
