import assert from 'node:assert/strict';
import { appendFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { after, before, describe, it } from 'node:test';
import { OmertaNode } from '../../ts/lab/omerta-node.js';
import { ping } from '../../ts/lab/ping.js';
import { labUnavailable } from '../../ts/lab/requirements.js';
import { World, type Nat } from '../../ts/lab/world.js';

interface Status {
  readonly mesh: {
    readonly peerId: string;
    readonly networks: readonly { readonly ipv6: string }[];
    readonly standingPolicies: readonly { readonly state: string }[];
    readonly relay?: { readonly standingPolicies: number };
  };
}
interface Session {
  readonly callerPeerId: string;
  readonly calleePeerId: string;
  readonly consent: string;
  readonly ageSeconds: number;
}

describe('a standing policy, typed as the guide says', { skip: labUnavailable(['ping']) ?? false }, () => {
  let world: World;
  let relay: OmertaNode;
  let callee: OmertaNode;
  let other: OmertaNode;
  let callers: [OmertaNode, OmertaNode];

  before(async () => {
    world = await World.create();
    relay = new OmertaNode(world, await world.addNode('relay'), 'relay');
    const banner = (await relay.start('relay')) as { networks: readonly [{ invite: string }] };
    const home = await world.addNat('home', 'port-restricted');
    const mobile = await world.addNat('mobile', 'symmetric');
    const add = async (name: string, behind: Nat): Promise<OmertaNode> => {
      const node = new OmertaNode(world, await world.addNode(name, { behind }), name);
      await node.command(['network', 'join', '-'], banner.networks[0].invite);
      return node;
    };
    callee = await add('callee', mobile);
    other = await add('other', mobile);
    callers = [await add('first', home), await add('second', home)];
    for (const node of callers) await node.start('up', '--foreground');
  });
  after(() => world.remove());

  const status = async (node: OmertaNode): Promise<Status> => (await node.command(['status'])) as Status;

  /** Waits until the relay holds the callee's policy. */
  async function held(node: OmertaNode): Promise<void> {
    const begin = performance.now();
    while (performance.now() - begin < 20_000) {
      const [policy] = (await status(node)).mesh.standingPolicies;
      if (policy?.state === 'held') return;
      await setTimeout(50);
    }
    assert.fail(`not held in 20 s: ${JSON.stringify((await status(node)).mesh)}\n${node.log}`);
  }

  /** Pings until one gets through. */
  async function reach(from: OmertaNode, to: OmertaNode): Promise<void> {
    const { ipv6 } = (await status(to)).mesh.networks[0] ?? {};
    assert.ok(ipv6);
    const begin = performance.now();
    while (performance.now() - begin < 20_000) {
      const { code } = await from.node.run('ping', ['-n', '-c1', '-W', '0.5', ipv6]);
      if (code === 0) {
        const { sent, lost } = await ping(from.node, ipv6, 20, 5);
        assert.deepEqual({ sent, lost }, { sent: 20, lost: 0 });
        return;
      }
      await setTimeout(50);
    }
    assert.fail(`${from.name} does not reach ${to.name} in 20 s\n${from.log}\n${to.log}`);
  }

  /** Of the youngest circuit from one to the other. */
  async function consentOf(caller: OmertaNode, to: OmertaNode): Promise<string | undefined> {
    const sessions = (await relay.command(['relay', 'sessions', '--interval', '0.1'])) as Session[];
    const [from, callee] = await Promise.all([status(caller), status(to)]);
    return sessions
      .filter(({ callerPeerId }) => callerPeerId === from.mesh.peerId)
      .filter(({ calleePeerId }) => calleePeerId === callee.mesh.peerId)
      .sort((a, b) => a.ageSeconds - b.ageSeconds)[0]?.consent;
  }

  /**
   * Reaches the callee over a circuit that came by its policy. A relay that is not answered for seconds
   * (this machine may be busy) asks again for the next circuit: then another one is opened.
   */
  async function reachByPolicy(from: OmertaNode, to: OmertaNode): Promise<void> {
    for (let rounds = 1; ; rounds++) {
      await reach(from, to);
      const consent = await consentOf(from, to);
      if (consent === 'standing') return;
      assert.ok(rounds < 5, `${consent ?? 'no circuit'}, five times\n${relay.log}`);
      await from.kill();
      await from.start('up', '--foreground');
      await held(to);
    }
  }

  it('of the command line sets up circuits without asking, and is kept over SIGKILL of the relay', async () => {
    const [first, second] = callers;
    const { peerId } = (await status(first)).mesh;
    await callee.command(['up', '--consent', peerId, '--consent', 'home', '--consent-until', '2099-01-01']);
    await held(callee);
    await reachByPolicy(first, callee);
    await relay.kill();
    await relay.start('relay');
    assert.equal((await status(relay)).mesh.relay?.standingPolicies, 1);
    assert.equal(await consentOf(first, callee), 'standing', 'the circuit is kept too, and what it came by');
    await reachByPolicy(second, callee);
  });

  it('of the configuration names who is accepted; others are asked for', async () => {
    const [first, second] = callers;
    const { peerId } = (await status(second)).mesh;
    appendFileSync(join(other.state, 'omerta.toml'), `[consent]\nidentities = ["${peerId}"]\n`);
    await other.start('up', '--foreground');
    await held(other);
    await reach(first, other);
    await reachByPolicy(second, other);
    assert.equal(await consentOf(first, other), 'asked');
  });

  it('is dropped when the callee comes back without one', async () => {
    const [, second] = callers;
    await other.kill();
    other.configure('');
    await other.start('up', '--foreground');
    assert.deepEqual((await status(other)).mesh.standingPolicies, []);
    await reach(second, other);
    assert.equal(await consentOf(second, other), 'asked');
    assert.equal((await status(relay)).mesh.relay?.standingPolicies, 1);
  });
});
