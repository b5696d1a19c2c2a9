import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { addFarNode } from '../../ts/lab/far-node.js';
import { tcpThroughput } from '../../ts/lab/iperf.js';
import { OmertaNode } from '../../ts/lab/omerta-node.js';
import { ping } from '../../ts/lab/ping.js';
import { labUnavailable } from '../../ts/lab/requirements.js';
import { World, type Node } from '../../ts/lab/world.js';

interface Status {
  readonly counters: Readonly<Record<string, number>>;
  readonly mesh: { readonly networks: readonly { readonly ipv6: string }[] };
}

for (const family of ['IPv4', 'IPv6'])
  describe(
    `a hop of 1,280 bytes behind the relay, ${family}`,
    { skip: labUnavailable(['ping', 'iperf3']) ?? false },
    () => {
      let world: World;
      let relay: OmertaNode;
      let near: OmertaNode;
      let far: OmertaNode;
      let address: string;

      const counter = async (name: string): Promise<number> =>
        ((await relay.command(['status'])) as Status).counters[name] ?? 0;

      before(async () => {
        world = await World.create();
        const node = await world.addNode('relay');
        relay = new OmertaNode(world, node, 'relay');
        const announced = family === 'IPv4' ? node.address : `[${node.address6 ?? ''}]`;
        const banner = (await relay.start('relay', '--announce', `${announced}:51900`)) as {
          networks: readonly { invite: string }[];
        };
        const join = async (member: Node, name: string): Promise<OmertaNode> => {
          const omerta = new OmertaNode(world, member, name);
          await omerta.command(['network', 'join', '-'], banner.networks[0]?.invite);
          await omerta.start('up', '--foreground');
          return omerta;
        };
        const { far: farther } = await addFarNode(world, [node], 1280);
        far = await join(farther, 'far');
        near = await join(await world.addNode('near'), 'near');
        address = ((await far.command(['status'])) as Status).mesh.networks[0]?.ipv6 ?? '';
        for (let tries = 0; tries < 100; tries++) {
          if ((await near.node.run('ping', ['-n', '-c1', '-W', '0.25', address])).code === 0) return;
          await setTimeout(100);
        }
        assert.fail(`no ping reaches ${address}`);
      });
      after(() => world.remove());

      it('is crossed by packets larger than it, after at most one that taught the relay', async () => {
        // ICMP "packet too big" for the first of these; routers on IPv4 fragment themselves.
        const large = async (): Promise<number> => {
          const { stdout } = await near.node.run('ping', ['-n', '-c5', '-i0.2', '-s1300', '-W1', address]);
          return Number(/(\d+) received/.exec(stdout)?.[1]);
        };
        assert.ok((await large()) >= 4);
        assert.equal(await large(), 5);
      });

      it('is crossed by TCP, whose coalesced segments go out one by one, as fragments', async () => {
        const { bytes } = await tcpThroughput(near.node, far.node, address, 2);
        assert.ok(bytes > 1_000_000, `${bytes} bytes`);
        if (family === 'IPv6') assert.ok((await counter('tx_over_path_mtu')) > 0);
        assert.equal(await counter('tx_errors'), 0);
        assert.equal(await counter('drop_send_too_big'), 0);
      });

      it('what has no route any more is dropped and counted', async () => {
        const route = family === 'IPv4' ? '203.0.113.0/24' : '2001:db8:200::/64';
        await relay.node.ip(`route del ${route}`, `route add unreachable ${route}`);
        const { lost } = await ping(near.node, address, 5, 100, '-w', '1');
        assert.equal(lost, 5);
        assert.ok((await counter('drop_send_no_route')) >= 5);
      });
    },
  );
