// What a Node user would write: a forwarder of one node:dgram socket. Like bench/native/forwarder.cc it
// looks at four bytes to find the server's port and changes nothing. Prints "ready".

import { createSocket } from 'node:dgram';
import { parseArgs } from 'node:util';
import { FIRST_SERVER_PORT } from './relay-legs.js';

const { values } = parseArgs({
  options: {
    port: { type: 'string', default: '0' },
    server: { type: 'string', default: '' },
    destinations: { type: 'string', default: '1' },
  },
});
const mask = Number(values.destinations) - 1;

// A numeric address needs no resolver; the default look-up costs microseconds for each datagram.
const socket = createSocket({
  type: 'udp4',
  recvBufferSize: 7 << 20,
  sendBufferSize: 7 << 20,
  lookup: (address, _options, done) => done(null, address, 4),
});
socket.on('message', (frame) => {
  if (frame.length < 8) return;
  socket.send(frame, FIRST_SERVER_PORT + (frame.readUInt32LE(4) & mask), values.server);
});
socket.bind(Number(values.port), () => console.log('ready'));
