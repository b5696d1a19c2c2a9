// The default route moves to another interface while the former address stays; what leads out there takes its own
// addresses only, as providers do. The engines are alone here: in a mesh the control plane finds another way too.

import assert from 'node:assert/strict';
import { createInterface } from 'node:readline';
import { after, before, describe, it } from 'node:test';
import { labUnavailable } from '../../ts/lab/requirements.js';
import { World, type Node } from '../../ts/lab/world.js';
import { addonMissing } from '../engine/addon.js';
import { sessionKeys } from '../engine/conformance.js';
import { until } from '../wg/wg-lab.js';

const PORT = 51820;
const SERVER = '192.0.2.2';
const FIRST = '198.51.100.2';
const SECOND = '203.0.113.2';

const PROVIDER = `table ip provider {
  chain filter {
    type filter hook prerouting priority 0;
    iifname "first" ip saddr != 198.51.100.0/24 drop;
    iifname "second" ip saddr != 203.0.113.0/24 drop;
  }
}
`;

/** An engine that prints where its peer is heard, and how many initiations it has sent. */
const ENGINE = (options: object): string => `
  import { openNativeEngine } from ${JSON.stringify(new URL('../../ts/engine/native/native-engine.js', import.meta.url))};
  import { openWasmEngine } from ${JSON.stringify(new URL('../../ts/engine/wasm/wasm-engine.js', import.meta.url))};
  const { kind, privateKey, peer, endpoint } = ${JSON.stringify(options)};
  const engine = await (kind === 'wasm' ? openWasmEngine : openNativeEngine)({
    privateKey: Uint8Array.from(Buffer.from(privateKey, 'hex')), port: ${PORT}, maxLegs: 64, maxPeers: 64,
    controlFramesPerSecond: 1000,
  });
  engine.onEvents((events) => {
    for (const { type, endpoint } of events)
      if (type === 'session' || type === 'endpoint') console.log([...endpoint.address.ip.subarray(12)].join('.'));
  });
  const ip = endpoint && Uint8Array.from([...Array(10).fill(0), 255, 255, ...endpoint.split('.').map(Number)]);
  engine.setPeers([{
    sessionKey: peer, presharedKey: undefined, allowedIps: [], persistentKeepalive: 0,
    endpoint: ip && { address: { ip, port: ${PORT} } },
  }]);
  if (ip !== undefined) setInterval(() => {
    engine.sendControl([{ peer, payload: Uint8Array.of(0xc0, 1, 0, 0) }]);
    console.log('initiations ' + engine.counters().get('handshake_initiations_sent'));
  }, 100);
`;

describe(
  'the default route moves to another interface while the address stays',
  { skip: labUnavailable(['nft']) ?? addonMissing() ?? false, timeout: 120_000 },
  () => {
    let world: World;
    let client: Node;
    let server: Node;

    before(async () => {
      world = await World.create();
      client = await world.addBareNode('client');
      server = await world.addBareNode('server');
      const router = await world.addBareNode('router');
      await world.connect([client, 'eth0', [`${FIRST}/24`]], [router, 'first', ['198.51.100.1/24']]);
      await world.connect([client, 'eth1', [`${SECOND}/24`]], [router, 'second', ['203.0.113.1/24']]);
      await world.connect([server, 'eth0', [`${SERVER}/24`]], [router, 'third', ['192.0.2.1/24']]);
      await server.ip('route add default via 192.0.2.1');
      await client.ip('route add default via 203.0.113.1 metric 20');
      await router.sysctl('net.ipv4.ip_forward=1');
      await router.nft(PROVIDER);
    });
    after(() => world.remove());

    for (const kind of ['native', 'wasm'])
      it(`and the ${kind} engine sends from the address routing chooses, without another handshake`, async () => {
        await client.ip('route add default via 198.51.100.1 metric 10');
        const [own, other] = [sessionKeys(), sessionKeys()];
        const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
        const begin = (node: Node, options: object): { lines: string[]; end: () => void } => {
          const child = node.spawn(
            process.execPath,
            ['--input-type=module', '-e', ENGINE({ kind, ...options })],
            {
              stdio: ['ignore', 'pipe', 'inherit'],
            },
          );
          assert.ok(child.stdout);
          const lines: string[] = [];
          createInterface({ input: child.stdout }).on('line', (line) => lines.push(line));
          return { lines, end: () => void child.kill('SIGKILL') };
        };
        const heard = begin(server, { privateKey: hex(own.privateKey), peer: other.sessionKey });
        const sent = begin(client, {
          privateKey: hex(other.privateKey),
          peer: own.sessionKey,
          endpoint: SERVER,
        });
        try {
          await until('the first address is heard', () => heard.lines.includes(FIRST), 30_000);
          await until('a session', () => sent.lines.includes(SERVER), 30_000);
          const initiations = (): string | undefined =>
            sent.lines.findLast((line) => line.startsWith('init'));
          // Ways are known a second after a remote is.
          const known = sent.lines.length + 40;
          await until('some seconds of it', () => sent.lines.length >= known, 60_000);
          const before = initiations();
          await client.ip('route del default via 198.51.100.1 metric 10');
          await until('the second address is heard', () => heard.lines.includes(SECOND), 60_000);
          assert.equal(initiations(), before);
        } finally {
          heard.end();
          sent.end();
        }
      });
  },
);
