// A port of 127.0.0.1 that nobody has by UDP or by TCP, for what binds both.

import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { createServer } from 'node:net';

/** Below those that the kernel gives to whoever asks for any (net.ipv4.ip_local_port_range): it stays free. */
const [FIRST, LAST] = [10_000, 32_767];

export async function freePort(): Promise<number> {
  for (;;) {
    const port = FIRST + Math.floor(Math.random() * (LAST - FIRST));
    const socket = createSocket('udp4');
    const server = createServer();
    try {
      socket.bind(port, '127.0.0.1');
      await once(socket, 'listening');
      server.listen(port, '127.0.0.1');
      await once(server, 'listening');
    } catch {
      continue;
    } finally {
      await new Promise<void>((resolve) => socket.close(() => resolve()));
      await new Promise<void>((resolve) => server.close(() => resolve()));
    }
    return port;
  }
}
