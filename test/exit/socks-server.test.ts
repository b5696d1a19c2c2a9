// The SOCKS server over sockets: clients that are slow, leave half-way or come in crowds, and what they reach.

import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { describe, it, type TestContext } from 'node:test';
import { MAX_GUESSES } from '../../ts/exit/client-shares.js';
import { machineNetwork } from '../../ts/exit/inner-network.js';
import { decodeSocksDatagram, encodeSocksDatagram } from '../../ts/exit/socks-protocol.js';
import { SOCKS_BOUNDS, SocksServer, type SocksOptions } from '../../ts/exit/socks-server.js';
import { until } from '../wg/wg-lab.js';

async function serverOf(t: TestContext, serve: (socket: Socket) => void): Promise<number> {
  const server: Server = createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => undefined);
    serve(socket);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close());
  return (server.address() as AddressInfo).port;
}

async function proxyOf(
  t: TestContext,
  options: Partial<SocksOptions> = {},
): Promise<{ port: number; server: SocksServer }> {
  const server = new SocksServer({
    network: machineNetwork,
    resolve: (name) => Promise.resolve(name === 'shop.example' ? ['127.0.0.1'] : []),
    ...options,
  });
  const port = await server.listen('127.0.0.1', 0);
  t.after(() => server.close());
  return { port, server };
}

/** A client and all it has been sent. */
function client(t: TestContext, port: number): { socket: Socket; got: () => Buffer } {
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  const parts: Buffer[] = [];
  socket.on('data', (part: Buffer) => parts.push(part));
  socket.on('error', () => undefined);
  t.after(() => socket.destroy());
  return { socket, got: () => Buffer.concat(parts) };
}

/** When it is, by an error too. */
const closed = (socket: Socket): Promise<void> =>
  new Promise((resolve) => socket.once('close', () => resolve()));

const request = (port: number, command = 1): Buffer =>
  Buffer.concat([
    Buffer.from([5, 1, 0, 5, command, 0, 1, 127, 0, 0, 1]),
    Buffer.from([port >> 8, port & 255]),
  ]);
const byName = (name: string, port: number): Buffer =>
  Buffer.concat([
    Buffer.from([5, 1, 0, 5, 1, 0, 3, name.length]),
    Buffer.from(name),
    Buffer.from([port >> 8, port & 255]),
  ]);

describe('the SOCKS server', () => {
  it('turns away who gives wrong passwords in a row, whatever comes after them', async (t) => {
    const proxy = await proxyOf(t, { password: { user: 'me', password: 'secret' } });
    const attempt = async (word: string): Promise<string> => {
      const { socket, got } = client(t, proxy.port);
      socket.write(
        Buffer.concat([
          Buffer.from([5, 1, 2, 1, 2]),
          Buffer.from('me'),
          Buffer.from([word.length]),
          Buffer.from(word),
        ]),
      );
      socket.once('end', () => socket.end());
      await Promise.race([closed(socket), until('it is answered', () => got().length >= 4)]);
      return got().toString('hex');
    };
    assert.equal(await attempt('secret'), '05020100');
    for (let guess = 0; guess < MAX_GUESSES; guess++)
      assert.equal(await attempt(`guess${guess}`), '05020101');
    const { refused } = proxy.server;
    assert.equal(await attempt('secret'), '');
    assert.equal(proxy.server.refused, refused + 1);
  });

  it('connects by address and by name, with what came along with the request', async (t) => {
    const port = await serverOf(t, (socket) => socket.pipe(socket));
    const proxy = await proxyOf(t);
    for (const asked of [request(port), byName('shop.example', port)]) {
      const { socket, got } = client(t, proxy.port);
      socket.end(Buffer.concat([asked, Buffer.from('hello')]));
      await once(socket, 'end');
      assert.deepEqual([...got().subarray(0, 4)], [5, 0, 5, 0]);
      assert.equal(got().subarray(-5).toString(), 'hello');
    }
  });

  it('ends each direction by itself', async (t) => {
    const port = await serverOf(t, (socket) => {
      // It answers once the client has said all.
      let size = 0;
      socket.on('data', (part) => (size += part.length));
      socket.on('end', () => socket.end(`${size} bytes`));
    });
    const { socket, got } = client(t, (await proxyOf(t)).port);
    socket.write(request(port));
    await until('it is connected', () => got().length >= 12);
    socket.end(Buffer.alloc(3_000_000));
    await once(socket, 'end');
    assert.match(got().toString('latin1'), /3000000 bytes$/);
  });

  it('says what could not be reached, and resets what is reset', async (t) => {
    const proxy = await proxyOf(t);
    const closed = await serverOf(t, () => undefined);
    const refused = client(t, proxy.port);
    refused.socket.write(request(1));
    await once(refused.socket, 'end');
    assert.equal(refused.got()[3], 5, 'connection refused');
    const unknown = client(t, proxy.port);
    unknown.socket.write(byName('nowhere.example', closed));
    await once(unknown.socket, 'end');
    assert.equal(unknown.got()[3], 4, 'host unreachable');
    const resetting = await serverOf(t, (socket) => socket.once('data', () => socket.resetAndDestroy()));
    const cut = client(t, proxy.port);
    const failed = once(cut.socket, 'error');
    cut.socket.write(Buffer.concat([request(resetting), Buffer.from('x')]));
    assert.equal(((await failed)[0] as NodeJS.ErrnoException).code, 'ECONNRESET');
  });

  it('waits for no client longer than for a handshake in all, and serves others meanwhile', async (t) => {
    const port = await serverOf(t, (socket) => socket.end('served'));
    const proxy = await proxyOf(t, { handshakeMs: 600 });
    const slow = client(t, proxy.port);
    // A byte now and then would keep it open for ever.
    const drip = setInterval(() => slow.socket.writable && slow.socket.write(Buffer.from([5])), 50);
    t.after(() => clearInterval(drip));
    const gone = once(slow.socket, 'close');
    slow.socket.on('end', () => slow.socket.destroy());
    const other = client(t, proxy.port);
    other.socket.write(request(port));
    await once(other.socket, 'end');
    assert.match(other.got().toString('latin1'), /served$/);
    await gone;
  });

  it('turns away what is beyond its bounds, and whoever is connected goes on', async (t) => {
    const port = await serverOf(t, (socket) => socket.pipe(socket));
    const { port: proxy, server } = await proxyOf(t, { handshakeMs: 60_000 });
    const first = client(t, proxy);
    first.socket.write(request(port));
    await until('the first is connected', () => first.got().length >= 12);
    const crowd = Array.from({ length: SOCKS_BOUNDS.connecting }, () => client(t, proxy));
    await Promise.all(crowd.map(({ socket }) => once(socket, 'connect')));
    for (const { socket } of crowd) socket.write(Buffer.from([5]));
    await closed(client(t, proxy).socket);
    assert.equal(server.refused, 1);
    first.socket.write('still here');
    await until('it is answered', () => first.got().toString('latin1').endsWith('still here'));
    // When one of them leaves, there is room again.
    crowd[0]?.socket.destroy();
    await until('there is room again', async () => {
      const next = client(t, proxy);
      next.socket.write(request(port));
      await Promise.race([closed(next.socket), until('an answer', () => next.got().length >= 12)]);
      const served = next.got().length >= 12;
      next.socket.destroy();
      return served;
    });
  });

  it('carries datagrams both ways while the connection is there, of this client alone', async (t) => {
    const echo = createSocket('udp4');
    echo.on('message', (data, from) => echo.send(`echo ${data.toString()}`, from.port, from.address));
    echo.bind(0, '127.0.0.1');
    await once(echo, 'listening');
    t.after(() => echo.close());
    const { port: target } = echo.address();
    const { socket, got } = client(t, (await proxyOf(t)).port);
    socket.write(request(0, 3));
    await until('it is associated', () => got().length >= 12);
    const relay = got().readUInt16BE(10);
    const own = createSocket('udp4');
    const stranger = createSocket('udp4');
    t.after(() => [own, stranger].forEach((each) => each.close()));
    const answers: string[] = [];
    own.on('message', (bytes) =>
      answers.push(Buffer.from(decodeSocksDatagram(bytes)?.data ?? []).toString()),
    );
    let heard = 0;
    stranger.on('message', () => heard++);
    own.send(encodeSocksDatagram('127.0.0.1', target, Buffer.from('one')), relay, '127.0.0.1');
    await until('it is answered', () => answers.includes('echo one'));
    const name = Buffer.concat([
      Buffer.from([0, 0, 0, 3, 12]),
      Buffer.from('shop.example'),
      Buffer.from([target >> 8, target & 255]),
      Buffer.from('two'),
    ]);
    own.send(name, relay, '127.0.0.1');
    await until('by name too', () => answers.includes('echo two'));
    // Another port of the same host, garbage, and a fragment: nothing.
    stranger.send(encodeSocksDatagram('127.0.0.1', target, Buffer.from('no')), relay, '127.0.0.1');
    own.send(Buffer.from([0, 0, 1, 1, 127, 0, 0, 1, 0, 1, 2]), relay, '127.0.0.1');
    own.send(Buffer.from([0]), relay, '127.0.0.1');
    own.send(encodeSocksDatagram('127.0.0.1', target, Buffer.from('three')), relay, '127.0.0.1');
    await until('it goes on', () => answers.includes('echo three'));
    assert.deepEqual([heard, answers.length], [0, 3]);
    socket.destroy();
    await until('its port is free again', async () => {
      const again = createSocket('udp4');
      const bound = await new Promise<boolean>((resolve) => {
        again.once('error', () => resolve(false));
        again.bind(relay, '127.0.0.1', () => resolve(true));
      });
      again.close();
      return bound;
    });
  });

  it('asks once for the name of many datagrams, and again when nobody could be asked', async (t) => {
    const echo = createSocket('udp4');
    echo.on('message', (data, from) => echo.send(data, from.port, from.address));
    echo.bind(0, '127.0.0.1');
    await once(echo, 'listening');
    t.after(() => echo.close());
    const { port: target } = echo.address();
    let asked = 0;
    let answer: (addresses: string[]) => void = () => undefined;
    const resolve = (): Promise<string[]> => {
      if (++asked === 1) return Promise.reject(new Error('the daemon does not answer'));
      return new Promise((resolved) => (answer = resolved));
    };
    const { socket, got } = client(t, (await proxyOf(t, { resolve })).port);
    socket.write(request(0, 3));
    await until('it is associated', () => got().length >= 12);
    const own = createSocket('udp4');
    t.after(() => own.close());
    let answers = 0;
    own.on('message', () => answers++);
    const sendByName = (): void =>
      own.send(
        Buffer.concat([
          Buffer.from([0, 0, 0, 3, 6]),
          Buffer.from('server'),
          Buffer.from([target >> 8, target & 255]),
        ]),
        got().readUInt16BE(10),
        '127.0.0.1',
      );
    sendByName();
    await until('nobody could be asked', () => asked === 1);
    for (let count = 0; count < 20; count++) sendByName();
    await until('it is asked for again', () => asked === 2);
    // The same socket's datagrams come in order: this one's answer is the last of all.
    own.send(encodeSocksDatagram('127.0.0.1', target, Buffer.from('x')), got().readUInt16BE(10), '127.0.0.1');
    await until('all have come', () => answers === 1);
    assert.equal(asked, 2);
    answer(['127.0.0.1']);
    await until('all are answered', () => answers === 21);
  });
});
