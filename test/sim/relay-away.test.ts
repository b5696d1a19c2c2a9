import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { OPEN_RULES, type PathPolicy } from '../../ts/core/path/path-policy.js';
import { encodeMessage } from '../../ts/core/protocol/control-message.js';
import type { Network } from '../../ts/core/protocol/network.js';
import { PORT_RESTRICTED } from '../../ts/sim/kernel/nat.js';
import { Simulation, type SimNode } from '../../ts/sim/mesh/simulation.js';
import { toHex } from '../../ts/wire/bytes.js';
import type { SocketAddress } from '../../ts/wire/socket-address.js';
import { allKnowAll, ip, OPEN_POLICY, PingRound } from './mesh-world.js';

const at = (address: string): SocketAddress => ({ ip: ip(address), port: 51820 });
const V4 = at('192.0.2.1');
const SECOND_V4 = at('192.0.2.2');
const V6 = at('2001:db8::1');
/** Of a bridge inside the relay's host: in the invite, and within nobody's reach. */
const UNREACHABLE = at('172.17.0.1');
const RELAY_ONLY: PathPolicy = { rules: { ...OPEN_RULES, use: 'relay-only' }, members: new Map() };

/** `open`: an IPv4 address without a NAT. */
type Kind = 'v4' | 'v6' | 'both' | 'open';

interface World {
  readonly simulation: Simulation;
  readonly relay: SimNode;
  readonly members: readonly SimNode[];
}

/** A relay at several addresses, and members with IPv4 behind a NAT, with IPv6, and with both. */
function worldOf(
  seed: number,
  invited: readonly SocketAddress[],
  kinds: readonly Kind[],
  pathPolicy?: PathPolicy,
): World {
  const simulation = new Simulation({ seed });
  const relay = simulation.node({
    name: 'relay',
    address: V4,
    moreAddresses: [SECOND_V4, V6],
    relay: OPEN_POLICY,
    latencyMs: 2,
  });
  const bootstraps = [{ identity: relay.identity, sessionKey: relay.sessionKey, addresses: invited }];
  const network: Network = {
    id: simulation.prng.bytes(16),
    name: 'home',
    key: simulation.prng.bytes(32),
    bootstraps,
  };
  const members = kinds.map((kind, index) => {
    const v6 = at(`2001:db8:1::${index + 1}`);
    const common = {
      name: `m${index}`,
      networks: [network],
      latencyMs: 10 + index,
      ...(pathPolicy && { pathPolicy }),
    };
    if (kind === 'v6') return simulation.node({ ...common, address: v6 });
    if (kind === 'open') return simulation.node({ ...common, address: at(`198.51.100.${index + 1}`) });
    return simulation.node({
      ...common,
      address: at('10.0.0.2'),
      nat: simulation.nat(ip(`198.18.0.${index + 1}`), PORT_RESTRICTED),
      moreAddresses: kind === 'both' ? [v6] : [],
    });
  });
  relay.start();
  for (const node of members) node.start();
  assert.ok(simulation.runUntil(() => allKnowAll(members), 60_000, 100) !== undefined, 'joined');
  return { simulation, relay, members };
}

/** All ordered pairs. */
const pairsOf = (members: readonly SimNode[]): [SimNode, SimNode][] =>
  members.flatMap((from) => members.filter((to) => to !== from).map((to): [SimNode, SimNode] => [from, to]));

const dataFlows = (world: World, limitMs = 60_000): number | undefined =>
  new PingRound(world, pairsOf(world.members)).complete(limitMs);

const ADDRESS_LISTS: readonly (readonly [string, readonly SocketAddress[]])[] = [
  ['one address in reach and one that is not', [V4, UNREACHABLE]],
  ['one that is not in reach before one that is', [UNREACHABLE, V4]],
  ['two of IPv4 and one of IPv6', [V4, SECOND_V4, V6]],
  ['the address it sends from missing in the invite', [SECOND_V4]],
  ['IPv6 first, and one out of reach', [V6, UNREACHABLE, SECOND_V4]],
];

describe('a relay with addresses of both families', () => {
  for (const [first, invited] of [
    ['IPv4', [V4, SECOND_V4, V6]],
    ['IPv6', [V6, V4, SECOND_V4]],
  ] as const)
    it(`is reached at once by who has one of them alone, when the invite names ${first} first`, () => {
      const { simulation } = worldOf(7, invited, ['v4', 'v6', 'open']);
      assert.ok(simulation.now <= 1000, `joined after ${simulation.now} ms`);
    });
});

describe('a relay that comes back', () => {
  for (const [what, addresses] of ADDRESS_LISTS)
    it(`carries data again within 10 s, with ${what}, however long it was away`, () => {
      const kinds: readonly Kind[] = addresses.includes(V6)
        ? ['v4', 'v6', 'both']
        : ['v4', 'open', 'both', 'open'];
      for (const away of [1, 3, 6, 10, 14, 16, 20, 30, 45, 60]) {
        const world = worldOf(away, addresses, kinds);
        assert.ok((dataFlows(world) ?? Infinity) < 10_000, 'before');
        world.relay.kill();
        world.simulation.run(away * 1000);
        world.relay.start();
        world.simulation.run(5000);
        const took = dataFlows(world);
        assert.ok(took !== undefined && took < 10_000, `after ${away} s: ${took ?? 'never'} ms`);
        const [bootstrap] = world.members[0]?.mesh.status(world.members[0].step).bootstraps ?? [];
        assert.equal(bootstrap?.state, 'registered');
      }
    });
});

describe('a circuit that carries nothing, though its relay knows it', () => {
  /** Two members over their relay, whose engine loses the legs of their circuit. */
  function emptied(restart: boolean): World {
    const world = worldOf(3, [V4], ['v4', 'v4']);
    const { relay, simulation } = world;
    const legs: number[] = [];
    const watch = (installed: (ids: readonly number[]) => readonly number[]): void => {
      const { engine } = relay;
      const install = engine.installLegs.bind(engine);
      engine.installLegs = (added) => {
        const kept = installed(added.map(({ id }) => id));
        install(added.filter(({ id }) => kept.includes(id)));
      };
    };
    watch((ids) => {
      legs.push(...ids);
      return ids;
    });
    assert.ok(dataFlows(world) !== undefined);
    if (restart) {
      relay.kill();
      simulation.run(1000);
      relay.start();
    }
    assert.equal(relay.mesh.status(relay.step).relay?.circuits.length, 1);
    const lost = [...legs];
    assert.ok(lost.length >= 2);
    relay.engine.removeLegs(lost);
    watch((ids) => ids.filter((id) => !lost.includes(id)));
    return world;
  }

  it('is replaced when the relay comes back', () => {
    const took = dataFlows(emptied(true));
    assert.ok(took !== undefined && took < 10_000, `${took ?? 'never'} ms`);
  });

  it('is replaced while the relay stays, when the handshakes of 90 s over it are not answered', () => {
    const took = dataFlows(emptied(false), 200_000);
    assert.ok(took !== undefined && took < 110_000, `${took ?? 'never'} ms`);
  });
});

describe('a relay that loses one of two addresses and runs on', () => {
  it('has its circuits follow it when it is heard from the other', () => {
    const world = worldOf(5, [V4, SECOND_V4], ['open', 'open'], RELAY_ONLY);
    const { relay, members, simulation } = world;
    assert.ok(dataFlows(world) !== undefined);
    const ids = (): string[] => (relay.mesh.status(relay.step).relay?.circuits ?? []).map(({ id }) => id);
    const before = ids();
    assert.equal(before.length, 1);
    relay.setUplinks([{ address: SECOND_V4 }]);
    // Any message of their session shows them where it is; nobody registers for that.
    const message = { type: 'refused', reason: 'capacity', what: 'lookup' } as const;
    const payload = encodeMessage({ request: 0, message });
    relay.apply(
      members.map(({ sessionKey }) => ({ type: 'send-control', peer: toHex(sessionKey), payload })),
    );
    simulation.run(100);
    const took = dataFlows(world);
    assert.ok(took !== undefined && took < 500, `${took ?? 'never'} ms`);
    assert.deepEqual(ids(), before);
  });
});
