// For wasm-send-queue.test.ts, in a network namespace of its own: a way out of 2 Mbit/s that holds all it is given is
// sent 48 MB. What becomes of what goes to other destinations, and of memory?

import { execFileSync } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { setTimeout as after } from 'node:timers/promises';
import { UdpShell } from '../../ts/engine/wasm/udp-shell.js';
import { parseSocketAddress } from '../../ts/wire/socket-address.js';

const DATAGRAM = new Uint8Array(1200);
const BURSTS = 40;
const BURST = 1000;

const ip = (text: string): void => void execFileSync('ip', text.split(' '));
ip('link set lo up');
ip('link add slow type veth peer name far');
ip('link set slow up');
ip('link set far up');
ip('address add 198.51.100.2/24 dev slow');
for (let index = 0; index < 3; index++)
  ip(`neighbour add 198.51.100.${9 + index} lladdr 02:00:00:00:00:09 dev slow`);
execFileSync('tc', 'qdisc add dev slow root tbf rate 2mbit burst 16k limit 100mb'.split(' '));

/** Others, nearly as many as there are lanes: none may share that of a slow one. */
const OTHERS = 50;
const waits: number[] = [];
const others = await Promise.all(
  Array.from({ length: OTHERS }, async (_, index) => {
    const listener = createSocket('udp4');
    const other = { listener, arrived: 0 };
    listener.on('message', (message) => {
      waits.push(performance.now() - message.readDoubleLE(0));
      other.arrived++;
    });
    listener.bind(0, `127.0.0.${1 + index}`);
    await once(listener, 'listening');
    return other;
  }),
);

let dropped = 0;
let heard = 0;
const shell = await UdpShell.open(0, process.argv[2], {
  onDatagram: () => {
    heard++;
  },
  onAddressGone: () => undefined,
  onSendError: () => undefined,
  onSendQueueFull: () => {
    dropped++;
  },
});
const slow = Array.from({ length: 3 }, (_, index) => parseSocketAddress(`198.51.100.${9 + index}:9`)).flatMap(
  (address) => address ?? [],
);
const near = others.flatMap(
  ({ listener }) => parseSocketAddress(`${listener.address().address}:${listener.address().port}`) ?? [],
);
if (slow.length < 3 || near.length < OTHERS) throw new RangeError('an address of this test');
const memory = process.memoryUsage.rss();
let sent = 0;
for (let burst = 0; burst < BURSTS; burst++) {
  for (let index = 0; index < BURST; index++) {
    const to = slow[index % slow.length];
    if (to !== undefined) shell.send(to, DATAGRAM.slice());
  }
  const stamp = Buffer.alloc(16);
  stamp.writeDoubleLE(performance.now(), 0);
  for (const each of near) shell.send(each, Uint8Array.from(stamp));
  sent++;
  await after(10);
}
// Who asks is heard all the same.
const asking = createSocket('udp4');
for (let index = 0; index < 100; index++) {
  asking.send('who', shell.port, '127.0.0.1');
  await after(5);
}
await after(500);
console.log(
  JSON.stringify({
    sent,
    arrived: Math.min(...others.map(({ arrived }) => arrived)),
    longestMs: Math.round(Math.max(0, ...waits)),
    grewMiB: Math.round((process.memoryUsage.rss() - memory) / 2 ** 20),
    dropped,
    heard,
  }),
);
process.exit(0);
