// The ends of a numbered stream, each a process: `numbered-stream-process.js send|receive ADDRESS PORT RATE`,
// that goes on until its standard input ends and then prints what it counted. The sender prints before that how
// many it has sent. The receiver reads how many were sent, and for how many milliseconds it waits for those
// that are missing.

import { createSocket } from 'node:dgram';
import { readFileSync } from 'node:fs';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';

const TICK_MS = 2;
/** Between two lines of how many were sent. */
const REPORT_MS = 20;
const DATAGRAM_BYTES = 200;
/** Of a sender that was late, together: a burst would fill queues that the stream as it is meant does not. */
const MOST_A_TICK = 32;
/** For those that come a second time. */
const LINGER_MS = 300;

function send(address: string, port: number, rate: number): void {
  const socket = createSocket(address.includes(':') ? 'udp6' : 'udp4');
  const start = performance.now();
  let sent = 0;
  let reported = start;
  const timer = setInterval(() => {
    const due = Math.min(((performance.now() - start) / 1000) * rate, sent + MOST_A_TICK);
    for (; sent < due; sent++) {
      const datagram = Buffer.alloc(DATAGRAM_BYTES);
      datagram.writeUInt32LE(sent);
      socket.send(datagram, port, address);
    }
    if (performance.now() - reported < REPORT_MS) return;
    reported = performance.now();
    console.log(String(sent));
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
  let late = 0;
  let greatest = -1;
  socket.on('message', (datagram) => {
    const number = datagram.readUInt32LE();
    if (seen.has(number)) repeated++;
    else if (number < greatest) late++;
    greatest = Math.max(greatest, number);
    seen.add(number);
  });
  socket.bind(port, address, () => {
    socket.setRecvBufferSize(4 << 20);
    console.log('listening');
  });
  void text(process.stdin).then(async (told) => {
    const [sent = 0, patienceMs = 0] = told.split(' ').map(Number);
    const deadline = performance.now() + patienceMs;
    while (seen.size + droppedAtSocket(port) < sent && performance.now() < deadline) await sleep(20);
    await sleep(LINGER_MS);
    const full = droppedAtSocket(port);
    socket.close();
    console.log(JSON.stringify({ received: seen.size, repeated, late, full }));
  });
}

const [, , role, address = '', port = '', rate = ''] = process.argv;
if (role === 'send') send(address, Number(port), Number(rate));
else receive(address, Number(port));
