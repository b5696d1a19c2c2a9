// The shipped binary on paths that take less than the tunnel's packets need, or more, behind a router that drops what is
// too large without a word.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { addFarNode, blackHole, type FarNode } from '../../ts/lab/far-node.js';
import { tcpThroughput } from '../../ts/lab/iperf.js';
import { startRelay } from '../../ts/lab/nat-matrix.js';
import { OmertaNode } from '../../ts/lab/omerta-node.js';
import { labUnavailable } from '../../ts/lab/requirements.js';
import { World, type Node } from '../../ts/lab/world.js';

interface Member {
  readonly name: string;
  readonly path: string;
  readonly pathMtu?: number;
  readonly innerMtu?: number;
}
interface Status {
  readonly counters: Readonly<Record<string, number>>;
  readonly mesh: {
    readonly networks: readonly {
      readonly ipv4: string;
      readonly ipv6: string;
      readonly members: readonly Member[];
    }[];
  };
}

const skip = labUnavailable(['ping', 'iperf3', 'ethtool']) ?? false;
const PATIENCE_MS = 60_000;

const statusOf = async (node: OmertaNode): Promise<Status> =>
  (await node.request({ command: 'status' })) as Status;
/** The other one of the two, as it is told by one. */
const otherOf = async (node: OmertaNode): Promise<Member | undefined> =>
  (await statusOf(node)).mesh.networks[0]?.members.find(({ name }) => name !== 'relay');

async function until(what: string, holds: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + PATIENCE_MS;
  while (!(await holds())) {
    assert.ok(performance.now() < deadline, what);
    await sleep(50);
  }
}

/** The kernel of these nodes makes packets of their final size itself, so that a router sees each. */
async function unaggregated(node: Node, device: string): Promise<void> {
  await node.mustRun('ethtool', ['-K', device, 'tx-udp-segmentation', 'off']);
}

async function join(
  world: World,
  node: Node,
  name: string,
  invite: string,
  mtu?: number,
): Promise<OmertaNode> {
  const omerta = new OmertaNode(world, node, name, { direct: true });
  if (mtu !== undefined) omerta.configure(`mtu = ${mtu}`);
  await omerta.command(['network', 'join', '-'], invite);
  await omerta.start('up', '--foreground');
  return omerta;
}

/** `near` and `far` talk directly, by way of the router. */
class Pair {
  private constructor(
    readonly world: World,
    readonly place: FarNode,
    readonly near: OmertaNode,
    readonly far: OmertaNode,
    readonly address: { readonly ipv4: string; readonly ipv6: string },
  ) {}

  /** @param prepare before they start */
  static async start(linkMtu: number, prepare?: (place: FarNode) => Promise<void>): Promise<Pair> {
    const world = await World.create();
    try {
      const { relay, invite } = await startRelay(world);
      const node = await world.addNode('near');
      const place = await addFarNode(world, [relay.node, node], linkMtu);
      for (const each of [relay.node, node]) await unaggregated(each, 'eth0');
      await unaggregated(place.far, 'small');
      // One direct path, and that by IPv4.
      await node.sysctl('net.ipv6.conf.eth0.disable_ipv6=1');
      await prepare?.(place);
      const far = await join(world, place.far, 'far', invite);
      const near = await join(world, node, 'near', invite);
      const [address] = (await statusOf(far)).mesh.networks;
      assert.ok(address !== undefined);
      const pair = new Pair(world, place, near, far, address);
      await until('they do not talk directly', async () => {
        await node.run('ping', ['-n', '-c1', '-W', '0.25', address.ipv6]);
        return (await otherOf(near))?.path === 'direct' && (await otherOf(far))?.path === 'direct';
      });
      return pair;
    } catch (error) {
      world.remove();
      throw error;
    }
  }

  /** Waits until both know that their path takes so much UDP payload. */
  async take(bytes: number): Promise<void> {
    for (const node of [this.near, this.far])
      await until(`not ${bytes} bytes`, async () => (await otherOf(node))?.pathMtu === bytes);
  }

  /** What the kernel of `near` knows of the way to `far` inside. */
  async innerRoute(address: string): Promise<number> {
    const { stdout } = await this.near.node.run('ip', ['route', 'get', address]);
    return Number(/ mtu (\d+)/.exec(stdout)?.[1] ?? NaN);
  }

  /** One datagram of so much payload, which is not to be fragmented (the kernel's default), by a socket that hears the answer. */
  async datagram(address: string, payload: number): Promise<void> {
    await this.near.node.run('bash', [
      '-c',
      `{ head -c ${payload} /dev/zero; sleep 0.1; } > /dev/udp/${address}/9`,
    ]);
  }
}

describe('a path behind a router that drops silently', { skip, timeout: 600_000 }, () => {
  for (const [mtu, inner] of [
    [1280, 1220],
    [1400, 1340],
    [1500, 1400],
  ] as const)
    it(`is known to take ${mtu} bytes, and the senders inside are told`, async () => {
      const pair = await Pair.start(mtu, (place) => blackHole(place, mtu));
      try {
        await pair.take(inner + 32);
        const { ipv4, ipv6 } = pair.address;
        assert.equal((await otherOf(pair.near))?.innerMtu, inner);
        if (inner < 1400) {
          await until('IPv4 is told nothing', async () => {
            await pair.datagram(ipv4, 1372);
            return (await pair.innerRoute(ipv4)) === inner;
          });
          await until('IPv6 is told nothing', async () => {
            await pair.datagram(ipv6, 1352);
            return (await pair.innerRoute(ipv6)) === Math.max(inner, 1280);
          });
          // What every link has to carry of IPv6 arrives whole, and comes back.
          const echo = ['-n', '-c20', '-i0.05', '-W2', '-s1232', ipv6];
          const { stdout } = await pair.near.node.run('ping', echo);
          assert.match(stdout, / 20 received/, stdout);
          const { too_big_sent: told = 0 } = (await statusOf(pair.near)).counters;
          assert.ok(told >= 2, `${told}`);
        }
        const { bytes } = await tcpThroughput(pair.near.node, pair.far.node, ipv4, 2);
        assert.ok(bytes > 1_000_000, `${bytes} bytes`);
      } finally {
        pair.world.remove();
      }
    });
});

describe('a black hole that appears during a transfer', { skip, timeout: 600_000 }, () => {
  for (const [family, hole, payload] of [
    ['ipv4', 1300, 1272],
    ['ipv6', 1360, 1332],
  ] as const)
    it(`is gone around by smaller packets, ${family}`, async () => {
      const pair = await Pair.start(1500);
      try {
        await pair.take(1432);
        const delivered = async (): Promise<number> =>
          (await statusOf(pair.far)).counters['tun_tx_bytes'] ?? 0;
        let running = true;
        const transfer = tcpThroughput(pair.near.node, pair.far.node, pair.address[family], 20).finally(
          () => (running = false),
        );
        await until('no transfer', async () => (await delivered()) > 1_000_000);
        await blackHole(pair.place, hole);
        await until('the size is not found', async () => {
          const { pathMtu = 0 } = (await otherOf(pair.near)) ?? {};
          return pathMtu <= payload && pathMtu > payload - 8;
        });
        const found = await delivered();
        await until('the transfer stands still', async () => (await delivered()) > found + 1_000_000);
        assert.ok(running, 'it was another one');
        await transfer;
        const after = await tcpThroughput(pair.near.node, pair.far.node, pair.address[family], 2);
        assert.ok(after.bytes > 1_000_000, `${after.bytes} bytes`);
      } finally {
        pair.world.remove();
      }
    });
});

describe('a jumbo link', { skip, timeout: 600_000 }, () => {
  for (const mtu of [1400, 8900])
    it(`is used as far as the inner MTU of ${mtu} goes`, async (test) => {
      const world = await World.create();
      try {
        const { invite } = await startRelay(world);
        const nodes = [await world.addNode('near'), await world.addNode('far')] as const;
        await nodes[0].ip(`link add lan mtu 9000 type veth peer name lan mtu 9000 netns ${nodes[1].name}`);
        for (const [index, node] of nodes.entries())
          await node.ip('link set lan up', `address add 10.9.0.${index + 1}/24 dev lan`);
        const far = await join(world, nodes[1], 'far', invite, mtu);
        const near = await join(world, nodes[0], 'near', invite, mtu);
        const ipv4 = (await statusOf(far)).mesh.networks[0]?.ipv4 ?? '';
        for (const node of [near, far])
          await until('the size is not found', async () => {
            await near.node.run('ping', ['-n', '-c1', '-W', '0.25', ipv4]);
            return (await otherOf(node))?.pathMtu === mtu + 32;
          });
        const { megabitsPerSecond, bytes } = await tcpThroughput(near.node, far.node, ipv4, 3);
        test.diagnostic(`${megabitsPerSecond.toFixed(0)} Mbit/s with an inner MTU of ${mtu}`);
        assert.ok(bytes > 1_000_000);
      } finally {
        world.remove();
      }
    });
});
