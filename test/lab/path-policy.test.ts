// What an operator decides about paths, in the shipped binary: two members with a relay and two links between them,
// whose configuration is changed and read again while a ping goes on.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { IndirectReason, WayStatus } from '../../ts/core/runtime/way-status.js';
import { startRelay } from '../../ts/lab/nat-matrix.js';
import { OmertaNode } from '../../ts/lab/omerta-node.js';
import { PingWatch } from '../../ts/lab/ping.js';
import { labUnavailable } from '../../ts/lab/requirements.js';
import { World, type Node } from '../../ts/lab/world.js';

const skip = labUnavailable(['ping']) ?? false;
const PATIENCE_MS = 60_000;

interface Told {
  readonly path: string;
  readonly indirect?: IndirectReason;
  readonly barred: boolean;
  readonly ways: readonly WayStatus[];
}

interface Peer {
  readonly kind: 'member' | 'bootstrap';
  readonly session?: { readonly handshakeAgeSeconds?: number };
}

describe('the operator’s decisions about paths', { skip }, () => {
  let world: World;
  let left: OmertaNode;
  let right: OmertaNode;
  let relayId: string;
  let watch: PingWatch;

  const told = async (from: OmertaNode, to: string): Promise<Told> =>
    (await from.command(['path', to])) as Told;
  const active = ({ ways }: Told): WayStatus | undefined => ways.find(({ role }) => role === 'active');
  const until = async (what: string, holds: (at: Told) => boolean, from = left): Promise<Told> => {
    const deadline = performance.now() + PATIENCE_MS;
    for (;;) {
      const at = await told(from, from === left ? 'right' : 'left');
      if (holds(at)) return at;
      assert.ok(performance.now() < deadline, `${what}: ${JSON.stringify(at)}\n${from.log}`);
      await sleep(50);
    }
  };
  /** Changes the configuration of `left`, and has it read again. */
  const decide = async (tables: string): Promise<void> => {
    left.configure(tables);
    await left.command(['reload']);
  };
  const join = async (node: Node, name: string, invite: string): Promise<OmertaNode> => {
    const omerta = new OmertaNode(world, node, name, { direct: true });
    await omerta.command(['network', 'join', '-'], invite);
    await omerta.start('up', '--foreground');
    return omerta;
  };

  before(async () => {
    world = await World.create();
    const { relay, invite } = await startRelay(world);
    const status = (await relay.command(['status'])) as { readonly mesh: { readonly peerId: string } };
    relayId = status.mesh.peerId;
    const nodes = [await world.addNode('left'), await world.addNode('right')] as const;
    await world.connect([nodes[0], 'eth1', ['10.77.0.1/24']], [nodes[1], 'eth1', ['10.77.0.2/24']]);
    left = await join(nodes[0], 'left', invite);
    right = await join(nodes[1], 'right', invite);
    const { mesh } = (await right.command(['status'])) as {
      readonly mesh: { readonly networks: readonly [{ readonly ipv6: string }] };
    };
    watch = PingWatch.start(nodes[0], mesh.networks[0].ipv6);
    await until('direct', ({ path }) => path === 'direct');
    await until('both links are proven', ({ ways }) => {
      const works = ways.filter(({ kind, state }) => kind === 'direct' && state === 'proven');
      return new Set(works.map((way) => way.interface)).size === 2;
    });
    assert.ok(await watch.steady(1000, PATIENCE_MS));
  });
  after(() => {
    watch.close();
    world.remove();
  });

  it('pin: data goes by the interface that is named, and follows when another is; the session goes on', async () => {
    const begin = performance.now();
    for (const name of ['eth1', 'eth0', 'eth1']) {
      await decide(`[paths]\npin = [{ interface = "${name}" }]`);
      const { ways } = await until(`by ${name}`, (at) => active(at)?.interface === name);
      const others = ways.filter((way) => way.kind === 'direct' && way.interface !== name);
      assert.deepEqual(new Set(others.map(({ reason }) => reason)), new Set(['not-pinned']));
      assert.ok(await watch.steady(1000, PATIENCE_MS));
    }
    const [session] = (await left.command(['peers'])) as readonly Peer[];
    assert.ok((session?.session?.handshakeAgeSeconds ?? 0) * 1000 > performance.now() - begin);
  });

  it('prefer: the way that is named is used while it works, and not a ping is lost', async () => {
    const { lost } = watch.seen();
    for (const name of ['eth0', 'eth1']) {
      await decide(`[paths]\nprefer = [{ interface = "${name}" }]`);
      await until(`by ${name}`, (at) => active(at)?.interface === name);
      assert.ok(await watch.steady(1000, PATIENCE_MS));
    }
    assert.equal(watch.seen().lost, lost);
  });

  it('forbid: the prefix of one link is not used, and said to be forbidden', async () => {
    await decide('[paths]\nforbid = [{ remote = "10.77.0.0/24" }]');
    const { ways } = await until('elsewhere', (at) => {
      const { kind, address } = active(at) ?? {};
      return kind === 'direct' && address?.startsWith('10.77.0.2:') === false;
    });
    const out = ways.filter(({ address }) => address?.startsWith('10.77.0.2:') === true);
    assert.ok(out.length > 0);
    assert.deepEqual(new Set(out.map(({ reason }) => reason)), new Set(['forbidden']));
  });

  it('metered: the other interface is used', async () => {
    await decide('[paths.interfaces.eth0]\nmetered = true');
    const { ways } = await until('by eth1', (at) => active(at)?.interface === 'eth1');
    assert.ok(
      ways.some((way) => way.interface === 'eth0' && way.reason === 'metered'),
      JSON.stringify(ways),
    );
    await decide('[paths.interfaces.eth1]\nmetered = true');
    await until('by eth0', (at) => active(at)?.interface === 'eth0');
  });

  it('relay-only: both sides go by the relay and lose nothing, and directly again when it is taken back', async () => {
    const lost = watch.seen().lost;
    await decide('[paths]\nuse = "relay-only"');
    const here = await until('by the relay', ({ path }) => path === 'relay');
    assert.equal(here.indirect, 'relay-only');
    assert.equal(active(here)?.relayPeerId, relayId);
    await until(
      'the other side too',
      ({ path, indirect }) => path === 'relay' && indirect !== undefined,
      right,
    );
    assert.ok(await watch.steady(1000, PATIENCE_MS));
    await decide('');
    await until('direct again', ({ path }) => path === 'direct');
    assert.ok(await watch.steady(1000, PATIENCE_MS));
    assert.equal(watch.seen().lost, lost, 'pings were lost');
  });

  it('direct-only: nothing is sent by the relay when no direct way is left, and ping says why', async () => {
    await decide('[paths]\nuse = "direct-only"');
    await until('direct', ({ path, barred }) => path === 'direct' && !barred);
    assert.ok(await watch.steady(1000, PATIENCE_MS));
    const far = right.node;
    await left.node.nft(
      [
        'table inet cut {',
        'chain out {',
        'type filter hook output priority 0;',
        `ip daddr { ${far.address}, 10.77.0.2 } drop`,
        `ip6 daddr ${far.address6 ?? ''} drop`,
        '}',
        '}',
        '',
      ].join('\n'),
    );
    const { ways } = await until('refused', ({ barred }) => barred);
    assert.ok(ways.filter(({ kind }) => kind === 'relay').every(({ reason }) => reason === 'direct-only'));
    const answered = watch.seen().last?.sequence;
    await sleep(1000);
    assert.equal(watch.seen().last?.sequence, answered, 'something came through');
    await assert.rejects(
      left.command(['ping', 'right', '-c', '1']),
      /no way that the configuration permits works/,
    );
    await left.node.nft('delete table inet cut\n');
    await until('direct', ({ path, barred }) => path === 'direct' && !barred);
    assert.ok(await watch.steady(1000, PATIENCE_MS));
  });

  it('a mistake changes nothing, and is named', async () => {
    left.configure('[paths]\nuse = "direct"');
    await assert.rejects(
      left.command(['reload']),
      /config paths\.use: expected "any", "direct-only" or "relay-only"/,
    );
    await decide('');
    assert.equal((await told(left, 'right')).path, 'direct');
  });
});
