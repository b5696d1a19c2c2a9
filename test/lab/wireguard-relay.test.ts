// Stock wireguard-go clients behind NATs, a relay with one UDP port, and two servers: a member behind
// a NAT of its own, and a stock wireguard-go the relay's operator named.

import assert from 'node:assert/strict';
import { appendFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { after, before, describe, it } from 'node:test';
import { OmertaNode } from '../../ts/lab/omerta-node.js';
import { ping } from '../../ts/lab/ping.js';
import { labUnavailable } from '../../ts/lab/requirements.js';
import { StockWireguard } from '../../ts/lab/stock-wireguard.js';
import { World, type Node } from '../../ts/lab/world.js';

const RELAY_PORT = 51900;
/** Inside, of the stock client and the stock server; unused addresses of the overlay's range. */
const CLIENT = '100.64.9.1';
const STOCK_SERVER = '100.64.9.2';

interface Binding {
  readonly peerId?: string;
  readonly publicKey: string;
  readonly sessions: number;
  readonly packets: number;
}

describe(
  'stock WireGuard clients behind NATs',
  { skip: labUnavailable(['ping', 'wg', 'wireguard-go']) ?? false },
  () => {
    let world: World;
    let relay: OmertaNode;
    let member: OmertaNode;
    let memberKey: string;
    let memberAddress: string;
    let server: StockWireguard;
    let client: StockWireguard;
    let second: StockWireguard;

    before(async () => {
      world = await World.create();
      const relayNode = await world.addNode('relay');
      const serverNode = await world.addNode('server');
      const home = await world.addNat('home', 'port-restricted');
      const mobile = await world.addNat('mobile', 'symmetric');
      const cafe = await world.addNat('cafe', 'port-restricted');
      client = await StockWireguard.start(
        world,
        await world.addNode('client', { behind: mobile }),
        'c',
        CLIENT,
      );
      second = await StockWireguard.start(
        world,
        await world.addNode('second', { behind: cafe }),
        'd',
        '100.64.9.3',
      );
      server = await StockWireguard.start(world, serverNode, 's', STOCK_SERVER);
      await server.set('listen-port', '51820', 'peer', client.publicKey, 'allowed-ips', `${CLIENT}/32`);

      relay = new OmertaNode(world, relayNode, 'relay');
      appendFileSync(
        join(relay.state, 'omerta.toml'),
        `\n[relay]\nwireguard_bindings = 4\n` +
          `wireguard_servers = [{ public_key = "${server.publicKey}", endpoint = "${serverNode.address}:51820" }]\n`,
      );
      const banner = (await relay.start('relay')) as { networks: readonly [{ invite: string }] };
      member = new OmertaNode(world, await world.addNode('member', { behind: home }), 'member');
      appendFileSync(
        join(member.state, 'omerta.toml'),
        `\n[wireguard]\nrelay = true\npeers = [\n` +
          `  { public_key = "${client.publicKey}", allowed_ips = ["${CLIENT}/32"] },\n` +
          `  { public_key = "${second.publicKey}", allowed_ips = ["100.64.9.3/32"] },\n]\n`,
      );
      await member.command(['network', 'join', '-'], banner.networks[0].invite);
      await member.command(['up']);
      const status = (await member.command(['status'])) as {
        wireguard: { publicKey: string };
        mesh: { networks: readonly [{ ipv4: string }] };
      };
      memberKey = status.wireguard.publicKey;
      memberAddress = status.mesh.networks[0].ipv4;

      const through = `${relayNode.address}:${RELAY_PORT}`;
      const reach = [memberKey, 'endpoint', through, 'persistent-keepalive', '25'];
      await client.set('peer', ...reach, 'allowed-ips', `${memberAddress}/32`);
      await second.set('peer', ...reach, 'allowed-ips', `${memberAddress}/32`);
      await client.set(
        ...['peer', server.publicKey, 'endpoint', through, 'allowed-ips', `${STOCK_SERVER}/32`],
      );
      for (const stock of [client, second])
        await stock.node.ip(`route add ${memberAddress}/32 dev ${stock.name}`);
    });
    after(() => {
      world.remove();
      for (const stock of [client, second, server]) stock.remove();
    });

    const bindings = async (): Promise<readonly Binding[]> =>
      (await relay.command(['relay', 'wireguard'])) as readonly Binding[];
    const counters = async (): Promise<Record<string, number>> =>
      ((await relay.command(['status'])) as { counters: Record<string, number> }).counters;

    /** Waits until a ping gets through; milliseconds. */
    async function reached(from: Node, to: string, limitMs: number): Promise<number> {
      const begin = performance.now();
      while (performance.now() - begin < limitMs) {
        if ((await from.run('ping', ['-n', '-c1', '-W', '0.5', to])).code === 0)
          return performance.now() - begin;
        await setTimeout(50);
      }
      const logs = [relay, member].map(({ name, log }) => `${name}:\n${log}`).join('\n');
      throw new Error(`no ping reaches ${to}\n${logs}\n${JSON.stringify(await counters())}`);
    }

    it('reach a member behind a NAT by the relay’s port', async () => {
      await reached(client.node, memberAddress, 10_000);
      const { sent, lost } = await ping(client.node, memberAddress, 100, 5);
      assert.deepEqual({ sent, lost }, { sent: 100, lost: 0 });
      const bound = (await bindings()).find(({ publicKey }) => publicKey === memberKey);
      assert.ok(bound !== undefined && bound.sessions >= 1 && bound.packets >= 200);
      assert.match(bound.peerId ?? '', /^omerta1/);
    });

    it('two of them at once, each its own session', async () => {
      await reached(second.node, memberAddress, 10_000);
      const both = await Promise.all([client, second].map(({ node }) => ping(node, memberAddress, 50, 5)));
      assert.deepEqual(
        both.map(({ lost }) => lost),
        [0, 0],
      );
      // The member answers over the relay's one address: its packets find the right client.
      const back = await ping(member.node, '100.64.9.3', 20, 5);
      assert.equal(back.lost, 0);
    });

    it('reach a stock server the operator named', async () => {
      await reached(client.node, STOCK_SERVER, 10_000);
      const { lost } = await ping(client.node, STOCK_SERVER, 50, 5);
      assert.equal(lost, 0);
      const named = (await bindings()).find(({ publicKey }) => publicKey === server.publicKey);
      assert.ok(named !== undefined && named.peerId === undefined && named.packets >= 100);
    });

    it('renew their session while packets flow', async () => {
      const handshakes = async (): Promise<number> => (await counters())['wireguard_relayed_handshakes'] ?? 0;
      const before = await handshakes();
      // A new port is a new address to the relay: the client is heard again after its next handshake.
      await client.set('listen-port', '40404');
      const took = await reached(client.node, memberAddress, 30_000);
      assert.ok(took < 25_000, `${took} ms`);
      assert.ok((await handshakes()) >= before + 2);
      const { lost } = await ping(client.node, memberAddress, 50, 5);
      assert.equal(lost, 0);
    });

    it('are heard again after the relay was killed and restarted', async () => {
      await relay.kill();
      await relay.start('relay');
      // Nothing tells a stock client of it: it notices after 15 s without an answer.
      const took = await reached(second.node, memberAddress, 40_000);
      assert.ok(took < 35_000, `${took} ms`);
      assert.ok((await second.handshakeAt(memberKey)) > 0);
    });
  },
);
