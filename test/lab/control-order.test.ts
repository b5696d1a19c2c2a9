// An order of interfaces for the control plane that is not that of data, in the shipped binary: two members with a
// relay and a link beside it, and somebody who sees both wires.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { WayStatus } from '../../ts/core/runtime/way-status.js';
import { capture, capturedDatagrams } from '../../ts/lab/capture.js';
import { startRelay } from '../../ts/lab/nat-matrix.js';
import { OmertaNode } from '../../ts/lab/omerta-node.js';
import { labUnavailable } from '../../ts/lab/requirements.js';
import { World, type Node } from '../../ts/lab/world.js';
import { parseIp } from '../../ts/wire/socket-address.js';

const skip = labUnavailable(['ping', 'tcpdump']) ?? false;
const PATIENCE_MS = 60_000;
/** UDP payload of a ping of the control plane, and of an ICMPv6 echo request of 400 bytes. */
const SIZES = { control: 48, data: 480 } as const;
const EACH = 20;
/** From each link to the other's addresses nothing goes: by what a datagram leaves is then where it leads. */
const APART =
  '[paths]\nforbid = [{ interface = "eth0", remote = "10.77.0.0/24" }, { interface = "eth1", remote = "198.51.100.0/24" }]';

interface Told {
  readonly path: string;
  readonly ways: readonly WayStatus[];
}

describe('an order of interfaces for the control plane', { skip }, () => {
  let world: World;
  let left: OmertaNode;
  let right: OmertaNode;
  let to: string;
  /** Addresses of `left`, as captures have them. */
  let own: readonly string[] = [];

  const told = async (): Promise<Told> => (await left.command(['path', 'right'])) as Told;
  const until = async (what: string, holds: (at: Told) => boolean): Promise<Told> => {
    const deadline = performance.now() + PATIENCE_MS;
    for (;;) {
      const at = await told();
      if (holds(at)) return at;
      assert.ok(performance.now() < deadline, `${what}: ${JSON.stringify(at)}\n${left.log}`);
      await sleep(50);
    }
  };
  const join = async (node: Node, name: string, invite: string): Promise<OmertaNode> => {
    const omerta = new OmertaNode(world, node, name, { direct: true });
    await omerta.command(['network', 'join', '-'], invite);
    await omerta.start('up', '--foreground');
    return omerta;
  };
  const sends = (ways: readonly WayStatus[]): (string | undefined)[] => [
    ways.find(({ role }) => role === 'active')?.interface,
    ways.find(({ control }) => control === true)?.interface,
  ];
  /** Datagrams of this size that `left` sends by each of these interfaces while something is done. */
  const sent = async (
    [first, second]: readonly [string, string],
    size: number,
    during: () => Promise<unknown>,
  ): Promise<readonly [number, number]> => {
    let inner: Buffer = Buffer.alloc(0);
    const outer = await capture(world, left.node, first, async () => {
      inner = await capture(world, left.node, second, async () => {
        await during();
      });
    });
    const count = (pcap: Buffer): number =>
      capturedDatagrams(pcap).filter((each) => each.size === size && own.includes(each.source)).length;
    return [count(outer), count(inner)];
  };

  before(async () => {
    world = await World.create();
    const { invite } = await startRelay(world);
    const nodes = [await world.addNode('left'), await world.addNode('right')] as const;
    await world.connect([nodes[0], 'eth1', ['10.77.0.1/24']], [nodes[1], 'eth1', ['10.77.0.2/24']]);
    left = await join(nodes[0], 'left', invite);
    right = await join(nodes[1], 'right', invite);
    const { mesh } = (await right.command(['status'])) as {
      readonly mesh: { readonly networks: readonly [{ readonly ipv6: string }] };
    };
    to = mesh.networks[0].ipv6;
    const hex = (ip = '::'): string => Buffer.from(parseIp(ip) ?? []).toString('hex');
    own = [hex(nodes[0].address).slice(24), hex('10.77.0.1').slice(24), hex(nodes[0].address6)];
    await left.node.run('ping', ['-n', '-c', '1', '-W', '10', to]);
    await until('direct by both links', ({ ways }) => {
      const works = ways.filter(({ kind, state }) => kind === 'direct' && state === 'proven');
      return new Set(works.map((way) => way.interface)).size === 2;
    });
  });
  after(() => {
    world.remove();
  });

  it('data goes by one interface and messages by the other, as the configuration says, and in turn when it is changed', async () => {
    for (const [data, control] of [
      ['eth0', 'eth1'],
      ['eth1', 'eth0'],
    ] as const) {
      for (const node of [left, right]) {
        node.configure(
          `${APART}\n[paths.interfaces.${data}]\ncontrol_priority = 1\n` +
            `[paths.interfaces.${control}]\npriority = 1\nmetered = true\ncontrol_priority = 0`,
        );
        await node.command(['reload']);
      }
      await until('each by its own', ({ ways }) => sends(ways).join() === [data, control].join());
      // Once more where a way was silent meanwhile: then all goes by two.
      const deadline = performance.now() + PATIENCE_MS;
      for (;;) {
        const messages = await sent([data, control], SIZES.control, () =>
          left.command(['ping', 'right', '-c', String(EACH), '--interval', '0.02']),
        );
        const packets = await sent([data, control], SIZES.data, () =>
          left.node.run('ping', ['-n', '-c', String(EACH), '-i', '0.02', '-s', '400', to]),
        );
        // Reports of what came are as long as pings: those of the answers go by their way.
        if (messages[0] === 0 && messages[1] >= EACH && packets[0] >= EACH && packets[1] === 0) break;
        assert.ok(performance.now() < deadline, JSON.stringify({ messages, packets }));
      }
    }
  });

  it('messages go as data does without one', async () => {
    left.configure('[paths.interfaces.eth1]\npriority = 1');
    await left.command(['reload']);
    await until('all by the first', ({ ways }) => sends(ways).join() === 'eth0,');
  });
});
