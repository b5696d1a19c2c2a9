import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { encodeMessage, type ControlMessage } from '../../ts/core/protocol/control-message.js';
import { REFUSALS } from '../../ts/core/protocol/refusal.js';
import { blindedNetworkId } from '../../ts/core/protocol/network.js';
import type { RelayStatus } from '../../ts/core/runtime/mesh-status.js';
import { CAPS, type RelayLimits } from '../../ts/core/relay/relay-limits.js';
import type { QuotaClass, RelayPolicy } from '../../ts/core/relay/relay-policy.js';
import { NO_QUOTA } from '../../ts/core/relay/relay-rules.js';
import { PORT_RESTRICTED } from '../../ts/sim/kernel/nat.js';
import type { SimNode } from '../../ts/sim/mesh/simulation.js';
import type { RateLimit } from '../../ts/wire/limits.js';
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
function world(
  limits: Partial<RelayLimits>,
  sharing = false,
  policy: Partial<RelayPolicy> = {},
): { world: MeshWorld; nodes: SimNode[] } {
  const made = meshWorld({ seed: 9, count: 4, policy: { ...limited(limits), ...policy } });
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
    assert.ok((relayStatus(made).refusals['admissions'] ?? 0) >= 2);
  });

  it('admissions of one address', () => {
    const { world: made } = world({ admissionsPerPrefix: 3 }, true);
    assert.equal(relayStatus(made).admissions, 3);
    assert.ok((relayStatus(made).refusals['admissions-per-prefix'] ?? 0) >= 1);
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
    assert.ok((relayStatus(made).refusals['admissions-per-identity'] ?? 0) >= 1);
  });

  it('registrations', () => {
    const { world: made } = world({ registrations: 2 });
    assert.equal(relayStatus(made).registrations, 2);
    assert.ok((relayStatus(made).refusals['registrations'] ?? 0) >= 2);
  });

  it('circuits in total', () => {
    const { world: made, nodes } = world({ circuits: 2 });
    pingAll(nodes);
    made.simulation.run(3000);
    assert.equal(relayStatus(made).circuits.length, 2);
    assert.ok((relayStatus(made).refusals['circuits'] ?? 0) > 0);
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
    assert.ok((relayStatus(made).refusals['circuits-per-identity'] ?? 0) > 0);
  });

  it('circuits opened from one address', () => {
    const { world: made, nodes } = world({ circuitsPerPrefix: 1 }, true);
    pingAll(nodes);
    made.simulation.run(3000);
    assert.equal(relayStatus(made).circuits.length, 1);
    assert.ok((relayStatus(made).refusals['circuits-per-prefix'] ?? 0) > 0);
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
    assert.ok((relayStatus(made).refusals['half-open'] ?? 0) > 0);
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
    const lookup = { type: 'lookup', network: made.network.id, after: 0, depth: 0 } as const;
    const payloads = Array.from({ length: 500 }, (_, index) =>
      encodeMessage({ request: index + 1, message: lookup }),
    );
    a.apply(payloads.map((payload) => ({ type: 'send-control', peer: hex(made.relay.sessionKey), payload })));
    made.simulation.run(200);
    const { refusals } = relayStatus(made);
    assert.ok((refusals['message-rate'] ?? 0) > 200, 'more than a second of them at once');
    assert.ok((refusals['not-a-member'] ?? 0) >= 190, 'the others were answered');
  });

  it('admissions for one network', () => {
    const { world: made, nodes } = world({ admissionsPerNetwork: 3 });
    assert.ok((relayStatus(made).refusals['admissions-per-network'] ?? 0) >= 1);
    const unable = nodes.filter(({ mesh, step }) => mesh.status(step).bootstraps[0]?.state === 'backoff');
    assert.equal(unable.length, 1, 'who came too late to show that he is in it is told so');
    assert.equal(unable[0]?.mesh.status(unable[0].step).bootstraps[0]?.lastError, 'capacity');
    made.simulation.run(65_000);
    assert.equal(relayStatus(made).admissions, 3);
  });

  it('circuits of one network', () => {
    const { world: made, nodes } = world({ circuitsPerNetwork: 2 });
    pingAll(nodes);
    made.simulation.run(3000);
    assert.equal(relayStatus(made).circuits.length, 2);
    assert.ok((relayStatus(made).refusals['circuits-per-network'] ?? 0) > 0);
  });

  it('circuits opened from one site', () => {
    const { world: made, nodes } = world({ circuitsPerSite: 2 });
    pingAll(nodes);
    made.simulation.run(3000);
    assert.equal(relayStatus(made).circuits.length, 2);
    assert.ok((relayStatus(made).refusals['circuits-per-site'] ?? 0) > 0);
  });

  for (const [of, limits] of [
    ['one address', { halfOpenPerPrefix: 1 }],
    ['one site', { halfOpenPerSite: 1 }],
  ] as const)
    it(`circuits of callers at ${of} that wait for consent`, () => {
      const { world: made, nodes } = world(limits, of === 'one address');
      const [a, b, c, d] = nodes;
      assert.ok(a && b && c && d);
      const other = memberElsewhere(made, 1);
      c.kill();
      d.kill();
      a.ping(c.identity);
      b.ping(d.identity);
      made.simulation.run(500);
      const cap = of === 'one address' ? 'half-open-per-prefix' : 'half-open-per-site';
      assert.equal(relayStatus(made).halfOpen, 1);
      assert.ok((relayStatus(made).refusals[cap] ?? 0) > 0);
      other.ping(d.identity);
      made.simulation.run(500);
      assert.equal(relayStatus(made).halfOpen, 2, 'and one of somebody elsewhere');
    });

  it('circuits of one caller that wait for consent', () => {
    const { world: made, nodes } = world({ halfOpenPerIdentity: 1 });
    const [a, b, c, d] = nodes;
    assert.ok(a && b && c && d);
    c.kill();
    d.kill();
    a.ping(c.identity);
    a.ping(d.identity);
    b.ping(d.identity);
    made.simulation.run(1000);
    assert.equal(relayStatus(made).halfOpen, 2, 'one of either caller');
    assert.ok((relayStatus(made).refusals['half-open-per-identity'] ?? 0) > 0);
  });
});

/** A member at a site of its own, started and registered. */
function memberElsewhere({ simulation, network }: MeshWorld, site: number): SimNode {
  const node = simulation.node({
    name: `elsewhere-${site}`,
    address: { ip: ip('10.0.0.2'), port: 51820 },
    nat: simulation.nat(ip(`203.0.${site}.1`), PORT_RESTRICTED),
    networks: [network],
    latencyMs: 10,
  });
  node.start();
  simulation.run(1500);
  return node;
}

describe('who has most of what a relay has no more of makes room for who has fewer', () => {
  const answered = (made: MeshWorld, from: SimNode, to: SimNode): boolean => {
    const token = from.ping(to.identity);
    made.simulation.run(2000);
    return from.pongs.some((pong) => pong.token === token);
  };

  for (const [what, cap, limits] of [
    ['circuits', 'circuits', { circuits: 4 }],
    ['circuits of one network', 'circuits-per-network', { circuitsPerNetwork: 4 }],
  ] as const)
    it(what, () => {
      const { world: made, nodes } = world(limits);
      const [a, b, c] = nodes;
      assert.ok(a && b && c);
      const other = memberElsewhere(made, 1);
      pingAll(nodes);
      made.simulation.run(3000);
      assert.equal(relayStatus(made).circuits.length, 4, 'one site has them all');
      assert.ok(answered(made, other, a) && answered(made, other, b), 'and leaves another its half');
      assert.equal(answered(made, other, c), false, 'of two that have as many neither makes room');
      assert.ok((relayStatus(made).refusals[cap] ?? 0) > 0);
      const { circuits } = relayStatus(made);
      assert.equal(circuits.length, 4);
      assert.equal(made.relay.engine.legCount, 9, 'the contact leg, and two of each circuit');
      const third = memberElsewhere(made, 2);
      assert.ok(answered(made, third, c), 'a third one has a place too');
    });

  it('but not where a cap was lowered: that throws nobody out', () => {
    const { world: made, nodes } = world({ circuits: 4 });
    const [a] = nodes;
    assert.ok(a);
    const other = memberElsewhere(made, 1);
    pingAll(nodes);
    made.simulation.run(3000);
    made.relay.apply(made.relay.mesh.setRelayPolicy(limited({ circuits: 2 }), made.relay.step));
    assert.equal(answered(made, other, a), false);
    assert.equal(relayStatus(made).circuits.length, 4);
  });

  it('circuits that wait for consent', () => {
    const { world: made, nodes } = world({ halfOpen: 2 });
    const [a, b, c, d] = nodes;
    assert.ok(a && b && c && d);
    const other = memberElsewhere(made, 1);
    c.kill();
    d.kill();
    a.ping(c.identity);
    a.ping(d.identity);
    made.simulation.run(500);
    assert.equal(relayStatus(made).halfOpen, 2);
    const { capacity = 0 } = relayStatus(made).refusals;
    const token = other.ping(b.identity);
    made.simulation.run(500);
    assert.ok(other.pongs.some((pong) => pong.token === token));
    assert.equal(relayStatus(made).refusals['capacity'], capacity + 1, 'who made room is told so');
  });
});

/** A class for everybody in no other. */
function quota(given: Partial<QuotaClass>): Partial<RelayPolicy> {
  return { classes: [{ ...NO_QUOTA, ...given }] };
}

/** Node 0 reaches node 1; then sends it 100 pings at once. */
function burst(policy: Partial<RelayPolicy>): { made: MeshWorld; nodes: SimNode[]; answered: number } {
  const { world: made, nodes } = world({}, false, policy);
  const [a, b] = nodes;
  assert.ok(a && b);
  a.ping(b.identity);
  made.simulation.run(1000);
  assert.equal(a.pongs.length, 1);
  for (let i = 0; i < 100; i++) a.ping(b.identity);
  made.simulation.run(1000);
  return { made, nodes, answered: a.pongs.length - 1 };
}

const SLOW: RateLimit = { packetsPerSecond: 20, burstMs: 1000 };

describe('every rate and cap of what is relayed holds when it is crossed, and is counted by its name', () => {
  const dropped = ({ relay }: MeshWorld, reason: string): number =>
    relay.engine.counters.get(`drop_${reason}`) ?? 0;

  const cases: readonly (readonly [string, Partial<RelayPolicy>, string])[] = [
    ['of a circuit, packets', quota({ circuit: { rate: SLOW } }), 'rate_limited'],
    [
      'of a circuit, bytes',
      quota({ circuit: { rate: { bytesPerSecond: 16_000, burstMs: 125 } } }),
      'rate_limited',
    ],
    ['of a circuit, bytes in all', quota({ circuit: { byteCap: 3000 } }), 'byte_cap'],
    ['of an identity', quota({ identity: SLOW }), 'identity_rate'],
    ['of a network', quota({ network: SLOW }), 'network_rate'],
    ['of a source prefix', { prefix: SLOW }, 'prefix_rate'],
    ['of the host', { host: SLOW }, 'host_rate'],
  ];
  for (const [name, policy, reason] of cases)
    it(name, () => {
      const { made, answered } = burst(policy);
      assert.ok(dropped(made, reason) > 0, `drop_${reason}`);
      assert.ok(answered < 60, `${answered} of 100`);
      const others = [...made.relay.engine.counters.keys()].filter((key) => key.startsWith('drop_'));
      assert.deepEqual(others, [`drop_${reason}`]);
    });

  it('of a class: for the identities it lists, and the networks, and nobody else', () => {
    const draft = world({});
    const [first] = draft.nodes;
    assert.ok(first);
    const slow = { ...NO_QUOTA, name: 'slow', circuit: { rate: SLOW } };
    const listed = burst({ classes: [{ ...slow, identities: [first.identity] }] });
    assert.ok(listed.answered < 60, 'the first node, by identity');
    const [, b] = listed.nodes;
    const [a] = listed.nodes;
    assert.ok(a && b);
    const before = dropped(listed.made, 'rate_limited');
    for (let i = 0; i < 100; i++) b.ping(a.identity);
    listed.made.simulation.run(1);
    listed.made.simulation.run(100);
    assert.ok(dropped(listed.made, 'rate_limited') > before, "the first node's answers are held back");
    const { accounts } = relayStatus(listed.made);
    assert.deepEqual(accounts.identities.map(({ quotaClass }) => quotaClass).sort(), ['default', 'slow']);

    const { simulation, network } = draft.world;
    const networks = [blindedNetworkId(simulation.primitives, network)];
    assert.ok(burst({ classes: [{ ...slow, networks }] }).answered < 60, 'by network');
    const elsewhere = burst({ classes: [{ ...slow, networks: [new Uint8Array(16).fill(1)] }] });
    assert.equal(elsewhere.answered, 100);
  });

  it('of a class: circuits of one identity', () => {
    const { world: made, nodes } = world({}, false, quota({ circuits: 1 }));
    pingAll(nodes);
    made.simulation.run(3000);
    assert.ok(relayStatus(made).circuits.length <= 2);
    assert.ok((relayStatus(made).refusals['circuits-per-identity'] ?? 0) > 0);
  });

  it('of a class: the time a circuit may last, refreshed or not, restarts of the relay included', () => {
    const { world: made, nodes } = world({ circuitSeconds: 100 }, false, quota({ seconds: 150 }));
    const [a, b] = nodes;
    assert.ok(a && b);
    a.ping(b.identity);
    made.simulation.run(1000);
    const first = relayStatus(made).circuits[0]?.id;
    assert.ok(first);
    const goOn = (seconds: number): void => {
      for (let i = 0; i < seconds; i += 5) {
        a.ping(b.identity);
        made.simulation.run(5000);
      }
    };
    goOn(60);
    made.relay.kill();
    made.relay.start();
    goOn(60);
    assert.equal(relayStatus(made).circuits[0]?.id, first, 'refreshed, and taken up after a restart');
    goOn(40);
    const { circuits, refusals } = relayStatus(made);
    assert.ok((refusals['circuit-time'] ?? 0) > 0);
    assert.ok(circuits.every(({ id }) => id !== first));
    const token = a.ping(b.identity);
    made.simulation.run(5000);
    assert.ok(
      a.pongs.some((pong) => pong.token === token),
      'and another is opened when it is needed',
    );
  });

  it('an account outlives the circuits it was charged for: opening anew gives no new burst', () => {
    const { made, nodes } = burst(quota({ identity: { packetsPerSecond: 1, burstMs: 4000 } }));
    const [a, b, c] = nodes;
    assert.ok(a && b && c);
    const before = dropped(made, 'identity_rate');
    for (const [index] of nodes.entries()) {
      const other = nodes[index];
      if (other !== undefined && other !== a) a.ping(other.identity);
    }
    made.simulation.run(500);
    for (let i = 0; i < 20; i++) a.ping(c.identity);
    made.simulation.run(500);
    assert.ok(dropped(made, 'identity_rate') > before);
  });

  it('every reason is there from the start, at zero', () => {
    const made = meshWorld({ seed: 9, count: 0 });
    made.relay.start();
    const { refusals } = relayStatus(made);
    for (const reason of [...REFUSALS, ...CAPS, 'message-rate', 'circuit-time', 'admission-bad-cookie'])
      assert.equal(refusals[reason], 0, reason);
    const { drops } = made.relay.mesh.status(made.relay.step);
    assert.equal(drops['record-bad-signature'], 0);
  });
});

describe('a policy that changes while the relay runs', () => {
  const change = ({ relay }: MeshWorld, policy: RelayPolicy): void =>
    relay.apply(relay.mesh.setRelayPolicy(policy, relay.step));

  /** Nodes 0 and 1 have a circuit. */
  function established(): { made: MeshWorld; a: SimNode; b: SimNode; sent: () => number } {
    const { world: made, nodes } = world({});
    const [a, b] = nodes;
    assert.ok(a && b);
    a.ping(b.identity);
    made.simulation.run(1000);
    const sent = (): number => {
      const before = a.pongs.length;
      for (let i = 0; i < 100; i++) a.ping(b.identity);
      made.simulation.run(1000);
      return a.pongs.length - before;
    };
    assert.equal(sent(), 100);
    return { made, a, b, sent };
  }

  it('gives standing circuits their new limits, and takes them away', () => {
    const { made, sent } = established();
    for (const policy of [
      quota({ circuit: { rate: SLOW } }),
      quota({ identity: SLOW }),
      quota({ network: SLOW }),
      { prefix: SLOW },
      { host: SLOW },
    ]) {
      change(made, { ...OPEN_POLICY, ...policy });
      assert.ok(sent() < 60, JSON.stringify(policy));
      change(made, OPEN_POLICY);
      made.simulation.run(5000);
      assert.equal(sent(), 100, 'unlimited again');
    }
    assert.equal(relayStatus(made).circuits.length, 1, 'the same circuit all the time');
  });

  it('moves a standing circuit into a class and out of it', () => {
    const { made, a, sent } = established();
    const slow = { ...NO_QUOTA, name: 'slow', circuit: { rate: SLOW }, identities: [a.identity] };
    change(made, { ...OPEN_POLICY, classes: [slow] });
    assert.ok(sent() < 60);
    change(made, { ...OPEN_POLICY, classes: [{ ...slow, identities: [] }] });
    assert.equal(sent(), 100);
  });

  it('shortens a standing circuit', () => {
    const { made } = established();
    change(made, { ...OPEN_POLICY, limits: { circuitSeconds: 60 } });
    const left = relayStatus(made).circuits[0]?.expiresInMs ?? 0;
    assert.ok(left <= 60_000, `${left} ms`);
  });

  it('ends what is denied, and what is not served any more, and tells the ends', () => {
    const { made, a, b } = established();
    change(made, { ...OPEN_POLICY, deny: [b.identity] });
    made.simulation.run(1000);
    assert.equal(relayStatus(made).circuits.length, 0);
    assert.equal(relayStatus(made).registrations, 3);
    assert.equal(a.engine.legCount, 0, 'the caller has been told');
    made.simulation.run(60_000);
    assert.ok((relayStatus(made).refusals['denied'] ?? 0) > 0, 'it comes back and is turned down');
    change(made, OPEN_POLICY);
    made.simulation.run(120_000);
    assert.equal(relayStatus(made).registrations, 4, 'and is let in again');

    change(made, { ...OPEN_POLICY, serve: [new Uint8Array(16).fill(1)] });
    made.simulation.run(1000);
    assert.equal(relayStatus(made).admissions, 0);
  });

  it('leaves those alone whom it still allows', () => {
    const { made, a, b } = established();
    change(made, { ...OPEN_POLICY, allow: [a.identity, b.identity] });
    assert.equal(relayStatus(made).circuits.length, 1);
    assert.equal(relayStatus(made).registrations, 2);
    const token = a.ping(b.identity);
    made.simulation.run(1000);
    assert.ok(a.pongs.some((pong) => pong.token === token));
  });

  it('lowers a cap: nobody is thrown out, nobody new comes in', () => {
    const { made } = established();
    change(made, { ...OPEN_POLICY, limits: { circuits: 1 } });
    const [, , c, d] = made.members;
    assert.ok(c && d);
    c.ping(d.identity);
    made.simulation.run(2000);
    assert.equal(relayStatus(made).circuits.length, 1);
    assert.ok((relayStatus(made).refusals['circuits'] ?? 0) > 0);
  });

  it('is refused whole when a part of it cannot be', () => {
    const { made, sent } = established();
    const wrong = { ...OPEN_POLICY, ...quota({ circuit: { rate: SLOW } }), host: { bytesPerSecond: 1 } };
    assert.throws(() => change(made, wrong), /host\.bytesPerSecond/);
    assert.equal(sent(), 100);
  });
});

it('a refusal, and an answer nobody waits for, are not answered', () => {
  const { world: made, nodes } = world({});
  const [a] = nodes;
  assert.ok(a);
  const heard = (): number => a.engine.counters.get('wireguard') ?? 0;
  const before = heard();
  const say = (message: ControlMessage): void =>
    a.apply([
      {
        type: 'send-control',
        peer: hex(made.relay.sessionKey),
        payload: encodeMessage({ request: 77, message }),
      },
    ]);
  say({ type: 'lookup', network: made.network.id, after: 0, depth: 0 });
  made.simulation.run(200);
  assert.equal(heard(), before + 1, 'a request is');
  for (const reason of REFUSALS) say({ type: 'refused', reason, what: 'refused' });
  say({ type: 'circuit-closed', circuit: new Uint8Array(16) });
  say({ type: 'membership-proven', network: made.network.id, proof: new Uint8Array(32) });
  made.simulation.run(200);
  assert.equal(heard(), before + 1);
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
      serve: [blindedNetworkId(simulation.primitives, network)],
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
