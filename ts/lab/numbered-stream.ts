// A stream of numbered UDP datagrams from one node to another: which of them arrived, and how often.

import type { ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import type { Namespace } from './namespace.js';

const PROGRAM = fileURLToPath(new URL('./numbered-stream-process.js', import.meta.url));
const PORT = 7007;
/** For datagrams still on their way when the sender has ended, where none is to be lost. */
const PATIENCE_MS = 10_000;
/** Packets that wait in the sender's interface while a busy machine lets nobody take them: of five seconds. */
const QUEUE_SECONDS = 5;

const routesSchema = z.tuple([z.object({ dev: z.string() })]);

export interface Arrivals {
  readonly sent: number;
  /** On the way: without those that reached the receiver's socket and found it full. */
  readonly lost: number;
  readonly repeated: number;
  /** That came behind one that was sent later. */
  readonly late: number;
}

/** What an end prints last. */
const countsSchema = z.object({
  sent: z.number().default(0),
  received: z.number().default(0),
  repeated: z.number().default(0),
  late: z.number().default(0),
  full: z.number().default(0),
});
type Counts = z.infer<typeof countsSchema>;

/** One end of the stream: a process, and what it said last. */
class End {
  #last = '';
  #hasEnded = false;
  readonly #wake = new Set<() => void>();

  constructor(readonly process: ChildProcess) {
    if (process.stdout === null) throw new Error('an end of the stream has no output');
    const wake = (): void => {
      for (const each of this.#wake) each();
      this.#wake.clear();
    };
    createInterface({ input: process.stdout })
      .on('line', (line) => {
        this.#last = line;
        wake();
      })
      .on('close', () => {
        this.#hasEnded = true;
        wake();
      });
  }

  /** Resolves to what it said last, as soon as that is wanted. @throws Error when it ends before. */
  async until(wanted: (line: string) => boolean): Promise<string> {
    while (!wanted(this.#last)) {
      if (this.#hasEnded) throw new Error(`an end of the stream ended after it said "${this.#last}"`);
      await new Promise<void>((resolve) => this.#wake.add(resolve));
    }
    return this.#last;
  }

  /** Ends it, telling it `told`. */
  async finish(told: string): Promise<Counts> {
    this.process.stdin?.end(told);
    return countsSchema.parse(JSON.parse(await this.until((line) => line.startsWith('{'))));
  }
}

export class NumberedStream {
  private constructor(
    private readonly sender: End,
    private readonly receiver: End,
  ) {}

  /**
   * Sends `rate` datagrams a second to `address`, which is `to`'s; resolves when the first ones have left. The
   * interface they leave by gets a queue that is not full when the machine is busy.
   */
  static async start(from: Namespace, to: Namespace, address: string, rate: number): Promise<NumberedStream> {
    const route: unknown = JSON.parse(await from.mustRun('ip', ['-json', 'route', 'get', address]));
    const [{ dev }] = routesSchema.parse(route);
    const queue = String(rate * QUEUE_SECONDS);
    await from.mustRun('ip', ['link', 'set', 'dev', dev, 'txqueuelen', queue]);
    const run = (namespace: Namespace, role: string): End =>
      new End(
        namespace.spawn(process.execPath, [PROGRAM, role, address, String(PORT), String(rate)], {
          stdio: ['pipe', 'pipe', 'inherit'],
        }),
      );
    const receiver = run(to, 'receive');
    await receiver.until((line) => line === 'listening');
    const stream = new NumberedStream(run(from, 'send'), receiver);
    await stream.sent(1);
    return stream;
  }

  /** Resolves when `count` datagrams have been sent since the start. */
  async sent(count: number): Promise<void> {
    await this.sender.until((line) => Number(line) >= count);
  }

  /**
   * Ends the stream. `patienceMs`: how long datagrams that have not arrived are waited for; less, where
   * some are to be lost.
   */
  async stop(patienceMs = PATIENCE_MS): Promise<Arrivals> {
    const { sent } = await this.sender.finish('');
    const { received, repeated, late, full } = await this.receiver.finish(`${sent} ${patienceMs}`);
    return { sent, lost: sent - received - full, repeated, late };
  }
}
