// Sockets that a helper opens in a private network: each request has its own answer, and a port has one owner.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { closeSync, fstatSync, readdirSync } from 'node:fs';
import { createServer } from 'node:net';
import { constants } from 'node:os';
import { describe, it, type TestContext } from 'node:test';
import { loadNativeAddon } from '../../ts/engine/native/native-addon.js';
import { openNamespaces, PrivateNetwork } from '../../ts/exit/private-network.js';
import { isProcessStopped } from '../../ts/host/process-identity.js';
import { labUnavailable } from '../../ts/lab/requirements.js';
import { World } from '../../ts/lab/world.js';
import { formatIp } from '../../ts/wire/socket-address.js';
import { addonMissing } from '../engine/addon.js';
import { until } from '../wg/wg-lab.js';

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

function networkOf(t: TestContext): PrivateNetwork {
  const network = PrivateNetwork.make();
  t.after(() => network.close());
  return network;
}

async function boundPort(t: TestContext, network: PrivateNetwork, port: number): Promise<number> {
  const socket = await network.openUdp('127.0.0.1', port);
  t.after(() => socket.close());
  return socket.address().port;
}

describe('a private network', { skip: unavailable() ?? false, timeout: 60_000 }, () => {
  it('gives each request its own socket, also after one that was answered too late', async (t) => {
    const network = networkOf(t);
    process.kill(network.pid, 'SIGSTOP');
    // As it would be if it was stopped while it is asked.
    const { openSocket } = loadNativeAddon();
    const late = openSocket(network.channel, 2, 2, 0, new Uint8Array([127, 0, 0, 1]), 1111, false);
    assert.equal(late, -constants.errno.ETIMEDOUT);
    process.kill(network.pid, 'SIGCONT');
    assert.equal(await boundPort(t, network, 2222), 2222);
    assert.equal(await boundPort(t, network, 3333), 3333);
    assert.equal(await boundPort(t, network, 1111), 1111, 'what came too late is closed');
  });

  it('asks no helper that is stopped: another takes its place, and what was open stays', async (t) => {
    const network = networkOf(t);
    const server = createServer((socket) => socket.pipe(socket));
    t.after(() => server.close());
    await network.listen(server, '127.0.0.1', 8080);
    const before = network.pid;
    process.kill(before, 'SIGSTOP');
    await until('it is stopped', () => isProcessStopped(before));
    await assert.rejects(network.openUdp('127.0.0.1', 0), /EAGAIN: the helper was stopped/);
    await until('another helper is there', () => network.pid !== before);
    assert.ok((await boundPort(t, network, 0)) > 0);
    const client = network.connect('127.0.0.1', 8080);
    t.after(() => client.destroy());
    client.write('asked');
    assert.equal(String((await once(client, 'data'))[0]), 'asked');
  });

  it('has one owner of a UDP port', async (t) => {
    const network = networkOf(t);
    assert.equal(await boundPort(t, network, 5300), 5300);
    await assert.rejects(network.openUdp('127.0.0.1', 5300), /EADDRINUSE/);
  });
});

describe('what enters a private network', { skip: unavailable() ?? false, timeout: 60_000 }, () => {
  it('enters the one it was told of, and none that its number leads to meanwhile', (t) => {
    const [network, other] = [networkOf(t), networkOf(t)];
    const { user, network: entered } = openNamespaces(network);
    assert.equal(fstatSync(entered).ino, network.namespace);
    [user, entered].forEach(closeSync);
    const open = (): number => readdirSync('/proc/self/fd').length;
    const before = open();
    for (const pid of [other.pid, process.pid]) {
      const place = { pid, namespace: network.namespace };
      for (const enter of [() => openNamespaces(place), () => PrivateNetwork.join(place)])
        assert.throws(enter, /cannot be entered \(its helper has just gone; type it again\)/);
    }
    assert.equal(open(), before, 'nothing stays open');
  });
});

describe('the addresses of the host', { skip: labUnavailable([]) ?? addonMissing() ?? false }, () => {
  it('are all of them, those of an interface without a carrier too', async (t) => {
    assert.ok(
      loadNativeAddon()
        .localAddresses()
        .some((ip) => formatIp(ip) === '127.0.0.1'),
    );
    const world = await World.create();
    t.after(() => world.remove());
    const node = await world.addNode('host');
    await node.ip(
      'link add dark type veth peer name darker',
      'address add 203.0.113.5/32 dev dark',
      'address add 2001:db8::5/128 dev dark nodad',
      'link set dark up',
    );
    const addon = new URL('../../ts/engine/native/native-addon.js', import.meta.url).href;
    const addresses = new URL('../../ts/wire/socket-address.js', import.meta.url).href;
    const printed = await node.mustRun(process.execPath, [
      '--input-type=module',
      '-e',
      `import { loadNativeAddon } from '${addon}'; import { formatIp } from '${addresses}';
       console.log(JSON.stringify(loadNativeAddon().localAddresses().map(formatIp)));`,
    ]);
    const found = JSON.parse(printed) as string[];
    assert.ok(found.includes('203.0.113.5') && found.includes('2001:db8::5'), printed);
  });
});
