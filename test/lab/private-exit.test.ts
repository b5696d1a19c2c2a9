// An exit and its guest, both without root: the gateway of one carries what programs of the other's private network send,
// names are resolved at the exit, and nothing leaves but by the session.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { after, before, describe, it } from 'node:test';
import { capture } from '../../ts/lab/capture.js';
import type { Finished } from '../../ts/lab/command.js';
import {
  EXIT_OUTSIDE,
  exitReportOf,
  ExitWorld,
  hostState,
  LAN,
  seenAddress,
  WEB,
  type ExitMember,
} from '../../ts/lab/exit-world.js';
import { ordinaryUserUnavailable } from '../../ts/lab/ordinary-user.js';
import { labUnavailable } from '../../ts/lab/requirements.js';
import { World } from '../../ts/lab/world.js';
import type { DaemonStatus } from '../../ts/status/model/daemon-status.js';
import { addonMissing } from '../engine/addon.js';
import { until } from '../wg/wg-lab.js';

const unavailable =
  labUnavailable(['curl', 'ping', 'setpriv', 'tcpdump']) ?? ordinaryUserUnavailable() ?? addonMissing();
const FILE_BYTES = 16 * 1024 * 1024;
const FILE_PORT = 8088;
const FILE_SERVER = `
  import { createServer } from 'node:http';
  const body = Buffer.alloc(${FILE_BYTES}, Buffer.from(Array.from({ length: 65521 }, (_, index) => (index * 7) & 255)));
  createServer((request, response) => response.end(body)).listen(${FILE_PORT}, '::');
`;
const ARCHIVE_PORT = 8090;
/** An archive of one package, which apt-get compares with what the list of the archive says of it. */
const ARCHIVE = `
  import { createHash } from 'node:crypto';
  import { createServer } from 'node:http';
  const body = Buffer.from('what is in the package\\n');
  const list = ['Package: omerta-probe', 'Version: 1', 'Architecture: all', 'Maintainer: nobody', 'Description: probe',
    'Filename: ./omerta-probe_1_all.deb', 'Size: ' + body.length, 'SHA256: ' + createHash('sha256').update(body).digest('hex'), '', ''];
  createServer(({ url }, response) => {
    if (url.endsWith('/Packages')) response.end(list.join('\\n'));
    else if (url.endsWith('.deb')) response.end(body);
    else response.writeHead(404).end();
  }).listen(${ARCHIVE_PORT}, '::');
`;
/** As a user without rights, in a folder of its own. */
const APT = `
  set -e
  root=$(mktemp -d) && trap 'rm -rf "$root"' EXIT && cd "$root"
  mkdir -p etc/apt.conf.d etc/preferences.d state/lists/partial cache/archives/partial && touch state/status
  echo 'deb [trusted=yes] http://shop.example:${ARCHIVE_PORT}/ ./' > etc/sources.list
  apt="apt-get -o Dir=$root -o Dir::Etc=$root/etc -o Dir::Etc::trusted=/etc/apt/trusted.gpg -o Dir::State=$root/state
    -o Dir::State::status=$root/state/status -o Dir::Cache=$root/cache -o Acquire::Languages=none -o Acquire::http::Proxy=false
    -o APT::Sandbox::User= -o Acquire::Retries=2"
  $apt update >&2
  $apt download omerta-probe >&2
  cat omerta-probe_1_all.deb
`;
/** Sends a probe of each kind; \`marks\` of them are what a capture is searched for. */
const PROBES = `
  import { createSocket } from 'node:dgram';
  import { connect } from 'node:net';
  import { Resolver } from 'node:dns/promises';
  const quiet = () => undefined;
  for (const [family, address, port] of [
    ['udp4', '203.0.113.101', 9], ['udp6', '2001:db8:203::101', 9], ['udp4', '224.0.0.251', 5353], ['udp4', '10.1.0.1', 5355],
  ]) createSocket(family).on('error', quiet).send('omerta-leak-' + address, port, address, quiet);
  for (const address of ['203.0.113.102', '2001:db8:203::102', '10.1.0.1']) connect(81, address).on('error', quiet);
  const resolver = new Resolver({ timeout: 500, tries: 1 });
  resolver.setServers(['203.0.113.103', '10.1.0.1']);
  resolver.resolve4('omerta-leak-name.example').catch(quiet);
  setTimeout(() => process.exit(), 1500);
`;
const MARKS: readonly (readonly [string, Buffer])[] = [
  ['UDP, IPv4', Buffer.from('omerta-leak-203.0.113.101')],
  ['UDP, IPv6', Buffer.from('omerta-leak-2001:db8:203::101')],
  ['mDNS', Buffer.from('omerta-leak-224.0.0.251')],
  ['UDP to the gateway', Buffer.from('omerta-leak-10.1.0.1')],
  ['TCP, IPv4', Buffer.from([203, 0, 113, 102])],
  ['TCP, IPv6', Buffer.from('20010db8020300000000000000000102', 'hex')],
  ['DNS', Buffer.from('omerta-leak-name')],
];

describe('an exit without root', { skip: unavailable ?? false, timeout: 540_000 }, () => {
  let world: World;
  let made: ExitWorld;
  let guest: ExitMember;
  let exit: ExitMember;
  let untouched: Record<string, string>;

  const type = (on: ExitMember, words: readonly string[], timeoutMs = 60_000): Promise<Finished> => {
    const [file = '', ...args] = on.omerta.typed(...words);
    return on.node.run(file, args, { timeoutMs });
  };
  const must = async (on: ExitMember, ...words: string[]): Promise<string> => {
    const { code, stdout, stderr } = await type(on, words);
    assert.equal(code, 0, `omerta ${words.join(' ')}: ${stderr}`);
    return stdout;
  };
  const exec = (...words: string[]): Promise<Finished> => type(guest, ['exec', '--', ...words]);
  const curl = (url: string, seconds = 5): Promise<Finished> =>
    exec('curl', '-sS', '-g', '-m', String(seconds), url);
  const seen = async (host: string): Promise<string> => seenAddress((await curl(`http://${host}/`)).stdout);
  const reaches = (host: string): Promise<void> =>
    until(`the guest reaches ${host}`, async () => (await seen(host)) !== '', 60_000);

  before(async () => {
    world = await World.create();
    made = await ExitWorld.start(world, { ordinary: ['guest', 'exit'] });
    ({ guest, exit } = made);
    untouched = await hostState(exit.node);
    made.web.spawn(process.execPath, ['--input-type=module', '-e', FILE_SERVER], { stdio: 'ignore' });
  });
  after(() => world.remove());

  it('is used by --exit, and says why it is not granted', async () => {
    const refused = await type(guest, ['exec', '--exit', 'exit', '--', 'true']);
    assert.equal(refused.code, 5, refused.stderr);
    assert.match(refused.stderr, /does not serve an exit/);
    await must(exit, 'exit', 'serve', '--allow', guest.peerId, '--resolver', WEB.ipv4);
    await must(guest, 'exit', 'off');
    const out = await must(
      guest,
      'exec',
      '--exit',
      'exit',
      '--',
      'curl',
      '-sS',
      '-m',
      '10',
      `http://${WEB.ipv4}/`,
    );
    assert.equal(seenAddress(out), EXIT_OUTSIDE.ipv4);
    assert.equal((await exitReportOf(exit)).serving?.backend, 'namespace');
    const other = await type(guest, ['exec', '--exit', guest.peerId, '--', 'true']);
    assert.equal(other.code, 2);
    assert.match(other.stderr, /another exit is in use \(exit\)/);
  });

  it('carries TCP, IPv4 and IPv6, whole', async () => {
    assert.equal(await seen(WEB.ipv4), EXIT_OUTSIDE.ipv4);
    assert.equal(await seen(`[${WEB.ipv6}]`), EXIT_OUTSIDE.ipv6);
    const body = Buffer.alloc(
      FILE_BYTES,
      Buffer.from(Array.from({ length: 65521 }, (_, index) => (index * 7) & 255)),
    );
    const expected = createHash('sha256').update(body).digest('hex');
    for (const host of [WEB.ipv4, `[${WEB.ipv6}]`]) {
      const { stdout } = await exec('sh', '-c', `curl -sS -g -m 40 http://${host}:${FILE_PORT}/ | sha256sum`);
      assert.equal(stdout.split(' ')[0], expected, host);
    }
  });

  it(
    'is enough for apt-get: an archive beyond the exit, by name',
    { skip: labUnavailable(['apt-get']) ?? false },
    async () => {
      made.web.spawn(process.execPath, ['--input-type=module', '-e', ARCHIVE], { stdio: 'ignore' });
      await until('the archive serves', async () => {
        const { code } = await made.web.run('curl', [
          '-sS',
          '-m',
          '2',
          `http://${WEB.ipv4}:${ARCHIVE_PORT}/./Packages`,
        ]);
        return code === 0;
      });
      await reaches('shop.example');
      const { code, stdout, stderr } = await exec('sh', '-c', APT);
      assert.equal(code, 0, stdout + stderr);
      assert.match(stdout, /^what is in the package$/m);
    },
  );

  it(
    'is enough for dig, of the resolver and of a server beyond the exit',
    { skip: labUnavailable(['dig']) ?? false },
    async () => {
      for (const server of [[], [`@${WEB.ipv4}`], [`@${WEB.ipv6}`], ['+tcp', `@${WEB.ipv4}`]]) {
        const { stdout, stderr } = await exec(
          'dig',
          '+short',
          '+time=2',
          '+tries=3',
          ...server,
          'shop.example',
          'A',
        );
        assert.equal(stdout.trim(), WEB.ipv4, `${server.join(' ')}: ${stderr}`);
      }
    },
  );

  it('resolves names at the exit alone, for programs and by SOCKS', async () => {
    await reaches('shop.example');
    const outside: readonly string[] = Object.values(EXIT_OUTSIDE);
    assert.ok(outside.includes(await seen('shop.example')));
    const socks = guest.omerta.typed('socks', '--exit', 'exit');
    const child = guest.node.spawn(socks[0] ?? '', socks.slice(1), { stdio: ['ignore', 'pipe', 'inherit'] });
    let said = '';
    child.stdout?.setEncoding('utf8').on('data', (text: string) => (said += text));
    await until('it serves', () => said.includes('SOCKS 5'));
    const { stdout, stderr } = await guest.node.run('curl', [
      ...['-sS', '-m', '10', '-x', 'socks5h://127.0.0.1:1080'],
      'http://shop.example/',
    ]);
    assert.equal(seenAddress(stdout), EXIT_OUTSIDE.ipv4, stderr);
    child.kill('SIGINT');
    assert.ok(((await exitReportOf(exit)).serving?.names.answered ?? 0) > 0);
  });

  it('carries datagrams, and answers come from whom they are of', async () => {
    const query = `
      import { Resolver } from 'node:dns/promises';
      const resolver = new Resolver({ timeout: 2000, tries: 3 });
      resolver.setServers([process.argv[1]]);
      console.log((await resolver.resolve4('shop.example')).join());`;
    const ask = async (server: string): Promise<void> => {
      const { stdout, stderr } = await exec(process.execPath, '--input-type=module', '-e', query, server);
      assert.equal(stdout.trim(), WEB.ipv4, `${server}: ${stderr}`);
    };
    const servers = [WEB.ipv4, `[${WEB.ipv6}]`];
    for (const server of servers) await ask(server);
    // Another helper opens sockets for answers from then on, and a gateway that is made anew takes datagrams as well.
    const helper = async (): Promise<number> =>
      ((await exit.omerta.request({ command: 'status' })) as DaemonStatus).tunnel?.private?.pid ?? 0;
    const before = await helper();
    process.kill(before, 'SIGKILL');
    await until('another helper is there', async () => ![0, before].includes(await helper()));
    for (const server of servers) await ask(server);
    await must(exit, 'exit', 'off');
    await must(exit, 'exit', 'serve', '--allow', guest.peerId, '--resolver', WEB.ipv4);
    await reaches(WEB.ipv4);
    for (const server of servers) await ask(server);
  });

  it('pings others where the system lets this user, and says that it may not where it does not', async () => {
    const range = 'net.ipv4.ping_group_range';
    const ping = (host: string, ...words: string[]): Promise<Finished> =>
      exec('ping', '-n', '-c2', '-i0.3', '-W5', ...words, host);
    const [network] = ((await exit.omerta.request({ command: 'status' })) as DaemonStatus).mesh.networks;
    assert.ok(network);
    await exit.node.sysctl(`${range}=0 2147483647`);
    const refused = async (): Promise<number> => (await exitReportOf(exit)).serving?.gateway?.refused ?? 0;
    const before = await refused();
    for (const host of [WEB.ipv4, WEB.ipv6, network.ipv4, network.ipv6])
      for (const size of ['56', '4000']) {
        const { code, stdout } = await ping(host, '-s', size);
        assert.equal(code, 0, stdout);
        assert.match(stdout, / 0% packet loss/);
        assert.doesNotMatch(stdout, /DUP/, 'the kernel of the private network does not answer as well');
      }
    assert.equal(await refused(), before);
    assert.notEqual((await ping(LAN.ipv4, '-W1')).code, 0);
    assert.equal((await exitReportOf(exit)).serving?.pingsClosed, undefined);
    await exit.node.sysctl(`${range}=1 0`);
    assert.match(
      await must(exit, 'exit', 'status'),
      /^pings +not sent on: .*; type: sudo sysctl -w net\.ipv4\.ping_group_range=/m,
    );
    for (const [host, said] of [
      [WEB.ipv4, /Packet filtered/],
      [WEB.ipv6, /Administratively prohibited/],
    ] as const) {
      const { code, stdout } = await ping(host);
      assert.equal(code, 1);
      assert.match(stdout, said);
    }
  });

  it('refuses a datagram that nobody takes, as whom it was sent to does', async () => {
    const send = `
      import { createSocket } from 'node:dgram';
      const [family, address] = process.argv.slice(1);
      const socket = createSocket(family);
      socket.on('error', ({ code }) => { console.log(code); process.exit(); });
      const again = () => socket.send('to nobody', () => undefined);
      socket.connect(9, address, () => { again(); setInterval(again, 500); });
      setTimeout(() => process.exit(1), 10_000);`;
    for (const [family, address] of [
      ['udp4', WEB.ipv4],
      ['udp6', WEB.ipv6],
    ] as const) {
      const { stdout, stderr } = await exec(
        ...[process.execPath, '--input-type=module', '-e', send],
        ...[family, address],
      );
      assert.equal(stdout.trim(), 'ECONNREFUSED', `${address}: ${stderr}`);
    }
  });

  it('forwards to no private address, none of its own, and no mail', async () => {
    const before = (await exitReportOf(exit)).serving?.dropped.denied ?? 0;
    for (const host of [LAN.ipv4, `[${LAN.ipv6}]`, EXIT_OUTSIDE.ipv4, '192.0.2.1', '127.0.0.2'])
      assert.notEqual((await curl(`http://${host}/`, 2)).code, 0, host);
    assert.notEqual((await curl(`http://${WEB.ipv4}:25/`, 3)).code, 0);
    assert.ok(((await exitReportOf(exit)).serving?.dropped.denied ?? 0) > before);
    await must(exit, 'exit', 'serve', '--allow', guest.peerId, '--resolver', WEB.ipv4, '--lan', LAN.prefix);
    await reaches(LAN.ipv4);
  });

  it('is not spoken to itself: what guests send to the port its rules lead to is dropped', async () => {
    const gateway = async () => (await exitReportOf(exit)).serving?.gateway;
    const [network] = ((await exit.omerta.request({ command: 'status' })) as DaemonStatus).mesh.networks;
    assert.ok(network);
    const before = (await gateway())?.refused;
    const send = `
      import { createSocket } from 'node:dgram';
      const [ipv4, ipv6] = process.argv.slice(1);
      for (let each = 0; each < 20; each++)
        for (const [family, address] of [['udp4', ipv4], ['udp6', ipv6]]) {
          const socket = createSocket(family);
          socket.send('to itself', 28526, address, () => socket.close());
        }`;
    const sent = await exec(process.execPath, '--input-type=module', '-e', send, network.ipv4, network.ipv6);
    assert.equal(sent.code, 0, sent.stderr);
    for (const host of [network.ipv4, `[${network.ipv6}]`])
      assert.equal((await curl(`http://${host}:28526/`, 2)).code, 28, 'not even refused');
    // What is sent after them has been carried, and counted.
    const reader = guest.omerta.typed(
      ...['exec', '--', 'curl', '-sS', '-m', '60', '--limit-rate', '100k', '-o', '/dev/null'],
      `http://${WEB.ipv4}:${FILE_PORT}/`,
    );
    const child = guest.node.spawn(reader[0] ?? '', reader.slice(1), { stdio: 'ignore' });
    await until('it has a connection', async () => ((await gateway())?.tcp ?? 0) > 0);
    child.kill('SIGKILL');
    assert.equal((await gateway())?.refused, before);
  });

  it('does not accept what a guest begins too fast, and ends while he sends as fast as he can', async () => {
    const flood = `
      import { createSocket } from 'node:dgram';
      import { connect } from 'node:net';
      const host = process.argv[1];
      for (let count = 0; count < 900; count++) connect(80, host).on('error', () => 0);
      const socket = createSocket('udp4');
      const burst = Buffer.alloc(16);
      setInterval(() => {
        for (let count = 0; count < 4000; count++) socket.send(burst, 9, host, () => 0);
      }, 100);`;
    const words = guest.omerta.typed(
      ...['exec', '--', process.execPath, '--input-type=module', '-e', flood],
      WEB.ipv4,
    );
    const child = guest.node.spawn(words[0] ?? '', words.slice(1), { stdio: 'ignore' });
    try {
      const serving = async () => (await exitReportOf(exit)).serving;
      await until('it is counted', async () => ((await serving())?.capped.rate ?? 0) > 0, 60_000);
      await until('datagrams are carried', async () => ((await serving())?.gateway?.udp ?? 0) > 0);
      for (let times = 0; times < 2; times++) {
        await must(exit, 'exit', 'off');
        await must(exit, 'exit', 'serve', '--allow', guest.peerId, '--resolver', WEB.ipv4);
        await until('he is a guest again', async () => ((await serving())?.guests.length ?? 0) > 0, 60_000);
      }
    } finally {
      child.kill('SIGTERM');
    }
    await reaches(WEB.ipv4);
  });

  it('reaches a LAN as a route, and by it nothing else that is behind the gateway', async () => {
    await must(exit, 'exit', 'off');
    await must(guest, 'exit', 'off');
    await must(exit, 'route', 'advertise', LAN.prefix, '--allow', guest.peerId);
    await must(guest, 'route', 'accept', LAN.prefix, '--from', 'exit');
    await reaches(LAN.ipv4);
    assert.equal(await seen(LAN.ipv4), '192.168.7.1');
    for (const host of [WEB.ipv4, EXIT_OUTSIDE.ipv4, '192.168.7.1'])
      assert.notEqual((await curl(`http://${host}/`, 2)).code, 0, host);
    await must(exit, 'route', 'off');
    assert.notEqual((await curl(`http://${LAN.ipv4}/`, 2)).code, 0);
    await must(guest, 'route', 'off');
    await must(exit, 'exit', 'serve', '--allow', guest.peerId, '--resolver', WEB.ipv4);
    await must(guest, 'exit', 'use', 'exit');
    await reaches(WEB.ipv4);
  });

  it('lets nothing of the private network out but by the session', async () => {
    const leaked = async (run: () => Promise<unknown>): Promise<string[]> => {
      const bytes = await capture(world, guest.node, 'eth0', async () => {
        await run();
      });
      return MARKS.filter(([, mark]) => bytes.includes(mark)).map(([kind]) => kind);
    };
    const probes = [process.execPath, '--input-type=module', '-e', PROBES];
    // As a program of the machine: all but IPv6, which this machine behind its NAT has no route for.
    const unguarded = await leaked(() => guest.node.run(probes[0] ?? '', probes.slice(1)));
    assert.deepEqual(
      unguarded,
      MARKS.map(([kind]) => kind).filter((kind) => !kind.endsWith('IPv6')),
    );
    assert.deepEqual(await leaked(() => exec(...probes)), [], 'with an exit');
    await must(guest, 'exit', 'off');
    assert.deepEqual(await leaked(() => exec(...probes)), [], 'without one');
    assert.equal(await seen(WEB.ipv4), '');
    await must(guest, 'exit', 'use', 'exit');
    await reaches(WEB.ipv4);
  });

  it('ends what a guest has open when its right does, and leaves nothing on the machine', async () => {
    const reader = guest.omerta.typed(
      'exec',
      '--',
      'curl',
      '-sS',
      '-m',
      '60',
      '--limit-rate',
      '100k',
      '-o',
      '/dev/null',
      `http://${WEB.ipv4}:${FILE_PORT}/`,
    );
    const child = guest.node.spawn(reader[0] ?? '', reader.slice(1), { stdio: 'ignore' });
    await until(
      'it has a connection',
      async () => ((await exitReportOf(exit)).serving?.gateway?.tcp ?? 0) > 0,
    );
    await must(exit, 'exit', 'revoke', guest.peerId);
    await until(
      'its connection has ended',
      async () => (await exitReportOf(exit)).serving?.gateway?.tcp === 0,
    );
    assert.equal(await seen(WEB.ipv4), '');
    child.kill('SIGKILL');
    await must(exit, 'exit', 'off');
    assert.deepEqual(await hostState(exit.node), untouched);
    assert.doesNotMatch(exit.omerta.log, /"level":(50|60)/);
  });

  it('says which of its options mean nothing in a private network', async () => {
    for (const [on, words] of [
      [guest, ['exit', 'use', 'exit', '--paranoid']],
      [guest, ['exit', 'use', 'exit', '--exclude', '203.0.113.0/24']],
      [exit, ['exit', 'serve', '--allow', guest.peerId, '--chain']],
    ] as const)
      assert.equal((await type(on, words)).code, 2, words.join(' '));
    const { code, stderr } = await type(exit, [
      'exit',
      'serve',
      '--backend',
      'kernel',
      '--allow',
      guest.peerId,
    ]);
    assert.equal(code, 1);
    assert.match(stderr, /in a private network, so a gateway forwards\. To change it: .*sudo omerta up/);
  });
});
