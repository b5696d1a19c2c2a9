// The daemon's side of the control socket. It listens under a name of its own first and is then
// renamed to the well-known one, which also replaces the socket of a daemon that was killed.
// That only one process does this at a time is the store's claim (daemon.ts).

import { randomBytes } from 'node:crypto';
import { chmodSync, renameSync, statSync, unlinkSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { CONTROL_VERSION, MAX_REQUEST_BYTES, type ControlResponse } from './control-protocol.js';
import { parseRequest, requestId, type ControlRequest } from './control-request.js';
import { alreadyRunning, isLiveSocket } from './live-socket.js';
import { ConnectionLimit } from '../../host/connection-limit.js';
import { LineReader } from '../../host/line-reader.js';
import { ExitCode, OperatorError, fileError, messageOf } from '../../host/operator-error.js';

/** sockaddr_un's path, without the final zero byte (unix(7)). */
const MAX_SOCKET_PATH_BYTES = 107;
const MAX_CONNECTIONS = 32;
/** A connection that says nothing for this long is closed. */
const IDLE_TIMEOUT_MS = 120_000;
/** A client that has not read its answer this long after the end of the daemon does not get it. */
const CLOSING_MS = 1000;

export type ControlHandler = (request: ControlRequest) => Promise<unknown>;

function removeQuietly(path: string): void {
  try {
    unlinkSync(path);
  } catch {
    // Gone already.
  }
}

export class ControlServer {
  readonly #connections = new Set<Socket>();
  readonly #limit: ConnectionLimit;
  #handler: ControlHandler | undefined;

  private constructor(
    readonly path: string,
    readonly inode: number,
    readonly server: Server,
  ) {
    this.#limit = new ConnectionLimit(server, MAX_CONNECTIONS);
    server.on('connection', (socket: Socket) => this.#serve(socket));
  }

  /**
   * Takes the control socket of a state directory.
   * @throws OperatorError when a live daemon has it.
   */
  static async listen(path: string): Promise<ControlServer> {
    const own = `${path}.${randomBytes(4).toString('hex')}`;
    if (Buffer.byteLength(own) > MAX_SOCKET_PATH_BYTES)
      throw new OperatorError(
        ExitCode.usage,
        'state',
        `the path is too long for a unix socket (${path}: ${Buffer.byteLength(own)} bytes, at most ${MAX_SOCKET_PATH_BYTES})`,
        'Choose a shorter directory with --state DIR',
      );
    const server = createServer();
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(own, resolve);
    }).catch((error: unknown) => {
      throw fileError('control socket', own, error);
    });
    try {
      chmodSync(own, 0o600);
      if (await isLiveSocket(path)) throw alreadyRunning(path);
      renameSync(own, path);
    } catch (error) {
      server.close();
      removeQuietly(own);
      throw error instanceof OperatorError ? error : fileError('control socket', path, error);
    }
    const { ino } = statSync(path);
    return new ControlServer(path, ino, server);
  }

  /** Answers requests from now on; until then they are told that the daemon is starting. */
  handle(handler: ControlHandler): void {
    this.#handler = handler;
  }

  /** Gives the name up and closes every connection after what was written to it, if it is read soon. */
  async close(): Promise<void> {
    if (statSync(this.path, { throwIfNoEntry: false })?.ino === this.inode) removeQuietly(this.path);
    const closed = new Promise<void>((resolve) => this.server.close(() => resolve()));
    for (const socket of this.#connections) socket.destroySoon();
    const late = setTimeout(() => this.#connections.forEach((socket) => socket.destroy()), CLOSING_MS);
    await closed;
    clearTimeout(late);
  }

  #serve(socket: Socket): void {
    this.#connections.add(socket);
    socket.on('close', () => this.#connections.delete(socket));
    socket.on('error', () => socket.destroy());
    socket.on('drain', () => socket.resume());
    socket.setTimeout(IDLE_TIMEOUT_MS, () => socket.destroy());
    const reader = new LineReader(MAX_REQUEST_BYTES);
    socket.on('data', (chunk: Buffer) => {
      this.#limit.heard(socket);
      const lines = reader.push(chunk);
      if (lines === undefined) {
        socket.removeAllListeners('data');
        const error = new OperatorError(
          ExitCode.usage,
          'request',
          `at most ${MAX_REQUEST_BYTES} bytes per line are read`,
          'Send a shorter request',
        );
        socket.end(`${JSON.stringify(failure(0, error))}\n`, () => socket.destroy());
        return;
      }
      for (const line of lines) {
        this.#limit.asked(socket);
        void this.#answer(line).then((response) => {
          this.#limit.answered(socket);
          if (!socket.writable || socket.write(`${JSON.stringify(response)}\n`)) return;
          // Who does not read is not read from, so that answers do not pile up.
          socket.pause();
        });
      }
    });
  }

  async #answer(line: string): Promise<ControlResponse> {
    try {
      const request = parseRequest(line);
      if (this.#handler === undefined)
        throw new OperatorError(ExitCode.failure, 'daemon', 'it is still starting', 'Try again in a moment');
      return { v: CONTROL_VERSION, id: request.id, ok: true, result: (await this.#handler(request)) ?? null };
    } catch (error) {
      return failure(requestId(line), error);
    }
  }
}

function failure(id: number, error: unknown): ControlResponse {
  const { exitCode, field, expected, next } =
    error instanceof OperatorError
      ? error
      : new OperatorError(ExitCode.failure, 'daemon', messageOf(error), 'See its log');
  return { v: CONTROL_VERSION, id, ok: false, error: { exitCode, field, expected, next } };
}
