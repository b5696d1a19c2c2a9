import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { KINDS, PairWorld, Stream, type Kind } from '../../ts/sim/mesh/pair-world.js';
import { OPEN_POLICY } from '../../ts/core/path/path-policy.js';
import { DEFAULT_PORT_SEARCH } from '../../ts/core/path/port-search-limits.js';
import { memberOf } from './policy-world.js';

/** More of them: `npm run sim -- paths` (ts/study). */
const SEEDS = 6;
const NO_SEARCH = { ...OPEN_POLICY, search: { ...DEFAULT_PORT_SEARCH, enabled: false } };

/** What no hole can be punched through without predicting ports (docs/protocol.md, "Contact"). */
const needsPrediction = (a: Kind, b: Kind): boolean =>
  (a === 'symmetric' && (b === 'symmetric' || b === 'port-R')) || (b === 'symmetric' && a === 'port-R');

describe('two members behind NATs', () => {
  for (const a of KINDS)
    for (const b of KINDS)
      if (!needsPrediction(a, b))
        test(`${a} to ${b}: the first packet goes over a relay, then all go directly, and none is lost`, () => {
          const took: number[] = [];
          for (let seed = 1; seed <= SEEDS; seed++) {
            const world = new PairWorld(seed, a, b);
            world.start();
            const begin = world.simulation.now;
            assert.ok(world.firstPacket() !== undefined, `seed ${seed}: no first packet`);
            assert.equal(world.pathOf(world.a), 'relay', `seed ${seed}`);
            const stream = new Stream(world, world.a, world.b, 20);
            const back = new Stream(world, world.b, world.a, 20);
            const direct = world.simulation.runUntil(() => world.bothDirect, 5000);
            assert.ok(
              direct !== undefined,
              `seed ${seed}: ${world.pathOf(world.a)}, ${world.pathOf(world.b)}`,
            );
            took.push(world.simulation.now - begin);
            world.simulation.run(500);
            for (const each of [stream, back]) each.stop();
            world.simulation.run(500);
            assert.deepEqual([stream.lost, back.lost], [[], []], `seed ${seed}`);
            assert.equal(stream.answeredTwice, 0);
            assert.ok(world.bothDirect);
          }
          assert.ok(Math.max(...took) < 1000, `${took.join(' ')} ms to the direct path`);
        });
});

describe('two members behind NATs that give a port to each destination', () => {
  const PREDICTABLE = ['port-R', 'sequential', 'preserving'] as const;
  for (const a of PREDICTABLE)
    for (const b of PREDICTABLE)
      if (a !== 'port-R' || b !== 'port-R')
        test(`${a} to ${b}: nine of ten go directly, by the ports that are predicted`, () => {
          let direct = 0;
          for (let seed = 1; seed <= SEEDS; seed++) {
            const world = new PairWorld(seed, a, b);
            world.start();
            assert.ok(world.firstPacket() !== undefined);
            const streams = [
              new Stream(world, world.a, world.b, 20),
              new Stream(world, world.b, world.a, 20),
            ];
            if (world.simulation.runUntil(() => world.bothDirect, 3000) !== undefined) direct++;
            for (const stream of streams) stream.stop();
            world.simulation.run(500);
            assert.deepEqual(
              streams.map(({ lost }) => lost),
              [[], []],
              `seed ${seed}`,
            );
          }
          assert.ok(direct >= 0.9 * SEEDS, `${direct} of ${SEEDS}`);
        });

  for (const [a, b, why] of [
    ['symmetric', 'symmetric', ['both-nats', 'both-nats']],
    ['symmetric', 'port-R', ['own-nat', 'member-nat']],
    ['port-R', 'symmetric', ['member-nat', 'own-nat']],
  ] as const)
    test(`${a} to ${b}, at random and not searched for: they stay on the relay, lose nothing by trying, and say why`, () => {
      for (let seed = 1; seed <= 5; seed++) {
        const world = new PairWorld(seed, a, b, true, {}, NO_SEARCH); // port-search.test.ts is about that
        world.start();
        assert.ok(world.firstPacket() !== undefined);
        const streams = [new Stream(world, world.a, world.b, 20), new Stream(world, world.b, world.a, 20)];
        world.simulation.run(5000);
        for (const stream of streams) stream.stop();
        world.simulation.run(500);
        assert.deepEqual([world.pathOf(world.a), world.pathOf(world.b)], ['relay', 'relay'], `seed ${seed}`);
        assert.deepEqual(
          streams.map(({ lost }) => lost),
          [[], []],
        );
        assert.deepEqual([memberOf(world.a).indirect, memberOf(world.b).indirect], why, `seed ${seed}`);
      }
    });
});
