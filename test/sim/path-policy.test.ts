import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { OPEN_POLICY, OPEN_RULES, type PathPolicy } from '../../ts/core/path/path-policy.js';
import { CandidateKind } from '../../ts/core/protocol/contact-candidate.js';
import { encodeMessage } from '../../ts/core/protocol/control-message.js';
import { encodePeerId } from '../../ts/core/protocol/peer-id.js';
import type { WayStatus } from '../../ts/core/runtime/way-status.js';
import { toHex } from '../../ts/wire/bytes.js';
import type { SimNode } from '../../ts/sim/mesh/simulation.js';
import { formatIp } from '../../ts/wire/socket-address.js';
import { ip } from './mesh-world.js';
import { keyOf, PairWorld, Stream, type Kind } from '../../ts/sim/mesh/pair-world.js';
import {
  active,
  by,
  decide,
  memberOf,
  over,
  PACKET,
  rules,
  send,
  to,
  twoUplinks,
  watchDirect,
} from './policy-world.js';

describe('direct-only', () => {
  /** Both behind NATs of this kind, and data of `a` goes directly. */
  function directOnly(seed: number, kind: Kind): PairWorld {
    const world = new PairWorld(seed, kind, kind, true, {}, rules({ use: 'direct-only' }));
    world.start();
    const { a, b, simulation } = world;
    a.sendInner(keyOf(b), PACKET);
    assert.ok(
      simulation.runUntil(() => world.pathOf(a) === 'direct' && !memberOf(a).barred, 3000) !== undefined,
    );
    return world;
  }

  test('brings data up by a direct path, and no relay carries any of it', () => {
    for (let seed = 1; seed <= 10; seed++) {
      const world = new PairWorld(seed, 'port-R', 'port-R', true, {}, rules({ use: 'direct-only' }));
      world.start();
      const { a, b, simulation } = world;
      const seen = watchDirect(world);
      // Whatever comes in without a direct datagram before came over a relay.
      a.sendInner(keyOf(b), PACKET);
      const opened = simulation.runUntil(() => world.pathOf(a) === 'direct', 3000);
      assert.ok(opened !== undefined, `seed ${seed}: ${memberOf(a).indirect}`);
      assert.equal(b.innerAt.length, 0, `seed ${seed}: the first packet went over the relay`);
      assert.ok(send(world, a, b, 1000) >= 49, `seed ${seed}`);
      assert.ok(seen.fromA.length >= 49);
      assert.equal(memberOf(a).barred, false);
      const ways = memberOf(a).ways.filter(({ kind }) => kind === 'relay');
      assert.deepEqual(new Set(ways.map(({ reason }) => reason)), new Set(['direct-only']));
    }
  });

  test('sends nothing when the direct path is dead, says why, and goes on when it lives', () => {
    for (let seed = 1; seed <= 10; seed++) {
      const world = directOnly(seed, 'port-R');
      const { a, b, simulation } = world;
      world.cut('both');
      const before = [a.innerAt.length, b.innerAt.length];
      send(world, a, b, 3000);
      send(world, b, a, 1000);
      assert.deepEqual([a.innerAt.length, b.innerAt.length], before, `seed ${seed}: data came over a relay`);
      assert.equal(memberOf(a).barred, true);
      assert.ok((a.engine.counters.get('drop_no_route') ?? 0) > 0);
      world.cut(undefined);
      const again = simulation.runUntil(() => !memberOf(a).barred && world.bothDirect, 120_000, 100);
      assert.ok(again !== undefined, `seed ${seed}`);
      assert.ok(send(world, a, b, 500) >= 24);
    }
  });

  test('goes on within seconds when the direct path was dead for a minute: what was spent on it is not held against it', () => {
    for (let seed = 1; seed <= 3; seed++) {
      const world = directOnly(seed, 'full');
      const { a, simulation } = world;
      world.cut('both');
      for (let second = 0; second < 75; second++) {
        simulation.run(1000);
        const proven = memberOf(a).ways.filter(({ rttMs }) => rttMs !== undefined);
        assert.ok(proven.length > 0);
        assert.ok(
          proven.every(({ reason }) => reason !== 'held-back'),
          `seed ${seed}`,
        );
      }
      assert.equal(memberOf(a).barred, true);
      const { refused } = a.mesh.pathBudget;
      world.cut(undefined);
      const again = simulation.runUntil(() => !memberOf(a).barred, 30_000, 100);
      assert.ok(again !== undefined && again < 8000, `seed ${seed}: ${again} ms`);
      assert.equal(a.mesh.pathBudget.refused, refused, `seed ${seed}`);
    }
  });

  test('where no NAT lets one through refuses data, and a ping is not answered over a relay', () => {
    const world = new PairWorld(3, 'symmetric', 'symmetric', true, {}, rules({ use: 'direct-only' }));
    world.start();
    const { a, b, simulation } = world;
    a.ping(b.identity);
    simulation.run(8000);
    assert.deepEqual([a.pongs.length, b.innerAt.length], [0, 0]);
    assert.deepEqual([memberOf(a).barred, memberOf(a).indirect], [true, 'both-nats']);
    // When nobody asks any more it is as at the beginning, and the next packet seeks again.
    assert.ok(simulation.runUntil(() => !memberOf(a).barred, 3_600_000, 10_000) !== undefined);
    const contacts = simulation.internet.datagrams;
    a.sendInner(keyOf(b), PACKET);
    simulation.run(3000);
    assert.ok(simulation.internet.datagrams > contacts);
    assert.deepEqual([memberOf(a).barred, b.innerAt.length], [true, 0]);
  });

  test('sends a ping that was asked for before there was a path as soon as there is one', () => {
    const world = new PairWorld(4, 'port-R', 'full', true, {}, rules({ use: 'direct-only' }));
    world.start();
    const { a, b, simulation } = world;
    a.ping(b.identity);
    assert.ok(simulation.runUntil(() => a.pongs.length > 0, 3000) !== undefined);
    assert.equal(world.pathOf(a), 'direct');
  });
});

describe('relay-only', () => {
  test('sends no probe, and nothing but over relays, whatever the member sends', () => {
    for (let seed = 1; seed <= 5; seed++) {
      // The other one can reach it: it is public, and says so in its record.
      const world = new PairWorld(seed, 'public', 'port-R', true, {}, rules({ use: 'relay-only' }));
      world.start();
      const { a, b, simulation } = world;
      const seen = watchDirect(world);
      assert.ok(world.firstPacket() !== undefined);
      const candidates = [{ kind: CandidateKind.host, address: { ip: ip('203.0.113.7'), port: 9 } }];
      for (const message of [{ type: 'contact', candidates } as const, { type: 'contact-begin' } as const])
        b.engine.sendControl([
          {
            peer: keyOf(a),
            payload: encodeMessage({ request: message.type === 'contact' ? 77 : 0, message }),
          },
        ]);
      // It sends its data straight to the other's address, as if it knew no better.
      b.engine.setPeers([
        {
          sessionKey: keyOf(a),
          presharedKey: undefined,
          allowedIps: ['100.64.0.1/32'],
          endpoint: { address: a.address },
          redirect: true,
          persistentKeepalive: 0,
        },
      ]);
      send(world, b, a, 1000);
      send(world, a, b, 1000);
      simulation.run(5000);
      assert.deepEqual(
        seen.fromA.filter((at) => at === '203.0.113.7'),
        [],
      );
      assert.equal(world.pathOf(a), 'relay', `seed ${seed}`);
      assert.equal(memberOf(a).indirect, 'relay-only');
      const toB = seen.fromA.length;
      send(world, a, b, 500);
      assert.equal(seen.fromA.length, toB, `seed ${seed}: data went to where the member was heard`);
    }
  });

  test('said while they talk directly ends it on both sides, and nothing is lost; taken back, they do again', () => {
    for (let seed = 1; seed <= 8; seed++) {
      const world = new PairWorld(seed, 'port-R', 'full');
      const streams = world.talk(20);
      decide(world.a, rules({ use: 'relay-only' }));
      world.simulation.run(2000);
      assert.deepEqual([world.pathOf(world.a), world.pathOf(world.b)], ['relay', 'relay'], `seed ${seed}`);
      assert.equal(memberOf(world.b).indirect, 'member-refuses');
      const seen = watchDirect(world);
      world.simulation.run(5000);
      assert.deepEqual(seen.fromA, [], `seed ${seed}`);
      assert.deepEqual(seen.fromB, [], `seed ${seed}`);
      decide(world.a, OPEN_POLICY);
      assert.ok(world.simulation.runUntil(() => world.bothDirect, 5000) !== undefined, `seed ${seed}`);
      world.simulation.run(500);
      for (const stream of streams) stream.stop();
      world.simulation.run(1000);
      assert.deepEqual(
        streams.map(({ lost }) => lost),
        [[], []],
        `seed ${seed}`,
      );
      const sessions = world.a.notices.filter(({ event }) => event === 'circuit-established');
      assert.equal(sessions.length <= 1, true, 'no circuit was needed for it');
    }
  });
});

describe('a decision while the node runs', () => {
  test('for relays alone leaves nothing known of ways that are not probed any more', () => {
    const world = new PairWorld(1, 'port-R', 'full');
    world.talk(20);
    decide(world.a, rules({ use: 'relay-only' }));
    for (let second = 0; second < 60; second++) {
      world.simulation.run(1000);
      assert.equal(active(world.a)?.kind, 'relay');
      assert.notEqual(active(world.a)?.state, 'dead', `after ${second} s`);
    }
  });

  test('taken back lets a member that knows of no paths roam again', () => {
    const world = new PairWorld(3, 'public', 'public', [true, false], {}, rules({ use: 'relay-only' }));
    world.start();
    assert.ok(world.firstPacket() !== undefined);
    assert.equal(world.pathOf(world.a), 'relay');
    const told: boolean[] = [];
    const { paths } = world.a.engine;
    const setPaths = paths.setPaths.bind(paths);
    paths.setPaths = (sets) => {
      told.push(...sets.map((set) => set.paths !== undefined));
      setPaths(sets);
    };
    decide(world.a, OPEN_POLICY);
    assert.deepEqual(told, [false]);
    assert.ok(send(world, world.a, world.b, 500) >= 24);
    assert.ok(send(world, world.b, world.a, 500) >= 24);
  });

  test('against the relays of a member leaves no circuit with it, whether it is reached directly or not at all', () => {
    for (const [kind, way] of [
      ['full', 'direct'],
      ['symmetric', 'none'],
    ] as const) {
      const world = new PairWorld(4, kind, kind);
      world.start();
      assert.ok(world.firstPacket() !== undefined);
      world.simulation.run(5000);
      decide(world.a, rules({ forbid: world.relays.map(over) }));
      world.simulation.run(way === 'direct' ? 1000 : 70_000);
      const relayed = memberOf(world.a).ways.filter(({ kind: each }) => each === 'relay');
      assert.deepEqual(relayed, [], kind);
      assert.equal(world.pathOf(world.a), way);
    }
  });

  test('against an interface leaves room for what is sent by others, however many addresses a member names', () => {
    const world = new PairWorld(5, twoUplinks(), 'public', true, {}, rules({ forbid: [by('eth1')] }));
    world.talk(20);
    let request = 1_000_000;
    const name = (hosts: readonly string[]): void => {
      const candidates = hosts.map((host) => ({
        kind: CandidateKind.host,
        address: { ip: ip(host), port: 9 },
      }));
      const payload = encodeMessage({ request: request++, message: { type: 'contact', candidates } });
      world.b.engine.sendControl([{ peer: keyOf(world.a), payload }]);
      world.simulation.run(5000);
    };
    for (let round = 0; round < 16; round++)
      name(Array.from({ length: 32 }, (_, n) => `203.0.${round}.${n + 1}`));
    world.simulation.run(61_000); // what may be sent at its word is a minute's
    const seen = watchDirect(world);
    const others = Array.from({ length: 8 }, (_, n) => `203.0.113.${n + 1}`);
    name(others);
    assert.deepEqual(
      others.filter((host) => !seen.fromA.includes(host)),
      [],
      'some are not tried',
    );
  });
});

describe('pinned, preferred and forbidden ways', () => {
  test('a pinned interface is used though another one is faster, and nothing else is when it is cut off', () => {
    const world = new PairWorld(1, twoUplinks(), 'public', true, {}, rules({ pin: [by('eth0')] }));
    world.talk(20);
    assert.equal(active(world.a)?.interface, 'eth0');
    const other = memberOf(world.a).ways.find((way) => way.interface === 'eth1');
    assert.equal(other?.reason, 'not-pinned');
    const proven = memberOf(world.b).ways.filter(
      ({ kind, state }) => kind === 'direct' && state === 'proven',
    );
    assert.deepEqual(
      proven.map(({ address }) => address),
      ['198.51.100.11:51820'],
      'the member finds no other way either',
    );
    world.a.links(0).forEach((link) => (link.model = { ...link.model, loss: 1 }));
    const before = world.b.innerAt.length;
    send(world, world.a, world.b, 3000);
    assert.equal(world.b.innerAt.length, before);
  });

  test('a preferred prefix is used before the faster way, and left for it when it dies', () => {
    const world = new PairWorld(
      2,
      'public',
      twoUplinks(),
      true,
      {},
      rules({ prefer: [to('198.51.100.11/32')] }),
    );
    world.talk(20);
    assert.equal(active(world.a)?.address, '198.51.100.11:51820');
    const faster = memberOf(world.a).ways.find(({ address }) => address === '198.51.100.12:51820');
    assert.equal(faster?.reason, 'not-preferred');
    decide(world.a, OPEN_POLICY);
    const left = world.simulation.runUntil(() => active(world.a)?.address === '198.51.100.12:51820', 60_000);
    assert.ok(left !== undefined, 'the faster one is used when nothing is preferred');
  });

  test('a forbidden prefix is sent nothing, though the member names it and sends from there, and finds no way there', () => {
    const world = new PairWorld(
      3,
      'public',
      twoUplinks(),
      true,
      {},
      rules({ forbid: [to('198.51.100.12/32')] }),
    );
    const seen = watchDirect(world);
    for (const stream of world.talk(20)) stream.stop();
    world.simulation.run(20_000);
    assert.equal(active(world.a)?.address, '198.51.100.11:51820');
    const before = seen.fromA.length;
    assert.ok(send(world, world.a, world.b, 2000) >= 99);
    const sent = seen.fromA.slice(before);
    assert.ok(sent.filter((at) => at === '198.51.100.11').length >= 100);
    assert.ok(!seen.fromA.includes('198.51.100.12'));
    const ways = memberOf(world.b).ways.filter((way) => way.kind === 'direct' && way.state === 'proven');
    assert.deepEqual(new Set(ways.map((way) => way.interface)), new Set(['eth0']));
    const out = memberOf(world.a).ways.find(({ address }) => address === '198.51.100.12:51820');
    assert.equal(out?.reason, 'forbidden');
  });

  test('a forbidden interface is not told of, and nothing leaves by it', () => {
    const world = new PairWorld(4, twoUplinks(), 'public', true, {}, rules({ forbid: [by('eth1')] }));
    world.talk(20);
    world.simulation.run(5000);
    assert.equal(active(world.a)?.interface, 'eth0');
    const named = memberOf(world.b).ways.map(({ address }) => address);
    assert.equal(named.includes('198.51.100.12:51820'), false, named.join(' '));
  });

  test('a forbidden relay gets no circuit, a preferred one the first, a pinned one alone', () => {
    const relays = ['relay-1', 'relay-2'];
    for (const [what, place] of [
      ['forbid', 1],
      ['prefer', 0],
      ['pin', 0],
    ] as const)
      for (const chosen of [0, 1]) {
        const world = new PairWorld(5, 'symmetric', 'symmetric');
        world.start();
        decide(world.a, rules({ [what]: [over(world.relays[chosen])] }));
        assert.ok(world.firstPacket() !== undefined);
        const used = memberOf(world.a).relayPeerId;
        const expected = world.relays[(chosen + place) % 2];
        assert.ok(expected);
        assert.equal(used, encodePeerId(expected.identity), `${what} ${relays[chosen]}`);
      }
  });

  test('a relay that is forbidden while it is used is left at once, and data goes on over another', () => {
    for (let seed = 1; seed <= 5; seed++) {
      const world = new PairWorld(seed, 'symmetric', 'symmetric');
      world.start();
      assert.ok(world.firstPacket() !== undefined);
      const used = memberOf(world.a).relayPeerId;
      const relay = world.relays.find(({ identity }) => encodePeerId(identity) === used);
      const other = world.relays.find((each) => each !== relay);
      decide(world.a, rules({ forbid: [over(relay)] }));
      assert.ok(memberOf(world.a).barred, 'nothing goes over it any more');
      const moved = world.simulation.runUntil(() => !memberOf(world.a).barred, 3000);
      assert.ok(moved !== undefined, `seed ${seed}`);
      assert.ok(send(world, world.a, world.b, 500) >= 24, `seed ${seed}`);
      assert.equal(memberOf(world.a).relayPeerId, encodePeerId(other?.identity ?? new Uint8Array(32)));
    }
  });

  test('a rule of one member does not count for another', () => {
    const world = new PairWorld(6, 'port-R', 'full');
    decideBeforeStart(
      world,
      new Map([
        [toHex(world.relays[0]?.identity ?? new Uint8Array(0)), { ...OPEN_RULES, use: 'relay-only' }],
      ]),
    );
    assert.equal(world.pathOf(world.a), 'direct');
    decide(world.a, {
      ...OPEN_POLICY,
      members: new Map([[toHex(world.b.identity), { ...OPEN_RULES, use: 'relay-only' }]]),
    });
    world.simulation.run(1000);
    assert.equal(world.pathOf(world.a), 'relay');
  });
});

/** Both talk, by rules that were there from the start. */
function decideBeforeStart(world: PairWorld, members: PathPolicy['members']): void {
  world.start();
  decide(world.a, { ...OPEN_POLICY, members });
  assert.ok(world.firstPacket() !== undefined);
  world.simulation.runUntil(() => world.bothDirect, 3000);
}

describe('interfaces', () => {
  test('a metered one is not used while another way works, and is when it is alone', () => {
    const world = new PairWorld(1, twoUplinks({ metered: true }), 'public');
    world.talk(20);
    assert.equal(active(world.a)?.interface, 'eth0');
    const metered = memberOf(world.a).ways.find((way) => way.interface === 'eth1');
    assert.equal(metered?.reason, 'metered');
    world.a.setUplinks(twoUplinks({ metered: true }).slice(1));
    const alone = world.simulation.runUntil(() => active(world.a)?.kind === 'direct', 10_000);
    assert.ok(alone !== undefined);
  });

  test('a metered one is not used while a relay is reached by another', () => {
    const world = new PairWorld(
      2,
      twoUplinks({ metered: true }),
      'public',
      true,
      {},
      rules({ forbid: [by('eth0')] }),
    );
    world.start();
    assert.ok(world.firstPacket() !== undefined);
    world.simulation.run(5000);
    assert.equal(active(world.a)?.kind, 'relay');
    assert.equal(memberOf(world.a).ways.find(({ state }) => state === 'proven')?.kind, 'relay');
    assert.ok(memberOf(world.a).ways.some(({ reason }) => reason === 'metered'));
  });

  test('a metered one gets no copies while there is a relay, and is used when all else is dead', () => {
    const uplinksOfB = [21, 22].map((n) => ({
      address: { ip: ip(`198.51.100.${n}`), port: 51_820 },
      link: {},
    }));
    const world = new PairWorld(6, twoUplinks({ metered: true }), uplinksOfB);
    world.talk(20);
    const standby = (): WayStatus | undefined =>
      memberOf(world.a).ways.find(({ role }) => role === 'standby' || role === 'duplicate');
    assert.equal(active(world.a)?.interface, 'eth0');
    assert.equal(standby()?.kind, 'relay');
    world.a.links(0).forEach((link) => (link.model = { ...link.model, loss: 1 }));
    const left = world.simulation.runUntil(() => active(world.a)?.interface === 'eth1', 3000);
    assert.ok(
      left !== undefined,
      memberOf(world.a)
        .ways.map(({ state }) => state)
        .join(' '),
    );
  });

  test('the one of higher priority is used though the other is faster', () => {
    const world = new PairWorld(3, twoUplinks({ priority: 5 }), 'public');
    world.talk(20);
    assert.equal(active(world.a)?.interface, 'eth0');
    assert.equal(memberOf(world.a).ways.find((way) => way.interface === 'eth1')?.reason, 'priority');
  });
});

describe('a path that loses data', () => {
  /** Direct datagrams from `a` are lost so often. */
  const lossy = (world: PairWorld, share: number): void => {
    const relays = world.relays.map(({ address }) => formatIp(address.ip));
    world.simulation.internet.blocked = (from, target) =>
      !relays.includes(formatIp(from.ip)) &&
      !relays.includes(formatIp(target.ip)) &&
      world.simulation.prng.fraction() < share;
  };

  test('is left for the relay within 10 s when it loses a quarter, and kept when it loses a twentieth', () => {
    for (const [share, way] of [
      [0.25, 'relay'],
      [0.05, 'direct'],
    ] as const) {
      const world = new PairWorld(7, 'port-R', 'full');
      world.talk(10);
      lossy(world, share);
      if (way === 'relay')
        assert.ok(world.simulation.runUntil(() => world.pathOf(world.a) === 'relay', 12_000) !== undefined);
      else world.simulation.run(30_000);
      assert.equal(world.pathOf(world.a), way, `${share}`);
    }
  });

  test('whatever a member reports, the rules hold', () => {
    const world = new PairWorld(8, twoUplinks(), 'public', true, {}, rules({ pin: [by('eth0')] }));
    world.talk(20);
    const path = active(world.a);
    assert.ok(path !== undefined);
    for (let at = 1; at <= 20; at++) {
      world.a.apply(
        [1, 2, 3].flatMap((id) =>
          world.a.mesh.handleEngineEvent(
            { type: 'path-report', peer: keyOf(world.b), path: id, sent: at * 1000, received: at },
            world.a.step,
          ),
        ),
      );
      world.simulation.run(1000);
      assert.equal(active(world.a)?.interface ?? 'eth0', 'eth0');
      assert.notEqual(memberOf(world.a).path, 'relay');
    }
  });
});

describe('the budget of addresses that have not answered', () => {
  test('is not spent by an address that answers by another interface', () => {
    const world = new PairWorld(9, twoUplinks(), 'public');
    world.start();
    const stream = new Stream(world, world.a, world.b, 1000);
    assert.ok(world.simulation.runUntil(() => world.bothDirect, 5000) !== undefined);
    const before = world.a.mesh.pathBudget;
    // Its second interface comes and goes: each time it has to prove itself towards the same address.
    for (let round = 0; round < 30; round++) {
      world.a.setUplinks(twoUplinks().slice(0, 1));
      world.simulation.run(200);
      world.a.setUplinks(twoUplinks());
      world.simulation.run(1500);
    }
    stream.stop();
    assert.equal(world.a.mesh.pathBudget.refused, before.refused);
    assert.ok(memberOf(world.a).ways.filter(({ state }) => state === 'proven').length >= 2);
  });
});

describe('an order of interfaces for the control plane', () => {
  /** Two interfaces of `a`, the second metered, and first for the control plane. */
  function ordered(seed: number): PairWorld {
    const uplinks = twoUplinks({ metered: true, controlPriority: 0 });
    const [first, second] = uplinks;
    assert.ok(first && second);
    const world = new PairWorld(seed, [{ ...first, controlPriority: 1 }, second], 'public');
    world.talk(50).forEach((stream) => {
      stream.stop();
    });
    return world;
  }
  const ways = (node: SimNode): readonly WayStatus[] => memberOf(node).ways;
  const control = (node: SimNode): WayStatus | undefined => ways(node).find((way) => way.control === true);
  /** Datagrams of `a` past the relays, by the interface they left by. */
  const count = (world: PairWorld): Map<string, number> => {
    const sent = new Map<string, number>();
    const before = world.simulation.internet.blocked;
    world.simulation.internet.blocked = (from, target, bytes) => {
      if (formatIp(target.ip) === formatIp(world.b.address.ip))
        sent.set(formatIp(from.ip), (sent.get(formatIp(from.ip)) ?? 0) + 1);
      return before(from, target, bytes);
    };
    return sent;
  };
  const [DATA, CONTROL] = ['198.51.100.11', '198.51.100.12'];

  test('data goes by one, messages by another, each by the first of its order, idle or not', () => {
    for (let seed = 1; seed <= 5; seed++) {
      const world = ordered(seed);
      const { a, b, simulation } = world;
      assert.ok(simulation.runUntil(() => control(a) !== undefined, 5000) !== undefined, `seed ${seed}`);
      assert.deepEqual([active(a)?.interface, control(a)?.interface], ['eth0', 'eth1']);
      simulation.run(1000);
      const sent = count(world);
      for (let n = 0; n < 100; n++) {
        a.ping(b.identity);
        simulation.run(10);
      }
      simulation.run(500);
      assert.ok((sent.get(CONTROL) ?? 0) >= 100, `seed ${seed}: ${JSON.stringify([...sent])}`);
      assert.ok((sent.get(DATA) ?? 0) < 20, `seed ${seed}: ${JSON.stringify([...sent])}`);
      sent.clear();
      assert.equal(send(world, a, b, 2000), 100);
      assert.ok((sent.get(DATA) ?? 0) >= 100, `seed ${seed}: ${JSON.stringify([...sent])}`);
      assert.ok((sent.get(CONTROL) ?? 0) < 20, `seed ${seed}: ${JSON.stringify([...sent])}`);
      // Without data the way is known to work all the same.
      simulation.run(100_000);
      assert.equal(control(a)?.interface, 'eth1', `seed ${seed}`);
    }
  });

  test('messages go as data does when their way is dead, and come back to it', () => {
    for (let seed = 1; seed <= 5; seed++) {
      const world = ordered(seed);
      const { a, b, simulation } = world;
      assert.ok(simulation.runUntil(() => control(a) !== undefined, 5000) !== undefined);
      const of = (ip: Uint8Array): boolean => formatIp(ip) === CONTROL;
      simulation.internet.blocked = (from, target) => of(from.ip) || of(target.ip);
      const { length } = a.pongs;
      let took: number | undefined;
      for (let n = 0; n < 100 && took === undefined; n++) {
        a.ping(b.identity);
        took = simulation.runUntil(() => a.pongs.length > length, 200, 5) && n * 200;
      }
      // A ping that is not answered has the ways probed.
      assert.ok(took !== undefined && took <= 5000, `seed ${seed}: ${took}`);
      assert.equal(control(a), undefined);
      simulation.internet.blocked = () => false;
      assert.ok(simulation.runUntil(() => control(a) !== undefined, 120_000) !== undefined, `seed ${seed}`);
    }
  });

  test('without one, nothing is told apart', () => {
    const world = new PairWorld(1, twoUplinks({ metered: true }), 'public');
    for (const stream of world.talk(50)) stream.stop();
    world.simulation.run(5000);
    assert.equal(control(world.a), undefined);
  });
});
