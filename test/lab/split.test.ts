// Data of one member by two ways at once, in the shipped binary: two members with two uplinks each.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { startRelay } from '../../ts/lab/nat-matrix.js';
import { NumberedStream, type Arrivals } from '../../ts/lab/numbered-stream.js';
import { OmertaNode } from '../../ts/lab/omerta-node.js';
import { labUnavailable } from '../../ts/lab/requirements.js';
import { World } from '../../ts/lab/world.js';

const skip = labUnavailable(['ping']) ?? false;
const PATIENCE_MS = 120_000;
const RATE = 2000;

interface Told {
  readonly path: string;
  readonly ways: readonly { readonly interface?: string; readonly role: string; readonly share?: number }[];
}

describe('data that is split over two ways', { skip }, () => {
  let world: World;
  let left: OmertaNode;
  let right: OmertaNode;
  let to: string;

  const join = async (name: string, invite: string): Promise<OmertaNode> => {
    const node = await world.addNode(name);
    await world.addSecondUplink(node, 'eth1');
    const omerta = new OmertaNode(world, node, name, { direct: true });
    await omerta.command(['network', 'join', '-'], invite);
    await omerta.start('up', '--foreground');
    return omerta;
  };
  const told = async (): Promise<Told> => (await left.command(['path', 'right'])) as Told;
  const until = async (what: string, holds: (at: Told) => boolean): Promise<void> => {
    const deadline = performance.now() + PATIENCE_MS;
    for (let at = await told(); !holds(at); at = await told()) {
      assert.ok(performance.now() < deadline, `${what}: ${JSON.stringify(at)}\n${left.log}`);
      await sleep(100);
    }
  };
  const split = async (more: string): Promise<void> => {
    left.configure(`[paths]\nsplit = true\n${more}`);
    await left.command(['reload']);
    await until('split', ({ ways }) => ways.filter(({ share }) => share !== undefined).length === 2);
  };
  /** Bytes that have left `left` by an interface. */
  const leftBy = async (name: string): Promise<number> => {
    const told: unknown = JSON.parse(
      await left.node.mustRun('ip', ['-s', '-json', 'link', 'show', 'dev', name]),
    );
    return (told as readonly [{ readonly stats64: { readonly tx: { readonly bytes: number } } }])[0].stats64
      .tx.bytes;
  };
  /** What came of a stream, and the bytes that left by each uplink while so many datagrams of it were sent. */
  const stream = async (count: number): Promise<Arrivals & { readonly by: readonly number[] }> => {
    const running = await NumberedStream.start(left.node, right.node, to, RATE);
    const sent = (): Promise<number[]> => Promise.all(['eth0', 'eth1'].map(leftBy));
    const before = await sent();
    await running.sent(count);
    const after = await sent();
    return { ...(await running.stop()), by: after.map((bytes, index) => bytes - (before[index] ?? 0)) };
  };

  before(async () => {
    world = await World.create();
    const { invite } = await startRelay(world);
    left = await join('left', invite);
    right = await join('right', invite);
    const { mesh } = (await right.command(['status'])) as {
      readonly mesh: { readonly networks: readonly [{ readonly ipv4: string }] };
    };
    to = mesh.networks[0].ipv4;
    await left.node.run('ping', ['-n', '-c', '1', '-W', '10', to]);
    await until(
      'direct by either',
      ({ path, ways }) =>
        path === 'direct' &&
        ['eth0', 'eth1'].every((name) => ways.some((way) => way.interface === name && way.role !== 'none')),
    );
  });
  after(() => {
    world.remove();
  });

  it('goes by one of them unless it is asked for', async () => {
    const { by, lost } = await stream(3000);
    assert.equal(lost, 0);
    assert.ok(Math.min(...by) < Math.max(...by) / 4, `${by.join(' and ')} bytes`);
  });

  it('goes by both, in proportion to the weights of the interfaces, and none of it is lost', async (test) => {
    await split('');
    const even = await stream(6000);
    test.diagnostic(`1 to 1: ${even.late} of ${even.sent} datagrams came behind a later one`);
    assert.equal(even.lost, 0);
    assert.ok(Math.min(...even.by) > Math.max(...even.by) / 2, `${even.by.join(' and ')} bytes`);
    await split('[paths.interfaces.eth1]\nweight = 6');
    const uneven = await stream(6000);
    test.diagnostic(`1 to 6: ${uneven.late} of ${uneven.sent} datagrams came behind a later one`);
    assert.equal(uneven.lost, 0);
    const [first = 0, second = 0] = uneven.by;
    assert.ok(first > 0 && second > 2 * first, `${uneven.by.join(' and ')} bytes`);
  });
});
