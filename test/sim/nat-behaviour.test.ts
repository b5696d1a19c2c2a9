// What a node finds out of the NAT or firewall in front of it, from two relays and whoever it meets.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { decodeControlFrame } from '../../ts/core/protocol/control-frame.js';
import { decodeMessage } from '../../ts/core/protocol/control-message.js';
import { NatBehaviour, openPeerRecord } from '../../ts/core/protocol/peer-record.js';
import type { NatStatus } from '../../ts/core/runtime/nat-status.js';
import type { Network } from '../../ts/core/protocol/network.js';
import { STATEFUL } from '../../ts/sim/kernel/firewall.js';
import { PORT_RESTRICTED, type NatBehaviourModel } from '../../ts/sim/kernel/nat.js';
import { Simulation, type SimNode, type SimUplink } from '../../ts/sim/mesh/simulation.js';
import { bootstrapOf, ip, OPEN_POLICY } from './mesh-world.js';
import { PairWorld, type Kind } from '../../ts/sim/mesh/pair-world.js';

const PORT = 51_820;

const natOf = (node: SimNode, family: NatStatus['family'] = 'ipv4'): NatStatus => {
  const report = node.mesh.status(node.step).nat.find((each) => each.family === family);
  assert.ok(report);
  return report;
};

describe('two relays show', () => {
  const EXPECTED: readonly (readonly [Kind, Pick<NatStatus, 'translation' | 'mapping' | 'ports'>])[] = [
    [
      'public',
      {
        translation: { value: 'none' },
        mapping: { value: 'endpoint-independent' },
        ports: { value: 'preserving' },
      },
    ],
    ...(['full', 'addr-R', 'port-R'] as const).map(
      (kind) =>
        [
          kind,
          {
            translation: { value: 'nat44' },
            mapping: { value: 'endpoint-independent' },
            ports: { unknown: 'one-mapping' },
          },
        ] as const,
    ),
    ...(['preserving', 'sequential', 'random'] as const).map(
      (ports) =>
        [
          ports === 'random' ? 'symmetric' : ports,
          {
            translation: { value: 'nat44' },
            mapping: { unknown: 'no-second-port' },
            ports: { value: ports },
          },
        ] as const,
    ),
  ];
  for (const [kind, expected] of EXPECTED)
    test(`what maps addresses in front of a node: ${kind}`, () => {
      for (let seed = 1; seed <= 5; seed++) {
        const world = new PairWorld(seed, kind, 'public');
        world.start();
        const { translation, mapping, ports, observers } = natOf(world.a);
        assert.deepEqual({ translation, mapping, ports }, expected, `seed ${seed}`);
        assert.equal(observers, 2);
      }
    });

  test('that a NAT within a NAT is as the outer one, where that depends on the destination', () => {
    const world = new PairWorld(1, 'public', 'public');
    const outer = world.simulation.nat(ip('198.18.9.1'), {
      ...PORT_RESTRICTED,
      mapping: 'address-and-port-dependent',
    });
    const inner = world.simulation.nat(ip('100.64.0.2'), PORT_RESTRICTED, outer);
    world.a.setUplinks([{ address: { ip: ip('10.0.1.2'), port: PORT }, nat: inner }]);
    world.start();
    const { mapping, seen } = natOf(world.a);
    assert.deepEqual(mapping, { unknown: 'no-second-port' });
    assert.ok(
      seen.every((each) => each.startsWith('198.18.9.1:')),
      seen.join(' '),
    );
  });

  test('that a NAT has restarted, and then what it is like now', () => {
    for (let seed = 1; seed <= 5; seed++) {
      const world = new PairWorld(seed, 'port-R', 'public');
      world.start();
      const before = natOf(world.a).seen;
      world.simulation.run(20_000);
      world.a.nat?.reboot();
      world.simulation.run(15_000);
      const { seen, mapping } = natOf(world.a);
      assert.notDeepEqual(seen, before, `seed ${seed}`);
      assert.deepEqual([seen.length, mapping], [1, { value: 'endpoint-independent' }], `seed ${seed}`);
    }
  });
});

test('what the record says of the NAT is what was found', () => {
  const said = (['public', 'port-R', 'symmetric'] as const).map((kind) => {
    const { relays, a, simulation } = new PairWorld(1, kind, 'public');
    for (const node of [...relays, a]) node.start();
    let nat: number | undefined;
    const { engine } = a;
    const sendControl = engine.sendControl.bind(engine);
    engine.sendControl = (messages) => {
      for (const { payload } of messages) {
        const message = decodeMessage(decodeControlFrame(payload)?.body ?? new Uint8Array(0))?.message;
        if (message?.type !== 'register') continue;
        const record = openPeerRecord(simulation.primitives, message.record, a.step.wallClock);
        if (typeof record !== 'string') nat = record.nat;
      }
      sendControl(messages);
    };
    simulation.run(5000);
    return nat;
  });
  assert.deepEqual(said, [
    NatBehaviour.none,
    NatBehaviour.endpointIndependent,
    NatBehaviour.addressAndPortDependent,
  ]);
});

describe('an IPv6 address', () => {
  /** A node with these uplinks, and two relays that have IPv6 alone. */
  const nodeWith = (uplinks: (simulation: Simulation) => SimUplink[]): SimNode => {
    const simulation = new Simulation({ seed: 1 });
    const relays = [1, 2].map((place) =>
      simulation.node({
        name: `relay-${place}`,
        address: { ip: ip(`2001:db8:${place + 8}::1`), port: PORT },
        relay: OPEN_POLICY,
        latencyMs: 5,
      }),
    );
    const network: Network = {
      id: simulation.prng.bytes(16),
      name: 'home',
      key: simulation.prng.bytes(32),
      bootstraps: relays.map(bootstrapOf),
    };
    const made = uplinks(simulation);
    const [{ address } = { address: { ip: ip('::1'), port: PORT } }] = made;
    const node = simulation.node({ name: 'a', address, uplinks: made, networks: [network], latencyMs: 10 });
    for (const each of [...relays, node]) each.start();
    simulation.run(3000);
    return node;
  };

  test('that others see as it is is not taken for open', () => {
    const address = { ip: ip('2001:db8:1::5'), port: PORT };
    const { translation, filtering } = natOf(
      nodeWith(() => [{ address, firewall: STATEFUL }]),
      'ipv6',
    );
    assert.deepEqual([translation, filtering], [{ value: 'none' }, { unknown: 'not-tried' }]);
  });

  test('behind a NAT66 is told from one that is not', () => {
    const node = nodeWith((simulation) => [
      {
        address: { ip: ip('fd00::5'), port: PORT },
        nat: simulation.nat(ip('2001:db8:1::1'), PORT_RESTRICTED),
      },
    ]);
    const { translation, mapping } = natOf(node, 'ipv6');
    assert.deepEqual([translation, mapping], [{ value: 'nat66' }, { value: 'endpoint-independent' }]);
  });
});

describe('members that were never sent to show', () => {
  /** A node with one uplink, two relays, and members it has not spoken to. */
  const worldOf = (seed: number, uplink: (simulation: Simulation) => SimUplink, family: 'ipv4' | 'ipv6') => {
    const simulation = new Simulation({ seed });
    const at = (net: number, place: number): Uint8Array =>
      ip(family === 'ipv4' ? `192.0.${net}.${place}` : `2001:db8:${net}::${place}`);
    const relays = [1, 2].map((place) =>
      simulation.node({
        name: `relay-${place}`,
        address: { ip: at(2, place), port: PORT },
        relay: { ...OPEN_POLICY, limits: { circuits: 64, admissions: 64 } },
        latencyMs: 5,
      }),
    );
    const network: Network = {
      id: simulation.prng.bytes(16),
      name: 'home',
      key: simulation.prng.bytes(32),
      bootstraps: relays.map(bootstrapOf),
    };
    const member = (name: string, one: SimUplink): SimNode =>
      simulation.node({
        name,
        address: one.address,
        uplinks: [one],
        networks: [network],
        latencyMs: simulation.prng.integer(2, 40),
        directPaths: true,
      });
    const others = [1, 2, 3, 4, 5, 6].map((place) =>
      member(`other-${place}`, { address: { ip: at(3 + place, 7), port: PORT } }),
    );
    const node = member('node', uplink(simulation));
    for (const each of [...relays, ...others, node]) each.start();
    simulation.run(3000);
    return { simulation, node, others };
  };

  /** Speaks to one after the other. */
  const filteringAfter = (
    seed: number,
    uplink: (simulation: Simulation) => SimUplink,
    family: 'ipv4' | 'ipv6' = 'ipv4',
  ): NatStatus['filtering'] => {
    const { simulation, node, others } = worldOf(seed, uplink, family);
    for (const [index, other] of others.entries()) {
      // Either may begin.
      if (index % 2 === 0) node.ping(other.identity);
      else other.ping(node.identity);
      simulation.run(3000);
    }
    return natOf(node, family).filtering;
  };

  const behind =
    (model: Partial<NatBehaviourModel>) =>
    (simulation: Simulation): SimUplink => ({
      address: { ip: ip('10.0.1.2'), port: PORT },
      nat: simulation.nat(ip('198.18.0.1'), { ...PORT_RESTRICTED, ...model }),
    });
  const DEPENDENCES = ['endpoint-independent', 'address-dependent', 'address-and-port-dependent'] as const;

  /** Of two that meet only one finds out: right or not yet, and mostly right after six. */
  const assertFound = (
    filtering: (typeof DEPENDENCES)[number],
    found: readonly NatStatus['filtering'][],
  ): void => {
    const known = found.flatMap((each) => ('value' in each ? [each.value] : []));
    assert.deepEqual(new Set(known), new Set([filtering]));
    assert.ok(known.length >= 0.6 * found.length, JSON.stringify(found));
  };
  const SEEDS = [1, 2, 3, 4, 5, 6];

  for (const filtering of DEPENDENCES)
    test(`who a NAT lets in: ${filtering}`, () => {
      assertFound(
        filtering,
        SEEDS.map((seed) => filteringAfter(seed, behind({ filtering }))),
      );
    });

  for (const filtering of DEPENDENCES)
    test(`who an IPv6 firewall lets in: ${filtering}`, () => {
      const address = { ip: ip('2001:db8:1::5'), port: PORT };
      const firewall = { ...STATEFUL, filtering };
      assertFound(
        filtering,
        SEEDS.map((seed) => filteringAfter(seed, () => ({ address, firewall }), 'ipv6')),
      );
    });

  test('that nothing is in front of a public address', () => {
    const address = { ip: ip('198.51.100.1'), port: PORT };
    assert.deepEqual(
      filteringAfter(1, () => ({ address })),
      { value: 'endpoint-independent' },
    );
  });

  test('of a NAT that gives each destination another port, that strangers do not get in, and no more', () => {
    const symmetric = behind({ mapping: 'address-and-port-dependent' });
    assert.deepEqual(filteringAfter(1, symmetric), { unknown: 'no-second-try' });
  });

  test('nothing when they are relay-only', () => {
    const world = new PairWorld(1, 'full', 'public', [true, false]);
    world.start();
    assert.ok(world.firstPacket() !== undefined);
    world.simulation.run(3000);
    assert.deepEqual(natOf(world.a).filtering, { unknown: 'not-tried' });
  });
});
