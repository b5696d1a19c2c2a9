import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { encodeMessage } from '../../ts/core/protocol/control-message.js';
import { blindedNetworkId } from '../../ts/core/protocol/network.js';
import { nodePrimitives } from '../../ts/engine/node-primitives.js';
import { toHex } from '../../ts/wire/bytes.js';
import { encodePeerId } from '../../ts/core/protocol/peer-id.js';
import { PORT_RESTRICTED } from '../../ts/sim/kernel/nat.js';
import type { SimNode } from '../../ts/sim/mesh/simulation.js';
import {
  allKnowAll,
  bootstrapOf,
  ip,
  meshWorld,
  OPEN_POLICY,
  PingRound,
  type MeshWorld,
} from './mesh-world.js';

function joined(world: MeshWorld): MeshWorld {
  world.relay.start();
  for (const node of world.members) node.start();
  assert.notEqual(
    world.simulation.runUntil(() => allKnowAll(world.members), 5000),
    undefined,
    'all join',
  );
  return world;
}

function pair(world: MeshWorld): [SimNode, SimNode] {
  const [a, b] = world.members;
  assert.ok(a && b);
  return [a, b];
}

function pings(world: MeshWorld, from: SimNode, to: SimNode, limitMs: number): number | undefined {
  return new PingRound(world, [[from, to]]).complete(limitMs);
}

describe('a member', () => {
  it('whose NAT forgot its mapping is challenged at its new address, and its circuits move there', () => {
    const world = joined(meshWorld({ seed: 1, count: 2 }));
    const [a, b] = pair(world);
    assert.ok(pings(world, a, b, 2000) !== undefined);
    b.nat?.reboot();
    assert.equal(pings(world, a, b, 1000), undefined, 'the old mapping is gone');
    const took = pings(world, a, b, 12_000);
    assert.ok(took !== undefined, 'reached within a keepalive');
    assert.ok(world.relay.notices.some(({ event }) => event === 'client-moved'));
  });

  it('killed and restarted is reached again, though its peers hold circuits of its former life', () => {
    const world = joined(meshWorld({ seed: 2, count: 2 }));
    const [a, b] = pair(world);
    assert.ok(pings(world, a, b, 2000) !== undefined);
    b.kill();
    world.simulation.run(500);
    b.start();
    const took = pings(world, a, b, 5000);
    assert.ok(took !== undefined && took < 5000, `${took} ms`);
  });

  it('that leaves the network is no longer pinged, and says so', () => {
    const world = joined(meshWorld({ seed: 3, count: 2 }));
    const [a, b] = pair(world);
    assert.ok(pings(world, a, b, 2000) !== undefined);
    a.apply(a.mesh.removeNetwork(world.network.id, a.step));
    assert.throws(() => a.ping(b.identity), /unknown-peer/);
    assert.equal(a.engine.peerCount, 0);
    assert.equal(a.engine.legCount, 0);
  });

  it('that knows the network id but not its key registers, and is told of nobody, nor is anybody of it', () => {
    const world = joined(meshWorld({ seed: 4, count: 2 }));
    const [a] = pair(world);
    const { simulation } = world;
    const stranger = simulation.node({
      name: 'stranger',
      address: { ip: ip('10.0.0.2'), port: 51820 },
      nat: simulation.nat(ip('198.19.0.1'), PORT_RESTRICTED),
      networks: [{ ...world.network, key: simulation.prng.bytes(32) }],
      latencyMs: 10,
    });
    stranger.start();
    simulation.run(1000);
    assert.equal(stranger.mesh.status(stranger.step).bootstraps[0]?.state, 'registered');
    for (const [from, to] of [
      [stranger, a],
      [a, stranger],
    ] as const)
      assert.throws(() => from.ping(to.identity), /unknown-peer/);
  });

  it('is still reached after hours, when leases, sessions and circuits have been renewed many times', () => {
    const world = joined(meshWorld({ seed: 5, count: 2 }));
    const [a, b] = pair(world);
    for (let minute = 0; minute < 150; minute++) {
      const token = a.ping(b.identity);
      world.simulation.run(60_000);
      assert.ok(
        a.pongs.some((pong) => pong.token === token),
        `after ${minute} minutes`,
      );
    }
    assert.equal(world.relay.mesh.status(world.relay.step).relay?.circuits.length, 1, 'all over one circuit');
  });
});

describe('a bootstrap that is a member itself', () => {
  it('is reached directly once both have proven that they know the network key', () => {
    const world = meshWorld({ seed: 6, count: 2 });
    world.relay.start([world.network]);
    for (const node of world.members) node.start();
    world.simulation.run(2000);
    const [a, b] = pair(world);
    const relayId = encodePeerId(world.relay.identity);
    const seen = a.mesh.status(a.step).networks[0]?.members.find(({ peerId }) => peerId === relayId);
    assert.equal(seen?.path, 'direct');
    const itself = world.relay.mesh.status(world.relay.step).networks[0];
    assert.deepEqual(
      itself?.members.map(({ path }) => path),
      ['direct', 'direct'],
    );
    assert.ok(pings(world, a, world.relay, 1000) !== undefined);
    assert.ok(pings(world, world.relay, b, 1000) !== undefined);
    assert.ok(pings(world, a, b, 2000) !== undefined);
  });

  it('does not know a client with another network key for a member, nor is it known to it', () => {
    const world = meshWorld({ seed: 7, count: 1 });
    const [a] = world.members;
    assert.ok(a);
    world.relay.start([world.network]);
    a.start([{ ...world.network, key: world.simulation.prng.bytes(32) }]);
    world.simulation.run(2000);
    for (const node of [a, world.relay])
      assert.deepEqual(node.mesh.status(node.step).networks[0]?.members, []);
  });

  it('takes no wrong proof of a client, and counts it', () => {
    const world = meshWorld({ seed: 7, count: 1 });
    const [a] = world.members;
    assert.ok(a);
    world.relay.start([world.network]);
    a.start();
    world.simulation.run(2000);
    const network = blindedNetworkId(nodePrimitives, world.network);
    const message = { type: 'prove-membership', network, proof: new Uint8Array(32) } as const;
    const payload = encodeMessage({ request: 9, message });
    a.apply([{ type: 'send-control', peer: toHex(world.relay.sessionKey), payload }]);
    world.simulation.run(200);
    assert.equal(world.relay.mesh.status(world.relay.step).drops['membership-proof'], 1);
  });
});

describe('two relays', () => {
  it('when one dies, members are reached through the other', () => {
    const world = meshWorld({ seed: 8, count: 2 });
    const { simulation, relay, members } = world;
    const second = simulation.node({
      name: 'relay-2',
      address: { ip: ip('192.0.2.2'), port: 51820 },
      relay: OPEN_POLICY,
      latencyMs: 2,
    });
    const network = { ...world.network, bootstraps: [bootstrapOf(relay), bootstrapOf(second)] };
    relay.start();
    second.start();
    for (const node of members) node.start([network]);
    simulation.run(2000);
    const [a, b] = pair(world);
    assert.ok(pings(world, a, b, 2000) !== undefined);
    relay.kill();
    const took = pings(world, a, b, 5000);
    assert.ok(took !== undefined && took < 4000, `${took} ms`);
    const member = a.mesh.status(a.step).networks[0]?.members[0];
    assert.equal(member?.relayPeerId, encodePeerId(second.identity));
  });

  it('that are each other’s clients outlive one of them, which is taken in again', () => {
    const world = meshWorld({ seed: 14, count: 0 });
    const { simulation, relay } = world;
    const second = simulation.node({
      name: 'relay-2',
      address: { ip: ip('192.0.2.2'), port: 51820 },
      relay: { ...OPEN_POLICY, limits: { leaseSeconds: 60 } },
      latencyMs: 2,
    });
    const network = { ...world.network, bootstraps: [bootstrapOf(relay), bootstrapOf(second)] };
    relay.start([network]);
    second.start([network]);
    simulation.run(3000);
    assert.ok(pings(world, relay, second, 1000) !== undefined);
    relay.kill();
    simulation.run(200_000);
    assert.equal(second.mesh.status(second.step).relay?.registrations, 0, 'the lease ran out');
    relay.start([network]);
    simulation.run(60_000);
    for (const node of [relay, second]) {
      assert.equal(node.mesh.status(node.step).bootstraps[0]?.state, 'registered');
      assert.equal(node.mesh.status(node.step).relay?.registrations, 1);
    }
    assert.ok(pings(world, second, relay, 1000) !== undefined);
  });
});
