import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { PairWorld } from './pair-world.js';

const SEEDS = 20;

describe('a direct path that dies', () => {
  for (const direction of ['both', 'a to b', 'b to a'] as const)
    test(`(${direction}) is left for the relay: what is sent within its round trip and reporting time is lost, no more`, () => {
      for (let seed = 1; seed <= SEEDS; seed++) {
        const world = new PairWorld(seed, 'port-R', 'port-R');
        const streams = world.talk(5);
        const lostBefore = streams.map(({ lost }) => lost.length);
        const begin = world.simulation.now;
        world.cut(direction);
        world.simulation.run(3000);
        assert.deepEqual([world.pathOf(world.a), world.pathOf(world.b)], ['relay', 'relay'], `seed ${seed}`);
        for (const stream of streams) stream.stop();
        world.simulation.run(2000);
        const rtt = 2 * (world.a.latencyMs + world.b.latencyMs + 2);
        for (const [index, { lost }] of streams.entries()) {
          const late = lost.slice(lostBefore[index]).map((at) => at - begin);
          const gap = Math.max(...late, 0);
          // A round trip and the reporting time until it is noticed, and those under way.
          assert.ok(gap < 2 * rtt + 150, `seed ${seed}: ${gap} ms, round trip ${rtt}`);
        }
      }
    });

  test('is used again when it works again, and nothing is lost on the way back', () => {
    for (let seed = 1; seed <= SEEDS; seed++) {
      const world = new PairWorld(seed, 'port-R', 'port-R');
      const streams = world.talk(20);
      world.cut('both');
      world.simulation.run(5000);
      const begin = world.simulation.now;
      world.cut(undefined);
      const again = world.simulation.runUntil(() => world.bothDirect, 120_000, 100);
      assert.ok(again !== undefined, `seed ${seed}`);
      world.simulation.run(2000);
      for (const stream of streams) stream.stop();
      world.simulation.run(2000);
      assert.deepEqual(
        streams.map(({ lost }) => lost.filter((at) => at > begin)),
        [[], []],
        `seed ${seed}`,
      );
    }
  });
});
