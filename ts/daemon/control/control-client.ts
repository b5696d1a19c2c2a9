// The CLI's side of the control socket.

import { statSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import {
  CONTROL_VERSION,
  MAX_RESPONSE_BYTES,
  parseResponse,
  type ControlResponse,
} from './control-protocol.js';
import type { ControlCommand } from './control-request.js';
import { LineReader } from '../../host/line-reader.js';
import { ExitCode, OperatorError, fileError, systemErrorCode } from '../../host/operator-error.js';

const ANSWER_TIMEOUT_MS = 10_000;

function notRunning(path: string): OperatorError {
  return new OperatorError(
    ExitCode.notRunning,
    'daemon',
    `none is running for this state directory (nothing answers on ${path})`,
    'Start one with: omerta up (a member) or omerta relay; or name its directory with --state DIR',
  );
}

export class ControlClient {
  #nextId = 1;
  readonly #waiting = new Map<number, (response: ControlResponse | Error) => void>();
  /** Why nothing can be asked any more. */
  #ended: Error | undefined;

  private constructor(readonly socket: Socket) {
    const reader = new LineReader(MAX_RESPONSE_BYTES);
    const fail = (error: Error): void => {
      this.#ended ??= error;
      for (const settle of this.#waiting.values()) settle(error);
      this.#waiting.clear();
      socket.destroy();
    };
    const ended = new OperatorError(
      ExitCode.failure,
      'daemon',
      'it closed the connection without an answer',
      'See its log, then type: omerta status',
    );
    socket.on('data', (chunk: Buffer) => {
      const lines = reader.push(chunk);
      if (lines === undefined) fail(ended);
      for (const line of lines ?? []) {
        const response = parseResponse(line);
        if (response === undefined) {
          fail(
            new OperatorError(
              ExitCode.failure,
              'protocol version',
              `this omerta speaks version ${CONTROL_VERSION}, the running daemon another`,
              'Restart the daemon: omerta down, then omerta up',
            ),
          );
          return;
        }
        this.#waiting.get(response.id)?.(response);
        this.#waiting.delete(response.id);
      }
    });
    socket.on('error', () => fail(ended));
    socket.on('close', () => fail(ended));
  }

  /** Connects to the daemon of a state directory. @throws OperatorError when none runs. */
  static connect(path: string): Promise<ControlClient> {
    return new Promise((resolve, reject) => {
      const socket = connect(path);
      socket.once('connect', () => {
        socket.removeAllListeners('error');
        resolve(new ControlClient(socket));
      });
      socket.once('error', (error) => {
        const code = systemErrorCode(error);
        reject(code === 'EACCES' || code === 'EPERM' ? fileError('daemon', path, error) : notRunning(path));
      });
    });
  }

  /** Connects if a daemon runs; undefined if none does. @throws OperatorError (exit 4) where one may not look. */
  static async connectIfRunning(path: string): Promise<ControlClient | undefined> {
    try {
      if (statSync(path, { throwIfNoEntry: false }) === undefined) return undefined;
    } catch (error) {
      throw fileError('control socket', path, error);
    }
    try {
      return await ControlClient.connect(path);
    } catch (error) {
      if (error instanceof OperatorError && error.exitCode === ExitCode.notRunning) return undefined;
      throw error;
    }
  }

  /** Sends one command and waits for its result. @throws OperatorError the daemon answered with. */
  async request(command: ControlCommand, timeoutMs = ANSWER_TIMEOUT_MS): Promise<unknown> {
    if (this.#ended !== undefined) throw this.#ended;
    const id = this.#nextId++;
    const response = await new Promise<ControlResponse | Error>((resolve) => {
      const timer = setTimeout(() => {
        this.#waiting.delete(id);
        resolve(
          new OperatorError(
            ExitCode.failure,
            'daemon',
            `no answer within ${timeoutMs / 1000} s`,
            'See its log; if it hangs, end its process and start it again',
          ),
        );
      }, timeoutMs);
      this.#waiting.set(id, (answer) => {
        clearTimeout(timer);
        resolve(answer);
      });
      this.socket.write(`${JSON.stringify({ v: CONTROL_VERSION, id, ...command })}\n`);
    });
    if (response instanceof Error) throw response;
    if (response.ok) return response.result;
    const { exitCode, field, expected, next } = response.error;
    throw new OperatorError(exitCode, field, expected, next);
  }

  close(): void {
    this.socket.destroy();
  }
}
