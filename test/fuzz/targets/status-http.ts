// Bytes on the port of the status page, over a socket: whatever comes, each answer is HTTP with a status that is
// meant, nothing is told to a page that asks by a name, and the server goes on.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, type AddressInfo } from 'node:net';
import { parseIp } from '../../../ts/wire/socket-address.js';
import { isTrustedHost, StatusServer } from '../../../ts/status/server/status-server.js';
import { concat, utf8 } from '../../../ts/wire/bytes.js';
import { STATUS } from '../../daemon/status-fixture.js';
import type { FuzzTarget } from '../harness/target.js';

const loopback = parseIp('127.0.0.1') ?? assert.fail();
const server = await StatusServer.listen(
  { ip: loopback, port: 0 },
  { status: () => STATUS, series: () => [{ title: 'Received', unit: 'bytes', values: [1, 2, 3] }] },
);
const { port } = server.server.address() as AddressInfo;
/** An answer that only a trusted request may get has it: the name of the node. */
const SECRET = 'omerta1self';
const GOOD = 'GET /status.json HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n';
/** Ends what an input left open: no host, so it is refused whatever came before, and the last of its connection. */
const END = 'GET / HTTP/1.1\r\nConnection: close\r\n\r\n';
/** A request with a body that never comes would wait for seconds: its connection is ended. */
const QUIET_MS = 250;

async function exchange(bytes: Uint8Array, quiet: number): Promise<string> {
  const socket = connect(port, '127.0.0.1');
  let text = '';
  socket.on('data', (chunk: Buffer) => (text += chunk.toString('latin1')));
  socket.on('error', () => socket.destroy());
  await once(socket, 'connect');
  if (quiet > 0) socket.setTimeout(quiet, () => socket.destroy());
  socket.write(bytes);
  if (!socket.closed) await once(socket, 'close');
  return text;
}

const request = (line: string, ...headers: string[]): string =>
  [line, ...headers, 'Connection: close', '', ''].join('\r\n');

const target: FuzzTarget = {
  timed: false,
  async seeds() {
    // The port is taken: said in a line, and the server that has it goes on.
    const source = { status: () => STATUS, series: () => [] };
    await assert.rejects(StatusServer.listen({ ip: loopback, port }, source), /TCP port taken/);
    const other = await StatusServer.listen({ ip: loopback, port: 0 }, source);
    assert.match(other.url, /^http:\/\/127\.0\.0\.1:/);
    await other.close();
    return [
      GOOD,
      request('GET / HTTP/1.1', 'Host: 127.0.0.1:9090'),
      request('GET /metrics?x=1 HTTP/1.1', 'Host: [::1]:9090'),
      request('GET /healthz HTTP/1.1', 'Host: localhost'),
      request('GET /readyz HTTP/1.1', 'Host: localhost'),
      request('HEAD / HTTP/1.1', 'Host: localhost:1'),
      request('POST / HTTP/1.1', 'Host: localhost', 'Content-Length: 0'),
      request('GET /x HTTP/1.1', 'Host: localhost'),
      request('GET / HTTP/1.1', 'Host: evil.example'),
      request('GET http://evil.example/ HTTP/1.1', 'Host: localhost', 'Transfer-Encoding: chunked'),
      'GET / HTTP/1.0\r\n\r\n',
      'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
    ].map(utf8);
  },
  dictionary: [
    ...[
      'GET ',
      'HEAD ',
      'POST ',
      'CONNECT ',
      'OPTIONS * ',
      ' HTTP/1.1\r\n',
      'Host: ',
      '\r\n\r\n',
      '\r\n',
      '/status.json',
    ],
    ...[
      'Transfer-Encoding: chunked',
      'Content-Length: 5',
      'Upgrade: websocket',
      'Connection: upgrade',
      'Expect: 100-continue',
    ],
  ],
  async run(input) {
    const text = await exchange(concat(input, utf8(END)), QUIET_MS);
    // "HTTP/1.1 " also stands in no page.
    for (const [, code] of text.matchAll(/^HTTP\/1\.1 (\d{3}) /gm))
      assert.ok(
        ['100', '200', '400', '403', '404', '405', '408', '413', '417', '431', '503'].includes(code ?? ''),
        text.slice(0, 200),
      );
    if (text !== '') assert.match(text, /^HTTP\/1\.1 /);
    const hosts = [
      ...Buffer.from(input)
        .toString('latin1')
        .matchAll(/host:[ \t]*([^\r\n]*)/gi),
    ];
    if (text.includes(SECRET)) assert.ok(hosts.some(([, host]) => isTrustedHost(host?.trim())));
    assert.match(await exchange(utf8(GOOD), 0), /^HTTP\/1\.1 200 /);
  },
  close: () => server.close(),
};
export default target;
