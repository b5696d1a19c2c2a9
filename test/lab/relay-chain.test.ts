import assert from 'node:assert/strict';
import { appendFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { after, before, describe, it } from 'node:test';
import { OmertaNode } from '../../ts/lab/omerta-node.js';
import { ping, PingWatch } from '../../ts/lab/ping.js';
import { labUnavailable } from '../../ts/lab/requirements.js';
import { World, type Node } from '../../ts/lab/world.js';

interface Status {
  readonly mesh: {
    readonly peerId: string;
    readonly networks: readonly {
      readonly ipv6: string;
      readonly members: readonly { readonly name: string; readonly path: string }[];
    }[];
    readonly relay: {
      readonly circuits: readonly {
        readonly id: string;
        readonly callerPeerId: string;
        readonly previousRelays: readonly string[];
        readonly nextRelay?: string;
      }[];
    };
  };
}

interface Usage {
  readonly packets: number;
  readonly bytes: number;
}
interface Receipt {
  readonly circuit: string;
  readonly verdict: string;
  readonly own: { readonly sent: Usage; readonly received: Usage };
  readonly content: { readonly circuit: string; readonly caller: string };
  readonly receipt: string;
}
interface IssuedReceipt {
  readonly content: { readonly circuit: string; readonly caller: string };
}

/** Two relays that name each other; each member reaches one of them only. */
class Chain {
  readonly first: OmertaNode;
  readonly second: OmertaNode;
  left!: OmertaNode;
  right!: OmertaNode;

  private constructor(
    readonly world: World,
    nodes: readonly [Node, Node],
  ) {
    this.first = new OmertaNode(world, nodes[0], 'first');
    this.second = new OmertaNode(world, nodes[1], 'second');
  }

  static async start(): Promise<Chain> {
    const world = await World.create();
    const chain = new Chain(world, [await world.addNode('first'), await world.addNode('second')]);
    const { first, second } = chain;
    const links: string[] = [];
    for (const relay of [first, second]) {
      const { link } = (await relay.command(['relay', 'link'])) as { link: string };
      links.push(link);
    }
    for (const relay of [first, second])
      appendFileSync(join(relay.state, 'omerta.toml'), `\n[relay]\npeers = ${JSON.stringify(links)}\n`);
    const banner = (await first.start('relay')) as { networks: readonly [{ invite: string }] };
    const [{ invite }] = banner.networks;
    await second.command(['network', 'join', '-'], invite);
    await second.start('relay');
    const there = (await second.command(['network', 'invite', '--here'])) as { invite: string };

    const home = await world.addNat('home', 'port-restricted');
    const mobile = await world.addNat('mobile', 'symmetric');
    chain.left = new OmertaNode(world, await world.addNode('left', { behind: home }), 'left');
    chain.right = new OmertaNode(world, await world.addNode('right', { behind: mobile }), 'right');
    await chain.left.command(['network', 'join', '-'], invite);
    await chain.right.command(['network', 'join', '-'], there.invite);
    // The second link names both relays; a firewall leaves the right node only one of them.
    await chain.right.node.nft(
      `table inet firewall {\nchain out {\ntype filter hook output priority 0\nip daddr ${first.node.address} drop\n` +
        `ip6 daddr ${String(first.node.address6)} drop\n}\n}\n`,
    );
    for (const node of [chain.left, chain.right]) await node.command(['up']);
    return chain;
  }

  async status(node: OmertaNode): Promise<Status> {
    return (await node.command(['status'])) as Status;
  }

  /** Waits until one ping gets through; milliseconds. */
  async reached(from: OmertaNode, ipv6: string, limitMs: number): Promise<number> {
    const begin = performance.now();
    while (performance.now() - begin < limitMs) {
      const { code } = await from.node.run('ping', ['-n', '-c1', '-W', '0.5', ipv6]);
      if (code === 0) return performance.now() - begin;
      await setTimeout(50);
    }
    const logs = [this.first, this.second, this.left, this.right].map(({ name, log }) => `${name}:\n${log}`);
    throw new Error(`no ping from ${from.name} reaches ${ipv6} in ${limitMs} ms\n${logs.join('\n')}`);
  }
}

describe(
  'two relays that know each other, and two members with one relay each',
  { skip: labUnavailable(['ping', 'ss']) ?? false },
  () => {
    let chain: Chain;
    let right: string;

    before(async () => {
      chain = await Chain.start();
      const { mesh } = await chain.status(chain.right);
      right = mesh.networks[0]?.ipv6 ?? '';
    });
    after(() => chain.world.remove());

    it('reach each other over both relays', async () => {
      await chain.reached(chain.left, right, 15_000);
      const { sent, lost } = await ping(chain.left.node, right, 100, 5);
      assert.deepEqual({ sent, lost }, { sent: 100, lost: 0 });
      const [one, two, left] = await Promise.all(
        [chain.first, chain.second, chain.left].map((node) => chain.status(node)),
      );
      assert.ok(one && two && left);
      const caller = left.mesh.peerId;
      const there = one.mesh.relay.circuits.find(({ callerPeerId }) => callerPeerId === caller);
      assert.equal(there?.nextRelay, two.mesh.peerId);
      const here = two.mesh.relay.circuits.find(({ id }) => id === there.id);
      assert.deepEqual(here?.previousRelays, [one.mesh.peerId]);
      const member = left.mesh.networks[0]?.members.find(({ name }) => name === 'right');
      assert.equal(member?.path, 'relay');
    });

    it('are each told by their relay what it carried, as they counted it themselves', async () => {
      const { sent } = await ping(chain.left.node, right, 300, 5);
      const relays = [chain.first, chain.second] as const;
      for (const [index, node] of [chain.left, chain.right].entries()) {
        const reports = (await node.command(['receipts'])) as readonly Receipt[];
        const [report] = reports;
        assert.ok(report !== undefined && reports.length === 1);
        assert.equal(report.verdict, 'matches', JSON.stringify(report));
        assert.ok(report.own.sent.packets >= sent && report.own.received.packets >= sent);
        const relay = relays[index];
        assert.ok(relay);
        const issued = (await relay.command(['relay', 'receipts'])) as readonly IssuedReceipt[];
        const { content } = issued.find((other) => other.content.circuit === report.circuit) ?? {};
        assert.equal(content?.caller, report.content.caller);
        const shown = (await node.command(['receipts', 'verify', report.receipt])) as Receipt['content'];
        assert.deepEqual(shown, report.content);
        const changed = Buffer.from(report.receipt, 'base64');
        changed[200] = (changed[200] ?? 0) ^ 1;
        await assert.rejects(
          node.command(['receipts', 'verify', changed.toString('base64')]),
          /signature|not a/,
        );
      }
    });

    for (const which of ['first', 'second'] as const)
      it(`go on when the ${which} relay is killed and restarted`, async () => {
        const relay = chain[which];
        const watch = PingWatch.start(chain.left.node, right);
        try {
          assert.ok(await watch.steady(500, 10_000), 'before');
          const start = performance.now();
          await relay.kill();
          await relay.start('relay');
          assert.ok(await watch.steady(1000, 20_000), 'after');
          const { milliseconds } = watch.outage(start);
          assert.ok(milliseconds <= 5000, `${milliseconds} ms`);
        } finally {
          watch.close();
        }
      });
  },
);
