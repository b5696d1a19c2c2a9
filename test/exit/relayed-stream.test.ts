// Two connections that become one: what is left of the other when one of them is gone.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { it, type TestContext } from 'node:test';
import { machineNetwork } from '../../ts/exit/inner-network.js';
import { ConnectError, connectToFirst, relayStreams } from '../../ts/exit/relayed-stream.js';

/** Both ends of a connection: the one that is relayed, and whoever is there. */
async function pair(t: TestContext): Promise<{ relayed: Socket; there: Socket }> {
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const taken = once(server, 'connection');
  const { port } = server.address() as AddressInfo;
  const there = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  const [relayed] = (await taken) as [Socket];
  there.on('error', () => undefined);
  t.after(() => {
    there.destroy();
    relayed.destroy();
    server.close();
  });
  return { relayed, there };
}

it('one that is cut off after it said all leaves nothing of the other', { timeout: 20_000 }, async (t) => {
  const [client, remote] = [await pair(t), await pair(t)];
  relayStreams(client.relayed, remote.relayed);
  client.there.end('all');
  remote.there.resume();
  await once(remote.there, 'end');
  remote.there.write('some of the answer');
  await once(client.there, 'data');
  const gone = once(remote.relayed, 'close');
  client.relayed.resetAndDestroy(); // its right has ended
  await gone;
});

it('what has ended both ways is closed, and not reset', { timeout: 20_000 }, async (t) => {
  const [client, remote] = [await pair(t), await pair(t)];
  relayStreams(client.relayed, remote.relayed);
  const failures: unknown[] = [];
  for (const { there } of [client, remote]) there.on('error', (error) => failures.push(error)).resume();
  const closed = Promise.all([client, remote].map(({ there }) => once(there, 'close')));
  client.there.end(Buffer.alloc(1_000_000));
  await once(remote.there, 'end');
  remote.there.end(Buffer.alloc(1_000_000));
  await closed;
  assert.deepEqual(failures, []);
});

it('what was read of one before, and written to the other, comes first', { timeout: 20_000 }, async (t) => {
  const [client, remote] = [await pair(t), await pair(t)];
  client.relayed.resume();
  client.there.write('x');
  await once(client.relayed, 'data');
  client.relayed.pause();
  client.relayed.unshift('first, ');
  const answer = Buffer.alloc(20_000_000, 'a');
  client.relayed.write(answer); // more than the kernel takes at once
  relayStreams(client.relayed, remote.relayed);
  client.there.end('then');
  remote.there.end('b');
  const all = async (socket: Socket): Promise<Buffer> => Buffer.concat((await socket.toArray()) as Buffer[]);
  const [there, back] = await Promise.all([all(remote.there), all(client.there)]);
  assert.equal(there.toString(), 'first, then');
  assert.ok(back.equals(Buffer.concat([answer, Buffer.from('b')])));
});

it('an address there is no socket for is passed over, and alone it is an error of connecting', async (t) => {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close());
  const { port } = server.address() as AddressInfo;
  const network = {
    ...machineNetwork,
    connect: (address: string, to: number): Socket => {
      if (address.includes(':')) throw Object.assign(new Error('no IPv6'), { code: 'EAFNOSUPPORT' });
      return machineNetwork.connect(address, to);
    },
  };
  const socket = await connectToFirst(network, ['::1', '127.0.0.1'], port, 5000);
  socket.destroy();
  await assert.rejects(
    connectToFirst(network, ['::1'], port, 5000),
    (error) => error instanceof ConnectError && error.code === 'EAFNOSUPPORT',
  );
});
