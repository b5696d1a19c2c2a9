import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { STATEFUL } from '../../ts/sim/kernel/firewall.js';
import type { SimNode, SimUplink } from '../../ts/sim/mesh/simulation.js';
import { PairWorld } from '../../ts/sim/mesh/pair-world.js';
import { meshWorld } from './mesh-world.js';

const told = (node: SimNode, event: string): number =>
  node.notices.filter((each) => each.event === event).length;
const udpOf = (node: SimNode): string => node.mesh.status(node.step).udp;

describe('a node behind a firewall that blocks UDP', () => {
  test('says so within 3 s of its start, once, and says when it comes through', () => {
    const world = new PairWorld(1, 'public', 'public');
    const { simulation, a } = world;
    simulation.internet.blocked = (from, to) =>
      [from, to].some(({ ip }) => ip.join() === a.address.ip.join());
    for (const node of [...world.relays, world.b, a]) node.start();
    simulation.run(2000);
    assert.deepEqual([udpOf(a), told(a, 'udp-blocked')], ['waiting', 0]);
    simulation.run(1000);
    assert.deepEqual([udpOf(a), told(a, 'udp-blocked')], ['blocked', 1]);
    simulation.run(60_000);
    assert.deepEqual([told(a, 'udp-blocked'), told(a, 'udp-answered')], [1, 0]);
    simulation.internet.blocked = () => false;
    simulation.run(70_000);
    assert.deepEqual([udpOf(a), told(a, 'udp-blocked'), told(a, 'udp-answered')], ['answered', 1, 1]);
    assert.deepEqual([udpOf(world.b), told(world.b, 'udp-blocked')], ['answered', 0]);
  });

  test('says so within 3 s of the first packet that is not answered, when it is blocked later', () => {
    const world = new PairWorld(2, 'public', 'public');
    const { simulation, a } = world;
    world.start();
    assert.equal(udpOf(a), 'answered');
    simulation.internet.blocked = (from, to) =>
      [from, to].some(({ ip }) => ip.join() === a.address.ip.join());
    const asked = simulation.runUntil(() => udpOf(a) === 'waiting', 12_000);
    assert.ok(asked !== undefined);
    assert.ok((simulation.runUntil(() => udpOf(a) === 'blocked', 3000) ?? Infinity) < 3000);
  });

  test('does not say so while one relay answers, or a member is reached directly', () => {
    const world = new PairWorld(3, 'public', 'public');
    const { simulation, a } = world;
    world.talk(20);
    const relays = world.relays.map(({ address }) => address.ip.join());
    simulation.internet.blocked = (from, to) => [from, to].some(({ ip }) => ip.join() === relays[0]);
    simulation.run(20_000);
    assert.equal(told(a, 'udp-blocked'), 0);
    simulation.internet.blocked = (from, to) => [from, to].some(({ ip }) => relays.includes(ip.join()));
    simulation.run(20_000);
    assert.equal(told(a, 'udp-blocked'), 0);
  });

  test('does not say so when a relay has forgotten it, which answers as soon as it is asked for admission', () => {
    const { simulation, relay, members } = meshWorld({ seed: 6, count: 1 });
    const [node] = members;
    assert.ok(node);
    for (const each of [relay, node]) each.start();
    simulation.run(5000);
    relay.kill();
    relay.store.clear();
    relay.start();
    assert.ok(simulation.runUntil(() => udpOf(node) === 'waiting', 12_000) !== undefined);
    simulation.run(5000);
    assert.deepEqual(
      [udpOf(node), told(node, 'bootstrap-silent'), told(node, 'udp-blocked')],
      ['answered', 1, 0],
    );
  });

  test('that lets one UDP port out alone is none: the relay has that port', () => {
    const rules = { ...STATEFUL, allowedPorts: [51_820] };
    const uplink = (place: number): SimUplink[] => {
      const address = {
        ip: Uint8Array.from([...new Uint8Array(10), 255, 255, 198, 51, 100, place]),
        port: 51_820,
      };
      return [{ address, firewall: rules, link: {} }];
    };
    const world = new PairWorld(4, uplink(1), uplink(2));
    world.start();
    assert.ok(world.firstPacket() !== undefined);
    assert.ok(world.simulation.runUntil(() => world.bothDirect, 5000) !== undefined);
    assert.equal(told(world.a, 'udp-blocked'), 0);
  });

  test('that lets nothing in from members, its own LAN apart, is on the relay and loses nothing', () => {
    const world = new PairWorld(5, 'public', 'port-R');
    const { simulation, a, b } = world;
    const outside = b.nat?.ip.join();
    simulation.internet.blocked = (from, to) =>
      [from, to].some(({ ip }) => ip.join() === outside) &&
      [from, to].some(({ ip }) => ip.join() === a.address.ip.join());
    world.start();
    assert.ok(world.firstPacket() !== undefined);
    simulation.run(5000);
    assert.deepEqual([world.pathOf(a), world.pathOf(b)], ['relay', 'relay']);
    assert.equal(told(a, 'udp-blocked'), 0);
  });
});
