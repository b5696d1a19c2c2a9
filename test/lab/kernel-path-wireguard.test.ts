// Stock wireguard-go peers on either side of a relay that forwards their sessions in the kernel.

import assert from 'node:assert/strict';
import { appendFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { NumberedStream } from '../../ts/lab/numbered-stream.js';
import { OmertaNode } from '../../ts/lab/omerta-node.js';
import { pinsOf } from '../../ts/lab/pins.js';
import { labUnavailable } from '../../ts/lab/requirements.js';
import { StockWireguard } from '../../ts/lab/stock-wireguard.js';
import { World } from '../../ts/lab/world.js';
import { prepareForXdp, xdpUnavailable } from '../../ts/lab/xdp.js';

const CLIENT = '100.64.9.1';
const SERVER = '100.64.9.2';
/**
 * Datagrams a second: more than is lost in a moment unnoticed, and so few that the receive buffer of a process
 * (208 KiB as systems are set up) holds those of a second in which a busy machine does not let it run.
 */
const RATE = 250;
const DEADLINE_MS = 20_000;

describe(
  'the kernel path between stock WireGuard peers',
  {
    skip: labUnavailable(['ping', 'ethtool', 'bpftool', 'wg', 'wireguard-go']) ?? xdpUnavailable() ?? false,
  },
  () => {
    let world: World;
    let relay: OmertaNode;
    let client: StockWireguard;
    let server: StockWireguard;

    before(async () => {
      world = await World.create();
      const relayNode = await world.addNode('relay');
      const home = await world.addNat('home', 'port-restricted');
      const nodes = [
        relayNode,
        await world.addNode('server'),
        await world.addNode('client', { behind: home }),
      ] as const;
      await prepareForXdp(world, nodes);
      server = await StockWireguard.start(world, nodes[1], 'ks', SERVER);
      client = await StockWireguard.start(world, nodes[2], 'kc', CLIENT);
      await server.set('listen-port', '51820', 'peer', client.publicKey, 'allowed-ips', `${CLIENT}/32`);
      relay = new OmertaNode(world, relayNode, 'relay');
      appendFileSync(
        join(relay.state, 'omerta.toml'),
        `\n[relay]\nwireguard_bindings = 4\n` +
          `wireguard_servers = [{ public_key = "${server.publicKey}", endpoint = "${nodes[1].address}:51820" }]\n`,
      );
      await start();
      await client.set(
        ...['peer', server.publicKey, 'endpoint', `${relayNode.address}:51900`],
        ...['allowed-ips', `${SERVER}/32`, 'persistent-keepalive', '25'],
      );
    });
    after(() => {
      world.remove();
      for (const stock of [client, server]) stock.remove();
    });

    const start = (): Promise<unknown> =>
      relay.start('relay', '--accel', 'xdp', '--detach', '--status', 'off');
    const counters = async (): Promise<Record<string, number>> =>
      ((await relay.command(['status'])) as { counters: Record<string, number> }).counters;
    const usage = async (): Promise<{ sessions: number; packets: number }> => {
      const [first] = (await relay.command(['relay', 'wireguard'])) as {
        sessions: number;
        packets: number;
      }[];
      assert.ok(first);
      return first;
    };
    const stream = (): Promise<NumberedStream> =>
      NumberedStream.start(client.node, server.node, SERVER, RATE);
    const waitFor = async (what: string, condition: () => boolean | Promise<boolean>): Promise<void> => {
      const end = performance.now() + DEADLINE_MS;
      while (!(await condition())) {
        if (performance.now() > end)
          throw new Error(`${what}: not after ${DEADLINE_MS} ms\n${JSON.stringify(await counters())}`);
        await setTimeout(100);
      }
    };
    const forwardedInKernel = async (): Promise<number> =>
      (await counters())['xdp_wireguard_relayed_packets'] ?? 0;

    it('forwards a session in the kernel once user space has proven it', async () => {
      await waitFor('a ping in the kernel', async () => {
        await client.node.run('ping', ['-n', '-c1', '-W', '0.5', SERVER]);
        return (await forwardedInKernel()) > 0;
      });
      const [before, used] = [await counters(), await usage()];
      const numbered = await stream();
      await setTimeout(1000);
      const { sent, lost, repeated } = await numbered.stop();
      assert.deepEqual({ lost, repeated }, { lost: 0, repeated: 0 });
      const now = await counters();
      const more = (name: string): number => (now[name] ?? 0) - (before[name] ?? 0);
      assert.ok(more('xdp_wireguard_relayed_packets') >= sent);
      assert.equal(
        more('wireguard_relayed_packets'),
        more('xdp_wireguard_relayed_packets'),
        'none by the socket',
      );
      assert.ok((await usage()).packets - used.packets >= sent, 'the server is charged for them');
    });

    it('loses nothing when the daemon is killed, is away, starts again and takes over', async () => {
      const before = await forwardedInKernel();
      const numbered = await stream();
      await setTimeout(500);
      await relay.kill();
      await setTimeout(1000);
      await start();
      const restarted = await counters();
      assert.equal((await usage()).sessions, 1, 'user space knows the session again');
      await setTimeout(1000);
      const { sent, lost, repeated } = await numbered.stop();
      assert.deepEqual({ lost, repeated }, { lost: 0, repeated: 0 });
      assert.ok((await forwardedInKernel()) - before >= sent, 'all of it in the kernel');
      assert.equal(restarted['wireguard_relayed_handshakes'] ?? 0, 0, 'without another handshake');
    });

    it('goes on through the socket when the kernel path is left off', async () => {
      const numbered = await stream();
      const ids = /prog\/xdp id (\d+)/.exec(
        await relay.node.mustRun('ip', ['-details', 'link', 'show', 'eth0']),
      );
      const links = JSON.parse(await relay.node.mustRun('bpftool', ['-j', 'link', 'show'])) as {
        readonly id: number;
        readonly prog_id: number;
      }[];
      const link = links.find(({ prog_id }) => prog_id === Number(ids?.[1]));
      assert.ok(link);
      const before = await counters();
      await relay.node.mustRun('bpftool', ['link', 'detach', 'id', String(link.id)]);
      await waitFor('the kernel path comes back', () => /kernel-path-attached/.test(relay.log));
      await setTimeout(500);
      const { lost, repeated } = await numbered.stop();
      assert.deepEqual({ lost, repeated }, { lost: 0, repeated: 0 });
      const now = await counters();
      const more = (name: string): number => (now[name] ?? 0) - (before[name] ?? 0);
      assert.ok(more('wireguard_relayed_packets') > more('xdp_wireguard_relayed_packets'));
      assert.ok(more('xdp_wireguard_relayed_packets') > 0);
    });

    it('leaves nothing in the kernel after relay stop --unload', async () => {
      await relay.node.mustRun(process.execPath, [
        ...['bin/omerta', '--state', relay.state],
        ...['relay', 'stop', '--unload'],
      ]);
      assert.deepEqual(pinsOf(relay.node), []);
    });
  },
);
