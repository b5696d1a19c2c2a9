// A network namespace of this daemon's own, which an ordinary user may make: the engine's interface is the only one
// in it. A helper (native/exit/namespace.cc) stays in there and opens sockets for who is outside.

import { spawn, type ChildProcess } from 'node:child_process';
import { createSocket, type Socket as UdpSocket } from 'node:dgram';
import { closeSync, existsSync, fstatSync, openSync } from 'node:fs';
import { isIPv6, Socket, type Server } from 'node:net';
import { dirname, join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { getSystemErrorMap } from 'node:util';
import { addonPaths, loadNativeAddon } from '../engine/native/native-addon.js';
import { namespacesClosed } from '../host/namespace-access.js';
import { ExitCode, messageOf, OperatorError } from '../host/operator-error.js';
import { isProcessStopped } from '../host/process-identity.js';
import { parseIp } from '../wire/socket-address.js';
import { HostCommandError, notInstalled, runCommand } from './host-commands.js';
import { listening, type InnerNetwork } from './inner-network.js';

/** socket(2) of Linux, on all processors Node.js runs on. */
const AF_INET = 2;
const AF_INET6 = 10;
const SOCK_STREAM = 1;
const SOCK_DGRAM = 2;
const SOCK_RAW = 3;
const IPPROTO_ICMP = 1;
const IPPROTO_ICMPV6 = 58;

/** The helper is not started again more often. */
const PAUSE_MS = 1000;

/** `omerta-namespace`, beside the addon. @throws OperatorError */
export function helperPath(): string {
  const path = addonPaths.map((addon) => join(dirname(addon), 'omerta-namespace')).find(existsSync);
  if (path !== undefined) return path;
  throw new OperatorError(
    ExitCode.failure,
    'network',
    'the helper omerta-namespace is not built, and without it there is no private network',
    'Type: npm run build',
  );
}

interface Helper {
  readonly process: ChildProcess;
  readonly channel: number;
}

/** Descriptors of the namespaces: they stay while these are open, whatever becomes of the helper. */
interface Namespaces {
  readonly user: number;
  readonly network: number;
}

export class PrivateNetwork implements InnerNetwork {
  #helper: Helper;
  /** Of the helper before: open until there is one more, so that who was not told yet asks nobody else by its number. */
  #formerChannel: number | undefined;
  #closed = false;
  #startedAt = performance.now();
  #again: NodeJS.Timeout | undefined;
  /** Told when the helper is gone, with why another cannot take its place, and when another has. */
  onHelper: (error: OperatorError | undefined) => void = () => undefined;

  private constructor(
    helper: Helper,
    private readonly namespaces: Namespaces,
  ) {
    this.#helper = helper;
    this.#watch();
  }

  /** @throws OperatorError that says what is closed, and what opens it. */
  static make(): PrivateNetwork {
    const helper = startHelper('make', []);
    const [user, network] = begun(helper);
    if (user === undefined || network === undefined) throw helperFailed('it has no namespaces');
    return new PrivateNetwork(helper, { user, network });
  }

  /**
   * Enters the one another process of this user made.
   * @throws OperatorError when it is gone, or another user's
   */
  static join(place: PrivatePlace): PrivateNetwork {
    const opened: number[] = [];
    try {
      const { user, network } = openNamespaces(place);
      opened.push(user, network);
      const helper = startHelper('join', [user, network]);
      begun(helper).forEach(closeSync);
      return new PrivateNetwork(helper, { user, network });
    } catch (error) {
      opened.forEach(closeSync);
      throw error instanceof OperatorError ? error : cannotEnter(messageOf(error));
    }
  }

  connect(address: string, port: number): Socket {
    const fd = this.#open(address, SOCK_STREAM);
    // Nothing can be read before it is connected.
    const options = { fd, readable: true, writable: true, allowHalfOpen: true, manualStart: true };
    return new Socket(options).connect({ port, host: address });
  }

  // Asynchronous throughout: without a helper it is a rejection, which whoever asks for a name expects.
  async openUdp(address: string, port: number): Promise<UdpSocket> {
    const fd = this.#open(address, SOCK_DGRAM, port);
    const socket = createSocket({ type: isIPv6(address) ? 'udp6' : 'udp4', ipv6Only: isIPv6(address) });
    return new Promise((resolve, reject) => {
      socket.once('error', reject);
      socket.bind({ fd }, () => {
        socket.removeListener('error', reject);
        resolve(socket);
      });
    });
  }

  async listen(server: Server, address: string, port: number): Promise<void> {
    const fd = this.#open(address, SOCK_STREAM, port);
    return listening(server, () => server.listen({ fd }));
  }

  /** A descriptor of a socket that takes what is for any address at all, of the family of `address`. @throws Error */
  openTransparent(address: string, port: number, kind: 'tcp' | 'udp'): number {
    return this.#open(address, kind === 'tcp' ? SOCK_STREAM : SOCK_DGRAM, port, true);
  }

  /** The same of pings, by which ICMP of anybody can be sent. @throws Error */
  openEcho(any: string): number {
    const fd = this.#open(any, SOCK_RAW, 0, true, isIPv6(any) ? IPPROTO_ICMPV6 : IPPROTO_ICMP);
    const error = loadNativeAddon().takeEchoRequests(fd, isIPv6(any));
    if (error === 0) return fd;
    closeSync(fd);
    throw systemError(errnoName(error), any);
  }

  /** Runs a program in there that may change it. @throws HostCommandError; OperatorError when it is not installed */
  async run(file: string, args: readonly string[], input: string): Promise<string> {
    // By what is open here: the helper may be gone, and its number another process's.
    const open = (fd: number): string => `/proc/${process.pid}/fd/${fd}`;
    const { user, network } = this.namespaces;
    const words = ['admin', open(user), open(network), '--', file, ...args];
    try {
      return await runCommand(helperPath(), words, input);
    } catch (error) {
      if (error instanceof HostCommandError && error.said === `omerta: ${file}: No such file or directory`)
        throw notInstalled(file);
      throw error;
    }
  }

  /** @throws Error with the `code` of the system */
  #open(address: string, type: number, port?: number, transparent = false, protocol = 0): number {
    const ip = parseIp(address);
    if (ip === undefined) throw systemError('EINVAL', address);
    if (this.endIfStopped())
      throw systemError('EAGAIN', 'the helper was stopped, and another takes its place');
    const family = isIPv6(address) ? AF_INET6 : AF_INET;
    const bound = family === AF_INET ? ip.subarray(12) : ip;
    const { openSocket } = loadNativeAddon();
    const fd =
      port === undefined
        ? openSocket(this.channel, family, type, protocol)
        : openSocket(this.channel, family, type, protocol, bound, port, transparent);
    if (fd < 0) throw systemError(errnoName(-fd), `${address} ${port ?? ''}`.trim());
    return fd;
  }

  /** The helper's process: what enters its namespaces finds them under it in /proc. */
  get pid(): number {
    return this.#helper.process.pid ?? 0;
  }

  /** Inode of the network namespace. */
  get namespace(): number {
    return fstatSync(this.namespaces.network).ino;
  }

  /** Descriptor by which the engine and sockets are opened. */
  get channel(): number {
    return this.#helper.channel;
  }

  /**
   * Whoever asks a helper that is stopped waits for seconds, and everything else of this thread with it: it is ended, so that
   * another takes its place.
   * @returns whether it was stopped
   */
  endIfStopped(): boolean {
    const { process: helper } = this.#helper;
    if (helper.pid === undefined || !isProcessStopped(helper.pid)) return false;
    helper.kill('SIGKILL');
    return true;
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#again);
    const { user, network } = this.namespaces;
    for (const each of [this.#helper.channel, this.#formerChannel, user, network])
      if (each !== undefined) closeSync(each);
  }

  #watch(): void {
    this.#helper.process.once('exit', () => {
      if (this.#closed) return;
      const pause = Math.max(0, this.#startedAt + PAUSE_MS - performance.now());
      this.#again = setTimeout(() => this.#restart(), pause);
    });
  }

  /** Another helper enters the namespaces, which are as they were. */
  #restart(): void {
    this.#startedAt = performance.now();
    try {
      const { user, network } = this.namespaces;
      const helper = startHelper('join', [user, network]);
      begun(helper).forEach(closeSync); // others of the same
      if (this.#formerChannel !== undefined) closeSync(this.#formerChannel);
      this.#formerChannel = this.#helper.channel;
      this.#helper = helper;
      this.#watch();
      this.onHelper(undefined);
    } catch (error) {
      this.onHelper(error instanceof OperatorError ? error : helperFailed(String(error)));
      this.#again = setTimeout(() => this.#restart(), PAUSE_MS);
    }
  }
}

/** A process in a private network, and the inode of that. */
export interface PrivatePlace {
  readonly pid: number;
  readonly namespace: number;
}

/**
 * Descriptors of its namespaces, which the caller closes.
 * @throws OperatorError when the process is in another network meanwhile: its number may be another's; Error of the system
 */
export function openNamespaces({ pid, namespace }: PrivatePlace): {
  readonly user: number;
  readonly network: number;
} {
  const network = openSync(`/proc/${pid}/ns/net`, 'r');
  try {
    if (fstatSync(network).ino !== namespace) throw cannotEnter('its helper has just gone; type it again');
    return { user: openSync(`/proc/${pid}/ns/user`, 'r'), network };
  } catch (error) {
    closeSync(network);
    throw error;
  }
}

function startHelper(mode: 'make' | 'join', descriptors: readonly number[]): Helper {
  const [channel, theirs] = loadNativeAddon().openChannel();
  if (channel === undefined || theirs === undefined)
    throw helperFailed(`socketpair: ${errnoName(channel ?? 0)}`);
  try {
    const process = spawn(helperPath(), [mode], {
      stdio: ['ignore', 'ignore', 'inherit', theirs, ...descriptors],
    });
    process.unref();
    process.on('error', () => undefined); // its end of the channel is closed: that says it
    return { process, channel };
  } catch (error) {
    closeSync(channel);
    throw error;
  } finally {
    closeSync(theirs);
  }
}

/** How a helper began: descriptors of its namespaces. @throws OperatorError */
function begun({ process, channel }: Helper): readonly number[] {
  const { error, step, descriptors } = loadNativeAddon().helperBeginning(channel);
  if (error === 0) return descriptors;
  closeSync(channel);
  process.kill('SIGKILL');
  throw beginningFailed(step, errnoName(error));
}

function beginningFailed(step: string, errno: string): OperatorError {
  if (step !== 'user-namespace' && step !== 'uid_map' && step !== 'network-namespace')
    return helperFailed(step === '' ? errno : `${step}: ${errno}`);
  const closed = namespacesClosed();
  return new OperatorError(
    ExitCode.permission,
    'network',
    closed?.reason ?? `user namespaces are closed to this user (${step}: ${errno})`,
    closed === undefined
      ? 'In a container, start it with --security-opt seccomp=unconfined; else run it as root with an interface of its own: sudo omerta up'
      : `Type: ${closed.remedy}`,
  );
}

function systemError(code: string, what: string): Error {
  return Object.assign(new Error(`${code}: ${what}`), { code });
}

function cannotEnter(why: string): OperatorError {
  return new OperatorError(
    ExitCode.permission,
    'network',
    `the private network cannot be entered (${why})`,
    'Type it as the user whose daemon runs',
  );
}

function helperFailed(why: string): OperatorError {
  return new OperatorError(
    ExitCode.failure,
    'network',
    `the helper of the private network failed (${why})`,
    'See: omerta doctor',
  );
}

function errnoName(errno: number): string {
  return getSystemErrorMap().get(-errno)?.[0] ?? `errno ${errno}`;
}
