// An exit of a user without any right, served by a TCP/IP stack of its engine's own: it carries what a guest sends, of
// both families, over a link that loses, resolves names, and forwards nowhere else.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import type { Finished } from '../../ts/lab/command.js';
import {
  EXIT_OUTSIDE,
  exitReportOf,
  ExitWorld,
  hostState,
  LAN,
  WEB,
  type ExitMember,
} from '../../ts/lab/exit-world.js';
import { ordinaryUserUnavailable } from '../../ts/lab/ordinary-user.js';
import { labUnavailable } from '../../ts/lab/requirements.js';
import { World } from '../../ts/lab/world.js';
import { addonMissing } from '../engine/addon.js';
import { until } from '../wg/wg-lab.js';

const unavailable =
  labUnavailable(['curl', 'nft', 'ping', 'setpriv']) ?? ordinaryUserUnavailable() ?? addonMissing();
const FILE_BYTES = 8 * 1024 * 1024;
const FILE_PORT = 8088;
/** Sends a file, and tells of what is sent to it how much that was and its SHA-256. */
const FILE_SERVER = `
  import { createHash } from 'node:crypto';
  import { createServer } from 'node:http';
  const body = Buffer.alloc(${FILE_BYTES}, Buffer.from(Array.from({ length: 65521 }, (_, index) => (index * 7) & 255)));
  createServer((request, response) => {
    if (request.method === 'GET') return response.end(body);
    const hash = createHash('sha256');
    request.on('data', (bytes) => hash.update(bytes)).on('end', () => response.end(hash.digest('hex')));
  }).listen(${FILE_PORT}, '::');
`;
/** Of a hundred datagrams of the mesh one is lost, in each direction. */
const LOSSY = `table inet lossy {
  chain in { type filter hook input priority 0; iifname "eth0" meta l4proto udp numgen random mod 100 < 1 drop; }
  chain out { type filter hook output priority 0; oifname "eth0" meta l4proto udp numgen random mod 100 < 1 drop; }
}`;
const BODY = Buffer.alloc(
  FILE_BYTES,
  Buffer.from(Array.from({ length: 65_521 }, (_, index) => (index * 7) & 255)),
);
const SHA256 = createHash('sha256').update(BODY).digest('hex');
/** A question for a name, by UDP, or by TCP with its length before it: the address of the answer. */
const QUESTION = `
  import { createSocket } from 'node:dgram';
  import { connect, isIPv6 } from 'node:net';
  const [server, kind] = process.argv.slice(1);
  const name = Buffer.from('\\x04shop\\x07example\\x00', 'latin1');
  const question = Buffer.concat([Buffer.from('12340100000100000000', 'hex'), Buffer.alloc(2), name, Buffer.from('00010001', 'hex')]);
  const done = (answer) => { console.log([...answer.subarray(-4)].join('.')); process.exit(); };
  if (kind === 'tcp') {
    const socket = connect(53, server);
    socket.write(Buffer.concat([Buffer.from([0, question.length]), question]));
    socket.on('data', done);
  } else {
    const socket = createSocket(isIPv6(server) ? 'udp6' : 'udp4');
    socket.on('message', done);
    socket.send(question, 53, server);
    setInterval(() => socket.send(question, 53, server), 1000);
  }
  setTimeout(() => process.exit(1), 15_000);
`;

describe('an exit without any right', { skip: unavailable ?? false, timeout: 300_000 }, () => {
  let world: World;
  let made: ExitWorld;
  let guest: ExitMember;
  let exit: ExitMember;
  let untouched: Record<string, string>;

  const type = async (on: ExitMember, words: readonly string[]): Promise<Finished> => {
    const [file = '', ...args] = on.omerta.typed(...words);
    return on.node.run(file, args, { timeoutMs: 60_000 });
  };
  const must = async (on: ExitMember, ...words: string[]): Promise<string> => {
    const { code, stdout, stderr } = await type(on, words);
    assert.equal(code, 0, `omerta ${words.join(' ')}: ${stderr}`);
    return stdout;
  };
  const serve = ['exit', 'serve', '--backend', 'stack', '--resolver', WEB.ipv4];
  const ask = async (server: string, kind: 'udp' | 'tcp'): Promise<string> => {
    const { stdout } = await guest.node.run(process.execPath, [
      ...['--input-type=module', '-e', QUESTION],
      ...[server, kind],
    ]);
    return stdout.trim();
  };
  const leaves = (): Promise<void> => until('the guest leaves by the exit', () => made.leaves(), 60_000);

  before(async () => {
    world = await World.create();
    made = await ExitWorld.start(world, { stack: true });
    ({ guest, exit } = made);
    untouched = await hostState(exit.node);
    made.web.spawn(process.execPath, ['--input-type=module', '-e', FILE_SERVER], { stdio: 'ignore' });
  });
  after(() => world.remove());

  it('says what it is not, and serves what it is', async () => {
    const refused = await type(exit, ['exit', 'serve', '--backend', 'namespace', '--allow', guest.peerId]);
    assert.equal(refused.code, 1);
    assert.match(refused.stderr, /has no interface.*omerta down, then omerta up --no-tun/);
    for (const words of [
      ['exec', '--', 'true'],
      ['exit', 'use', guest.peerId],
    ])
      assert.equal((await type(exit, words)).code, 1, words.join(' '));
    assert.equal((await type(exit, [...serve, '--chain', '--allow', guest.peerId])).code, 2);
    assert.match(await must(exit, ...serve, '--allow', guest.peerId), /a TCP\/IP stack of its own/);
    await must(guest, 'exit', 'use', 'exit');
    await leaves();
    assert.equal((await exitReportOf(exit)).serving?.backend, 'stack');
    assert.match(await must(exit, 'status'), /tunnel +none: a TCP\/IP stack of its own/);
  });

  it('carries connections of both families whole, both ways, over a link that loses', async () => {
    const file = join(world.folder, 'body');
    writeFileSync(file, BODY);
    await guest.node.mustRun('nft', ['-f', '-'], { input: LOSSY });
    try {
      for (const host of [WEB.ipv4, `[${WEB.ipv6}]`]) {
        const url = `http://${host}:${FILE_PORT}/`;
        const down = await guest.node.run('sh', ['-c', `curl -sS -g -m 50 ${url} | sha256sum`], {
          timeoutMs: 60_000,
        });
        assert.equal(down.stdout.split(' ')[0], SHA256, `${host}, down: ${down.stderr}`);
        const up = await guest.node.run('curl', ['-sS', '-g', '-m', '50', '--data-binary', `@${file}`, url], {
          timeoutMs: 60_000,
        });
        assert.equal(up.stdout.trim(), SHA256, `${host}, up: ${up.stderr}`);
      }
    } finally {
      await guest.node.mustRun('nft', ['delete', 'table', 'inet', 'lossy']);
    }
    assert.equal(await made.fetch(WEB.ipv4), EXIT_OUTSIDE.ipv4);
    assert.equal(await made.fetch(WEB.ipv6), EXIT_OUTSIDE.ipv6);
  });

  it('carries datagrams, and resolves names asked of the exit itself', async () => {
    for (const server of [WEB.ipv4, WEB.ipv6, exit.ipv4, exit.ipv6])
      for (const kind of ['udp', 'tcp'] as const)
        assert.equal(await ask(server, kind), WEB.ipv4, `${server} by ${kind}`);
    assert.ok(((await exitReportOf(exit)).serving?.names.answered ?? 0) > 0);
    assert.ok(await made.ping(exit.ipv4), 'the exit itself answers pings');
  });

  it('pings others where the system lets this user, and says that it may not where it does not', async () => {
    const range = 'net.ipv4.ping_group_range';
    await exit.node.sysctl(`${range}=0 2147483647`);
    for (const host of [WEB.ipv4, WEB.ipv6]) assert.ok(await made.ping(host), host);
    await exit.node.sysctl(`${range}=1 0`);
    const { code, stdout } = await guest.node.run('ping', ['-n', '-c1', '-W5', WEB.ipv4]);
    assert.equal(code, 1);
    assert.match(stdout, /Packet filtered/);
  });

  it('forwards to no private address, none of its own, and no mail', async () => {
    const before = (await exitReportOf(exit)).serving?.dropped.denied ?? 0;
    for (const host of [LAN.ipv4, LAN.ipv6, EXIT_OUTSIDE.ipv4, EXIT_OUTSIDE.ipv6, '192.0.2.1', '10.0.0.1'])
      assert.equal(await made.fetch(host, 80, 1), undefined, host);
    assert.equal(await made.fetch(WEB.ipv4, 25, 1), undefined);
    assert.equal(
      await made.fetch(exit.ipv4, 80, 1),
      undefined,
      'of the exit guests reach the resolver alone',
    );
    assert.ok(((await exitReportOf(exit)).serving?.dropped.denied ?? 0) > before);
    await must(exit, ...serve, '--allow', guest.peerId, '--lan', LAN.prefix, '--ipv4-only');
    await until('the LAN is reached', async () => (await made.fetch(LAN.ipv4)) !== undefined, 60_000);
    assert.equal(await made.fetch(WEB.ipv6, 80, 1), undefined, 'a family that is not served');
    await must(exit, ...serve, '--allow', guest.peerId);
    await leaves();
  });

  it('refuses who cannot be reached at once', async () => {
    const { code, stderr } = await made.curl(WEB.ipv4, 81, 10);
    assert.equal(code, 7, stderr);
  });

  it('ends what a guest has open when its right does', async () => {
    const url = `http://${WEB.ipv4}:${FILE_PORT}/`;
    const reader = guest.node.spawn(
      'curl',
      ['-sS', '-m', '60', '--limit-rate', '50k', '-o', '/dev/null', url],
      {
        stdio: 'ignore',
      },
    );
    const open = async (): Promise<number> => (await exitReportOf(exit)).serving?.gateway?.tcp ?? 0;
    await until('it has a connection', async () => (await open()) > 0);
    await must(exit, 'exit', 'revoke', guest.peerId);
    await until('its connection has ended', async () => (await open()) === 0);
    assert.equal(await made.fetch(WEB.ipv4, 80, 1), undefined);
    reader.kill('SIGKILL');
    await must(exit, ...serve, '--allow', guest.peerId);
    await leaves();
  });

  it('is there again after it was killed, and leaves nothing on the machine', async () => {
    await exit.omerta.kill();
    assert.equal(await made.fetch(WEB.ipv4, 80, 1), undefined);
    await exit.omerta.start('up', '--foreground', '--stack');
    await leaves();
    assert.equal((await exitReportOf(exit)).serving?.backend, 'stack');
    assert.deepEqual(await hostState(exit.node), untouched);
    assert.doesNotMatch(exit.omerta.log, /"level":(50|60)/);
  });
});
