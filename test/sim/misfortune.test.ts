// What a person did, or a machine suffered: the node says what it is.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { MeshStatus } from '../../ts/core/runtime/mesh-status.js';
import { PORT_RESTRICTED } from '../../ts/sim/kernel/nat.js';
import type { SimNode } from '../../ts/sim/mesh/simulation.js';
import { OPEN_POLICY, allKnowAll, ip, meshWorld } from './mesh-world.js';

const DAY_MS = 86_400_000;
const statusOf = ({ mesh, step }: SimNode): MeshStatus => mesh.status(step);
const lastErrorOf = (node: SimNode): string | undefined => statusOf(node).bootstraps[0]?.lastError;

describe('a node says what keeps it from its relay:', () => {
  for (const [days, code] of [
    [-10, 'clock-behind'],
    [3, 'clock-ahead'],
  ] as const)
    it(`a clock that is ${Math.abs(days)} days ${days < 0 ? 'behind' : 'ahead'} is ${code}`, () => {
      const { simulation, relay, network } = meshWorld({ seed: 31, count: 0 });
      const node = simulation.node({
        name: 'astray',
        address: { ip: ip('10.0.0.2'), port: 51820 },
        nat: simulation.nat(ip('198.19.0.1'), PORT_RESTRICTED),
        networks: [network],
        latencyMs: 10,
        clockAheadMs: days * DAY_MS,
      });
      relay.start();
      node.start();
      simulation.run(3000);
      assert.equal(lastErrorOf(node), code);
      assert.ok(
        node.notices.some(
          ({ event, fields }) => event === 'bootstrap-unreachable' && fields['error'] === code,
        ),
      );
      assert.ok((statusOf(relay).relay?.refusals[code] ?? 0) > 0);
    });

  it('the keys of one machine on two are identity-twice, on one of them and on the relay', () => {
    const { simulation, relay, members, network } = meshWorld({ seed: 32, count: 1 });
    const [first] = members;
    assert.ok(first);
    const copy = simulation.node({
      name: 'copy',
      address: { ip: ip('10.0.0.2'), port: 51820 },
      nat: simulation.nat(ip('198.19.0.1'), PORT_RESTRICTED),
      networks: [network],
      latencyMs: 10,
      identitySeed: first.config.identitySeed,
      sessionPrivateKey: first.config.sessionPrivateKey,
    });
    relay.start();
    first.start();
    simulation.run(2000);
    copy.start();
    simulation.run(60_000);
    const errors = [...first.notices, ...copy.notices].map(({ fields }) => fields['error']);
    assert.ok(errors.includes('identity-twice'), JSON.stringify(errors));
    assert.ok(relay.notices.some(({ event }) => event === 'identity-twice'));
  });

  it('a node that restarts again and again is not taken for two', () => {
    const { simulation, relay, members } = meshWorld({ seed: 33, count: 1 });
    const [node] = members;
    assert.ok(node);
    relay.start();
    for (let life = 0; life < 5; life++) {
      node.start();
      simulation.run(5000);
      assert.equal(statusOf(node).bootstraps[0]?.state, 'registered');
      node.kill();
    }
    assert.deepEqual(
      relay.notices.filter(({ event }) => event === 'identity-twice'),
      [],
    );
  });
});

describe('a limit of the relay that is reached', () => {
  it('for admissions is no-room at who is turned away', () => {
    const { simulation, relay, members } = meshWorld({
      seed: 34,
      count: 2,
      policy: { ...OPEN_POLICY, limits: { admissions: 1 } },
    });
    relay.start();
    for (const node of members) node.start();
    simulation.run(2000);
    assert.deepEqual(
      members.map(lastErrorOf).filter((error) => error !== undefined),
      ['no-room'],
    );
  });

  it('for circuits is told of the member that cannot be reached, once in the log, until a circuit stands', () => {
    const { simulation, relay, members } = meshWorld({
      seed: 35,
      count: 3,
      policy: { ...OPEN_POLICY, limits: { circuits: 1 } },
    });
    relay.start();
    for (const node of members) node.start();
    assert.ok(simulation.runUntil(() => allKnowAll(members), 10_000));
    const [a, b, c] = members;
    assert.ok(a && b && c);
    a.ping(b.identity);
    simulation.run(1000);
    a.ping(c.identity);
    simulation.run(8000);
    const refused = (): Record<string, string | undefined> =>
      Object.fromEntries(
        statusOf(a).networks.flatMap((network) => network.members.map((m) => [m.name, m.refused])),
      );
    assert.deepEqual(refused(), { 'node-1': undefined, 'node-2': 'capacity' });
    const notices = a.notices.filter(({ event }) => event === 'circuit-refused');
    assert.deepEqual(
      notices.map(({ level, fields }) => [level, fields['reason']]),
      [['warn', 'capacity']],
    );
    relay.apply(relay.mesh.setRelayPolicy(OPEN_POLICY, relay.step));
    simulation.run(8000);
    assert.deepEqual(refused(), { 'node-1': undefined, 'node-2': undefined });
  });
});
