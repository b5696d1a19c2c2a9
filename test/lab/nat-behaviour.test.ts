// omerta nat by the shipped binary, behind each of the lab's NATs and an IPv6 firewall.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { joinFrom, PLACES, startRelay, type Place, type PlacedMember } from '../../ts/lab/nat-matrix.js';
import { OmertaNode } from '../../ts/lab/omerta-node.js';
import { labUnavailable } from '../../ts/lab/requirements.js';
import { World, type Node } from '../../ts/lab/world.js';

const finding = z.union([z.object({ value: z.string() }), z.object({ unknown: z.string() })]);
const reports = z.array(
  z.object({
    family: z.enum(['ipv4', 'ipv6']),
    interface: z.string(),
    translation: finding,
    mapping: finding,
    filtering: finding,
    ports: finding,
  }),
);
type Report = Omit<z.infer<typeof reports>[number], 'interface' | 'family'>;

const EI = { value: 'endpoint-independent' } as const;
/** The lab's cone NATs keep the port (test/lab/nat.test.ts has what they are by their rules). */
const EXPECTED: Readonly<Record<Place, Report>> = {
  public: { translation: { value: 'none' }, mapping: EI, filtering: EI, ports: { value: 'preserving' } },
  'full-cone': {
    translation: { value: 'nat44' },
    mapping: EI,
    filtering: EI,
    ports: { value: 'preserving' },
  },
  'address-restricted': {
    translation: { value: 'nat44' },
    mapping: EI,
    filtering: { value: 'address-dependent' },
    ports: { value: 'preserving' },
  },
  'port-restricted': {
    translation: { value: 'nat44' },
    mapping: EI,
    filtering: { value: 'address-and-port-dependent' },
    ports: { value: 'preserving' },
  },
  // No two ports of one address see it, and what one port of its lets in says nothing of the next.
  symmetric: {
    translation: { value: 'nat44' },
    mapping: { unknown: 'no-second-port' },
    filtering: { unknown: 'no-second-try' },
    ports: { value: 'random' },
  },
};
/** Enough that two find out nothing for themselves any more, and leave it to who asks. */
const WITNESSES = 4;
const PATIENCE_MS = 2000;

describe('omerta nat', { skip: labUnavailable() ?? false }, () => {
  let world: World;
  let invite: string;
  const witnesses: PlacedMember[] = [];

  /** A word with each of the witnesses, in either direction. */
  const speak = async (member: PlacedMember, others: readonly PlacedMember[]): Promise<void> => {
    for (const { omerta } of others) {
      await member.omerta.command(['ping', omerta.name, '-c', '2', '--interval', '0.5']);
      await sleep(PATIENCE_MS);
    }
  };
  /**
   * A public node with an IPv6 prefix of its own: what comes from the own cable crosses no router's firewall, and shows
   * nothing of one.
   */
  const nodeInPrefix = async (
    name: string,
    prefix: number,
  ): Promise<{ readonly node: Node; readonly start: () => Promise<PlacedMember> }> => {
    const node = await world.addNode(name);
    await node.ip(
      `address del ${node.address6 ?? ''}/64 dev eth0`,
      `address add 2001:db8:${prefix.toString(16)}::5/64 dev eth0 nodad`,
      'route add 2001:db8::/32 dev eth0',
    );
    const start = async (): Promise<PlacedMember> => {
      const omerta = new OmertaNode(world, node, name, { direct: true });
      await omerta.command(['network', 'join', '-'], invite);
      await omerta.start('up', '--foreground');
      return { omerta, ipv6: '', nat: undefined };
    };
    return { node, start };
  };
  const natOf = async ({ omerta }: PlacedMember, family: 'ipv4' | 'ipv6'): Promise<Report> => {
    const report = reports.parse(await omerta.command(['nat'])).find((each) => each.family === family);
    assert.equal(report?.interface, 'eth0');
    const { translation, mapping, filtering, ports } = report;
    return { translation, mapping, filtering, ports };
  };

  before(async () => {
    world = await World.create();
    const first = await startRelay(world);
    const second = new OmertaNode(world, await world.addNode('relay-2'), 'relay-2');
    await second.command(['network', 'join', '-'], first.invite);
    await second.start('relay');
    ({ invite } = z
      .object({ invite: z.string() })
      .parse(await second.command(['network', 'invite', '--here'])));
    for (let n = 0; n < WITNESSES; n++) {
      const witness = await (await nodeInPrefix(`witness-${n}`, 0x300 + n)).start();
      await speak(witness, witnesses);
      witnesses.push(witness);
    }
  });
  after(() => {
    world.remove();
  });

  for (const place of PLACES)
    it(`knows a node at a place of this kind: ${place}`, async () => {
      const member = await joinFrom(world, place, place, invite);
      await speak(member, witnesses);
      assert.deepEqual(await natOf(member, 'ipv4'), EXPECTED[place]);
    });

  it('knows an IPv6 firewall from an open IPv6 address', async () => {
    const { node, start } = await nodeInPrefix('firewalled', 0x200);
    await node.nft(
      [
        'table ip6 firewall {',
        'chain input {',
        'type filter hook input priority 0; policy accept;',
        'meta l4proto udp ct state new drop',
        '}',
        '}',
        '',
      ].join('\n'),
    );
    const member = await start();
    await speak(member, witnesses);
    const { translation, filtering } = await natOf(member, 'ipv6');
    assert.deepEqual([translation, filtering], [{ value: 'none' }, { value: 'address-and-port-dependent' }]);
    const [witness] = witnesses;
    assert.ok(witness);
    assert.deepEqual((await natOf(witness, 'ipv6')).translation, { value: 'none' });
  });
});
