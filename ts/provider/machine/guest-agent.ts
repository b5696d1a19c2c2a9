// The agent in a guest, as the host speaks with it: commands run one after the other, their streams are those of whoever
// asked. A reader that waits makes the command wait; a command that does not read makes the writer wait.

import { randomBytes } from 'node:crypto';
import type { Duplex, Readable, Writable } from 'node:stream';
import {
  AGENT_VERSION,
  AgentFrameReader,
  Kind,
  MAX_PAYLOAD_BYTES,
  SEED_BYTES,
  agentFrame,
  commandPayload,
  type AgentFrame,
} from './agent-frames.js';

export interface GuestCommand {
  readonly words: readonly string[];
  /** `NAME=VALUE` each; default: what a root shell of the guest has. */
  readonly environment?: readonly string[];
  /** Ends with it; no input when undefined. */
  readonly input?: Readable | undefined;
  readonly output: Writable;
  readonly errors: Writable;
}

/** How a command ended: its exit status, or why it could not be started, with the status a shell has for that. */
export interface CommandEnd {
  readonly status: number;
  readonly failure?: string;
}

const ENVIRONMENT = ['HOME=/root', 'PATH=/usr/sbin:/usr/bin:/sbin:/bin', 'USER=root', 'LOGNAME=root'];

interface Running {
  readonly command: GuestCommand;
  readonly settle: (end: CommandEnd | Error) => void;
  /** Bytes of input that may still be sent. */
  credit: number;
}

export class GuestAgent {
  readonly #reader = new AgentFrameReader();
  #running: Running | undefined;
  /** Undefined until the agent has greeted. */
  #granted: number | undefined;
  #ended: Error | undefined;
  /** Writers that have no room, for which nothing more is read. */
  readonly #full = new Set<Writable>();
  #greeted: (error?: Error) => void = () => undefined;
  /** Settles when the agent in the guest runs; rejects when the stream ends before. */
  readonly ready: Promise<void>;

  /** @param stream to the agent and nothing else; this ends it with the agent. */
  constructor(private readonly stream: Duplex) {
    this.ready = new Promise((resolve, reject) => {
      this.#greeted = (error) => (error === undefined ? resolve() : reject(error));
    });
    this.ready.catch(() => undefined); // whoever waits for it is told
    stream.on('data', (chunk: Buffer) => this.#read(chunk));
    stream.on('drain', () => this.#forward());
    stream.once('error', (error) => this.#end(error));
    stream.once('close', () => this.#end(new Error('the guest is gone')));
    stream.once('end', () => this.#end(new Error('the guest is gone')));
  }

  /**
   * Runs a command to its end. One at a time.
   * @throws Error when the guest ends before the command, or the words cannot be a command's
   */
  run(command: GuestCommand): Promise<CommandEnd> {
    const payload = commandPayload(command.words, command.environment ?? ENVIRONMENT);
    if (payload === undefined)
      return Promise.reject(
        new Error(`a command has words without zero bytes, ${MAX_PAYLOAD_BYTES} bytes at most`),
      );
    if (this.#running !== undefined) return Promise.reject(new Error('another command runs'));
    return new Promise((resolve, reject) => {
      if (this.#ended !== undefined) {
        reject(this.#ended);
        return;
      }
      const running: Running = {
        command,
        credit: this.#granted ?? 0,
        settle: (end) => {
          this.#running = undefined;
          unlink();
          this.stream.resume();
          if (end instanceof Error) reject(end);
          else resolve(end);
        },
      };
      this.#running = running;
      this.#send(Kind.start, payload);
      const unlink = this.#linkInput(running);
    });
  }

  /** Sends a signal to the command that runs and to what it started. */
  signal(number: number): void {
    if (this.#running !== undefined) this.#send(Kind.signal, Uint8Array.of(number));
  }

  /** @returns what lets go of the input again */
  #linkInput(running: Running): () => void {
    const { input } = running.command;
    if (input === undefined) {
      this.#send(Kind.inputEnd);
      return () => undefined;
    }
    const forward = (): void => {
      // A guest may grant what it does not read: what it was sent waits here, and no more is added to it.
      while (running.credit > 0 && this.#running === running && !this.stream.writableNeedDrain) {
        const wanted = Math.min(running.credit, MAX_PAYLOAD_BYTES);
        // What there is, but not more than may be sent.
        const chunk = (input.read(Math.min(wanted, input.readableLength || wanted)) ?? undefined) as
          Buffer | undefined;
        if (chunk === undefined) return;
        running.credit -= chunk.length;
        this.#send(Kind.input, chunk);
      }
    };
    const end = (): void => this.#send(Kind.inputEnd);
    this.#forward = forward;
    input.on('readable', forward).once('end', end).once('error', end);
    return () => {
      this.#forward = () => undefined;
      input.removeListener('readable', forward).removeListener('end', end).removeListener('error', end);
    };
  }

  /** Sends on of the input what may be sent. */
  #forward: () => void = () => undefined;

  #read(chunk: Buffer): void {
    const frames = this.#reader.push(chunk);
    if (frames === undefined) {
      this.#break();
      return;
    }
    for (const frame of frames) this.#act(frame);
  }

  #act({ kind, payload }: AgentFrame): void {
    const running = this.#running;
    switch (kind) {
      case Kind.ready:
        // Once: each is answered, also to a guest that reads no answers.
        if (payload.length !== 5 || payload[0] !== AGENT_VERSION || this.#granted !== undefined) {
          this.#break();
          return;
        }
        this.#granted = payload.readUInt32LE(1);
        this.#send(Kind.seed, randomBytes(SEED_BYTES));
        this.#greeted();
        return;
      case Kind.output:
      case Kind.errors:
        if (running !== undefined)
          this.#pass(kind === Kind.output ? running.command.output : running.command.errors, payload);
        return;
      case Kind.taken:
        if (payload.length !== 4) {
          this.#break();
          return;
        }
        if (running === undefined) return;
        running.credit = Math.min(this.#granted ?? 0, running.credit + payload.readUInt32LE());
        this.#forward();
        return;
      case Kind.exited:
        if (payload.length !== 1) {
          this.#break();
          return;
        }
        return running?.settle({ status: payload.readUInt8() });
      case Kind.failed:
        if (payload.length < 1) {
          this.#break();
          return;
        }
        return running?.settle({ status: payload.readUInt8(), failure: payload.toString('utf8', 1) });
      default:
        this.#break();
        return;
    }
  }

  /** Nothing more is read of the guest until the writer has room. */
  #pass(writer: Writable, bytes: Buffer): void {
    if (writer.destroyed || writer.writableEnded || writer.write(bytes)) return;
    this.stream.pause();
    // Frames of the same piece may find it full again.
    if (this.#full.has(writer)) return;
    this.#full.add(writer);
    const resume = (): void => {
      writer.removeListener('drain', resume).removeListener('close', resume).removeListener('error', resume);
      this.#full.delete(writer);
      if (this.#full.size === 0) this.stream.resume();
    };
    writer.once('drain', resume).once('close', resume).once('error', resume);
  }

  #send(kind: number, payload?: Uint8Array): void {
    if (this.#ended === undefined && this.stream.writable) this.stream.write(agentFrame(kind, payload));
  }

  #break(): void {
    this.#end(new Error('the agent in the guest says what no agent says'));
  }

  #end(error: Error): void {
    if (this.#ended !== undefined) return;
    this.#ended = error;
    this.#greeted(error);
    this.#running?.settle(error);
    this.stream.destroy();
  }
}
