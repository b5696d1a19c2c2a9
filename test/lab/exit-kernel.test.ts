// The kernel's exit, end to end: ordinary programs of a guest behind one NAT by an exit behind another, IPv4 and IPv6;
// who has no right, or one no longer; where nothing is forwarded to; and that nothing of it stays on either host.

import assert from 'node:assert/strict';
import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import type { ControlCommand } from '../../ts/daemon/control/control-request.js';
import {
  EXIT_OUTSIDE,
  exitReportOf,
  ExitWorld,
  hostState,
  LAN,
  WEB,
  type ExitMember,
} from '../../ts/lab/exit-world.js';
import { labUnavailable } from '../../ts/lab/requirements.js';
import { World } from '../../ts/lab/world.js';
import type { ExitReport } from '../../ts/status/model/exit-report.js';
import { until } from '../wg/wg-lab.js';

type States = Readonly<Record<'guest' | 'exit', Record<string, string>>>;

describe(
  'the exit by the kernel',
  { skip: labUnavailable(['curl', 'ping']) ?? false, timeout: 400_000 },
  () => {
    let world: World;
    let made: ExitWorld;
    let guest: ExitMember;
    let exit: ExitMember;
    let untouched: States;

    const states = async (): Promise<States> => ({
      guest: await hostState(guest.node),
      exit: await hostState(exit.node),
    });
    /** Types `omerta exit …` on a machine. */
    const type = async (
      on: ExitMember,
      ...words: string[]
    ): Promise<{ code: number; text: string; said: string }> => {
      const { code, stdout, stderr } = await on.node.run(
        process.execPath,
        on.omerta.commandLine('exit', ...words),
      );
      return { code, text: stdout, said: stderr };
    };
    const must = async (on: ExitMember, ...words: string[]): Promise<ExitReport> => {
      const { code, text, said } = await type(on, ...words);
      assert.equal(code, 0, `omerta exit ${words.join(' ')}: ${said}`);
      return JSON.parse(text) as ExitReport;
    };
    const denied = async (): Promise<number> => (await exitReportOf(exit)).serving?.dropped.denied ?? 0;
    const leaves = async (): Promise<(string | undefined)[]> => [
      await made.fetch(WEB.ipv4),
      await made.fetch(WEB.ipv6),
    ];
    const OUTSIDE: readonly string[] = [EXIT_OUTSIDE.ipv4, EXIT_OUTSIDE.ipv6];

    before(async () => {
      world = await World.create();
      made = await ExitWorld.start(world);
      ({ guest, exit } = made);
      untouched = await states();
    });
    after(() => world.remove());

    it('takes commands that come at once one after the other: the last holds, whole', async () => {
      const use: ControlCommand = {
        command: 'exit-use',
        use: { exits: [exit.peerId], paranoid: false, allowLan: false, include: [], exclude: [], hops: 1 },
      };
      const off: ControlCommand = { command: 'exit-off', serve: true, use: true };
      await Promise.all([use, off, use].map((command) => guest.omerta.request(command)));
      assert.equal((await exitReportOf(guest)).using?.exits.length, 1);
      assert.equal(await made.fetch(made.outside.address, 80, 1), undefined, 'closed');
      assert.deepEqual([await made.ping(exit.ipv4), await made.ping(exit.ipv6)], [true, true], 'marked');
      await Promise.all([off, use, off].map((command) => guest.omerta.request(command)));
      assert.equal((await exitReportOf(guest)).using, undefined);
      assert.deepEqual((await states()).guest, untouched.guest);
    });

    it('is not there by default: what is used without a grant is closed, and says what to type', async () => {
      assert.ok(await made.fetch(made.outside.address), 'the guest has a way of its own');
      assert.equal(await made.fetch(WEB.ipv4), undefined);
      const first = await type(guest, 'use', exit.peerId);
      assert.equal(first.code, 5, first.said);
      assert.match(first.said, /does not serve an exit.*omerta exit serve/);
      // Closed, and not open by its own way; other members are reached.
      assert.equal(await made.fetch(made.outside.address, 80, 1), undefined);
      assert.deepEqual([await made.ping(exit.ipv4), await made.ping(exit.ipv6)], [true, true]);
      await must(exit, 'serve');
      await until(
        'the exit denies it',
        async () => (await exitReportOf(guest)).using?.exits[0]?.state === 'denied',
      );
      assert.equal(await made.fetch(made.outside.address, 80, 1), undefined);
      assert.equal(await made.ping(WEB.ipv4), false);
      await must(guest, 'off');
      assert.ok(await made.fetch(made.outside.address), 'off opens it again');
      assert.deepEqual((await states()).guest, untouched.guest);
    });

    it('carries curl and ping of a member with the right, in IPv4 and IPv6, over a relay', async () => {
      await must(exit, 'serve', '--allow', guest.peerId);
      const used = await must(guest, 'use', 'exit');
      assert.equal(used.using?.active, exit.peerId);
      assert.deepEqual(await leaves(), OUTSIDE);
      assert.deepEqual([await made.ping(WEB.ipv4), await made.ping(WEB.ipv6)], [true, true]);
      // The members go on reaching each other, and the engine the relay.
      assert.equal(await made.ping(exit.ipv6), true);
      const { serving } = await exitReportOf(exit);
      const [row] = serving?.guests ?? [];
      assert.deepEqual(
        [row?.peerId, [...(row?.addresses ?? [])].sort()],
        [guest.peerId, [guest.ipv4, guest.ipv6].sort()],
      );
      assert.ok((row?.fromBytes ?? 0) > 1000 && (row?.toBytes ?? 0) > 1000);
      const settings = statSync(join(exit.omerta.state, 'exit.json'));
      assert.equal(settings.mode & 0o777, 0o600);
    });

    it('resolves names for guests, by UDP and TCP, whichever resolver they ask', async () => {
      await must(exit, 'serve', '--allow', guest.peerId, '--resolver', WEB.ipv4);
      await until(
        'the guest asks the exit',
        async () => (await exitReportOf(guest)).using?.exits[0]?.dns === true,
        40_000,
      );
      // What /etc/resolv.conf names is not there in this world; curl and the resolver of Node.js ask it all the same.
      assert.ok(OUTSIDE.includes((await made.fetch('shop.example')) ?? ''));
      const query = `
      import { Resolver } from 'node:dns/promises';
      const resolver = new Resolver({ timeout: 3000, tries: 1 });
      resolver.setServers(process.argv.slice(1));
      console.log((await resolver.resolve4('shop.example')).join());`;
      const ask = async (server: string): Promise<string> =>
        (await guest.node.run(process.execPath, ['--input-type=module', '-e', query, server])).stdout.trim();
      for (const server of ['192.168.1.1', '9.9.9.9', '2620:fe::fe', exit.ipv4])
        assert.equal(await ask(server), WEB.ipv4, server);
      // By TCP: a question with its length before it.
      const tcp = `
      import { connect } from 'node:net';
      const question = Buffer.from('001e' + '000701000001000000000000' + '0473686f70' + '076578616d706c65' + '0000010001', 'hex');
      connect(53, '192.168.1.1', function () { this.write(question); }).on('data', (bytes) => {
        console.log([...bytes.subarray(-4)].join('.'));
        process.exit();
      });`;
      const { stdout } = await guest.node.run(process.execPath, ['--input-type=module', '-e', tcp], {
        timeoutMs: 10_000,
      });
      assert.equal(stdout.trim(), WEB.ipv4);
      assert.ok(((await exitReportOf(exit)).serving?.names.answered ?? 0) >= 5);
      // A member that is no guest is not answered.
      const other = await made.relay.node.run(process.execPath, [
        '--input-type=module',
        '-e',
        query,
        exit.ipv4,
      ]);
      assert.equal(other.stdout, '');
    });

    it('does not forward to denied ranges, to its own addresses and networks, nor to port 25', async () => {
      const targets = [
        LAN.ipv4,
        `[${LAN.ipv6}]`,
        // The exit's own, and what is on-link there.
        EXIT_OUTSIDE.ipv4,
        '192.0.2.1',
        '169.254.169.254',
        '127.0.0.1.example',
        // IPv4 addresses inside IPv6 ones: NAT64 and 6to4.
        '[64:ff9b::192.168.7.2]',
        '[2002:c0a8:702::1]',
      ].filter((target) => !target.endsWith('example'));
      for (const target of targets) {
        const before = await denied();
        assert.equal(await made.fetch(target.replace(/[[\]]/g, ''), 80, 1), undefined, target);
        assert.ok((await denied()) > before, `${target}: not counted as denied`);
      }
      // An own address of an interface without carrier, which no list of interfaces that are up has.
      await exit.node.ip(
        'link add own0 type bridge',
        'link set own0 up',
        'address add 203.0.114.1/32 dev own0',
      );
      assert.equal(await made.ping('203.0.114.1'), false);
      await exit.node.ip('link delete own0');
      const before = await denied();
      assert.equal(await made.fetch(WEB.ipv4, 25, 1), undefined);
      assert.ok((await denied()) > before);
      // What is named with --lan is forwarded to.
      await must(exit, 'serve', '--allow', guest.peerId, '--lan', LAN.prefix);
      assert.equal(await made.fetch(LAN.ipv4), '192.168.7.1');
      assert.equal(await made.fetch(LAN.ipv6, 80, 1), undefined);
      assert.deepEqual(await leaves(), OUTSIDE);
    });

    it('is no router for others: nothing passes by it, nor into the mesh, that no guest began', async () => {
      const { router } = made;
      await router.ip(
        `route add ${LAN.prefix} via ${EXIT_OUTSIDE.ipv4}`,
        `route add ${guest.ipv4}/32 via ${EXIT_OUTSIDE.ipv4}`,
        `route add ${guest.ipv6}/128 via ${EXIT_OUTSIDE.ipv6}`,
      );
      const pings = async (address: string): Promise<boolean> =>
        (await router.run('ping', ['-n', '-c2', '-i0.2', '-W1', address])).code === 0;
      assert.equal(await pings(EXIT_OUTSIDE.ipv4), true);
      assert.deepEqual(
        [await pings(LAN.ipv4), await pings(guest.ipv4), await pings(guest.ipv6)],
        [false, false, false],
      );
    });

    it('ends at once for whom the right is taken from, and when it lapses', async () => {
      await must(exit, 'serve', '--allow', guest.peerId);
      assert.deepEqual(await leaves(), OUTSIDE);
      const { code, said } = await exit.node
        .run(
          process.execPath,
          exit.omerta.commandLine('exit', 'revoke', guest.peerId).filter((word) => word !== '--json'),
        )
        .then((done) => ({ code: done.code, said: done.stderr }));
      assert.equal(code, 0, said);
      assert.deepEqual(
        [await made.fetch(WEB.ipv4, 80, 1), await made.fetch(WEB.ipv6, 80, 1)],
        [undefined, undefined],
      );
      await must(exit, 'grant', guest.peerId, '--for', '16s');
      await until(
        'the guest leaves by it',
        async () => (await exitReportOf(guest)).using?.active !== undefined,
        90_000,
      );
      assert.equal(await made.fetch(WEB.ipv4), EXIT_OUTSIDE.ipv4);
      await until(
        'the right has lapsed',
        async () => (await exitReportOf(exit)).serving?.guests.length === 0,
        40_000,
      );
      assert.equal(await made.fetch(WEB.ipv4, 80, 1), undefined);
      await until(
        'the guest is told so',
        async () => (await exitReportOf(guest)).using?.exits[0]?.state === 'right-lapsed',
        30_000,
      );
      assert.equal(await made.fetch(made.outside.address, 80, 1), undefined, 'closed');
    });

    it('stays closed when the guest\u2019s daemon is killed, goes on when it starts again, and `down` leaves nothing', async () => {
      await must(exit, 'serve', '--allow', guest.peerId);
      await until(
        'the guest leaves by it',
        async () => (await exitReportOf(guest)).using?.active !== undefined,
        90_000,
      );
      await guest.omerta.kill();
      assert.equal(await made.fetch(made.outside.address, 80, 1), undefined, 'closed without a daemon');
      await guest.omerta.start('up', '--foreground');
      await until(
        'it leaves by it again',
        async () => (await made.fetch(WEB.ipv6, 80, 1)) === EXIT_OUTSIDE.ipv6,
        60_000,
      );
      assert.equal(await made.fetch(WEB.ipv4), EXIT_OUTSIDE.ipv4);
      await guest.node.mustRun(
        process.execPath,
        guest.omerta.commandLine('down').filter((word) => word !== '--json'),
      );
      assert.deepEqual((await states()).guest, untouched.guest);
      assert.ok(await made.fetch(made.outside.address), 'down opens it again');
      // What was typed holds for the next start.
      await guest.omerta.start('up', '--foreground');
      await until('it leaves by it again', () => made.leaves(), 60_000);
    });

    it('that is killed leaves what its next start, or `exit off` without a daemon, takes back', async () => {
      await exit.omerta.kill();
      assert.ok(existsSync(join(exit.omerta.state, 'exit-journal.json')));
      assert.notDeepEqual((await states()).exit, untouched.exit);
      await exit.omerta.start('up', '--foreground');
      await until('the guest leaves by it', () => made.leaves(), 90_000);
      await must(guest, 'off');
      await guest.omerta.kill();
      await exit.omerta.kill();
      assert.equal((await type(exit, 'off')).code, 0);
      const left = await states();
      assert.deepEqual(left.exit, untouched.exit);
      assert.deepEqual(left.guest, untouched.guest);
    });
  },
);
