// QEMU's machine protocol (QMP, docs/interop/qmp-spec.txt): one JSON object a line. A guest that broke out of its
// machine speaks it to us, so that whatever it says is bounded and checked.

import type { Duplex } from 'node:stream';
import { z } from 'zod';
import { LineReader } from '../../host/line-reader.js';

const MAX_LINE_BYTES = 256 << 10;
const ANSWER_TIMEOUT_MS = 10_000;
/** Commands that wait for an answer. */
const MAX_WAITING = 16;

const MESSAGE = z.union([
  z.object({ QMP: z.object({}) }),
  z.object({ event: z.string(), data: z.record(z.string(), z.unknown()).optional() }),
  z.object({ error: z.object({ desc: z.string() }), id: z.number().optional() }),
  z.object({ return: z.unknown(), id: z.number() }),
]);

export interface QmpEvent {
  readonly event: string;
  readonly data?: Readonly<Record<string, unknown>> | undefined;
}

interface Waiting {
  readonly settle: (answer: unknown, error?: Error) => void;
}

export class QmpClient {
  readonly #reader = new LineReader(MAX_LINE_BYTES);
  readonly #waiting = new Map<number, Waiting>();
  #nextId = 1;
  #ended: Error | undefined;

  /**
   * @param stream to a monitor in control mode; this ends it.
   * @param onEvent told of each event
   */
  constructor(
    private readonly stream: Duplex,
    private readonly onEvent: (event: QmpEvent) => void,
  ) {
    stream.on('data', (chunk: Buffer) => {
      const lines = this.#reader.push(chunk);
      if (lines === undefined) {
        this.#end(new Error('QEMU says more than QMP does'));
        return;
      }
      for (const line of lines) this.#take(line);
    });
    stream.once('error', (error) => this.#end(error));
    stream.once('close', () => this.#end(new Error('QEMU is gone')));
    // Commands are taken once this one is answered; what is written before waits in order.
    this.execute('qmp_capabilities').catch(() => undefined);
  }

  /** @returns what QEMU answers. @throws Error when it refuses, is gone, or does not answer */
  execute(command: string, data: Readonly<Record<string, unknown>> = {}): Promise<unknown> {
    return new Promise((resolve, reject) => {
      if (this.#ended !== undefined) {
        reject(this.#ended);
        return;
      }
      if (this.#waiting.size >= MAX_WAITING) {
        reject(new Error('QEMU has not answered enough'));
        return;
      }
      const id = this.#nextId++;
      const late = setTimeout(
        () => settle(undefined, new Error(`QEMU does not answer ${command}`)),
        ANSWER_TIMEOUT_MS,
      );
      late.unref();
      const settle = (answer: unknown, error?: Error): void => {
        clearTimeout(late);
        this.#waiting.delete(id);
        if (error === undefined) resolve(answer);
        else reject(error);
      };
      this.#waiting.set(id, { settle });
      this.stream.write(`${JSON.stringify({ execute: command, arguments: data, id })}\n`);
    });
  }

  #take(line: string): void {
    const message = parseMessage(line);
    if (message === undefined) {
      this.#end(new Error('QEMU says what is no QMP'));
      return;
    }
    if ('event' in message) {
      this.onEvent(message);
      return;
    }
    if ('QMP' in message) return;
    const waiting = message.id === undefined ? undefined : this.#waiting.get(message.id);
    if ('error' in message) waiting?.settle(undefined, new Error(`QEMU: ${message.error.desc}`));
    else waiting?.settle(message.return);
  }

  #end(error: Error): void {
    if (this.#ended !== undefined) return;
    this.#ended = error;
    for (const { settle } of [...this.#waiting.values()]) settle(undefined, error);
    this.stream.destroy();
  }
}

function parseMessage(line: string): z.infer<typeof MESSAGE> | undefined {
  try {
    return MESSAGE.safeParse(JSON.parse(line)).data;
  } catch {
    return undefined;
  }
}
