// Pairs of places that no kind of NAT describes: one family of addresses alone, firewalls on the machines, two behind
// one NAT, gateways that map ports. Each is a row of the matrix, in a world of its own.

import { existsSync } from 'node:fs';
import { Miniupnpd, MINIUPNPD } from './miniupnpd.js';
import {
  joinFrom,
  measurePair,
  startRelay,
  type Cell,
  type JoinOptions,
  type Place,
  type PlacedMember,
  type Way,
} from './nat-matrix.js';
import { World, type Node } from './world.js';

/** Makes a member in this world. */
type Maker = (world: World, name: string, invite: string) => Promise<PlacedMember>;

export interface SpecialCell {
  readonly name: string;
  readonly from: string;
  readonly to: string;
  readonly expected: Way;
  /** Both members. */
  readonly make: (world: World, invite: string) => Promise<readonly [PlacedMember, PlacedMember]>;
  /** What the relay's machine needs before. */
  readonly relay?: (node: Node) => Promise<void>;
  /** Why it cannot be measured here. */
  readonly unavailable?: () => string | undefined;
}

/** Rules on a machine, for what comes in or goes out by its interface. */
export const wall = (hook: 'input' | 'output', ...rules: readonly string[]): string =>
  `table inet wall { chain ${hook} { type filter hook ${hook} priority 0; ${rules.join('; ')}; }; }\n`;

const ANSWERS_ALONE = wall('input', 'meta l4proto udp ct state new drop');
const ONE_PORT =
  wall('input', 'meta l4proto udp iifname "eth0" udp dport != 51900 drop') +
  wall('output', 'meta l4proto udp oifname "eth0" udp sport != 51900 drop');
const ONE_PORT_OUT = wall('output', 'meta l4proto udp oifname "eth0" udp dport != 51900 drop');

const at =
  (place: Place, options: JoinOptions = {}): Maker =>
  (world, name, invite) =>
    joinFrom(world, place, name, invite, options);

const withoutIpv4 = (node: Node): Promise<void> => node.ip(`address delete ${node.address}/24 dev eth0`);
const withoutIpv6 = (node: Node): Promise<void> =>
  node.ip(`address delete ${node.address6 ?? ''}/64 dev eth0`);

const both =
  (left: Maker, right: Maker): SpecialCell['make'] =>
  async (world, invite) => [await left(world, 'left', invite), await right(world, 'right', invite)];

/** What is said of both families holds for each alone. */
const ONE_FAMILY = [
  ['v4', 'IPv4', withoutIpv6],
  ['v6', 'IPv6', withoutIpv4],
] as const;

/** The same firewall at both, whose machines have one family of addresses. */
const walledByFamily = (name: string, what: string, firewall: string): readonly SpecialCell[] =>
  ONE_FAMILY.map(([suffix, family, prepare]) => ({
    name: `${name}-${suffix}`,
    from: `${family}, ${what}`,
    to: `${family}, ${what}`,
    expected: 'direct',
    make: both(at('public', { prepare, firewall }), at('public', { prepare, firewall })),
  }));

/** One whose firewall lets in its own network, and beside it the relay; the other is elsewhere. */
const ownLanAloneV6: SpecialCell['make'] = async (world, invite) => {
  const right = await joinFrom(world, 'public', 'right', invite, { prepare: withoutIpv4 });
  const firewall = wall('input', `ip6 saddr ${right.omerta.node.address6 ?? ''} meta l4proto udp drop`);
  return [await joinFrom(world, 'public', 'left', invite, { prepare: withoutIpv4, firewall }), right];
};

/** One whose firewall lets in its own network alone; the other is in it. */
const inOwnLan = (prepare: (node: Node) => Promise<void>): SpecialCell['make'] =>
  both(
    at('public', {
      prepare,
      firewall: wall(
        'input',
        'ip saddr != 198.51.100.0/24 meta l4proto udp drop',
        'ip6 saddr != 2001:db8:100::/64 meta l4proto udp drop',
      ),
    }),
    at('public', { prepare }),
  );

/** Two behind one NAT that do not see each other on the LAN, at ports that do not get in each other's way. */
const keptApart =
  (hairpins: boolean): SpecialCell['make'] =>
  async (world, invite) => {
    const nat = await world.addNat('nat', 'port-restricted', { hairpins });
    const members = [
      await joinFrom(world, 'port-restricted', 'left', invite, { nat, port: 40_001 }),
      await joinFrom(world, 'port-restricted', 'right', invite, { nat, port: 40_002 }),
    ] as const;
    await nat.ip(
      'link set lan1 type bridge_slave isolated on',
      'link set lan2 type bridge_slave isolated on',
    );
    return members;
  };

/** Two at home, behind NATs of their own, whose carrier has one NAT for both. */
const oneCarrier =
  (hairpins: boolean): SpecialCell['make'] =>
  async (world, invite) => {
    const carrier = await world.addNat('carrier', 'port-restricted', { hairpins });
    const home = async (name: string, port: number): Promise<PlacedMember> => {
      const nat = await world.addNat(`${name}-nat`, 'port-restricted', { behind: carrier });
      return joinFrom(world, 'port-restricted', name, invite, { nat, port });
    };
    return [await home('left', 40_001), await home('right', 40_002)];
  };

const mapping: Maker = async (world, name, invite) => {
  const nat = await world.addNat(`${name}-nat`, 'symmetric');
  await Miniupnpd.start(world, nat, { natPmpAndPcp: true, upnp: true });
  return joinFrom(world, 'symmetric', name, invite, { nat });
};

export const SPECIAL_CELLS: readonly SpecialCell[] = [
  {
    name: 'same-nat',
    from: 'one NAT',
    to: 'the same NAT',
    expected: 'direct', // by their private addresses: the NAT does not hairpin
    make: async (world, invite) => {
      const nat = await world.addNat('nat', 'port-restricted');
      return [
        await joinFrom(world, 'port-restricted', 'left', invite, { nat }),
        await joinFrom(world, 'port-restricted', 'right', invite, { nat }),
      ];
    },
  },
  {
    name: 'same-nat-apart',
    from: 'one NAT',
    to: 'the same NAT, machines kept apart',
    expected: 'relay', // as in a guest network, and the NAT does not hairpin
    make: keptApart(false),
  },
  {
    name: 'same-nat-hairpin',
    from: 'one NAT that hairpins',
    to: 'the same NAT, machines kept apart',
    expected: 'direct',
    make: keptApart(true),
  },
  {
    name: 'double-nat',
    from: 'a NAT behind a NAT',
    to: 'port-restricted',
    expected: 'direct',
    make: async (world, invite) => {
      const carrier = await world.addNat('carrier', 'port-restricted');
      const nat = await world.addNat('home', 'port-restricted', { behind: carrier });
      return [
        await joinFrom(world, 'port-restricted', 'left', invite, { nat }),
        await joinFrom(world, 'port-restricted', 'right', invite),
      ];
    },
  },
  {
    name: 'one-carrier',
    from: 'a NAT behind a NAT',
    to: 'another NAT behind the same',
    expected: 'relay', // each knows the other's address outside both NATs alone
    make: oneCarrier(false),
  },
  {
    name: 'one-carrier-hairpin',
    from: 'a NAT behind a NAT that hairpins',
    to: 'another NAT behind the same',
    expected: 'direct',
    make: oneCarrier(true),
  },
  {
    name: 'v4-and-v6',
    from: 'IPv4 alone',
    to: 'IPv6 alone',
    expected: 'relay',
    make: both(at('public', { prepare: withoutIpv6 }), at('public', { prepare: withoutIpv4 })),
  },
  ...walledByFamily('one-port-out', 'UDP port 51900 out alone', ONE_PORT_OUT),
  ...walledByFamily('one-port', 'UDP port 51900 alone, in and out', ONE_PORT),
  ...walledByFamily('answers-alone', 'nothing in but answers', ANSWERS_ALONE),
  {
    name: 'own-lan-alone-v6',
    from: 'IPv6, relay and own LAN in alone',
    to: 'elsewhere',
    expected: 'relay',
    make: ownLanAloneV6,
  },
  ...ONE_FAMILY.map(([suffix, family, prepare]): SpecialCell => ({
    name: `own-lan-${suffix}`,
    from: `${family}, own LAN in alone`,
    to: 'the same LAN',
    expected: 'direct',
    make: inOwnLan(prepare),
  })),
  {
    name: 'own-lan-alone-v4',
    from: 'IPv4, relay and own LAN in alone',
    to: 'elsewhere',
    expected: 'relay',
    make: async (world, invite) => {
      const right = await joinFrom(world, 'port-restricted', 'right', invite);
      const firewall = wall('input', `ip saddr ${right.nat?.address ?? ''} meta l4proto udp drop`);
      return [await joinFrom(world, 'public', 'left', invite, { firewall }), right];
    },
  },
  {
    name: 'port-mapping',
    from: 'symmetric, its gateway maps ports',
    to: 'symmetric, its gateway maps ports',
    expected: 'direct',
    make: both(mapping, mapping),
    relay: (node) => Miniupnpd.reach(node),
    unavailable: () => (existsSync(MINIUPNPD) ? undefined : 'miniupnpd is not installed'),
  },
];

export async function measureSpecial(cell: SpecialCell): Promise<Cell> {
  const { from, to, expected } = cell;
  const world = await World.create();
  try {
    const { relay, invite } = await startRelay(world);
    await cell.relay?.(relay.node);
    const [left, right] = await cell.make(world, invite);
    return await measurePair(relay, left, right, { from, to, expected });
  } finally {
    world.remove();
  }
}
