// A stream of numbered UDP datagrams from one node to another: which of them arrived, and how often.
// Run as a program it is one end, `numbered-stream.js send|receive ADDRESS PORT RATE`, that goes on until
// its standard input ends and then prints what it counted. The receiver reads there how many were sent, and
// for how many milliseconds it waits for those that are missing.

import type { ChildProcess } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
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

export interface Arrivals {
  readonly sent: number;
  readonly lost: number;
  readonly repeated: number;
}

export class NumberedStream {
  private constructor(
    private readonly sender: ChildProcess,
    private readonly receiver: ChildProcess,
  ) {}

  /** Sends `rate` datagrams a second to `address`, which is `to`'s. */
  static async start(from: Namespace, to: Namespace, address: string, rate: number): Promise<NumberedStream> {
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
    const { received, repeated } = counted as { received: number; repeated: number };
    return { sent, lost: sent - received, repeated };
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
    while (seen.size < sent && performance.now() < deadline) await sleep(20);
    await sleep(LINGER_MS);
    socket.close();
    console.log(JSON.stringify({ received: seen.size, repeated }));
  });
}

if (process.argv[1] === PROGRAM) {
  const [, , role, address = '', port = '', rate = ''] = process.argv;
  if (role === 'send') send(address, Number(port), Number(rate));
  else receive(address, Number(port));
}
