// What an idle direct path costs, and that it is there when it is wanted, with NATs that forget sooner or later.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { KEEPALIVE_MS } from '../../ts/core/uplink/uplink.js';
import { LONGEST_KEEPALIVE_MS } from '../../ts/core/path/keepalive-interval.js';
import { PORT_RESTRICTED } from '../../ts/sim/kernel/nat.js';
import type { SimUplink } from '../../ts/sim/mesh/simulation.js';
import { formatIp } from '../../ts/wire/socket-address.js';
import { ip } from './mesh-world.js';
import { PairWorld, Stream } from '../../ts/sim/mesh/pair-world.js';

const PORT = 51_820;
const SEEDS = 3;
const LOOK_MS = 500;
/** Sessions end after 175 s without data: a word now and then keeps this one. */
const WORD_EVERY_MS = 160_000;

/** Two behind NATs that forget after so long. */
function pair(seed: number, lifetimeMs: readonly [number, number]): PairWorld {
  const world = new PairWorld(seed, [], []);
  const uplink = (place: number, lifetime: number): SimUplink => ({
    address: { ip: ip(`10.0.${place}.2`), port: PORT },
    nat: world.simulation.nat(ip(`198.18.0.${place}`), { ...PORT_RESTRICTED, lifetimeMs: lifetime }),
  });
  world.a.setUplinks([uplink(1, lifetimeMs[0])]);
  world.b.setUplinks([uplink(2, lifetimeMs[1])]);
  return world;
}

/** Datagrams that go directly, from now on. */
function countDirect(world: PairWorld): { packets: number } {
  const counted = { packets: 0 };
  const relays = new Set(world.relays.map(({ address }) => formatIp(address.ip)));
  const { internet } = world.simulation;
  const send = internet.send.bind(internet);
  internet.send = (sender, to, datagram) => {
    if (!relays.has(formatIp(to.ip)) && !relays.has(formatIp(sender.address.ip))) counted.packets++;
    send(sender, to, datagram);
  };
  return counted;
}

interface Idle {
  /** Packets that went directly in each stretch without data. */
  readonly packets: readonly number[];
  /** Milliseconds in which one of the two did not have the direct path, in each. */
  readonly withoutMs: readonly number[];
}

/** Both direct, then stretches without data, a word between two of them. */
function idle(world: PairWorld, stretches: number): Idle {
  const streams = world.talk(50);
  for (const stream of streams) stream.stop();
  const packets: number[] = [];
  const withoutMs: number[] = [];
  const counted = countDirect(world);
  for (let stretch = 0; stretch < stretches; stretch++) {
    // The word, and what follows it while its sender is not known to be idle again.
    world.simulation.run(45_000);
    counted.packets = 0;
    let without = 0;
    for (let ms = 0; ms < WORD_EVERY_MS - 45_000; ms += LOOK_MS) {
      world.simulation.run(LOOK_MS);
      if (!world.bothDirect) without += LOOK_MS;
    }
    packets.push(counted.packets);
    withoutMs.push(without);
    const words = [world.a.ping(world.b.identity), world.b.ping(world.a.identity)];
    world.simulation.run(3000);
    const pongs = new Set([...world.a.pongs, ...world.b.pongs].map(({ token }) => token));
    assert.ok(
      words.every((word) => pongs.has(word)),
      `a word was lost after stretch ${stretch}`,
    );
  }
  return { packets, withoutMs };
}

const IDLE_MS = WORD_EVERY_MS - 45_000;

describe('an idle direct path', () => {
  for (const lifetime of [60_000, 120_000])
    test(`costs less than a packet in 20 s where NATs remember for ${lifetime / 1000} s, once that is known`, () => {
      for (let seed = 1; seed <= SEEDS; seed++) {
        const { packets, withoutMs } = idle(pair(seed, [lifetime, lifetime]), 6);
        const known = packets.slice(3);
        const spent = known.reduce((sum, each) => sum + each, 0);
        assert.ok(spent < (known.length * IDLE_MS) / 20_000, `seed ${seed}: ${packets.join(' ')}`);
        assert.deepEqual(withoutMs.slice(3), [0, 0, 0], `seed ${seed}`);
      }
    });

  for (const [a, b] of [
    [30_000, 30_000],
    [30_000, 120_000],
    [120_000, 30_000],
  ] as const)
    test(`is lost once at most for a moment, and then kept, where NATs remember for ${a / 1000} and ${b / 1000} s`, () => {
      for (let seed = 1; seed <= SEEDS; seed++) {
        const { packets, withoutMs } = idle(pair(seed, [a, b]), 6);
        assert.deepEqual(withoutMs.slice(3), [0, 0, 0], `seed ${seed}: ${withoutMs.join(' ')}`);
        const lost = withoutMs.reduce((sum, each) => sum + each, 0);
        assert.ok(lost < 3000, `seed ${seed}: ${withoutMs.join(' ')}`);
        assert.ok(Math.max(...packets.slice(3)) <= (2 * IDLE_MS) / 15_000 + 2, packets.join(' '));
      }
    });

  test('is probed by one side or the other, and not for longer than the longest interval by none', () => {
    const world = pair(1, [600_000, 600_000]);
    const { packets } = idle(world, 4);
    assert.ok(
      packets.every((each) => each >= (2 * IDLE_MS) / (1.3 * LONGEST_KEEPALIVE_MS) - 2),
      packets.join(' '),
    );
  });

  test('shows how long each NAT remembers, at least', () => {
    const world = pair(2, [120_000, 120_000]);
    idle(world, 4);
    for (const node of [world.a, world.b]) {
      const [report] = node.mesh.status(node.step).nat;
      const { atLeastMs = 0 } = report?.lifetime ?? {};
      assert.ok(atLeastMs >= 40_000 && atLeastMs <= 120_000, `${atLeastMs}`);
    }
  });

  test('that a NAT has forgotten altogether carries data again within a keepalive of the relays and a round trip', () => {
    for (let seed = 1; seed <= SEEDS; seed++) {
      const world = pair(seed, [120_000, 120_000]);
      idle(world, 2);
      world.simulation.run(50_000);
      world.b.nat?.reboot();
      const begin = world.simulation.now;
      const streams = [new Stream(world, world.a, world.b, 50), new Stream(world, world.b, world.a, 50)];
      world.simulation.run(15_000);
      assert.ok(world.bothDirect, `seed ${seed}`);
      for (const stream of streams) stream.stop();
      world.simulation.run(1000);
      const late = streams.flatMap(({ lost }) => lost).map((at) => at - begin);
      assert.ok(Math.max(...late, 0) < KEEPALIVE_MS + 500, `seed ${seed}: ${late.join(' ')}`);
    }
  });
});
