import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { OmertaNode } from '../../ts/lab/omerta-node.js';
import { PingWatch, ping } from '../../ts/lab/ping.js';
import { labUnavailable } from '../../ts/lab/requirements.js';
import { World, type Node } from '../../ts/lab/world.js';
import { SECOND, SECOND6, STATEFUL_FIREWALL } from './second-addresses.js';

interface Overlay {
  readonly mesh: { readonly networks: readonly { readonly ipv6: string }[] };
}

/** A node tries the relay's addresses one after the other, so IPv6 alone takes some seconds. */
async function firstReply(from: Node, address: string): Promise<void> {
  for (let tries = 0; tries < 100; tries++) {
    if ((await from.run('ping', ['-n', '-c1', '-W', '0.25', address])).code === 0) return;
    await setTimeout(100); // an unknown member is unreachable at once
  }
  assert.fail(`no ping from ${from.name} reaches ${address}`);
}

async function overlayAddress(omerta: OmertaNode): Promise<string> {
  const [network] = ((await omerta.command(['status'])) as Overlay).mesh.networks;
  assert.ok(network !== undefined);
  return network.ipv6;
}

describe(
  'a relay with several addresses, known by those routing would not choose',
  { skip: labUnavailable(['ping', 'nft']) ?? false },
  () => {
    let world: World;
    let relayNode: Node;
    let relay: OmertaNode;
    const members = new Map<string, OmertaNode>();

    before(async () => {
      world = await World.create();
      relayNode = await world.addNode('relay');
      await relayNode.ip(
        `address add ${SECOND}/24 dev eth0`,
        `address add ${SECOND6}/64 dev eth0 nodad preferred_lft 0`,
      );
      relay = new OmertaNode(world, relayNode, 'relay');
      const announce = [`${SECOND}:51900`, `[${SECOND6}]:51900`].flatMap((at) => ['--announce', at]);
      const { networks } = (await relay.start('relay', ...announce)) as {
        networks: readonly { invite: string }[];
      };
      const invite = networks[0]?.invite ?? '';
      const home = await world.addNat('home', 'port-restricted');
      const nodes = {
        // IPv4 alone behind a NAT, IPv6 alone and IPv4 alone behind firewalls.
        nat4: await world.addNode('nat4', { behind: home }),
        only6: await world.addNode('only6'),
        only4: await world.addNode('only4'),
      };
      await nodes.only6.ip(`address del ${nodes.only6.address}/24 dev eth0`);
      await nodes.only4.ip(`address del ${nodes.only4.address6 ?? ''}/64 dev eth0`);
      for (const node of [nodes.only6, nodes.only4]) await node.nft(STATEFUL_FIREWALL);
      for (const [name, node] of Object.entries(nodes)) {
        const omerta = new OmertaNode(world, node, name);
        await omerta.command(['network', 'join', '-'], invite);
        await omerta.start('up', '--foreground');
        members.set(name, omerta);
      }
    });
    after(() => world.remove());

    for (const [from, to] of [
      ['nat4', 'only6'],
      ['only6', 'only4'],
      ['only4', 'nat4'],
    ] as const)
      it(`carries packets between ${from} and ${to}, both ways`, async () => {
        const [left, right] = [members.get(from), members.get(to)];
        assert.ok(left !== undefined && right !== undefined);
        for (const [a, b] of [
          [left, right],
          [right, left],
        ] as const) {
          const address = await overlayAddress(b);
          await firstReply(a.node, address);
          const { sent, lost } = await ping(a.node, address, 50, 10);
          assert.deepEqual({ sent, lost }, { sent: 50, lost: 0 }, `${a.log}\n${b.log}`);
        }
      });

    it('lists these circuits with what went in each direction, and watches them', async () => {
      const sessions = (await relay.command(['relay', 'sessions', '--interval', '0.2'])) as readonly {
        readonly state: string;
        readonly networkName: string;
        readonly expiresInSeconds: number;
        readonly fromCaller: { readonly packets: number };
        readonly fromCallee: { readonly packets: number };
      }[];
      assert.ok(sessions.length >= 3);
      for (const { state, networkName, expiresInSeconds } of sessions) {
        assert.deepEqual([state, networkName], ['open', 'home']);
        assert.ok(expiresInSeconds > 0);
      }
      const busy = sessions.filter((one) => one.fromCaller.packets > 40 && one.fromCallee.packets > 40);
      assert.ok(busy.length >= 3, JSON.stringify(sessions));

      const [from, to] = [members.get('only4'), members.get('nat4')];
      assert.ok(from !== undefined && to !== undefined);
      const pinging = PingWatch.start(from.node, await overlayAddress(to));
      const top = (await relay.command([
        'relay',
        'top',
        '--once',
        '--by',
        'identity',
        '--interval',
        '0.5',
      ])) as {
        readonly rows: readonly { readonly circuits: number; readonly rate: { readonly packets: number } }[];
      };
      pinging.close();
      assert.equal(top.rows.length, 3, 'one row for each member');
      assert.ok((top.rows[0]?.rate.packets ?? 0) > 20, JSON.stringify(top));
    });
  },
);
