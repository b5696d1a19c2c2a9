// A UDP socket in another namespace, driven over standard input and output: one JSON object a line.
// In: {"to":"198.51.100.10","port":7,"text":"hello"}; out: {"from":"…","port":7,"text":"hello"},
// and first of all {"listening":7}. Run as `node udp-probe.js ADDRESS PORT`.

import { createSocket } from 'node:dgram';
import { createInterface } from 'node:readline';

const [address, port] = process.argv.slice(2);
const socket = createSocket('udp4');
const print = (value: unknown): void => console.log(JSON.stringify(value));

socket.on('message', (message, from) =>
  print({ from: from.address, port: from.port, text: message.toString() }),
);
// The callback of bind() makes an error of it nobody's: whoever waits for the first line would wait for ever.
socket.on('error', (error) => {
  console.error(error.message);
  process.exit(1);
});
socket.bind(Number(port), address, () => print({ listening: socket.address().port }));

createInterface({ input: process.stdin })
  .on('line', (line) => {
    const order = JSON.parse(line) as { to: string; port: number; text: string };
    socket.send(order.text, order.port, order.to);
  })
  .on('close', () => socket.close());
