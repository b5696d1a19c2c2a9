import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { SimUplink } from '../../ts/sim/mesh/simulation.js';
import { ip } from './mesh-world.js';
import { PairWorld, twoNetworks, type Stream } from '../../ts/sim/mesh/pair-world.js';
import { decide, over, rules } from './policy-world.js';

/** More of them: `npm run sim -- paths` (ts/study). */
const SEEDS = 6;

describe('a direct path that dies', () => {
  for (const direction of ['both', 'a to b', 'b to a'] as const)
    test(`(${direction}) is left for the relay: what is sent within a round trip and the time between reports is lost, no more`, () => {
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
          // The last report was under way, and of one direction the last data before it: then the next is missed.
          const most = rtt + (direction === 'both' ? 100 : 160);
          assert.ok(gap < most, `seed ${seed}: ${gap} ms, round trip ${rtt}`);
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

describe('a direct path that is alive', () => {
  for (const [name, link, everyMs] of [
    ['delays vary by 100 ms', { jitterMs: 50 }, 10],
    ['a tenth is lost, and some is late', { loss: 0.05, reorder: 0.1, reorderMs: 40 }, 10],
    ['there is data now and then', {}, 170],
  ] as const)
    test(`is seldom taken for silent when ${name}`, () => {
      for (let seed = 1; seed <= 2; seed++) {
        const uplinks = (place: number): SimUplink[] => [
          { address: { ip: ip(`198.51.100.${place}`), port: 51_820 }, link: {} },
        ];
        const world = new PairWorld(seed, uplinks(1), uplinks(2));
        const [stream] = world.talk(everyMs);
        for (const each of [...world.a.links(0), ...world.b.links(0)])
          each.model = { ...each.model, ...link };
        world.simulation.run(20_000);
        const { engine } = world.a;
        const copies = engine.counters.get('path_duplicates_sent') ?? 0;
        assert.ok(stream.sent > 100);
        assert.ok(copies < stream.sent / 20, `seed ${seed}: ${copies} copies of ${stream.sent}`);
      }
    });
});

describe('a direct path that only one of the two uses', () => {
  /** `b` sends by a relay, whose operator prefers it; `a` directly. */
  const halved = (seed: number): { readonly world: PairWorld; readonly streams: readonly Stream[] } => {
    const world = new PairWorld(seed, 'port-R', 'full');
    const streams = world.talk(20);
    decide(world.b, rules({ prefer: world.relays.map(over) }));
    world.simulation.run(2000);
    assert.deepEqual([world.pathOf(world.a), world.pathOf(world.b)], ['direct', 'relay'], `seed ${seed}`);
    return { world, streams };
  };

  test('is reported on, so that it is not taken for silent', () => {
    for (let seed = 1; seed <= 4; seed++) {
      const { world, streams } = halved(seed);
      const copies = (): number => world.a.engine.counters.get('path_duplicates_sent') ?? 0;
      const before = copies();
      world.simulation.run(20_000);
      for (const stream of streams) stream.stop();
      world.simulation.run(2000);
      assert.deepEqual([world.pathOf(world.a), world.pathOf(world.b)], ['direct', 'relay'], `seed ${seed}`);
      assert.ok(copies() - before < 20, `seed ${seed}: ${copies() - before} copies of some 2000 packets`);
      assert.deepEqual(
        streams.map(({ lost }) => lost),
        [[], []],
        `seed ${seed}`,
      );
    }
  });

  test('is left as soon as another one when it dies', () => {
    const { world, streams } = halved(5);
    const lostBefore = streams.map(({ lost }) => lost.length);
    const begin = world.simulation.now;
    world.cut('both');
    world.simulation.run(3000);
    assert.deepEqual([world.pathOf(world.a), world.pathOf(world.b)], ['relay', 'relay']);
    for (const stream of streams) stream.stop();
    world.simulation.run(2000);
    const late = streams.flatMap(({ lost }, index) => lost.slice(lostBefore[index])).map((at) => at - begin);
    assert.ok(Math.max(...late, 0) < 2 * (world.a.latencyMs + world.b.latencyMs + 2) + 160, late.join(' '));
  });
});

describe('a direct path while no relay is reached', () => {
  /** Both direct, and then all relays gone for so long. */
  const alone = (seed: number, ms: number): PairWorld => {
    const world = new PairWorld(seed, 'port-R', 'port-R');
    world.talk(100);
    for (const relay of world.relays) relay.kill();
    world.simulation.run(ms);
    return world;
  };

  for (const [what, before] of [
    ['relays have been gone for a minute', 60_000],
    ['relays go with it', 0],
  ] as const)
    test(`is used again as soon as it works again, when ${what}`, () => {
      for (let seed = 1; seed <= 4; seed++) {
        const world = alone(seed, before);
        world.cut('both');
        world.simulation.run(20_000);
        world.cut(undefined);
        const { a, b, simulation } = world;
        const answered = [a.pongs.length, b.pongs.length];
        simulation.run(6000);
        for (const [index, { pongs }] of [a, b].entries())
          assert.ok(pongs.length > (answered[index] ?? 0), `seed ${seed}: nothing comes through`);
        assert.ok(world.bothDirect, `seed ${seed}: ${world.pathOf(a)}, ${world.pathOf(b)}`);
      }
    });
});

describe('the network around a member that changes', () => {
  for (const [name, change] of [
    ['its NAT forgets all mappings', (world: PairWorld) => world.b.nat?.reboot()],
    ['it joins another network', (world: PairWorld) => world.b.setUplinks([world.uplink('port-R', 7)])],
  ] as const)
    test(`(${name}) leaves the session as it is, and a direct path is there again`, () => {
      const again: number[] = [];
      for (let seed = 1; seed <= 8; seed++) {
        const world = new PairWorld(seed, 'port-R', 'port-R');
        const streams = world.talk(20);
        const begin = world.simulation.now;
        change(world);
        world.simulation.run(2500);
        const direct = world.simulation.runUntil(() => world.bothDirect, 10_000, 100);
        assert.ok(direct !== undefined, `seed ${seed}`);
        again.push(direct);
        world.simulation.run(1000);
        for (const stream of streams) stream.stop();
        world.simulation.run(1000);
        for (const { lost } of streams) {
          const late = lost.filter((at) => at > begin);
          assert.ok(
            Math.max(...late, begin) - begin < 750,
            `seed ${seed}: ${late.map((at) => at - begin).join(' ')}`,
          );
        }
      }
      again.sort((x, y) => x - y);
      assert.equal(again[4], 0, `most within 2.5 s, the others by the next contact: ${again.join(' ')}`);
    });
});

describe('two members with two networks in common, of which relays are in one', () => {
  test('use one when the other dies, time and again, though the relays are as dead as the path in use', () => {
    for (let seed = 1; seed <= 3; seed++) {
      const { world, cut } = twoNetworks(seed);
      const streams = world.talk(5);
      const rtt = 2 * (world.a.latencyMs + world.b.latencyMs + 2);
      const begins = Array.from({ length: 6 }, (_, round) => {
        const begin = world.simulation.now;
        cut((round % 2) + 1);
        world.simulation.run(2000);
        cut(undefined);
        // Short of the time after which a path that died is tried again by itself.
        world.simulation.run(4000);
        return begin;
      });
      for (const stream of streams) stream.stop();
      world.simulation.run(2000);
      for (const { lost } of streams)
        for (const at of lost) {
          // What was under way when a network died is of its time.
          const begin = begins.findLast((each) => each - rtt <= at);
          const since = begin === undefined ? 0 : at - begin;
          assert.ok(
            since < 2 * rtt + 150,
            `seed ${seed}: ${since} ms after a network died, round trip ${rtt}`,
          );
        }
    }
  });

  test('find the other again after it was dead for so long that much was sent to it in vain', () => {
    const { world, cut } = twoNetworks(1);
    const streams = world.talk(20);
    cut(2);
    world.simulation.run(300_000);
    cut(1);
    const begin = world.simulation.now;
    world.simulation.run(3000);
    for (const stream of streams) stream.stop();
    world.simulation.run(2000);
    for (const { lost } of streams) {
      const last = Math.max(0, ...lost.map((at) => at - begin));
      assert.ok(last < 1000, `${last} ms`);
    }
  });
});
