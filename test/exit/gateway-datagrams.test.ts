// Datagrams of a gateway's guests over sockets of the loopback interface: who is answered by whom.

import assert from 'node:assert/strict';
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { describe, it, type TestContext } from 'node:test';
import { GatewayAnswerers } from '../../ts/exit/gateway-answerers.js';
import { GatewayDatagrams, MAX_CORRESPONDENTS, type GatewayFlow } from '../../ts/exit/gateway-datagrams.js';
import { GatewayFlows } from '../../ts/exit/gateway-flows.js';
import { openMachineSocket, UNREACHABLE, type Unreachable } from '../../ts/exit/machine-socket.js';
import { addonMissing } from '../engine/addon.js';
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
  const refused: (readonly [GatewayFlow, Unreachable])[] = [];
  const sockets: Socket[] = [];
  t.after(() => sockets.forEach((each) => each.close()));
  const answerers = new GatewayAnswerers(flows, (address) => {
    opened.push(address);
    const socket = createSocket('udp4');
    sockets.push(socket);
    return socket;
  });
  const datagrams = new GatewayDatagrams({
    flows,
    isPermitted: (_guest, address) => !denied.has(address),
    open: (ipv6) => openMachineSocket('udp', ipv6),
    answer: (flow, data) => answerers.send(flow, data),
    refuse: (flow, _data, why) => refused.push([flow, why]),
    idleMs: 60_000,
    now: () => performance.now(),
  });
  const send = (port: number, address: string, toPort: number, text: string): void =>
    datagrams.send({ guest: GUEST, port, address, toPort }, Buffer.from(text));
  return { send, opened, refused, flows };
}

describe('datagrams of guests', { skip: addonMissing() ?? false }, () => {
  it('are answered by whom they went to, and by nobody else', async (t) => {
    const { send, opened } = gateway(t);
    const [guest, server, stranger] = [
      await bound(t, GUEST),
      await bound(t, '127.0.0.2'),
      await bound(t, '127.0.0.3'),
    ];
    const ask = (text: string): void => send(guest.port, '127.0.0.2', server.port, text);
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
    const { send, opened } = gateway(t, denied);
    const [guest, server, other] = [
      await bound(t, GUEST),
      await bound(t, '127.0.0.2'),
      await bound(t, '127.0.0.3'),
    ];
    for (const [address, { port }] of [
      ['127.0.0.2', server],
      ['127.0.0.3', other],
    ] as const)
      send(guest.port, address, port, 'question');
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
    const { send, opened } = gateway(t);
    const [guest, server, last] = [
      await bound(t, GUEST),
      await bound(t, '127.0.0.2'),
      await bound(t, '127.0.0.3'),
    ];
    send(guest.port, '127.0.0.2', server.port, 'question');
    await until('it has arrived', () => server.got.length === 1);
    const at = server.got[0]?.port ?? 0;
    for (let count = 1; count < MAX_CORRESPONDENTS; count++)
      send(guest.port, `127.1.${count >> 8}.${count & 255}`, 9, 'x');
    send(guest.port, '127.0.0.3', last.port, 'question');
    await until('the last has it', () => last.got.length === 1);
    server.socket.send('long ago', at, '127.0.0.1');
    await until('the last answers', () => {
      last.socket.send('answer', at, '127.0.0.1');
      return guest.got.length >= 2;
    });
    assert.deepEqual(opened, ['127.0.0.3']);
  });

  it('that nobody takes are refused, and those after them arrive', async (t) => {
    const { send, refused, opened } = gateway(t);
    const [guest, server, closed] = [
      await bound(t, GUEST),
      await bound(t, '127.0.0.2'),
      await bound(t, '127.0.0.4'),
    ];
    const { port } = closed;
    closed.socket.removeAllListeners();
    await new Promise<void>((resolve) => closed.socket.once('close', resolve).close());
    t.mock.method(closed.socket, 'close', () => undefined); // it is
    send(guest.port, '127.0.0.4', port, 'to nobody');
    await until('it is refused', () => refused.length > 0);
    assert.deepEqual(refused[0], [
      { guest: GUEST, port: guest.port, address: '127.0.0.4', toPort: port },
      UNREACHABLE.port,
    ]);
    for (let count = 0; count < 20; count++) {
      send(guest.port, '127.0.0.4', port, 'to nobody');
      send(guest.port, '127.0.0.2', server.port, 'to somebody');
    }
    await until('all of the others have arrived', () => server.got.length === 20);
    assert.deepEqual(opened, []);
  });

  it('are refused where a guest may send nothing, and to nobody else', (t) => {
    const { send, refused, flows } = gateway(t, new Set(['127.0.0.2']));
    send(7, '127.0.0.2', 9, 'x');
    assert.deepEqual(refused, [
      [{ guest: GUEST, port: 7, address: '127.0.0.2', toPort: 9 }, UNREACHABLE.prohibited],
    ]);
    for (let count = 0; count < 1000; count++) send(7, '127.0.0.2', 9, 'x');
    assert.ok(refused.length < 900, 'no faster than a guest is told');
    flows.setGuests([]);
    refused.length = 0;
    send(7, '127.0.0.2', 9, 'x');
    assert.deepEqual(refused, []);
  });
});
