// Questions for names: who may ask, how often, and what a resolver that is silent or lies comes to.

import assert from 'node:assert/strict';
import { createSocket, type Socket } from 'node:dgram';
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { describe, it, type TestContext } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { DnsForwarder, hostResolvers } from '../../ts/exit/dns-forwarder.js';
import { until } from '../wg/wg-lab.js';
import { freePort } from './free-port.js';

const QUESTION = Buffer.from('abcd01000001000000000000' + '0161' + '00' + '00010001', 'hex');

async function bound(t: TestContext, address: string): Promise<Socket> {
  const socket = createSocket('udp4');
  socket.bind(0, address);
  await once(socket, 'listening');
  t.after(() => socket.close());
  return socket;
}

const portOf = (socket: Socket): number => socket.address().port;

interface Made {
  readonly forwarder: DnsForwarder;
  readonly resolver: Socket;
  readonly guest: Socket;
  readonly port: number;
  readonly ask: (question?: Buffer) => void;
}

async function made(t: TestContext, clock: { now: number }): Promise<Made> {
  const resolver = await bound(t, '127.0.0.1');
  const port = await freePort();
  const forwarder = new DnsForwarder(
    () => ['127.0.0.1'],
    () => clock.now,
    { port, resolverPort: portOf(resolver), answerMs: 300 },
  );
  await forwarder.listen(['127.0.0.1']);
  t.after(() => forwarder.close());
  const guest = await bound(t, '127.0.0.1');
  return {
    forwarder,
    resolver,
    guest,
    port,
    ask: (question = QUESTION) => guest.send(question, port, '127.0.0.1'),
  };
}

describe('names for guests', () => {
  it('are asked of the resolver and answered to who asked, from a port of their own each time', async (t) => {
    const { forwarder, resolver, guest, ask } = await made(t, { now: 0 });
    forwarder.setGuests(['127.0.0.1']);
    const ports = new Set<number>();
    resolver.on('message', (question, from) => {
      ports.add(from.port);
      resolver.send(Buffer.concat([question, Buffer.from('!')]), from.port, from.address);
    });
    for (let round = 0; round < 5; round++) {
      const answered = once(guest, 'message');
      ask();
      const [answer] = (await answered) as [Buffer];
      assert.deepEqual(answer, Buffer.concat([QUESTION, Buffer.from('!')]));
    }
    assert.equal(ports.size, 5);
    assert.deepEqual(forwarder.counts, { answered: 5, unanswered: 0, refused: 0 });
  });

  it('are not for who is no guest, nor for what is no question', async (t) => {
    const { forwarder, resolver, ask } = await made(t, { now: 0 });
    let heard = 0;
    resolver.on('message', () => heard++);
    ask();
    await until('it is refused', () => forwarder.counts.refused === 1);
    forwarder.setGuests(['127.0.0.1']);
    ask(Buffer.from('short'));
    ask(Buffer.alloc(5000));
    await until('both are refused', () => forwarder.counts.refused === 3);
    assert.equal(heard, 0);
  });

  it('are counted when nobody answers, and what another than the resolver says is no answer', async (t) => {
    const { forwarder, resolver, guest, ask } = await made(t, { now: 0 });
    forwarder.setGuests(['127.0.0.1']);
    const stranger = await bound(t, '127.0.0.1');
    let answers = 0;
    guest.on('message', () => answers++);
    resolver.on('message', (question, from) => {
      stranger.send(question, from.port, from.address); // the right number, the wrong sender
      const wrong = Buffer.from(question);
      wrong.writeUInt16BE(0x1234, 0);
      resolver.send(wrong, from.port, from.address);
    });
    ask();
    await until('it is given up', () => forwarder.counts.unanswered === 1);
    assert.equal(answers, 0);
  });

  it('are asked of the next where there is no way to the first, and what is under way ends with it', async (t) => {
    const resolver = await bound(t, '127.0.0.1');
    const port = await freePort();
    // A broadcast address cannot be connected to; 127.0.0.2 is silent.
    let resolvers = ['255.255.255.255', '127.0.0.1'];
    const forwarder = new DnsForwarder(
      () => resolvers,
      () => 0,
      { port, resolverPort: portOf(resolver), answerMs: 200 },
    );
    await forwarder.listen(['127.0.0.1']);
    forwarder.setGuests(['127.0.0.1']);
    resolver.on('message', (question, from) => resolver.send(question, from.port, from.address));
    const guest = await bound(t, '127.0.0.1');
    guest.send(QUESTION, port, '127.0.0.1');
    await until('it is answered', () => forwarder.counts.answered === 1);
    // Nothing listens at the second address, so the question waits for the third when all is closed.
    resolvers = ['127.0.0.2', '127.0.0.1'];
    const silent = createSocket('udp4');
    silent.bind(portOf(resolver), '127.0.0.2');
    await once(silent, 'listening');
    t.after(() => silent.close());
    guest.send(QUESTION, port, '127.0.0.1');
    await once(silent, 'message');
    forwarder.close();
    assert.equal(forwarder.counts.unanswered, 1);
    await delay(400); // longer than the second is waited for: nothing is sent from what is closed
    assert.equal(forwarder.counts.answered, 1);
  });

  it('are not updates, nor more by a connection than otherwise', async (t) => {
    const { forwarder, guest, port, resolver } = await made(t, { now: 0 });
    forwarder.setGuests(['127.0.0.1']);
    const update = Buffer.from(QUESTION);
    update[2] = 5 << 3;
    guest.send(update, port, '127.0.0.1');
    await until('it is refused', () => forwarder.counts.refused === 1);
    const taken: Buffer[] = [];
    const server = createServer((socket) => socket.on('data', (bytes) => taken.push(bytes)));
    server.listen(portOf(resolver), '127.0.0.1');
    await once(server, 'listening');
    t.after(() => server.close());
    const length = Buffer.from([0, QUESTION.length]);
    const many = connect(port, '127.0.0.1');
    many.on('error', () => undefined);
    many.write(Buffer.concat(Array.from({ length: 300 }, () => Buffer.concat([length, QUESTION]))));
    await once(many, 'close');
    assert.equal(forwarder.counts.refused, 2);
    const asked = Buffer.concat(taken).length / (2 + QUESTION.length);
    assert.ok(asked <= 200, `${asked} questions by one connection`);
  });

  it('from port 0 are refused: nothing could be answered', { skip: process.getuid?.() !== 0 }, async (t) => {
    const { forwarder, resolver, port } = await made(t, { now: 0 });
    forwarder.setGuests(['127.0.0.1']);
    resolver.on('message', (question, from) => resolver.send(question, from.port, from.address));
    const raw = `
import socket, struct, sys
question = bytes.fromhex(sys.argv[2])
socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP).sendto(
    struct.pack('!HHHH', 0, int(sys.argv[1]), 8 + len(question), 0) + question, ('127.0.0.1', 0))`;
    execFileSync('python3', ['-c', raw, String(port), QUESTION.toString('hex')]);
    await until('it is refused', () => forwarder.counts.refused === 1);
  });

  it('are so many a second of a guest, and no more', async (t) => {
    const clock = { now: 0 };
    const { forwarder, resolver, ask } = await made(t, clock);
    forwarder.setGuests(['127.0.0.1']);
    resolver.on('message', (question, from) => resolver.send(question, from.port, from.address));
    const sum = (): number =>
      forwarder.counts.answered + forwarder.counts.unanswered + forwarder.counts.refused;
    for (let asked = 0; asked < 260;) {
      for (let burst = 0; burst < 20; burst++, asked++) ask();
      await until('they are taken', () => sum() >= asked);
    }
    assert.equal(forwarder.counts.refused, 60); // 200 at once
    clock.now = 500;
    forwarder.setGuests(['127.0.0.1']); // told again: its account is the same
    for (let asked = 0; asked < 60; asked++) ask();
    await until('they are taken', () => sum() >= 320);
    assert.equal(forwarder.counts.refused, 70); // 100 a second
  });

  it('are asked of the resolvers of the host', () => {
    assert.deepEqual(
      hostResolvers(
        '# nameserver 1.1.1.1\nsearch x\nnameserver 192.0.2.1\n nameserver 2001:db8::1 # x\nnameserver none\n',
      ),
      ['192.0.2.1', '2001:db8::1'],
    );
  });
});
