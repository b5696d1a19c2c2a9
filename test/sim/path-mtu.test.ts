// How large a datagram a path takes is found out, and what follows from it: what is sent inside, and which path is used.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { MIN_PLPMTU } from '../../ts/contract/path-control.js';
import { BASE_PLPMTU, PROBES_PER_MINUTE, RAISE_AFTER_MS } from '../../ts/core/path/path-mtu.js';
import type { MemberStatus } from '../../ts/core/runtime/mesh-status.js';
import type { LinkModel } from '../../ts/sim/kernel/link.js';
import type { SimNode, SimUplink } from '../../ts/sim/mesh/simulation.js';
import { formatIp } from '../../ts/wire/socket-address.js';
import { ip } from './mesh-world.js';
import { keyOf, PairWorld } from '../../ts/sim/mesh/pair-world.js';

const INNER = 1400;
/** UDP payload of a datagram with a packet of that size, directly and by a relay. */
const DIRECT = INNER + 32;
const RELAYED = DIRECT + 16;
/** Small probes and what sessions say is smaller. */
const PADDED = 1000;
/** IPv4 and UDP. */
const HEADERS = 28;
const PORT = 51_820;

const uplink = (place: number, link: Partial<LinkModel>): SimUplink => ({
  address: { ip: ip(`198.51.100.${place}`), port: PORT },
  link,
});

/** Both talk, and by now know what their paths take. */
function talking(world: PairWorld, way: 'direct' | 'relay' = 'direct'): PairWorld {
  world.start();
  assert.ok(world.firstPacket() !== undefined);
  if (way === 'direct') assert.ok(world.simulation.runUntil(() => world.bothDirect, 10_000) !== undefined);
  world.simulation.run(15_000);
  return world;
}

const statusOf = (node: SimNode): MemberStatus => {
  const [status] = node.mesh.status(node.step).networks[0]?.members ?? [];
  assert.ok(status !== undefined);
  return status;
};
const mtuOf = (node: SimNode): readonly (number | undefined)[] => {
  const { pathMtu, innerMtu } = statusOf(node);
  return [pathMtu, innerMtu];
};

/** Nothing larger gets from one member to the other directly; what they send to relays, by `relayed`. */
function limit(world: PairWorld, direct: number, relayed = Infinity): void {
  const members = [world.a, world.b].map((node) => formatIp((node.nat ?? node.address).ip));
  world.simulation.internet.blocked = (from, to, bytes) =>
    bytes > (members.includes(formatIp(from.ip)) && members.includes(formatIp(to.ip)) ? direct : relayed);
}

/** Sizes of the larger datagrams between members and relays, from now on. */
function watch(world: PairWorld): { readonly sizes: number[] } {
  const { internet } = world.simulation;
  const send = internet.send.bind(internet);
  const sizes: number[] = [];
  internet.send = (sender, to, datagram) => {
    if (datagram.length >= PADDED) sizes.push(datagram.length);
    send(sender, to, datagram);
  };
  return { sizes };
}

/** A transfer inside: packets as large as the tunnel lets them be, what is lost is sent again. */
class Transfer {
  readonly arrivedAt: number[] = [];
  size = INNER;
  refused = 0;
  #stopped = false;

  constructor(world: PairWorld, from: SimNode, to: SimNode, everyMs = 20) {
    const { queue } = world.simulation;
    to.inner = (packet) => {
      if (packet.length > 100) this.arrivedAt.push(queue.now);
    };
    const send = (): void => {
      if (this.#stopped) return;
      const packet = new Uint8Array(this.size);
      packet[0] = 0x45;
      const most = from.sendInner(keyOf(to), packet);
      if (most !== undefined) {
        this.refused++;
        this.size = most;
      }
      queue.at(queue.now + everyMs, send);
    };
    send();
  }

  stop(): void {
    this.#stopped = true;
  }

  /** The longest that nothing arrived since then. */
  stalledMs(since: number, until: number): number {
    const at = [since, ...this.arrivedAt.filter((each) => each >= since), until];
    return Math.max(...at.slice(1).map((each, index) => each - (at[index] ?? 0)));
  }
}

describe('the MTU of a path', () => {
  for (const [a, b] of [
    ['public', 'public'],
    ['port-R', 'full'],
  ] as const)
    test(`is the inner MTU’s where links take more: two probes find it, ${a} and ${b}`, () => {
      const world = new PairWorld(1, a, b);
      const { sizes } = watch(world);
      talking(world);
      for (const node of [world.a, world.b]) assert.deepEqual(mtuOf(node), [DIRECT, INNER]);
      // Each side, by the direct path and by each way over a relay, which carries them on: base and maximum.
      assert.ok(sizes.length <= 2 * (2 + 2 * 2 * 2), sizes.join(' '));
      assert.ok(sizes.includes(RELAYED), 'a way over a relay was probed too, with its frame header');
    });

  for (const mtu of [1280, 1340, 1360, 1400, 1420, 1459])
    test(`is found on a link of ${mtu} bytes, and longer packets are refused, not lost`, () => {
      const world = talking(new PairWorld(2, [uplink(1, { mtu })], 'public'));
      for (const node of [world.a, world.b]) {
        const [path = 0, inner = 0] = mtuOf(node);
        assert.ok(path <= mtu - HEADERS && path > mtu - HEADERS - 8, `${path}`);
        assert.equal(inner, path - 32);
      }
      const transfer = new Transfer(world, world.a, world.b);
      world.simulation.run(2000);
      assert.equal(transfer.refused, 1);
      assert.ok(transfer.arrivedAt.length > 90, `${transfer.arrivedAt.length} packets`);
    });

  test('is a jumbo link’s where the inner MTU wants it, and an ordinary one’s where a link takes no more', () => {
    for (const [mtu, found] of [
      [9000, 8932],
      [1500, 1472],
    ] as const) {
      const world = new PairWorld(3, [uplink(1, { mtu })], [uplink(2, { mtu })], true, { innerMtu: 8900 });
      talking(world);
      assert.deepEqual(mtuOf(world.a), [found, found - 32]);
      assert.deepEqual(mtuOf(world.b), [found, found - 32]);
    }
  });

  test('is looked for on every way between two with several uplinks, before ways are given up for being slower', () => {
    const members = [1, 2].map((member) => [
      uplink(member, { mtu: 1500 }),
      uplink(10 + member, { mtu: 1500 }),
      uplink(20 + member, { mtu: 9000, delayMs: 20 }),
    ]);
    const world = new PairWorld(8, members[0] ?? [], members[1] ?? [], true, { innerMtu: 8900 });
    talking(world);
    for (const node of [world.a, world.b]) assert.deepEqual(mtuOf(node), [8932, 8900]);
  });

  test('is each direction’s own', () => {
    const world = new PairWorld(4, [uplink(1, {})], 'public');
    const [out] = world.a.links(0);
    assert.ok(out !== undefined);
    out.model = { ...out.model, mtu: 1400 };
    talking(world);
    assert.equal(mtuOf(world.a)[0], 1372);
    assert.equal(mtuOf(world.b)[0], DIRECT);
  });

  test('is not asked for where an engine cannot keep a datagram whole: what is sent is not bounded', () => {
    const world = new PairWorld(5, [uplink(1, { mtu: 1400 })], 'public', true, { innerMtu: undefined });
    const { sizes } = watch(world);
    talking(world);
    assert.deepEqual(sizes, []);
    assert.deepEqual(mtuOf(world.a), [undefined, undefined]);
    const packet = new Uint8Array(9000).fill(0x45);
    assert.equal(world.a.sendInner(keyOf(world.b), packet), undefined);
  });
});

describe('a black hole', () => {
  test('that appears on the direct path stalls a transfer for a moment, and its size is found', () => {
    for (let seed = 1; seed <= 3; seed++) {
      const world = talking(new PairWorld(seed, 'public', 'port-R'));
      // No way around it: else what is lost here goes by the relay at once.
      const transfer = new Transfer(world, world.a, world.b);
      world.simulation.run(3000);
      const begin = world.simulation.now;
      limit(world, 1300, 1300);
      world.simulation.run(20_000);
      const stalled = transfer.stalledMs(begin, world.simulation.now);
      assert.ok(stalled < 2000, `seed ${seed}: ${stalled} ms`);
      assert.ok(transfer.size <= 1300 - 32, `${transfer.size}`);
      const [path = 0] = mtuOf(world.a);
      assert.ok(path <= 1300 && path > 1292, `seed ${seed}: ${path}`);
      assert.equal(mtuOf(world.b)[0], DIRECT, 'who sends no data has nothing to doubt');
    }
  });

  test('on a way over a relay alone is found too, while data is sent', () => {
    const world = new PairWorld(6, 'symmetric', 'symmetric');
    talking(world, 'relay');
    assert.deepEqual(mtuOf(world.a), [RELAYED, INNER]);
    const transfer = new Transfer(world, world.a, world.b);
    world.simulation.run(20_000);
    const begin = world.simulation.now;
    limit(world, 1350, 1350);
    world.simulation.run(150_000);
    const stalled = transfer.stalledMs(begin, world.simulation.now);
    assert.ok(stalled < 65_000, `${stalled} ms`);
    const [path = 0, inner = 0] = mtuOf(world.a);
    assert.ok(path <= 1350 && path > 1342 && inner === path - 48, `${path} ${inner}`);
  });

  test('is not seen in a path that loses a tenth of everything each way, nor in one that is cut for a while', () => {
    const world = talking(new PairWorld(7, [uplink(1, {})], [uplink(2, {})]));
    const transfers = [new Transfer(world, world.a, world.b), new Transfer(world, world.b, world.a)];
    for (const link of world.a.links(0)) link.model = { ...link.model, loss: 0.1 };
    world.simulation.run(120_000);
    for (const link of world.a.links(0)) link.model = { ...link.model, loss: 0 };
    world.cut('both');
    world.simulation.run(20_000);
    world.cut(undefined);
    world.simulation.run(60_000);
    assert.deepEqual(
      transfers.map(({ refused }) => refused),
      [0, 0],
    );
    assert.deepEqual(mtuOf(world.a), [DIRECT, INNER]);
  });

  test('that is gone is used again after 10 min with data, and without data nothing is probed', () => {
    const world = talking(new PairWorld(8, 'public', 'public'));
    const transfer = new Transfer(world, world.a, world.b);
    limit(world, 1300, 1300);
    world.simulation.run(20_000);
    transfer.stop();
    limit(world, Infinity);
    world.a.ping(world.b.identity);
    world.b.ping(world.a.identity);
    world.simulation.run(40_000);
    const { sizes } = watch(world);
    // Sessions are kept by a word now and then.
    for (let word = 0; word < 9; word++) {
      world.a.ping(world.b.identity);
      world.b.ping(world.a.identity);
      world.simulation.run(50_000);
    }
    // Words may be a reason to confirm what is used, none to seek more.
    assert.ok(sizes.length < 3 && sizes.every((size) => size === DIRECT), sizes.join(' '));
    assert.ok((mtuOf(world.a)[0] ?? 0) <= 1300);
    const again = new Transfer(world, world.a, world.b, 200);
    world.simulation.run(RAISE_AFTER_MS / 5);
    assert.deepEqual(mtuOf(world.a), [DIRECT, INNER]);
    assert.equal(again.refused, 1);
  });
});

describe('a path that takes less than the base', () => {
  test('is used with what every host takes, probed no more while idle, and used in full when it takes more', () => {
    const mtu = 1000;
    const world = talking(new PairWorld(9, [uplink(1, { mtu })], 'public'));
    assert.deepEqual(mtuOf(world.a), [MIN_PLPMTU, MIN_PLPMTU - 32]);
    const transfer = new Transfer(world, world.a, world.b, 100);
    const { sizes } = watch(world);
    world.simulation.run(60_000);
    assert.ok(transfer.arrivedAt.length > 500);
    const probes = sizes.filter((size) => size === BASE_PLPMTU).length;
    assert.ok(probes > 0 && probes < 40, `${probes}`);
    for (const link of world.a.links(0)) link.model = { ...link.model, mtu: 1500 };
    world.simulation.run(RAISE_AFTER_MS);
    assert.deepEqual(mtuOf(world.a), [DIRECT, INNER]);
  });
});

describe('which path is used', () => {
  test('is one that the inner MTU fits, however much slower, and the other when it is gone', () => {
    const fast = uplink(1, { mtu: 1400 });
    const slow = { ...uplink(3, { delayMs: 30 }) };
    const world = talking(new PairWorld(10, [fast, slow], 'public'));
    assert.deepEqual(mtuOf(world.a), [DIRECT, INNER]);
    world.a.setUplinks([fast]);
    world.simulation.run(20_000);
    assert.deepEqual(mtuOf(world.a), [1372, 1340]);
  });

  test('is not over a relay for a few bytes, but for what IPv6 needs', () => {
    for (const [bytes, way] of [
      [1340, 'direct'],
      [1300, 'relay'],
    ] as const) {
      const world = new PairWorld(11, 'public', 'public');
      limit(world, bytes);
      world.start();
      assert.ok(world.firstPacket() !== undefined);
      world.simulation.run(20_000);
      assert.deepEqual([world.pathOf(world.a), world.pathOf(world.b)], [way, way], `${bytes}`);
    }
  });
});

describe('a member that lies about what arrived', () => {
  /** What B says of the size of probes is what `lie` makes of it. */
  function lying(world: PairWorld, lie: (size: number) => number | undefined): void {
    const { internet } = world.simulation;
    const send = internet.send.bind(internet);
    internet.send = (sender, to, datagram) => {
      const frame = datagram[0] === 4 ? 0 : 16;
      const payload = frame + 16;
      const isAnswer =
        datagram.length === frame + 80 && datagram[payload] === 0xc0 && datagram[payload + 1] === 7;
      if (isAnswer && formatIp(sender.address.ip) === formatIp(world.b.address.ip)) {
        const view = new DataView(datagram.buffer, datagram.byteOffset);
        const said = lie(view.getUint16(payload + 38, true));
        if (said === undefined) return;
        view.setUint16(payload + 38, said, true);
      }
      send(sender, to, datagram);
    };
  }

  for (const [what, lie] of [
    ['all are larger', () => 65_535],
    ['all are tiny', () => 0],
    ['padded ones never came', (size) => (size > PADDED ? undefined : size)],
    ['now this, now that', (size) => (size * 7919) % 65_536],
  ] as const satisfies readonly (readonly [string, (size: number) => number | undefined])[])
    test(`is sent small datagrams at worst, and few probes: ${what}`, () => {
      const world = new PairWorld(12, 'public', 'public');
      lying(world, lie);
      const { sizes } = watch(world);
      talking(world);
      const transfer = new Transfer(world, world.a, world.b, 100);
      world.simulation.run(120_000);
      const [path = DIRECT] = mtuOf(world.a);
      assert.ok(path >= MIN_PLPMTU && path <= DIRECT, `${path}`);
      assert.ok(transfer.arrivedAt.length > 1000, 'data arrives all the same');
      assert.deepEqual(mtuOf(world.b), [DIRECT, INNER], 'nobody else is harmed');
      // Three paths of either side, those over relays seen twice, for two minutes and a half.
      const padded = sizes.filter((size) => size === BASE_PLPMTU || size >= DIRECT).length;
      assert.ok(padded < 3 * 5 * PROBES_PER_MINUTE + transfer.arrivedAt.length, `${padded}`);
    });
});
