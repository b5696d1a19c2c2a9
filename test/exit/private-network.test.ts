// Sockets that a helper opens in a private network: each request has its own answer, and a port has one owner.

import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import { loadNativeAddon } from '../../ts/engine/native/native-addon.js';
import { PrivateNetwork } from '../../ts/exit/private-network.js';
import { labUnavailable } from '../../ts/lab/requirements.js';
import { World } from '../../ts/lab/world.js';
import { formatIp } from '../../ts/wire/socket-address.js';
import { addonMissing } from '../engine/addon.js';

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
    await assert.rejects(network.openUdp('127.0.0.1', 1111), /ETIMEDOUT/);
    process.kill(network.pid, 'SIGCONT');
    assert.equal(await boundPort(t, network, 2222), 2222);
    assert.equal(await boundPort(t, network, 3333), 3333);
    assert.equal(await boundPort(t, network, 1111), 1111, 'what came too late is closed');
  });

  it('has one owner of a UDP port', async (t) => {
    const network = networkOf(t);
    assert.equal(await boundPort(t, network, 5300), 5300);
    await assert.rejects(network.openUdp('127.0.0.1', 5300), /EADDRINUSE/);
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
