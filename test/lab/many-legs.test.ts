import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import type { ManyLegs } from '../../ts/lab/many-legs.js';
import { labUnavailable } from '../../ts/lab/requirements.js';
import { World, type Node } from '../../ts/lab/world.js';
import { xdpUnavailable } from '../../ts/lab/xdp.js';

/** A fifth of a million, which is to be taken over in 5 s. */
const LEGS = 200_000;

describe(`${LEGS} legs in the kernel`, { skip: labUnavailable() ?? xdpUnavailable() ?? false }, () => {
  let world: World;
  let node: Node;

  before(async () => {
    world = await World.create();
    node = await world.addNode('relay');
    await world.mountBpf();
  });
  after(() => world.remove());

  const run = async (what: 'leave' | 'remove'): Promise<ManyLegs> => {
    const { stdout, stderr } = await node.run(process.execPath, [
      'dist/ts/lab/many-legs.js',
      String(LEGS),
      what,
    ]);
    assert.notEqual(stdout, '', stderr);
    return JSON.parse(stdout) as ManyLegs;
  };

  it('are written at more than 200,000 a second of CPU', async () => {
    const { adopted, taken } = await run('leave');
    assert.equal(adopted, 0);
    assert.ok(taken < 1, `${taken} s`);
  });

  it('are taken over after SIGKILL in less than a second of CPU, and removed in another', async () => {
    const { adopted, taken, removed } = await run('remove');
    assert.equal(adopted, LEGS);
    assert.ok(taken < 1, `${taken} s`);
    assert.ok(removed < 1, `${removed} s`);
  });
});
