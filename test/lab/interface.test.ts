// What becomes of a member when somebody handles its interface, and on a host with one address family.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { OmertaNode } from '../../ts/lab/omerta-node.js';
import { labUnavailable } from '../../ts/lab/requirements.js';
import { World, type Node } from '../../ts/lab/world.js';
import { until } from '../wg/wg-lab.js';

interface Status {
  readonly tunnel: {
    readonly state: string;
    readonly missing: readonly string[];
    readonly unrouted: readonly string[];
  };
  readonly mesh: { readonly networks: readonly { readonly ipv4: string; readonly ipv6: string }[] };
}

describe('the interface of a member', { skip: labUnavailable([]) ?? false, timeout: 180_000 }, () => {
  let world: World;
  let node: Node;
  let member: OmertaNode;
  let invite: string;
  let addresses: readonly string[];

  const shown = (): Promise<string> => node.mustRun('ip', ['-br', 'address', 'show', 'dev', 'omerta0']);
  const isWhole = (): Promise<boolean> =>
    shown().then(
      (text) => addresses.every((address) => text.includes(address)),
      () => false,
    );

  before(async () => {
    world = await World.create();
    const relayNode = await world.addNode('relay');
    const relay = new OmertaNode(world, relayNode, 'relay');
    const { networks } = (await relay.start('relay')) as { networks: readonly { invite: string }[] };
    invite = networks[0]?.invite ?? '';
    node = await world.addNode('member');
    member = new OmertaNode(world, node, 'member');
    await member.command(['network', 'join', '-'], invite);
    const { mesh } = (await member.start('up', '--foreground')) as Status;
    addresses = mesh.networks.flatMap(({ ipv4, ipv6 }) => [ipv4, ipv6]);
    assert.ok(await isWhole());
  });
  after(() => world.remove());

  it('has its addresses again after it was down and up, and after they were flushed', async () => {
    await node.ip('link set omerta0 down');
    await until('status says so', async () => {
      const { code, stdout } = await node.run(process.execPath, member.commandLine('status'));
      return code === 1 && (JSON.parse(stdout) as Status).tunnel.state === 'down';
    });
    await node.ip('link set omerta0 up');
    await until('it is whole', isWhole, 40_000);
    await node.ip('address flush dev omerta0');
    await until('it is whole again', isWhole, 40_000);
    await until('status says so', async () => {
      const { tunnel } = (await member.command(['status'])) as Status;
      return tunnel.state === 'up' && tunnel.missing.length === 0;
    });
    assert.match(member.log, /interface-addresses-restored/);
  });

  it('has its routes again after they were flushed, and says which another route comes before', async () => {
    const routed = async (): Promise<boolean> => {
      const tables = await Promise.all(['-4', '-6'].map((family) => node.mustRun('ip', [family, 'route'])));
      return tables.every((table) => table.includes('dev omerta0 proto kernel'));
    };
    assert.ok(await routed());
    for (const family of ['-4', '-6']) await node.mustRun('ip', [family, 'route', 'flush', 'dev', 'omerta0']);
    await until('they are back', routed, 40_000);
    assert.match(member.log, /interface-routes-restored/);
    const status = async (): Promise<Status['tunnel']> =>
      (JSON.parse((await node.run(process.execPath, member.commandLine('status'))).stdout) as Status).tunnel;
    const [ipv4 = ''] = addresses;
    await node.ip('route add blackhole 100.64.0.0/11');
    await node.ip('route add blackhole 100.96.0.0/11');
    await until('status says so', async () => (await status()).unrouted.join() === `${ipv4}/10`, 60_000);
    await node.ip('route delete blackhole 100.64.0.0/11');
    await node.ip('route delete blackhole 100.96.0.0/11');
    await until('it is in order', async () => (await status()).unrouted.length === 0, 60_000);
  });

  it('is made anew when it was deleted', async () => {
    await node.ip('link delete omerta0');
    await until('it is whole', isWhole, 60_000);
    await until('a relay has it registered', async () => {
      const { stdout } = await node.run(process.execPath, member.commandLine('status'));
      const { mesh } = JSON.parse(stdout) as { mesh: { bootstraps: readonly { state: string }[] } };
      return mesh.bootstraps.some(({ state }) => state === 'registered');
    });
    // Who finds it gone first: the engine that reads from it, or who watches over it.
    assert.match(member.log, /"msg":"interface-gone"|"state":"gone"/);
  });

  it('does without the IPv6 address where IPv6 is switched off, and says so', async () => {
    const other = await world.addNode('only4');
    await other.mustRun('sysctl', ['-qw', 'net.ipv6.conf.all.disable_ipv6=1']);
    await other.mustRun('sysctl', ['-qw', 'net.ipv6.conf.default.disable_ipv6=1']);
    const omerta = new OmertaNode(world, other, 'only4');
    await omerta.command(['network', 'join', '-'], invite);
    const { tunnel, mesh } = (await omerta.start('up', '--foreground')) as Status;
    const [network] = mesh.networks;
    assert.deepEqual(tunnel.missing, [`${network?.ipv6}/48`]);
    await until('it reaches the other member', async () => {
      const [first = ''] = addresses;
      return (await other.run('ping', ['-n', '-c1', '-W1', first])).code === 0;
    });
  });
});
