// Datagrams of a gateway's guests over sockets of the loopback interface: who is answered by whom.

import assert from 'node:assert/strict';
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { describe, it, type TestContext } from 'node:test';
import { GatewayDatagrams, MAX_CORRESPONDENTS } from '../../ts/exit/gateway-datagrams.js';
import { GatewayFlows } from '../../ts/exit/gateway-flows.js';
import { until } from '../wg/wg-lab.js';

const GUEST = '127.0.0.1';

async function bound(t: TestContext, address: string): Promise<{ socket: Socket; port: number; got: Got[] }> {
  const socket = createSocket('udp4').bind(0, address);
  await once(socket, 'listening');
  t.after(() => socket.close());
  const got: Got[] = [];
  socket.on('message', (data, { port }) => got.push({ text: data.toString(), port }));
  return { socket, port: socket.address().port, got };
}
interface Got {
  readonly text: string;
  readonly port: number;
}

function gateway(t: TestContext, denied: ReadonlySet<string> = new Set(), descriptors = Infinity) {
  const flows = new GatewayFlows(() => performance.now(), descriptors);
  flows.setGuests([GUEST]);
  t.after(() => flows.setGuests([])); // closes its sockets
  const opened: string[] = [];
  const sockets: Socket[] = [];
  t.after(() => sockets.forEach((each) => each.close()));
  const datagrams = new GatewayDatagrams({
    flows,
    isPermitted: (_guest, address) => !denied.has(address),
    openAnswerer: (address) => {
      opened.push(address);
      const socket = createSocket('udp4');
      sockets.push(socket);
      return socket;
    },
    now: () => performance.now(),
  });
  return { datagrams, opened, flows };
}

describe('datagrams of guests', () => {
  it('are answered by whom they went to, and by nobody else', async (t) => {
    const { datagrams, opened } = gateway(t);
    const [guest, server, stranger] = [
      await bound(t, GUEST),
      await bound(t, '127.0.0.2'),
      await bound(t, '127.0.0.3'),
    ];
    const ask = (text: string): void =>
      datagrams.send(GUEST, guest.port, '127.0.0.2', server.port, Buffer.from(text));
    ask('question');
    await until('it has arrived', () => server.got.length === 1);
    const at = server.got[0]?.port ?? 0;
    stranger.socket.send('whoever this is', at, '127.0.0.1');
    // In the order they were sent: the stranger's has come when the server's second has.
    await until('the server answers', () => {
      server.socket.send('answer', at, '127.0.0.1');
      return guest.got.length >= 2;
    });
    assert.deepEqual(opened, ['127.0.0.2']);
    assert.ok(guest.got.every(({ text }) => text === 'answer'));
  });

  it('do not come from where nothing is forwarded to any more', async (t) => {
    const denied = new Set<string>();
    const { datagrams, opened } = gateway(t, denied);
    const [guest, server, other] = [
      await bound(t, GUEST),
      await bound(t, '127.0.0.2'),
      await bound(t, '127.0.0.3'),
    ];
    for (const [address, { port }] of [
      ['127.0.0.2', server],
      ['127.0.0.3', other],
    ] as const)
      datagrams.send(GUEST, guest.port, address, port, Buffer.from('question'));
    await until('both have arrived', () => server.got.length === 1 && other.got.length === 1);
    denied.add('127.0.0.2');
    const at = server.got[0]?.port ?? 0;
    server.socket.send('no more', at, '127.0.0.1');
    await until('the other answers', () => {
      other.socket.send('answer', at, '127.0.0.1');
      return guest.got.length >= 2;
    });
    assert.deepEqual(opened, ['127.0.0.3']);
  });

  it('are answered by the last of many they went to', async (t) => {
    const { datagrams, opened } = gateway(t);
    const [guest, server, last] = [
      await bound(t, GUEST),
      await bound(t, '127.0.0.2'),
      await bound(t, '127.0.0.3'),
    ];
    datagrams.send(GUEST, guest.port, '127.0.0.2', server.port, Buffer.from('question'));
    await until('it has arrived', () => server.got.length === 1);
    const at = server.got[0]?.port ?? 0;
    for (let count = 1; count < MAX_CORRESPONDENTS; count++)
      datagrams.send(GUEST, guest.port, `127.1.${count >> 8}.${count & 255}`, 9, Buffer.from('x'));
    datagrams.send(GUEST, guest.port, '127.0.0.3', last.port, Buffer.from('question'));
    await until('the last has it', () => last.got.length === 1);
    server.socket.send('long ago', at, '127.0.0.1');
    await until('the last answers', () => {
      last.socket.send('answer', at, '127.0.0.1');
      return guest.got.length >= 2;
    });
    assert.deepEqual(opened, ['127.0.0.3']);
  });
});
