// Hosts that make it hard: without nft, beside another program that routes everything, with a strict check of addresses;
// and an exit that disappears while another is named.

import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { after, before, describe, it } from 'node:test';
import {
  EXIT_OUTSIDE,
  exitReportOf,
  ExitWorld,
  hostState,
  seenAddress,
  WEB,
  type ExitMember,
} from '../../ts/lab/exit-world.js';
import { OmertaNode } from '../../ts/lab/omerta-node.js';
import { labUnavailable } from '../../ts/lab/requirements.js';
import { World } from '../../ts/lab/world.js';
import { until } from '../wg/wg-lab.js';

/** Asks a relay for its own address (RFC 8489) until it is answered, 20 s at most. */
const STUN = `
  import { createSocket } from 'node:dgram';
  const [address, port] = process.argv.slice(1);
  const socket = createSocket('udp4');
  const ask = () => socket.send(Buffer.from('000100002112a442' + '0'.repeat(24), 'hex'), port, address);
  socket.on('message', () => { console.log('answered'); process.exit(); });
  setInterval(ask, 200);
  setTimeout(() => process.exit(1), 20_000);
`;

describe(
  'an exit on an awkward host',
  { skip: labUnavailable(['curl', 'ping']) ?? false, timeout: 400_000 },
  () => {
    let world: World;
    let made: ExitWorld;
    let guest: ExitMember;
    let exit: ExitMember;

    const type = async (on: ExitMember, ...words: string[]): Promise<{ code: number; said: string }> => {
      const { code, stderr } = await on.node.run(process.execPath, on.omerta.commandLine('exit', ...words));
      return { code, said: stderr };
    };
    const leaves = (): Promise<void> => until('the guest leaves by the exit', () => made.leaves(), 90_000);

    before(async () => {
      world = await World.create();
      made = await ExitWorld.start(world, { direct: true, exitNat: 'port-restricted' });
      ({ guest, exit } = made);
    });
    after(() => world.remove());

    it('refuses to begin where another program sends everything by a table of its own, and changes nothing', async () => {
      await guest.node.ip('route add default via 10.1.0.1 table 52', 'rule add priority 5270 lookup 52');
      const before = await hostState(guest.node);
      const { code, said } = await type(guest, 'use', exit.peerId);
      assert.equal(code, 1, said);
      assert.match(said, /another program sends everything.*rule 5270, table 52/);
      assert.deepEqual(await hostState(guest.node), before);
      assert.equal((await exitReportOf(guest)).using, undefined);
      assert.ok(await made.fetch(made.outside.address));
      await guest.node.ip('rule del priority 5270', 'route flush table 52');
    });

    it('says what to install where there is no nft, and changes nothing', async () => {
      // A daemon that finds no program of /usr/sbin; ip is in /usr/bin as well.
      await exit.omerta.kill();
      exit.omerta.through = ['unshare', '-m', 'sh', '-c', 'mount -t tmpfs none /usr/sbin && exec "$0" "$@"'];
      await exit.omerta.start('up', '--foreground');
      const before = await hostState(exit.node);
      const { code, said } = await type(exit, 'serve', '--allow', guest.peerId);
      assert.equal(code, 1);
      assert.match(said, /nft: it is not installed.*apt-get install nftables/);
      assert.deepEqual(await hostState(exit.node), before);
      assert.equal((await exitReportOf(exit)).serving, undefined);
      await exit.omerta.kill();
      exit.omerta.through = [];
      await exit.omerta.start('up', '--foreground');
    });

    it('refuses what a guest has or begins beyond its caps, counts it, and others go on', async () => {
      const other = await made.addMember(world, 'other');
      assert.equal((await type(exit, 'serve', '--network', 'home')).code, 0);
      assert.equal((await type(guest, 'use', exit.peerId)).code, 0);
      assert.equal((await type(other, 'use', exit.peerId)).code, 0);
      await leaves();
      // Slower than a guest may begin them, and then all at once.
      const opener = `
        import { connect } from 'node:net';
        import { setTimeout } from 'node:timers/promises';
        const [host, most, perSecond] = process.argv.slice(1).map((word, index) => index === 0 ? word : Number(word));
        let open = 0, refused = 0;
        for (let count = 0; count < most; count++) {
          connect(80, host).on('connect', () => open++).on('error', () => refused++);
          if (count % 10 === 9) await setTimeout(10_000 / perSecond);
        }
        while (open + refused < most) await setTimeout(50);
        console.log(JSON.stringify({ open, refused }));
        process.stdin.on('data', () => process.exit());`;
      const begin = (most: number, perSecond: number): ChildProcess =>
        guest.node.spawn(
          process.execPath,
          ['--input-type=module', '-e', opener, WEB.ipv4, String(most), String(perSecond)],
          { stdio: ['pipe', 'pipe', 'inherit'] },
        );
      const counts = async (child: ChildProcess): Promise<{ open: number; refused: number }> => {
        assert.ok(child.stdout);
        const [said] = (await once(child.stdout, 'data')) as [Buffer];
        return JSON.parse(said.toString()) as { open: number; refused: number };
      };
      const slow = begin(1100, 120);
      const { open, refused } = await counts(slow);
      assert.ok(open > 900 && open <= 1024, `${open} open`);
      assert.equal(open + refused, 1100);
      const { serving } = await exitReportOf(exit);
      assert.ok((serving?.capped.tcp ?? 0) > 0, JSON.stringify(serving?.capped));
      const othersWay = await other.node.run('curl', ['-sS', '-m', '5', `http://${WEB.ipv4}/`]);
      assert.equal(seenAddress(othersWay.stdout), EXIT_OUTSIDE.ipv4, othersWay.stderr);
      // Guests are told of again, and what is open still counts.
      assert.equal((await type(exit, 'grant', other.peerId, '--for', '1h')).code, 0);
      assert.equal(await made.fetch(WEB.ipv4, 80, 2), undefined, 'at the cap');
      slow.kill('SIGKILL');
      await until(
        'there is room again',
        async () => (await made.fetch(WEB.ipv4, 80, 1)) !== undefined,
        60_000,
      );
      const fast = begin(900, 100_000);
      await counts(fast);
      fast.kill('SIGKILL');
      assert.ok(((await exitReportOf(exit)).serving?.capped.rate ?? 0) > 0);
      assert.equal((await type(other, 'off')).code, 0);
    });

    it('forgets in seconds whom nobody answers', async () => {
      const silent =
        'table inet silent { chain in { type filter hook input priority 0; tcp dport 81 drop; }\n}\n';
      await made.web.mustRun('nft', ['-f', '-'], { input: silent });
      const dialer = `
        import { connect } from 'node:net';
        for (let count = 0; count < 50; count++) connect(81, process.argv[1]).on('error', () => 0);`;
      const child = guest.node.spawn(process.execPath, ['--input-type=module', '-e', dialer, WEB.ipv4], {
        stdio: 'ignore',
      });
      const counts = async (): Promise<boolean> => {
        const set = ['list', 'set', 'inet', 'omerta_exit', 'tcp4'];
        return (await exit.node.mustRun('nft', set)).includes(guest.ipv4);
      };
      await until('they count', counts, 60_000);
      child.kill('SIGKILL');
      // By the kernel's own time it would be 120 s.
      await until('they count no more', async () => !(await counts()), 60_000);
      await made.web.mustRun('nft', ['delete', 'table', 'inet', 'silent']);
    });

    it('says by what a member may leave still, when a right is taken from it', async () => {
      assert.equal((await type(exit, 'grant', guest.peerId)).code, 0);
      const first = await type(exit, 'revoke', guest.peerId);
      assert.equal(first.code, 1);
      assert.match(
        first.said,
        /taken back, but it still may leave by network home\. Serve without --network home/,
      );
      const again = await type(exit, 'revoke', guest.peerId);
      assert.equal(again.code, 2);
      assert.match(again.said, /no right of its own, but it still may leave by network home/);
      await leaves();
      assert.equal((await type(exit, 'serve')).code, 0);
      assert.equal(await made.fetch(WEB.ipv4, 80, 1), undefined);
      assert.equal((await type(guest, 'off')).code, 0);
    });

    it('stays closed when a start fails, until it is said otherwise', async () => {
      const before = await hostState(guest.node);
      assert.equal((await type(guest, 'use', exit.peerId)).code, 5);
      await guest.omerta.kill();
      // Its port is taken.
      const taker = guest.node.spawn(process.execPath, [
        '-e',
        "require('node:dgram').createSocket('udp4').bind(51900, () => console.log('taken'))",
      ]);
      assert.ok(taker.stdout);
      await once(taker.stdout, 'data');
      await assert.rejects(guest.omerta.start('up', '--foreground'), /51900/);
      assert.equal(await made.fetch(made.outside.address, 80, 1), undefined, 'closed');
      assert.equal((await type(guest, 'off')).code, 0);
      assert.ok(await made.fetch(made.outside.address), 'off opens it');
      taker.kill('SIGKILL');
      assert.deepEqual((await hostState(guest.node)).rules4, before.rules4);
      await guest.omerta.start('up', '--foreground');
    });

    it('names the chain of another program that drops what is forwarded, and what lets guests through', async () => {
      await exit.node.nft(
        'table ip filter { chain FORWARD { type filter hook forward priority 0; policy drop; }\n}',
      );
      assert.equal((await type(exit, 'serve', '--allow', guest.peerId)).code, 0);
      assert.equal((await type(guest, 'use', exit.peerId)).code, 0);
      assert.equal(await made.fetch(WEB.ipv4, 80, 2), undefined);
      const status = await exit.node.run(
        process.execPath,
        exit.omerta.commandLine('exit', 'status').filter((word) => word !== '--json'),
      );
      const commands = /ip filter FORWARD drops.*type: (.*)$/m.exec(status.stdout)?.[1] ?? '';
      assert.match(commands, /^nft insert/);
      await exit.node.mustRun('sh', ['-c', commands]);
      await leaves();
      assert.equal((await type(guest, 'off')).code, 0);
      await exit.node.nft('delete table ip filter');
    });

    it('works where what comes in is checked strictly, by a direct path, and leaves that as it was', async () => {
      await guest.node.sysctl('net.ipv4.conf.all.rp_filter=1', 'net.ipv4.conf.eth0.rp_filter=1');
      const before = await hostState(guest.node);
      assert.equal((await type(exit, 'serve', '--allow', guest.peerId)).code, 0);
      assert.equal((await type(guest, 'use', exit.peerId)).code, 0);
      await leaves();
      assert.equal(await made.fetch(WEB.ipv6), EXIT_OUTSIDE.ipv6);
      // Long enough for sessions and paths to be kept alive by what comes in.
      await until(
        'the path is direct',
        async () => {
          const { mesh } = (await guest.omerta.request({ command: 'status' })) as {
            mesh: { networks: { members: { peerId: string; path: string }[] }[] };
          };
          return mesh.networks[0]?.members.find(({ peerId }) => peerId === exit.peerId)?.path === 'direct';
        },
        60_000,
      );
      assert.equal(await made.fetch(WEB.ipv4), EXIT_OUTSIDE.ipv4);
      // Another daemon of this machine goes on, to whose port nothing of this one's points.
      const second = new OmertaNode(world, guest.node, 'second', { portMapping: 'off' });
      await second.start('relay', '--port', '51910');
      const { stdout } = await made.home.run(
        process.execPath,
        ['--input-type=module', '-e', STUN, guest.node.address, '51910'],
        { timeoutMs: 30_000 },
      );
      assert.match(stdout, /answered/);
      await second.kill();
      assert.equal((await type(guest, 'off')).code, 0);
      assert.deepEqual(await hostState(guest.node), before);
    });

    it('closes what it cannot carry where IPv6 is switched off on either side', async () => {
      const off = ['net.ipv6.conf.all.disable_ipv6=1', 'net.ipv6.conf.default.disable_ipv6=1'];
      const on = off.map((setting) => setting.replace(/1$/, '0'));
      assert.equal((await type(exit, 'serve', '--allow', guest.peerId)).code, 0);
      await guest.omerta.kill();
      await guest.node.sysctl(...off);
      await guest.omerta.start('up', '--foreground');
      const before = await hostState(guest.node);
      const { code, said } = await type(guest, 'use', exit.peerId);
      assert.equal(code, 0, said);
      await leaves();
      assert.equal((await exitReportOf(guest)).error, undefined);
      assert.equal(await made.fetch(WEB.ipv6, 80, 1), undefined);
      const seen = await made.fetch(made.outside.address, 80, 1);
      assert.notEqual(seen, made.home.address, 'by the exit, or not at all');
      assert.equal((await type(guest, 'off')).code, 0);
      assert.deepEqual(await hostState(guest.node), before);
      await guest.omerta.kill();
      await guest.node.sysctl(...on);
      await guest.omerta.start('up', '--foreground');
      // The exit's uplink has no IPv6 any more: what is served says nothing else, and nothing of it comes back.
      await exit.node.sysctl('net.ipv6.conf.eth1.disable_ipv6=1');
      assert.equal((await type(guest, 'use', exit.peerId)).code, 0);
      await leaves();
      assert.equal(await made.fetch(WEB.ipv6, 80, 1), undefined);
      assert.equal((await type(guest, 'off')).code, 0);
      await exit.node.sysctl('net.ipv6.conf.eth1.disable_ipv6=0');
    });

    it('goes by one exit and out by another where all three agree to it', async () => {
      const middle = await made.addMember(world, 'middle');
      assert.equal((await type(exit, 'serve', '--allow', middle.peerId)).code, 0);
      assert.equal((await type(middle, 'use', exit.peerId)).code, 0);
      assert.equal((await type(middle, 'serve', '--allow', guest.peerId, '--chain')).code, 0);
      const { code, said } = await type(guest, 'use', middle.peerId, '--hops', '2');
      assert.equal(code, 0, said);
      await leaves();
      assert.equal((await type(guest, 'off')).code, 0);
      assert.equal((await type(middle, 'off')).code, 0);
      await middle.omerta.kill();
    });

    it('goes on by the next when the first disappears', async () => {
      // Nothing is behind the first; it grants, and is killed.
      const first = await made.addMember(world, 'first');
      for (const on of [first, exit])
        assert.equal((await type(on, 'serve', '--allow', guest.peerId)).code, 0);
      assert.equal((await type(guest, 'use', first.peerId, exit.peerId)).code, 0);
      assert.equal((await exitReportOf(guest)).using?.active, first.peerId);
      await first.omerta.kill();
      await until(
        'the next is used',
        async () => (await exitReportOf(guest)).using?.active === exit.peerId,
        120_000,
      );
      assert.equal(await made.fetch(WEB.ipv4), EXIT_OUTSIDE.ipv4);
      assert.equal((await type(guest, 'off')).code, 0);
    });
  },
);
