// The shipped binary where a firewall leaves little of UDP, or none: it says so, and goes by what is left.

import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { joinFrom, startRelay, wayTold, type PlacedMember } from '../../ts/lab/nat-matrix.js';
import { OmertaNode } from '../../ts/lab/omerta-node.js';
import { PingWatch } from '../../ts/lab/ping.js';
import { labUnavailable } from '../../ts/lab/requirements.js';
import { wall } from '../../ts/lab/special-cells.js';
import { World } from '../../ts/lab/world.js';

const unavailable = labUnavailable(['ping']);
const skip = unavailable === undefined ? false : unavailable;
const PATIENCE_MS = 15_000;
const status = z.object({ mesh: z.object({ udp: z.enum(['answered', 'waiting', 'blocked']) }) });

const members = z.object({
  mesh: z.object({ networks: z.tuple([z.object({ members: z.array(z.unknown()) })]) }),
});

describe('a firewall', { skip }, () => {
  let world: World;
  let invite: string;

  beforeEach(async () => {
    world = await World.create();
    ({ invite } = await startRelay(world));
  });
  afterEach(() => {
    world.remove();
  });

  /** The way after a while, which may take longer where one is `hoped` for, and pings lost until then. */
  const settled = async (
    from: PlacedMember,
    to: PlacedMember,
    hoped?: 'direct',
  ): Promise<readonly [string, number]> => {
    const knows = async ({ omerta }: PlacedMember): Promise<boolean> =>
      members.parse(await omerta.request({ command: 'status' })).mesh.networks[0].members.length > 1; // the relay is one
    for (const each of [from, to]) while (!(await knows(each))) await sleep(20);
    await sleep(1000); // an address of an interface that was just made is not used at once
    const watch = PingWatch.start(from.omerta.node, to.ipv6);
    try {
      const deadline = performance.now() + PATIENCE_MS;
      assert.ok(await watch.steady(3000, PATIENCE_MS), from.omerta.log);
      while (hoped !== undefined && (await wayTold(from, to)) !== hoped && performance.now() < deadline)
        await sleep(50);
      return [await wayTold(from, to), watch.seen().lost];
    } finally {
      watch.close();
    }
  };

  it('that blocks UDP is told of within 3 s, in the status and in the log, and so is its end', async () => {
    const node = await world.addNode('walled');
    await node.nft(wall('output', 'meta l4proto udp drop'));
    const omerta = new OmertaNode(world, node, 'walled', { direct: true });
    await omerta.command(['network', 'join', '-'], invite);
    await omerta.start('up', '--foreground');
    const begin = performance.now();
    const udp = async (): Promise<string> =>
      status.parse(await omerta.request({ command: 'status' })).mesh.udp;
    while ((await udp()) !== 'blocked') {
      assert.ok(performance.now() - begin < 3000, omerta.log);
      await sleep(20);
    }
    assert.match(omerta.log, /"meaning":"no relay answers anything.*"msg":"udp-blocked"/);
    await node.nft('delete table inet wall\n');
    while ((await udp()) !== 'answered') {
      assert.ok(performance.now() - begin < 3000 + PATIENCE_MS, omerta.log);
      await sleep(50);
    }
    assert.match(omerta.log, /"msg":"udp-answered"/);
  });

  for (const [what, firewall] of [
    ['lets nothing in but answers', wall('input', 'meta l4proto udp ct state new drop')],
    [
      'lets out to the UDP port of Omerta alone',
      wall('output', 'meta l4proto udp oifname "eth0" udp dport != 51900 drop'),
    ],
  ] as const)
    it(`that ${what}, at both, is crossed`, async () => {
      const left = await joinFrom(world, 'public', 'left', invite, { firewall });
      const right = await joinFrom(world, 'public', 'right', invite, { firewall });
      assert.deepEqual(await settled(left, right, 'direct'), ['direct', 0]);
    });

  it('that lets in the relay and the own network alone leaves members elsewhere on the relay, and loses nothing', async () => {
    const near = await joinFrom(world, 'public', 'near', invite);
    const far = await joinFrom(world, 'port-restricted', 'far', invite);
    const address = far.nat?.address;
    assert.ok(address !== undefined);
    await near.omerta.node.nft(wall('input', `ip saddr ${address} meta l4proto udp drop`));
    assert.deepEqual(await settled(near, far), ['relay', 0]);
  });
});
