// `omerta guard`: a machine that is closed before any of its interfaces has an address, and stays so whatever becomes of
// daemon and exit, until the guard is removed. Boot is played: what a machine has lost after one is taken away, and what
// its unit starts is started before its network is.

import assert from 'node:assert/strict';
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import type { Finished } from '../../ts/lab/command.js';
import { ExitWorld, hostState } from '../../ts/lab/exit-world.js';
import { addRoutes, LeakProbes, type LeakWorld } from '../../ts/lab/leak-table.js';
import { labUnavailable } from '../../ts/lab/requirements.js';
import { World } from '../../ts/lab/world.js';
import { until } from '../wg/wg-lab.js';

/** Frames and ARP do not pass the IP layer: the tables of --paranoid hold them, once there are interfaces. */
const BELOW_IP = ['a frame by AF_PACKET', 'answer to ARP for the inner address'];

describe(
  'the guard of a machine',
  { skip: labUnavailable(['curl', 'ping', 'tcpdump', 'python3']) ?? false, timeout: 400_000 },
  () => {
    let world: World;
    let made: ExitWorld;
    let probes: LeakProbes;
    let around: LeakWorld;
    let etc: string;
    let addresses: string[];
    let untouched: Record<string, string>;

    /** Has a machine of its own around it: /etc, and what says that systemd runs it. */
    const MACHINE = (init: string): string =>
      `mount --bind "$0" /etc && mount -t tmpfs tmpfs /run && ${init} && exec "$@"`;
    const SYSTEMD = 'mkdir -p /run/systemd/system';
    const machine = (init: string, ...words: readonly string[]): string[] => [
      '-m',
      'sh',
      '-c',
      MACHINE(init),
      etc,
      ...words,
    ];
    const typeAs = (init: string, ...words: string[]): Promise<Finished> =>
      made.guest.node.run(
        'unshare',
        machine(init, process.execPath, ...made.guest.omerta.commandLine(...words)),
      );
    const type = (...words: string[]): Promise<Finished> => typeAs(SYSTEMD, ...words);
    const must = async (...words: string[]): Promise<string> => {
      const { code, stdout, stderr } = await type(...words);
      assert.equal(code, 0, `omerta ${words.join(' ')}: ${stderr}`);
      return stdout;
    };
    const unit = (...path: string[]): string => join(etc, 'systemd/system', ...path);
    const nothingLeaks = async (when: string): Promise<void> => {
      const { leaked, others } = await probes.round();
      const above = leaked.filter(({ probe }) => !BELOW_IP.includes(probe));
      assert.deepEqual(
        above.map(({ kind, probe }) => `${kind}: ${probe}`),
        [],
        when,
      );
      assert.deepEqual(others, [], when);
    };
    const start = async (): Promise<void> => {
      made.guest.omerta.through = ['unshare', ...machine(SYSTEMD)];
      await made.guest.omerta.start('up', '--foreground');
    };

    before(async () => {
      world = await World.create();
      made = await ExitWorld.start(world);
      etc = join(world.folder, 'etc');
      // Only what programs of the lab look up: names of users, and no network of the machine the test runs on.
      mkdirSync(join(etc, 'network/if-pre-up.d'), { recursive: true });
      for (const file of ['passwd', 'group', 'nsswitch.conf', 'hosts', 'resolv.conf', 'ld.so.cache'])
        if (existsSync(`/etc/${file}`)) cpSync(`/etc/${file}`, join(etc, file));
      for (const folder of ['alternatives', 'ssl'])
        if (existsSync(`/etc/${folder}`))
          cpSync(`/etc/${folder}`, join(etc, folder), { recursive: true, verbatimSymlinks: true });
      around = {
        machine: made.guest.node,
        router: made.home,
        inner: made.guest.ipv4,
        relay: made.relay.node.address,
      };
      probes = await LeakProbes.start(world, around);
      const { stdout } = await made.guest.node.run('ip', ['-json', 'address', 'show', 'dev', 'eth0']);
      const [eth0] = JSON.parse(stdout) as [
        { addr_info: { local: string; prefixlen: number; scope: string }[] },
      ];
      addresses = eth0.addr_info
        .filter(({ scope }) => scope === 'global')
        .map(({ local, prefixlen }) => `${local}/${prefixlen}`);
      untouched = await hostState(made.guest.node);
    });
    after(() => {
      probes.stop();
      world.remove();
    });

    it('says in one line what it needs, and changes nothing', async () => {
      const { leaked } = await probes.round();
      assert.equal(leaked.length, probes.leaks.length, 'without it each probe comes out');
      const noInit = await typeAs('rmdir /etc/network/if-pre-up.d /etc/network', 'guard', 'install');
      mkdirSync(join(etc, 'network/if-pre-up.d'), { recursive: true });
      assert.equal(noInit.code, 1);
      assert.match(noInit.stderr, /^omerta: guard: neither systemd nor ifupdown [^\n]*\n$/);
      const noNft = await typeAs(`${SYSTEMD} && mount -t tmpfs tmpfs /usr/sbin`, 'guard', 'install');
      assert.equal(noNft.code, 1);
      assert.match(noNft.stderr, /^omerta: [^\n]*nft[^\n]*\n$/);
      const [binary = ''] = made.guest.omerta.commandLine();
      const unprivileged = ['setpriv', '--reuid=65534', '--clear-groups', '--bounding-set=-all'];
      const stranger = await made.guest.node.run(
        'unshare',
        machine(
          SYSTEMD,
          ...unprivileged,
          process.execPath,
          binary,
          '--state',
          '/nowhere',
          'guard',
          'install',
        ),
      );
      assert.equal(stranger.code, 4, stranger.stderr);
      assert.match(stranger.stderr, /^omerta: guard: [^\n]*not permitted[^\n]*Run it as root\n$/);
      assert.deepEqual(readdirSync(etc).includes('omerta'), false);
      assert.deepEqual(await hostState(made.guest.node), untouched);
    });

    it('is closed from `guard install` on, with a daemon that goes on reaching members', async () => {
      const shown = JSON.parse(await must('guard', 'install')) as Record<string, unknown>;
      assert.deepEqual([shown['loader'], shown['isOn'], shown['tunnel']], ['systemd', true, 'omerta0']);
      await nothingLeaks('installed');
      assert.equal(await made.ping(made.exit.ipv4), true);
      assert.equal(await made.ping(made.exit.ipv6), true);
      assert.equal(
        readlinkSync(unit('network-pre.target.requires/omerta-guard.service')),
        '../omerta-guard.service',
      );
      assert.match(
        readFileSync(unit('omerta-guard.service'), 'utf8'),
        /^Before=network-pre\.target .*dhcpcd\.service/m,
      );
      await must('guard', 'install'); // once more changes nothing
      await nothingLeaks('installed again');
    });

    it('is closed before any interface has an address, and lets nothing out until an exit is used', async () => {
      const { node, omerta } = made.guest;
      await omerta.kill();
      await node.mustRun('nft', ['flush', 'ruleset']);
      await node.ip(
        ...['eth0', 'c0'].flatMap((name) => [`address flush dev ${name}`, `link set ${name} down`]),
      );
      assert.equal((await node.run('ip', ['-brief', 'address', 'show', 'up', 'scope', 'global'])).stdout, '');
      const [, command = ''] =
        /^ExecStart=(.*)$/m.exec(readFileSync(unit('omerta-guard.service'), 'utf8')) ?? [];
      const booted = await node.run('unshare', machine('true', ...command.split(' ')));
      assert.equal(booted.code, 0, booted.stderr);
      await node.ip(
        'link set eth0 up',
        'link set c0 up',
        'address add 172.30.0.1/24 dev c0',
        ...addresses.map(
          (address) => `address add ${address} dev eth0 ${address.includes(':') ? 'nodad' : ''}`,
        ),
        `route add default via ${made.home.gateway}`,
      );
      await addRoutes(around);
      await nothingLeaks('booted, no daemon');
      await start();
      await until('a member is reached', () => made.ping(made.exit.ipv6), 60_000);
      await nothingLeaks('daemon runs, no exit');
      assert.equal(
        (await made.exit.omerta.command(['exit', 'serve', '--allow', made.guest.peerId])) !== null,
        true,
      );
      await must('exit', 'use', made.exit.peerId);
      await until('it leaves by the exit', () => made.leaves(), 60_000);
      await nothingLeaks('in use');
      assert.match(
        await made.guest.node.mustRun(
          process.execPath,
          made.guest.omerta.commandLine('exit', 'status').filter((word) => word !== '--json'),
        ),
        /leaves by exit/,
      );
    });

    it('holds when the exit changes, when it is off, when the daemon is killed, and when others flush all tables', async () => {
      const { node, omerta } = made.guest;
      const off = JSON.parse(await must('exit', 'off')) as { guarded?: boolean };
      assert.equal(off.guarded, true);
      await nothingLeaks('exit off');
      await must('exit', 'use', made.exit.peerId, '--paranoid');
      await until('it leaves by the exit', () => made.leaves(), 60_000);
      await nothingLeaks('by another way');
      await must('exit', 'off', '--use');
      await nothingLeaks('off again');
      await must('exit', 'use', made.exit.peerId);
      await until('it leaves by the exit', () => made.leaves(), 60_000);
      await omerta.kill();
      await nothingLeaks('killed');
      assert.equal((await type('exit', 'off')).code, 0);
      await nothingLeaks('off without a daemon');
      await node.mustRun('nft', ['flush', 'ruleset']);
      assert.equal((await type('guard', 'status')).code, 1, 'installed, and not on');
      await start();
      await until('it is loaded again', async () => (await type('guard', 'status')).code === 0, 30_000);
      await node.mustRun('nft', ['delete', 'chain', 'inet', 'omerta_boot', 'output']);
      await until('it is loaded again', async () => (await type('guard', 'status')).code === 0, 30_000);
      await nothingLeaks('loaded again');
    });

    it('is gone with `guard remove` alone, which leaves nothing', async () => {
      await made.guest.node.mustRun(
        process.execPath,
        made.guest.omerta.commandLine('down').filter((word) => word !== '--json'),
      );
      await nothingLeaks('down');
      await must('guard', 'remove');
      assert.deepEqual(existsSync(join(etc, 'omerta')), false);
      assert.deepEqual(
        readdirSync(unit()).filter((name) => /omerta|requires/.test(name)),
        [],
      );
      assert.deepEqual(await hostState(made.guest.node), untouched);
      const { leaked } = await probes.round();
      assert.ok(leaked.length >= probes.leaks.length - 3, 'open again');
      await must('guard', 'remove'); // once more is no error
    });

    it('is loaded in front of each interface by ifupdown where there is no systemd', async () => {
      const installed = await typeAs('true', 'guard', 'install', '--allow-lan');
      assert.equal(installed.code, 0, installed.stderr);
      const shown = JSON.parse(installed.stdout) as Record<string, unknown>;
      assert.deepEqual([shown['loader'], shown['allowLan']], ['ifupdown', true]);
      await made.guest.node.mustRun('nft', ['flush', 'ruleset']);
      const hook = '/etc/network/if-pre-up.d/omerta-guard';
      const run = await made.guest.node.run('unshare', machine('true', hook));
      assert.equal(run.code, 0, run.stderr);
      assert.equal(await made.fetch(made.outside.address, 80, 1), undefined, 'closed');
      assert.equal(
        (await made.guest.node.run('ping', ['-n', '-c1', '-W2', made.home.gateway])).code,
        0,
        'the LAN',
      );
      assert.equal((await typeAs('true', 'guard', 'remove')).code, 0);
      assert.deepEqual(await hostState(made.guest.node), untouched);
    });
  },
);
