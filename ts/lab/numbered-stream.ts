// A stream of numbered UDP datagrams from one node to another: which of them arrived, and how often.
// Run as a program it is one end, `numbered-stream.js send|receive ADDRESS PORT RATE`, that goes on until
// its standard input ends and then prints what it counted. The receiver reads there how many were sent, and
// for how many milliseconds it waits for those that are missing.

import type { ChildProcess } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import type { Namespace } from './namespace.js';

const PROGRAM = fileURLToPath(import.meta.url);
const PORT = 7007;
const TICK_MS = 2;
const DATAGRAM_BYTES = 200;
/** Of a sender that was late, together: a burst would fill queues that the stream as it is meant does not. */
const MOST_A_TICK = 32;
/** For datagrams still on their way when the sender has ended, where none is to be lost. */
const PATIENCE_MS = 10_000;
/** For those that come a second time. */
const LINGER_MS = 300;
/** Packets that wait in the sender's interface while a busy machine lets nobody take them: of five seconds. */
const QUEUE_SECONDS = 5;

const routesSchema = z.tuple([z.object({ dev: z.string() })]);

export interface Arrivals {
  readonly sent: number;
  /** On the way: without those that reached the receiver's socket and found it full. */
  readonly lost: number;
  readonly repeated: number;
}

export class NumberedStream {
  private constructor(
    private readonly sender: ChildProcess,
    private readonly receiver: ChildProcess,
  ) {}

  /**
   * Sends `rate` datagrams a second to `address`, which is `to`'s. The interface they leave by gets a queue that
   * is not full when the machine is busy.
   */
  static async start(from: Namespace, to: Namespace, address: string, rate: number): Promise<NumberedStream> {
    const route: unknown = JSON.parse(await from.mustRun('ip', ['-json', 'route', 'get', address]));
    const [{ dev }] = routesSchema.parse(route);
    const queue = String(rate * QUEUE_SECONDS);
    await from.mustRun('ip', ['link', 'set', 'dev', dev, 'txqueuelen', queue]);
    const run = (namespace: Namespace, role: string): ChildProcess =>
      namespace.spawn(process.execPath, [PROGRAM, role, address, String(PORT), String(rate)], {
        stdio: ['pipe', 'pipe', 'inherit'],
      });
    const receiver = run(to, 'receive');
    if (receiver.stdout !== null) await once(receiver.stdout, 'data'); // it listens
    return new NumberedStream(run(from, 'send'), receiver);
  }

  /**
   * Ends the stream. `patienceMs`: how long datagrams that have not arrived are waited for; less, where
   * some are to be lost.
   */
  async stop(patienceMs = PATIENCE_MS): Promise<Arrivals> {
    const { sent } = (await finish(this.sender, '')) as { sent: number };
    const counted = await finish(this.receiver, `${sent} ${patienceMs}`);
    const { received, repeated, full } = counted as { received: number; repeated: number; full: number };
    return { sent, lost: sent - received - full, repeated };
  }
}

async function finish(end: ChildProcess, input: string): Promise<unknown> {
  let said = '';
  end.stdout?.on('data', (chunk) => (said += String(chunk)));
  const closed = once(end, 'close');
  end.stdin?.end(input);
  await closed;
  return JSON.parse(said) as unknown;
}

function send(address: string, port: number, rate: number): void {
  const socket = createSocket(address.includes(':') ? 'udp6' : 'udp4');
  const start = performance.now();
  let sent = 0;
  const timer = setInterval(() => {
    const due = Math.min(((performance.now() - start) / 1000) * rate, sent + MOST_A_TICK);
    for (; sent < due; sent++) {
      const datagram = Buffer.alloc(DATAGRAM_BYTES);
      datagram.writeUInt32LE(sent);
      socket.send(datagram, port, address);
    }
  }, TICK_MS);
  process.stdin.resume().on('end', () => {
    clearInterval(timer);
    socket.close();
    console.log(JSON.stringify({ sent }));
  });
}

/** What the kernel dropped because the socket bound to the port was full (proc_net_udp(5), the last column). */
function droppedAtSocket(port: number): number {
  const hex = port.toString(16).toUpperCase().padStart(4, '0');
  const sockets = ['udp', 'udp6'].flatMap((name) => readFileSync(`/proc/net/${name}`, 'utf8').split('\n'));
  const own = sockets.map((line) => line.trim().split(/ +/)).find(([, local]) => local?.endsWith(`:${hex}`));
  return Number(own?.at(-1));
}

function receive(address: string, port: number): void {
  const socket = createSocket(address.includes(':') ? 'udp6' : 'udp4');
  const seen = new Set<number>();
  let repeated = 0;
  socket.on('message', (datagram) => {
    const number = datagram.readUInt32LE();
    if (seen.has(number)) repeated++;
    seen.add(number);
  });
  socket.bind(port, address, () => {
    socket.setRecvBufferSize(4 << 20);
    console.log('');
  });
  void text(process.stdin).then(async (told) => {
    const [sent = 0, patienceMs = 0] = told.split(' ').map(Number);
    const deadline = performance.now() + patienceMs;
    while (seen.size + droppedAtSocket(port) < sent && performance.now() < deadline) await sleep(20);
    await sleep(LINGER_MS);
    const full = droppedAtSocket(port);
    socket.close();
    console.log(JSON.stringify({ received: seen.size, repeated, full }));
  });
}

if (process.argv[1] === PROGRAM) {
  const [, , role, address = '', port = '', rate = ''] = process.argv;
  if (role === 'send') send(address, Number(port), Number(rate));
  else receive(address, Number(port));
}
