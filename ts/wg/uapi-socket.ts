// The unix socket `wg` finds a device by: /var/run/wireguard/IFNAME.sock, for its owner only.

import { chmodSync, lstatSync, renameSync, rmSync, unlinkSync, watch, type FSWatcher } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { basename, dirname, join } from 'node:path';
import { ConnectionLimit } from '../host/connection-limit.js';
import { makeFolders } from '../host/make-folders.js';
import { ExitCode, OperatorError, fileError, systemErrorCode } from '../host/operator-error.js';
import { RequestReader, UapiError, formatErrno, type UapiRequest } from './uapi.js';

const DIRECTORY = '/var/run/wireguard';
const MAX_CONNECTIONS = 64;

/** Answers one request, in parts. @throws UapiError why it is refused */
export type UapiHandler = (request: UapiRequest) => Iterable<string>;

/** Where the socket of an interface is. */
export function uapiSocketPath(name: string, directory = DIRECTORY): string {
  return `${directory}/${name}.sock`;
}

/** Whether somebody listens on a socket. */
export function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
    socket.once('connect', () => socket.destroy());
  });
}

/** Removes a socket nobody listens on. @throws OperatorError when somebody does, or it is none. */
async function removeStale(path: string): Promise<void> {
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (found === undefined) return;
  const taken = (expected: string): OperatorError =>
    new OperatorError(ExitCode.failure, 'socket', `${path} ${expected}`, 'Choose another interface name');
  if (!found.isSocket()) throw taken('is not a socket');
  if (await answers(path)) throw taken('belongs to a WireGuard process that runs');
  unlinkSync(path);
}

export class UapiSocket {
  readonly #path: string;
  readonly #inode: number;
  readonly #server: Server;
  readonly #connections = new Set<Socket>();
  readonly #watcher: FSWatcher;

  private constructor(path: string, inode: number, server: Server, onRemoved: () => void) {
    this.#path = path;
    this.#inode = inode;
    this.#server = server;
    this.#watcher = watch(dirname(path), () => {
      if (!this.#isThere()) onRemoved();
    });
    // Gone before there was a watcher to see it go.
    if (!this.#isThere()) queueMicrotask(onRemoved);
    server.on('connection', (socket) => {
      this.#connections.add(socket);
      socket.once('close', () => this.#connections.delete(socket));
    });
  }

  /**
   * Listens for `wg`.
   * @param onRemoved the socket file was deleted: the device is to end
   * @throws OperatorError
   */
  static async listen(path: string, handler: UapiHandler, onRemoved: () => void): Promise<UapiSocket> {
    const server = createServer({ allowHalfOpen: true });
    const limit = new ConnectionLimit(server, MAX_CONNECTIONS);
    server.on('connection', (socket) => serve(socket, handler, limit));
    // `wg` removes a socket it finds bound and not listening yet: it gets its name when it listens.
    const unnamed = join(dirname(path), `.${basename(path)}.${process.pid}`);
    try {
      if (makeFolders(dirname(path)) !== undefined) chmodSync(dirname(path), 0o755);
      await removeStale(path);
      const umask = process.umask(0o177);
      try {
        await new Promise<void>((resolve, reject) => {
          server.once('error', reject);
          server.listen(unnamed, () => resolve());
        });
      } finally {
        process.umask(umask);
      }
      const { ino } = lstatSync(unnamed);
      renameSync(unnamed, path);
      return new UapiSocket(path, ino, server, onRemoved);
    } catch (error) {
      server.close();
      rmSync(unnamed, { force: true });
      if (systemErrorCode(error) === undefined) throw error;
      throw fileError('socket', path, error);
    }
  }

  /** Ends connections and removes the file. */
  close(): void {
    this.#watcher.close();
    for (const socket of this.#connections) socket.destroy();
    if (this.#isThere()) rmSync(this.#path, { force: true });
    this.#server.close();
  }

  /** Whether the file is there and is this socket: another process may have put its own in its place. */
  #isThere(): boolean {
    return lstatSync(this.#path, { throwIfNoEntry: false })?.ino === this.#inode;
  }
}

function serve(socket: Socket, handler: UapiHandler, limit: ConnectionLimit): void {
  const reader = new RequestReader();
  // One answer after the other, however long the client takes to read one.
  let answered = Promise.resolve();
  socket.setEncoding('latin1');
  socket.on('error', () => socket.destroy());
  socket.on('data', (text: string) => {
    limit.heard(socket);
    try {
      for (const request of reader.push(text)) {
        limit.asked(socket);
        answered = answered
          .then(() => send(socket, answer(request, handler), limit))
          .finally(() => limit.answered(socket));
      }
    } catch (error) {
      if (!(error instanceof UapiError)) throw error;
      socket.end(formatErrno(error.errno));
    }
  });
  // A client that has said all it wants to say still waits for answers.
  socket.on('end', () => void answered.then(() => socket.end()));
}

function answer(request: UapiRequest | UapiError, handler: UapiHandler): Iterable<string> {
  try {
    if (request instanceof UapiError) throw request;
    return handler(request);
  } catch (error) {
    if (!(error instanceof UapiError)) throw error;
    return [formatErrno(error.errno)];
  }
}

/** Settles when the socket takes more, or never will. */
function drained(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      socket.off('drain', done).off('close', done);
      resolve();
    };
    socket.on('drain', done).on('close', done);
  });
}

/** Whoever does not read an answer is silent, and no more is read of what he asks. */
async function send(socket: Socket, parts: Iterable<string>, limit: ConnectionLimit): Promise<void> {
  for (const part of parts) {
    if (!socket.writable) return;
    if (socket.write(part)) continue;
    limit.answered(socket);
    socket.pause();
    await drained(socket);
    socket.resume();
    limit.asked(socket);
  }
}
