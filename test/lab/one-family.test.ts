// Hosts that have one family of addresses alone: IPv6 absent from the kernel, IPv6 switched off, no IPv4 address.

import assert from 'node:assert/strict';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { describe, it } from 'node:test';
import { mustRun } from '../../ts/lab/command.js';
import { OmertaNode } from '../../ts/lab/omerta-node.js';
import { labUnavailable } from '../../ts/lab/requirements.js';
import { World, type Node } from '../../ts/lab/world.js';
import { socketOf, until } from '../wg/wg-lab.js';

const SOURCE = fileURLToPath(new URL('../../../test/lab/without-ipv6.c', import.meta.url));

interface Kind {
  readonly hosts: string;
  readonly prepare: (node: Node) => Promise<void>;
  /** What its programs are run by. */
  readonly through?: (world: World) => Promise<readonly string[]>;
  readonly addresses: RegExp;
}

const switchOffIpv6 = (node: Node): Promise<void> =>
  node.sysctl('net.ipv6.conf.all.disable_ipv6=1', 'net.ipv6.conf.default.disable_ipv6=1');

const KINDS: readonly Kind[] = [
  {
    hosts: 'hosts whose kernel has no IPv6',
    prepare: switchOffIpv6,
    through: async (world) => {
      const program = join(world.folder, 'without-ipv6');
      await mustRun('cc', ['-O1', '-o', program, SOURCE]);
      return [program];
    },
    addresses: /^198\.51\.100\.\d+:51900$/,
  },
  {
    hosts: 'hosts on which IPv6 is switched off',
    prepare: switchOffIpv6,
    addresses: /^198\.51\.100\.\d+:51900$/,
  },
  {
    hosts: 'hosts with IPv6 addresses alone',
    prepare: (node) =>
      node.ip(
        `address flush dev eth0 scope global`,
        `address add ${node.address6 ?? ''}/64 dev eth0 nodad`,
        'address del 127.0.0.1/8 dev lo',
      ),
    addresses: /^\[2001:db8:100::[0-9a-f]+\]:51900$/,
  },
];

for (const { hosts, prepare, through, addresses } of KINDS)
  describe(hosts, { skip: labUnavailable(['ping', 'cc', 'wg']) ?? false }, () => {
    for (const engine of ['native', 'wasm'] as const)
      it(`run a relay with the ${engine} engine, and members that reach each other over it`, async () => {
        const world = await World.create();
        try {
          const runBy = (await through?.(world)) ?? [];
          const make = async (name: string): Promise<OmertaNode> => {
            const node = await world.addNode(name);
            await prepare(node);
            const omerta = new OmertaNode(world, node, name);
            omerta.through = runBy;
            return omerta;
          };
          const run = (omerta: OmertaNode, ...command: string[]): ReturnType<Node['run']> => {
            const [file = '', ...args] = [...runBy, process.execPath, ...omerta.commandLine(...command)];
            return omerta.node.run(file, args);
          };
          const relay = await make('relay');
          const doctor = await run(relay, 'doctor'); // of both engines
          assert.equal(doctor.code, 0, doctor.stdout + doctor.stderr);
          assert.equal(
            (JSON.parse(doctor.stdout) as { ableToRelay: boolean }).ableToRelay,
            true,
            doctor.stdout,
          );
          const banner = (await relay.start('relay', '--engine', engine)) as {
            addresses: readonly string[];
            networks: readonly [{ invite: string }];
          };
          assert.ok(banner.addresses.length > 0);
          for (const address of banner.addresses) assert.match(address, addresses);
          const members = [await make('left'), await make('right')] as const;
          for (const member of members) {
            await member.command(['network', 'join', '-'], banner.networks[0].invite);
            await member.start('up', '--foreground');
          }
          const [left, right] = members;
          if (engine === 'native') {
            const found = await run(left, 'doctor');
            assert.equal(found.code, 0, found.stdout + found.stderr);
          }
          const status = (await right.request({ command: 'status' })) as {
            mesh: { networks: readonly [{ ipv4?: string; ipv6: string }] };
          };
          const { ipv4 = '', ipv6 } = status.mesh.networks[0];
          const inside = through === undefined && prepare !== switchOffIpv6 ? ipv6 : ipv4;
          await until(
            `a ping reaches ${inside}: ${left.log}\n${right.log}\n${relay.log}`,
            async () => (await left.node.run('ping', ['-n', '-c1', '-W', '0.5', inside])).code === 0,
          );
        } finally {
          world.remove();
        }
      });

    it('run omerta wg, as its users run it', async () => {
      const world = await World.create();
      const name = `of${process.pid}`;
      try {
        const runBy = (await through?.(world)) ?? [];
        const node = await world.addNode('host');
        await prepare(node);
        const program = fileURLToPath(new URL('../../../bin/omerta-wg', import.meta.url));
        const [file, ...args] = [...runBy, program, '-f', name];
        const daemon = node.spawn(file, args, { stdio: ['ignore', 'ignore', 'pipe'] });
        let said = '';
        daemon.stderr?.on('data', (chunk) => (said += String(chunk)));
        await until('its socket answers', async () => {
          assert.equal(daemon.exitCode, null, said);
          return (await node.run('wg', ['show', name])).code === 0;
        });
        await node.ip(`link set ${name} up`);
        await setTimeout(300);
        assert.match(await node.mustRun('wg', ['show', name, 'listen-port']), /^[1-9]\d+$/m);
        assert.equal(daemon.exitCode, null, said);
      } finally {
        world.remove();
        await mustRun('rm', ['-f', socketOf(name)]);
      }
    });
  });
