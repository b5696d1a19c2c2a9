import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { OPEN_POLICY } from '../../ts/core/path/path-policy.js';
import { PORT_RESTRICTED } from '../../ts/sim/kernel/nat.js';
import type { SimNode, SimUplink } from '../../ts/sim/mesh/simulation.js';
import { formatIp, formatSocketAddress } from '../../ts/wire/socket-address.js';
import { ip } from './mesh-world.js';
import { PairWorld } from '../../ts/sim/mesh/pair-world.js';
import { by, decide, memberOf, rules, twoUplinks } from './policy-world.js';

const noticesOf = (node: SimNode): string[] =>
  node.notices
    .map(({ event }) => event)
    .filter((event) => event === 'path-direct' || event === 'path-relayed');

const filteringOf = (node: SimNode): string => {
  const { filtering } = node.mesh.status(node.step).nat.find(({ family }) => family === 'ipv4') ?? {};
  return filtering !== undefined && 'unknown' in filtering ? filtering.unknown : 'known';
};

/** An uplink of `a` behind a NAT of its own. */
function natted(world: PairWorld, place: number): SimUplink {
  const nat = world.simulation.nat(ip(`198.18.1.${place}`), PORT_RESTRICTED);
  return { address: { ip: ip(`10.1.${place}.2`), port: 51_820 }, nat, link: {} };
}

describe('what is said of the ways to a member', () => {
  test('is announced when the interface of the direct path goes, and when the member ends it', () => {
    const world = new PairWorld(1, twoUplinks(), 'port-R', true, {}, rules({ forbid: [by('eth1')] }));
    world.talk(20);
    assert.deepEqual(noticesOf(world.a), ['path-direct']);
    world.a.setUplinks(twoUplinks().slice(1));
    assert.deepEqual(noticesOf(world.a), ['path-direct', 'path-relayed']);

    const other = new PairWorld(2, 'port-R', 'full');
    other.talk(20);
    assert.deepEqual(noticesOf(other.b), ['path-direct']);
    decide(other.a, rules({ use: 'relay-only' }));
    other.simulation.run(1000);
    assert.deepEqual(noticesOf(other.b), ['path-direct', 'path-relayed']);
  });

  test('leaves out where a NAT in front of a forbidden interface is seen', () => {
    for (const forbidden of [true, false]) {
      const world = new PairWorld(3, 'public', 'public');
      world.start();
      // Relays are reached by the first of them, and see its NAT.
      world.a.setUplinks([natted(world, 1), natted(world, 2)]);
      decide(world.a, forbidden ? rules({ forbid: [by('eth0')] }) : OPEN_POLICY);
      world.simulation.run(2000);
      assert.deepEqual(
        new Set(world.a.mesh.observed.map(({ ip: at }) => formatIp(at))),
        new Set(['198.18.1.1']),
      );
      const sent: string[] = [];
      const { internet } = world.simulation;
      internet.blocked = (from, target) => {
        if (formatIp(from.ip) === '198.51.100.2') sent.push(formatSocketAddress(target).replace(/:\d+$/, ''));
        return false;
      };
      assert.ok(world.firstPacket() !== undefined);
      world.simulation.run(5000);
      assert.equal(sent.includes('198.18.1.1'), !forbidden, sent.join(' '));
      assert.ok(sent.includes('198.18.1.2'), 'by the other interface it was reached');
    }
  });
});

describe('a decision for relays alone', () => {
  test('that comes while the member is asked for a contact ends what the member agrees to', () => {
    for (let seed = 1; seed <= 12; seed++) {
      const world = new PairWorld(seed, 'full', 'full');
      world.start();
      world.a.ping(world.b.identity);
      // At some moment between the question and the direct path.
      const asked = world.simulation.runUntil(() => memberOf(world.a).indirect === 'seeking', 3000, 1);
      assert.ok(asked !== undefined);
      world.simulation.run(seed * 8);
      decide(world.a, rules({ use: 'relay-only' }));
      world.simulation.run(10_000);
      assert.deepEqual([world.pathOf(world.a), world.pathOf(world.b)], ['relay', 'relay'], `seed ${seed}`);
      assert.equal(memberOf(world.a).indirect, 'relay-only');
      const proven = memberOf(world.b).ways.filter(({ state }) => state === 'proven');
      assert.deepEqual(
        proven.filter(({ kind }) => kind === 'direct'),
        [],
        `seed ${seed}: it was answered`,
      );
      assert.ok(memberOf(world.a).ways.every(({ kind, state }) => kind === 'relay' || state !== 'proven'));
    }
  });
});

describe('a probe by no path', () => {
  test('leaves by the interface its rule was looked up for, whatever routing would choose', () => {
    const from: string[] = [];
    const tried = [1, 2, 3, 4].map((seed) => {
      const world = new PairWorld(seed, twoUplinks(), 'port-R', true, {}, rules({ forbid: [by('eth1')] }));
      world.start();
      const { paths } = world.a.engine;
      const sendProbes = paths.sendProbes.bind(paths);
      paths.sendProbes = (probes) => {
        for (const { to } of probes)
          if ('address' in to.remote) from.push(to.local === undefined ? 'any' : formatIp(to.local.ip));
        sendProbes(probes);
      };
      // Its NAT wants to know whom it lets in, and asks for such a probe.
      world.b.ping(world.a.identity);
      world.simulation.run(3000);
      return filteringOf(world.b);
    });
    assert.ok(
      tried.some((finding) => finding !== 'not-tried'),
      tried.join(' '),
    );
    assert.deepEqual(new Set(from), new Set(['198.51.100.11']));
  });
});
