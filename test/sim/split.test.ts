// Over which ways data for a member is split: the core's choice, as the engine is told it.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { PairWorld, Stream } from '../../ts/sim/mesh/pair-world.js';
import type { SimNode } from '../../ts/sim/mesh/simulation.js';
import { by, decide, memberOf, rules, twoUplinks } from './policy-world.js';

/** Of each way that data is split over: its interface, and its share. */
const shares = (node: SimNode): (readonly [string, number])[] =>
  memberOf(node)
    .ways.flatMap(({ interface: name, share }) => (share === undefined ? [] : [[name ?? '', share] as const]))
    .toSorted();

describe('data that is split', () => {
  test('goes by direct ways, one of each interface, by their weights, and by one where that is not asked for', () => {
    const world = new PairWorld(1, twoUplinks(), 'public');
    world.talk(20);
    assert.deepEqual(shares(world.a), []);
    decide(world.a, rules({ split: new Map([['eth1', 3]]) }));
    assert.deepEqual(shares(world.a), [
      ['eth0', 1],
      ['eth1', 3],
    ]);
    assert.deepEqual(shares(world.b), [], 'the other end has its own rules');
    decide(world.a, rules({ split: new Map(), forbid: [by('eth1')] }));
    assert.deepEqual(shares(world.a), []);
  });

  test('goes by no metered way while one in use is not', () => {
    const world = new PairWorld(2, twoUplinks({ metered: true }), 'public');
    world.talk(20);
    decide(world.a, rules({ split: new Map() }));
    world.simulation.run(1000);
    assert.deepEqual(shares(world.a), []);
  });

  test('goes by no relay', () => {
    const world = new PairWorld(3, 'public', 'public');
    world.talk(20);
    decide(world.a, rules({ split: new Map() }));
    world.simulation.run(1000);
    assert.deepEqual(shares(world.a), []);
  });

  for (const [what, idleMs] of [
    ['while data flows', 0],
    ['while none does, and data begins', 60_000],
  ] as const)
    test(`leaves a way that dies ${what} within a second, and is split again when it lives`, () => {
      for (let seed = 1; seed <= 5; seed++) {
        const world = new PairWorld(seed, twoUplinks(), 'public');
        const streams = world.talk(20);
        decide(world.a, rules({ split: new Map() }));
        world.simulation.run(2000);
        assert.equal(shares(world.a).length, 2, `seed ${seed}`);
        const dying = memberOf(world.a).ways.find(
          ({ role, share }) => role !== 'active' && share !== undefined,
        );
        const links = world.a.links(dying?.interface === 'eth0' ? 0 : 1);
        const lose = (loss: number): void => {
          for (const link of links) link.model = { ...link.model, loss };
        };
        if (idleMs > 0) {
          for (const stream of streams) stream.stop();
          world.simulation.run(idleMs);
        }
        lose(1);
        if (idleMs > 0) new Stream(world, world.a, world.b, 20);
        const left = world.simulation.runUntil(() => shares(world.a).length === 0, 5000);
        assert.ok(left !== undefined && left < 1000, `seed ${seed}: ${left} ms`);
        lose(0);
        const again = world.simulation.runUntil(() => shares(world.a).length === 2, 60_000);
        assert.ok(again !== undefined, `seed ${seed}`);
      }
    });
});
