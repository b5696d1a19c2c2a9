// Lines to a descriptor that may fail or be stuck: a full disk, a pipe nobody reads, a terminal that
// has gone. A line that cannot be written is lost and counted; nothing throws and nothing waits.

import { closeSync, constants, fstatSync, openSync, writeSync } from 'node:fs';
import { Socket } from 'node:net';
import { systemErrorCode } from './operator-error.js';

/** Bytes kept for a reader that is merely slow. */
const MAX_PENDING_BYTES = 256 * 1024;
/** How often a descriptor that took nothing is tried again without a new line. */
const RETRY_MS = 200;
const NEWLINE = 10;

export interface OutputStatus {
  /** Lines lost so far. */
  readonly lost: number;
  /** Why nothing can be written at present, as an errno name; undefined = it can. */
  readonly error: string | undefined;
}

/**
 * A descriptor of the same file whose writes do not wait. O_NONBLOCK belongs to the open file, which
 * others may share (the shell's own standard error): so it is opened anew where that is possible.
 */
function nonBlocking(fd: number): { fd: number; close: () => void } {
  try {
    const stat = fstatSync(fd);
    if (stat.isFIFO() || stat.isCharacterDevice()) {
      const { O_WRONLY, O_NONBLOCK, O_NOCTTY } = constants;
      const own = openSync(`/proc/self/fd/${fd}`, O_WRONLY | O_NONBLOCK | O_NOCTTY);
      return { fd: own, close: () => closeSync(own) };
    }
    if (stat.isFile()) return { fd, close: () => undefined };
  } catch {
    // Another user's pipe, or one without a reader: then its own descriptor is made not to wait.
  }
  try {
    // Node has no fcntl(2), but makes the descriptor of a stream non-blocking.
    new Socket({ fd, readable: false, writable: true }).on('error', () => undefined).unref();
  } catch {
    // Neither a pipe nor a socket: writing will tell.
  }
  return { fd, close: () => undefined };
}

export class NonBlockingOutput {
  readonly #descriptor: { fd: number; close: () => void };
  /** Whole lines, but for the first one, which may be what is left of one. */
  #pending: Buffer = Buffer.alloc(0);
  /** Whether the last byte written was inside a line. */
  #insideLine = false;
  /** The rest of the line that was begun is lost: a newline comes first. */
  #broken = false;
  #lost = 0;
  /** Lost lines nobody was told of yet. */
  #untold = 0;
  #error: string | undefined;
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  /**
   * @param fd a descriptor the process was given, such as 2; it stays open
   * @param recovered makes the line that says how many were lost, once lines can be written again
   */
  constructor(
    fd: number,
    readonly recovered?: (lost: number) => string,
  ) {
    this.#descriptor = nonBlocking(fd);
  }

  status(): OutputStatus {
    return { lost: this.#lost, error: this.#error };
  }

  /** Writes a line (its newline included), keeps it for a slow reader, or counts it as lost. */
  write(line: string): void {
    if (this.#closed) return;
    const bytes = Buffer.from(line);
    if (this.#pending.length + bytes.length > MAX_PENDING_BYTES) this.#flush();
    if (this.#pending.length + bytes.length > MAX_PENDING_BYTES) {
      this.#lose(1);
      return;
    }
    this.#pending = this.#pending.length === 0 ? bytes : Buffer.concat([this.#pending, bytes]);
    this.#flush();
  }

  /** One more attempt at what is kept; what it leaves is given up. */
  close(): void {
    if (this.#closed) return;
    this.#flush();
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#descriptor.close();
  }

  #lose(lines: number): void {
    this.#lost += lines;
    this.#untold += lines;
  }

  #put(bytes: Buffer): Buffer {
    const written = writeSync(this.#descriptor.fd, bytes);
    if (written > 0) this.#insideLine = bytes[written - 1] !== NEWLINE;
    return bytes.subarray(written);
  }

  #flush(): void {
    try {
      if (this.#broken) this.#put(Buffer.from('\n'));
      this.#broken = false;
      while (this.#pending.length > 0) this.#pending = this.#put(this.#pending);
      this.#error = undefined;
      if (this.#untold > 0 && this.recovered !== undefined)
        this.#pending = this.#put(Buffer.from(this.recovered(this.#untold)));
      this.#untold = 0;
      if (this.#pending.length > 0) this.#retryLater();
    } catch (error) {
      this.#failed(systemErrorCode(error) ?? 'unknown error');
    }
  }

  #failed(code: string): void {
    this.#error = code;
    this.#retryLater();
    if (code === 'EAGAIN') return; // a slow reader: what is kept may still go
    this.#broken = this.#insideLine;
    this.#lose(this.#pending.filter((byte) => byte === NEWLINE).length);
    this.#pending = Buffer.alloc(0);
  }

  #retryLater(): void {
    if (this.#timer !== undefined || this.#closed) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#flush();
    }, RETRY_MS).unref();
  }
}
