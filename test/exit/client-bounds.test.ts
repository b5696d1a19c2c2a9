// What a client that is not on this machine may have of SOCKS and forwards, over sockets: beyond it, it is turned away, and
// others are served.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { networkInterfaces } from 'node:os';
import { describe, it, type TestContext } from 'node:test';
import { CLIENT_BOUNDS, forwardTcp, forwardUdp } from '../../ts/exit/forwarding.js';
import { machineNetwork } from '../../ts/exit/inner-network.js';
import { PrivateNetwork } from '../../ts/exit/private-network.js';
import { SOCKS_BOUNDS, SocksServer } from '../../ts/exit/socks-server.js';
import { addonMissing } from '../engine/addon.js';
import { until } from '../wg/wg-lab.js';

/** Members, as it were: addresses of a private network that are not those of its loopback interface. */
const [FIRST, SECOND] = ['192.0.2.1', '192.0.2.2'];
const PORT = 9090;

function unavailable(): string | undefined {
  const missing = addonMissing();
  if (missing !== undefined) return missing;
  try {
    PrivateNetwork.make().close();
    return undefined;
  } catch (error) {
    return String(error);
  }
}

async function networkOf(t: TestContext): Promise<PrivateNetwork> {
  const network = PrivateNetwork.make();
  t.after(() => network.close());
  const addresses = [FIRST, SECOND].map((address) => `address add ${address}/32 dev lo\n`).join('');
  await network.run('ip', ['-batch', '-'], addresses);
  return network;
}

/** Whether it is cut off. */
function watched(socket: Socket): { readonly socket: Socket; isClosed: boolean } {
  const client = { socket, isClosed: false };
  socket.on('error', () => undefined).once('close', () => (client.isClosed = true));
  socket.resume();
  return client;
}

describe('a member that comes by forward -R', { skip: unavailable() ?? false, timeout: 120_000 }, () => {
  it('is making so many connections, and no more, and another member is served', async (t) => {
    const network = await networkOf(t);
    // Nobody answers, so all of them are being made.
    let asked = 0;
    const resolve = (): Promise<string[]> => {
      asked++;
      return new Promise(() => undefined);
    };
    const spec = { bind: '0.0.0.0', port: PORT, host: 'nobody', hostPort: 1 };
    const forwarded = await forwardTcp({ from: network, to: machineNetwork, spec, resolve });
    t.after(() => forwarded.close());
    const come = (address: string): ReturnType<typeof watched> => {
      const client = watched(network.connect(address, PORT));
      t.after(() => client.socket.destroy());
      return client;
    };
    // The kernel sends from the address that is connected to.
    const crowd = Array.from({ length: CLIENT_BOUNDS.connecting + 3 }, () => come(FIRST));
    await until('what is beyond its share is cut off', () => {
      const cut = crowd.filter(({ isClosed }) => isClosed).length;
      return cut === 3 && asked === CLIENT_BOUNDS.connecting;
    });
    const other = come(SECOND);
    await until('another member is served', () => asked === CLIENT_BOUNDS.connecting + 1);
    assert.equal(other.isClosed, false);
    assert.deepEqual(forwarded.counts, { open: CLIENT_BOUNDS.connecting + 1, refused: 3 });
    // What one gives back it has again.
    crowd.find(({ isClosed }) => !isClosed)?.socket.destroy();
    assert.equal(crowd.filter(({ isClosed }) => isClosed).length, 3);
  });

  it('has so many clients of datagrams, and no more, and another member is served', async (t) => {
    const network = await networkOf(t);
    const asked: string[] = [];
    const spec = { bind: '0.0.0.0', port: PORT, host: 'nobody', hostPort: 1 };
    const resolve = (): Promise<string[]> => {
      asked.push('');
      return new Promise(() => undefined);
    };
    const forwarded = await forwardUdp({ from: network, to: machineNetwork, spec, resolve });
    t.after(() => forwarded.close());
    const send = async (address: string): Promise<void> => {
      const socket = await network.openUdp(address, 0);
      t.after(() => socket.close());
      socket.send('asked', PORT, address);
    };
    for (let each = 0; each < CLIENT_BOUNDS.udpClients + 3; each++) await send(FIRST);
    await until('its share is taken', () => asked.length === CLIENT_BOUNDS.udpClients);
    await send(SECOND);
    await until('another member is served', () => asked.length === CLIENT_BOUNDS.udpClients + 1);
    assert.deepEqual(forwarded.counts, { open: CLIENT_BOUNDS.udpClients + 1, refused: 3 });
  });
});

/** An address by which this machine reaches itself as others would. */
const own = Object.values(networkInterfaces())
  .flatMap((infos) => infos ?? [])
  .find(({ family, internal }) => family === 'IPv4' && !internal)?.address;

describe(
  'a client of SOCKS that is not on this machine',
  { skip: own === undefined && 'this machine has no address of its own', timeout: 120_000 },
  () => {
    it('is making so many connections, and no more, and others are served', async (t) => {
      const server = new SocksServer({
        network: machineNetwork,
        resolve: () => Promise.resolve([]),
        handshakeMs: 90_000,
      });
      const port = await server.listen('0.0.0.0', 0);
      t.after(() => server.close());
      const come = (host: string): ReturnType<typeof watched> => {
        const client = watched(connect({ port, host }));
        t.after(() => client.socket.destroy());
        return client;
      };
      const crowd = Array.from({ length: SOCKS_BOUNDS.clientConnecting + 3 }, () => come(own ?? ''));
      await until('what is beyond its share is cut off', () => server.refused === 3);
      await until('they see it', () => crowd.filter(({ isClosed }) => isClosed).length === 3);
      const local = come('127.0.0.1');
      local.socket.write(Buffer.from([5, 1, 0]));
      await once(local.socket, 'data');
      assert.equal(server.refused, 3);
    });
  },
);
