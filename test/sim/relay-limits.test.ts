import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { encodeMessage } from '../../ts/core/control-message.js';
import { blindedNetworkId } from '../../ts/core/network.js';
import type { RelayStatus } from '../../ts/core/mesh-status.js';
import type { RelayLimits, RelayPolicy } from '../../ts/core/relay-policy.js';
import { PORT_RESTRICTED } from '../../ts/sim/nat.js';
import type { SimNode } from '../../ts/sim/simulation.js';
import { hex, ip, meshWorld, OPEN_POLICY, type MeshWorld } from './mesh-world.js';

function limited(limits: Partial<RelayLimits>): RelayPolicy {
  return { ...OPEN_POLICY, limits };
}

function relayStatus({ relay }: MeshWorld): RelayStatus {
  const status = relay.mesh.status(relay.step).relay;
  assert.ok(status);
  return status;
}

/** Four members; `sharing` puts them behind one NAT. */
function world(limits: Partial<RelayLimits>, sharing = false): { world: MeshWorld; nodes: SimNode[] } {
  const made = meshWorld({ seed: 9, count: 4, policy: limited(limits) });
  const { simulation, network } = made;
  const nat = simulation.nat(ip('198.19.0.1'), PORT_RESTRICTED);
  const nodes = sharing
    ? [1, 2, 3, 4].map((index) =>
        simulation.node({
          name: `shared-${index}`,
          address: { ip: ip(`10.0.0.${index}`), port: 51820 },
          nat,
          networks: [network],
          latencyMs: 10,
        }),
      )
    : [...made.members];
  made.relay.start();
  for (const node of nodes) node.start();
  simulation.run(1500);
  return { world: made, nodes };
}

function pingAll(nodes: readonly SimNode[]): void {
  for (const from of nodes)
    for (const to of nodes)
      try {
        if (from !== to) from.ping(to.identity);
      } catch {
        // not known: it could not register
      }
}

describe('every cap of a relay holds when it is crossed', () => {
  it('admissions in total', () => {
    const { world: made } = world({ admissions: 2 });
    assert.equal(relayStatus(made).admissions, 2);
    assert.ok((relayStatus(made).refusals['capacity'] ?? 0) >= 2);
  });

  it('admissions of one address', () => {
    const { world: made } = world({ admissionsPerPrefix: 3 }, true);
    assert.equal(relayStatus(made).admissions, 3);
    assert.ok((relayStatus(made).refusals['capacity'] ?? 0) >= 1);
  });

  it('admissions of one identity', () => {
    const made = meshWorld({
      seed: 10,
      count: 1,
      policy: limited({ admissionsPerIdentity: 1, leaseSeconds: 60 }),
    });
    const [first] = made.members;
    assert.ok(first);
    const twin = made.simulation.node({
      name: 'twin',
      address: { ip: ip('10.0.0.2'), port: 51820 },
      nat: made.simulation.nat(ip('198.19.0.1'), PORT_RESTRICTED),
      networks: [made.network],
      latencyMs: 10,
      identitySeed: first.config.identitySeed,
    });
    made.relay.start();
    first.start();
    twin.start();
    made.simulation.run(1500);
    assert.equal(relayStatus(made).admissions, 1);
    assert.ok((relayStatus(made).refusals['capacity'] ?? 0) >= 1);
  });

  it('registrations', () => {
    const { world: made } = world({ registrations: 2 });
    assert.equal(relayStatus(made).registrations, 2);
    assert.ok((relayStatus(made).refusals['capacity'] ?? 0) >= 2);
  });

  it('circuits in total', () => {
    const { world: made, nodes } = world({ circuits: 2 });
    pingAll(nodes);
    made.simulation.run(3000);
    assert.equal(relayStatus(made).circuits.length, 2);
    assert.ok((relayStatus(made).refusals['capacity'] ?? 0) > 0);
  });

  it('circuits of one identity, at either end', () => {
    const { world: made, nodes } = world({ circuitsPerIdentity: 1 });
    pingAll(nodes);
    made.simulation.run(3000);
    const ends = relayStatus(made).circuits.flatMap((circuit) => [
      circuit.callerPeerId,
      circuit.calleePeerId,
    ]);
    assert.ok(ends.length > 0);
    assert.equal(new Set(ends).size, ends.length);
    assert.ok((relayStatus(made).refusals['capacity'] ?? 0) > 0);
  });

  it('circuits opened from one address', () => {
    const { world: made, nodes } = world({ circuitsPerPrefix: 1 }, true);
    pingAll(nodes);
    made.simulation.run(3000);
    assert.equal(relayStatus(made).circuits.length, 1);
    assert.ok((relayStatus(made).refusals['capacity'] ?? 0) > 0);
  });

  it('circuits that wait for consent', () => {
    const { world: made, nodes } = world({ halfOpen: 1 });
    const [a, b, c, d] = nodes;
    assert.ok(a && b && c && d);
    c.kill();
    d.kill();
    a.ping(c.identity);
    b.ping(d.identity);
    made.simulation.run(1000);
    assert.equal(relayStatus(made).halfOpen, 1);
    assert.ok((relayStatus(made).refusals['capacity'] ?? 0) > 0);
    made.simulation.run(3500);
    assert.ok((relayStatus(made).refusals['callee-offline'] ?? 0) > 0, 'then the offer runs out');
  });

  it('the life of an admission without a session, and of a lease without renewal', () => {
    const { world: made, nodes } = world({ leaseSeconds: 60 });
    assert.equal(relayStatus(made).registrations, 4);
    nodes[0]?.kill();
    made.simulation.run(90_000);
    assert.equal(relayStatus(made).registrations, 3);
    assert.equal(relayStatus(made).admissions, 3);
    assert.equal(made.relay.engine.peerCount, 3);
  });

  it('the life of a circuit nobody uses, at the relay and at both ends', () => {
    const { world: made, nodes } = world({ circuitSeconds: 60 });
    const [a, b] = nodes;
    assert.ok(a && b);
    a.ping(b.identity);
    made.simulation.run(1000);
    assert.equal(relayStatus(made).circuits.length, 1);
    // Refreshed once at half its life, because it was new; then it lapses.
    made.simulation.run(120_000);
    assert.equal(relayStatus(made).circuits.length, 0);
    assert.equal(a.engine.legCount, 0);
    assert.equal(b.engine.legCount, 0);
    assert.equal(made.relay.engine.legCount, 1, 'the contact leg stays');
    const token = a.ping(b.identity);
    made.simulation.run(1000);
    assert.ok(
      a.pongs.some((pong) => pong.token === token),
      'and is opened again when it is needed',
    );
  });

  it('the messages of one client in a second', () => {
    const { world: made, nodes } = world({});
    const [a] = nodes;
    assert.ok(a);
    const lookup = { type: 'lookup', network: made.network.id, after: 0 } as const;
    const payloads = Array.from({ length: 500 }, (_, index) =>
      encodeMessage({ request: index + 1, message: lookup }),
    );
    a.apply(payloads.map((payload) => ({ type: 'send-control', peer: hex(made.relay.sessionKey), payload })));
    made.simulation.run(200);
    const { refusals } = relayStatus(made);
    assert.ok((refusals['message-rate'] ?? 0) > 200, 'more than a second of them at once');
    assert.ok((refusals['not-a-member'] ?? 0) >= 190, 'the others were answered');
  });

  it('the rate of a leg', () => {
    const { world: made, nodes } = world({ leg: { rate: { bytesPerSecond: 16_000, burstMs: 125 } } });
    const [a, b] = nodes;
    assert.ok(a && b);
    a.ping(b.identity);
    made.simulation.run(1000);
    for (let i = 0; i < 100; i++) a.ping(b.identity);
    made.simulation.run(1000);
    assert.ok((made.relay.engine.counters.get('drop_rate_limited') ?? 0) > 0);
    assert.ok(a.pongs.length > 1 && a.pongs.length < 100);
  });
});

describe('the policy of a relay', () => {
  const admitted = (
    policy: (made: MeshWorld) => RelayPolicy,
  ): { count: number; refusals: Record<string, number> } => {
    const draft = meshWorld({ seed: 12, count: 2 });
    const made = meshWorld({ seed: 12, count: 2, policy: policy(draft) });
    made.relay.start();
    for (const node of made.members) node.start();
    made.simulation.run(1500);
    const { admissions, refusals } = relayStatus(made);
    return { count: admissions, refusals: { ...refusals } };
  };

  it('serves the listed networks only', () => {
    const listed = admitted(({ simulation, network }) => ({
      ...OPEN_POLICY,
      serve: [blindedNetworkId(simulation.primitives, network.id)],
    }));
    assert.equal(listed.count, 2);
    const other = admitted(() => ({ ...OPEN_POLICY, serve: [new Uint8Array(16).fill(1)] }));
    assert.equal(other.count, 0);
    assert.ok((other.refusals['not-served'] ?? 0) >= 2);
  });

  it('denies identities by key, and admits only those allowed when there is such a list', () => {
    const first = (made: MeshWorld): Uint8Array => made.members[0]?.identity ?? new Uint8Array(32);
    const denied = admitted((made) => ({ ...OPEN_POLICY, deny: [first(made)] }));
    assert.equal(denied.count, 1);
    assert.ok((denied.refusals['denied'] ?? 0) >= 1);
    const allowed = admitted((made) => ({ ...OPEN_POLICY, allow: [first(made)] }));
    assert.equal(allowed.count, 1);
  });

  it('refuses a client at one of its own addresses', () => {
    const made = meshWorld({ seed: 13, count: 0 });
    const { simulation, relay, network } = made;
    relay.start();
    const outside = ip('198.19.0.1');
    const nat = simulation.nat(outside, PORT_RESTRICTED);
    const node = simulation.node({
      name: 'mirror',
      address: { ip: ip('10.0.0.2'), port: 51820 },
      nat,
      networks: [network],
      latencyMs: 10,
    });
    // The relay is told that the very address the client will be seen at is one of its own.
    const seen = nat.outbound(node.address, relay.address, simulation.now);
    relay.apply(relay.mesh.setEndpoints([relay.address, seen], relay.step));
    node.start();
    simulation.run(1500);
    assert.equal(relayStatus(made).admissions, 0);
    assert.ok((relayStatus(made).refusals['own-address'] ?? 0) >= 1);
  });
});
