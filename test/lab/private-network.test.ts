// A member without root and without an interface on its machine: programs in its private network reach other members,
// and nobody else.

import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Finished } from '../../ts/lab/command.js';
import {
  asOrdinaryUser,
  giveToOrdinaryUser,
  ordinaryUserUnavailable,
  withTunDevice,
} from '../../ts/lab/ordinary-user.js';
import { OmertaNode } from '../../ts/lab/omerta-node.js';
import { labUnavailable } from '../../ts/lab/requirements.js';
import { World, type Node } from '../../ts/lab/world.js';
import type { DaemonStatus } from '../../ts/status/model/daemon-status.js';
import { addonMissing } from '../engine/addon.js';
import { fullPipe } from '../full-pipe.js';
import { until } from '../wg/wg-lab.js';

const SERVER = `
  import { createServer } from 'node:http';
  createServer((request, response) => response.end(request.socket.remoteAddress + '\\n')).listen(8080, '::');
`;
const unavailable =
  labUnavailable(['curl', 'ping', 'setpriv']) ?? ordinaryUserUnavailable() ?? addonMissing();

describe('a private network', { skip: unavailable ?? false, timeout: 400_000 }, () => {
  let world: World;
  let server: OmertaNode;
  let user: OmertaNode;
  let userNode: Node;
  let outside: Node;
  let addresses: { readonly ipv4: string; readonly ipv6: string };

  const status = async (of: OmertaNode): Promise<DaemonStatus> =>
    (await of.request({ command: 'status' })) as DaemonStatus;
  const own = async (of: OmertaNode): Promise<{ readonly ipv4: string; readonly ipv6: string }> => {
    const [network] = (await status(of)).mesh.networks;
    assert.ok(network);
    return network;
  };
  /** Types a command of omerta as the user. */
  const type = (
    words: readonly string[],
    input?: string,
    environment: readonly string[] = [],
  ): Promise<Finished> => {
    const [file = '', ...args] = [
      ...asOrdinaryUser,
      'env',
      ...environment,
      process.execPath,
      ...user.commandLine().filter((word) => word !== '--json'),
    ];
    return userNode.run(file, [...args, ...words], {
      timeoutMs: 30_000,
      ...(input !== undefined && { input }),
    });
  };
  const exec = (...words: string[]): Promise<Finished> => type(['exec', '--', ...words]);
  const helper = async (): Promise<number> => (await status(user)).tunnel?.private?.pid ?? 0;

  before(async () => {
    world = await World.create();
    const relay = new OmertaNode(world, await world.addNode('relay'), 'relay');
    const { networks } = (await relay.start('relay')) as { networks: [{ invite: string }] };
    const serverNode = await world.addNode('server');
    server = new OmertaNode(world, serverNode, 'server');
    userNode = await world.addNode('user');
    user = new OmertaNode(world, userNode, 'user');
    outside = await world.addNode('outside');
    for (const member of [server, user]) await member.command(['network', 'join', '-'], networks[0].invite);
    giveToOrdinaryUser(user.state);
    user.through = withTunDevice();
    await server.start('up', '--foreground');
    await user.start('up', '--foreground', '--no-tun');
    for (const node of [serverNode, outside])
      node.spawn(process.execPath, ['--input-type=module', '-e', SERVER], { stdio: 'ignore' });
    addresses = await own(server);
    await until('a program reaches the server', async () => {
      const { code } = await exec('curl', '-sS', '-m', '2', `http://${addresses.ipv4}:8080/`);
      return code === 0;
    });
  });
  after(() => world.remove());

  it('leads to members, by IPv4, IPv6 and ping, without an interface on the machine', async () => {
    const { ipv4, ipv6 } = await own(user);
    const seen = async (host: string): Promise<string> =>
      (await exec('curl', '-sS', '-g', '-m', '5', `http://${host}:8080/`)).stdout.trim();
    assert.equal(await seen(addresses.ipv4), `::ffff:${ipv4}`);
    assert.equal(await seen(`[${addresses.ipv6}]`), ipv6);
    for (const address of [addresses.ipv4, addresses.ipv6]) {
      const { code, stdout, stderr } = await exec('ping', '-n', '-c1', '-W5', address);
      assert.equal(code, 0, stdout + stderr);
    }
    assert.doesNotMatch((await userNode.run('ip', ['link'])).stdout, /omerta0/);
  });

  it('leads nowhere else, and what runs in it has no right to change that', async () => {
    assert.equal((await userNode.run('curl', ['-sS', '-m', '5', `http://${outside.address}:8080/`])).code, 0);
    assert.notEqual((await exec('curl', '-sS', '-m', '2', `http://${outside.address}:8080/`)).code, 0);
    const links = (await exec('ip', '-o', 'link')).stdout;
    assert.deepEqual(links.match(/^\d+: \w+/gm), ['1: lo', '2: omerta0']);
    for (const change of [
      'ip link set lo down',
      'ip route del default',
      'ip addr add 10.9.9.9/24 dev omerta0',
    ])
      assert.match((await exec('sh', '-c', change)).stderr, /Operation not permitted/, change);
    const { stdout } = await exec('sh', '-c', 'id -u; cat /etc/resolv.conf; grep CapEff /proc/self/status');
    assert.match(stdout, /^65534\nnameserver 127\.0\.0\.1\nCapEff:\s+0+\n$/);
  });

  it('ends as the program ended, and says what could not be started', async () => {
    assert.equal((await exec('sh', '-c', 'exit 7')).code, 7);
    assert.equal((await exec('sh', '-c', 'kill -TERM $$')).code, 143);
    const absent = await exec('/no/such-program');
    assert.equal(absent.code, 127);
    assert.match(absent.stderr, /\/no\/such-program: No such file/);
    // A folder of the path that may not be looked into says nothing about a program that is nowhere.
    const nowhere = await type(['exec', '--', 'no-such-program'], undefined, ['PATH=/root:/usr/bin:/bin']);
    assert.equal(nowhere.code, 127);
    assert.match(nowhere.stderr, /no-such-program: No such file/);
    const unfit = join(user.state, 'unfit');
    writeFileSync(unfit, '');
    const inPath = await type(['exec', '--', 'unfit'], undefined, [`PATH=${user.state}:/usr/bin:/bin`]);
    for (const { code, stderr } of [inPath, await exec(unfit)]) {
      assert.equal(code, 126);
      assert.match(stderr, /unfit: Permission denied/);
    }
    const { code, stderr } = await type(['exec']);
    assert.equal(code, 2);
    assert.match(stderr, /missing required argument/);
    const dashless = await type(['exec', 'curl', '-sS', 'http://server/']);
    assert.equal(dashless.code, 2);
    assert.match(dashless.stderr, /Type: omerta exec -- curl -sS http:\/\/server\/$/m);
    assert.equal((await type(['exec', '--', 'cat'], 'as it came')).stdout, 'as it came');
  });

  it('leaves SIGHUP ignored where there is no terminal, as nohup has it, and else to the program', async () => {
    const ignored = 'grep SigIgn /proc/self/status';
    const hangup = (line: string): bigint => BigInt(`0x${/SigIgn:\s*(\w+)/.exec(line)?.[1]}`) & 1n;
    assert.equal(hangup((await exec('sh', '-c', ignored)).stdout), 1n);
    const words = [...asOrdinaryUser, process.execPath, ...user.commandLine('exec')];
    const line = [...words.filter((word) => word !== '--json'), '--', 'grep', 'SigIgn', '/proc/self/status'];
    const { stdout } = await userNode.run('script', ['-qec', line.join(' '), '/dev/null']);
    assert.equal(hangup(stdout), 0n);
  });

  it('survives its helper: connections stay, and another helper takes its place', async () => {
    const before = await helper();
    const reader = `
      import { connect } from 'node:net';
      const socket = connect(8080, '${addresses.ipv4}', () => console.log('connected'));
      process.stdin.once('data', () => socket.write('GET / HTTP/1.0\\r\\n\\r\\n'));
      socket.on('data', (bytes) => { console.log(String(bytes)); process.exit(); });`;
    const [file = '', ...args] = [
      ...asOrdinaryUser,
      process.execPath,
      ...user.commandLine('exec').filter((word) => word !== '--json'),
    ];
    const child = userNode.spawn(
      file,
      [...args, '--', process.execPath, '--input-type=module', '-e', reader],
      { stdio: ['pipe', 'pipe', 'inherit'] },
    );
    assert.ok(child.stdout && child.stdin);
    let printed = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => (printed += text));
    await until('it is connected', () => printed.includes('connected'));
    process.kill(before, 'SIGKILL');
    await until('another helper is there', async () => ![0, before].includes(await helper()));
    child.stdin.write('\n');
    await once(child, 'exit');
    assert.match(printed, /200 OK/);
    assert.match(user.log, /network-helper-replaced/);
    const { code } = await exec('curl', '-sS', '-m', '5', `http://${addresses.ipv4}:8080/`);
    assert.equal(code, 0);
  });

  /** Starts a command that stays, and waits for what it says once it serves. */
  const serving = async (
    said: RegExp,
    ...words: string[]
  ): Promise<{ child: ChildProcess; text: () => string }> => {
    const [file = '', ...args] = [
      ...asOrdinaryUser,
      process.execPath,
      ...user.commandLine().filter((word) => word !== '--json'),
    ];
    const child = userNode.spawn(file, [...args, ...words], { stdio: ['ignore', 'pipe', 'pipe'] });
    let text = '';
    for (const stream of [child.stdout, child.stderr])
      stream?.setEncoding('utf8').on('data', (part: string) => (text += part));
    await until(`${words.join(' ')} serves`, () => said.test(text) || child.exitCode !== null);
    assert.match(text, said);
    return { child, text: () => text };
  };
  /** Ctrl-C, and that nothing of it stays. */
  const interrupted = async (child: ChildProcess): Promise<void> => {
    const ended = once(child, 'exit');
    child.kill('SIGINT');
    const patience = sleep(30_000, 'it runs on for 30 s', { ref: false });
    assert.deepEqual(await Promise.race([ended, patience]), [0, null]);
  };
  const curl = async (on: Node, ...words: string[]): Promise<string> =>
    (await on.run('curl', ['-sS', '-g', '-m', '5', ...words])).stdout.trim();

  it('is reached by SOCKS, by addresses and names of members, and leads nowhere else by it', async () => {
    const { ipv4, ipv6 } = await own(user);
    const { child } = await serving(/SOCKS 5 at 127\.0\.0\.1:1080/, 'socks');
    const seen = (url: string): Promise<string> => curl(userNode, '-x', 'socks5h://127.0.0.1:1080', url);
    assert.equal(await seen('http://server:8080/'), `::ffff:${ipv4}`);
    assert.equal(await seen(`http://${addresses.ipv4}:8080/`), `::ffff:${ipv4}`);
    assert.equal(await seen(`http://[${addresses.ipv6}]:8080/`), ipv6);
    const other = await userNode.run('curl', [
      ...['-sS', '-m', '10', '-x', 'socks5h://127.0.0.1:1080'],
      `http://${outside.address}:8080/`,
    ]);
    assert.equal(other.code, 97, other.stderr); // CURLE_PROXY: the proxy refused
    const again = await type(['socks']);
    assert.equal(again.code, 1);
    assert.match(again.stderr, /--listen: 127\.0\.0\.1:1080 cannot be listened at \(EADDRINUSE\)/);
    await interrupted(child);
    const proxy = '127.0.0.1:1081';
    for (const at of [proxy, '127.0.0.1:0']) {
      const json = await serving(/^\{.*\}\n/, 'socks', '--listen', at, '--json');
      const { listen, ...rest } = JSON.parse(json.text()) as { listen: string };
      assert.deepEqual(rest, { kind: 'socks', hasPassword: false });
      assert.match(listen, at === proxy ? /^127\.0\.0\.1:1081$/ : /^127\.0\.0\.1:[1-9]\d{3,4}$/);
      assert.equal(
        await curl(userNode, '-x', `socks5h://${listen}`, 'http://server:8080/'),
        `::ffff:${ipv4}`,
      );
      await interrupted(json.child);
    }
    const open = await type(['socks', '--listen', '0.0.0.0:1080']);
    assert.equal(open.code, 2);
    assert.match(open.stderr, /there is no password/);
  });

  it('is reached by SOCKS and by ports, which end when they are to, though nobody reads what they print', async (t) => {
    const { ipv4 } = await own(user);
    const writer = fullPipe(t, join(world.folder, 'unread'));
    const words = user.commandLine().filter((word) => word !== '--json');
    const [file = '', ...args] = [...asOrdinaryUser, process.execPath, ...words];
    for (const [command, asked] of [
      [['socks'], ['-x', 'socks5h://127.0.0.1:1080', 'http://server:8080/']],
      [['forward', '-L', '8081:server:8080'], ['http://127.0.0.1:8081/']],
    ] as const) {
      const child = userNode.spawn(file, [...args, ...command], { stdio: ['ignore', writer, 'inherit'] });
      try {
        await until(
          `${command[0]} serves`,
          async () => (await curl(userNode, '-m', '2', ...asked)) === `::ffff:${ipv4}`,
        );
        await interrupted(child);
      } finally {
        child.kill('SIGKILL');
      }
    }
  });

  it('is reached by ports of the machine, and reaches the machine by ports of its own', async () => {
    const { ipv4, ipv6 } = await own(user);
    userNode.spawn(process.execPath, ['--input-type=module', '-e', SERVER], { stdio: 'ignore' });
    await until('the machine serves', async () => (await curl(userNode, 'http://127.0.0.1:8080/')) !== '');
    const { child } = await serving(
      /-R 9090.*until/,
      'forward',
      '-L',
      '8081:server:8080',
      '-R',
      '9090:127.0.0.1:8080',
    );
    assert.equal(await curl(userNode, 'http://127.0.0.1:8081/'), `::ffff:${ipv4}`);
    for (const host of [ipv4, `[${ipv6}]`])
      assert.equal(await curl(server.node, `http://${host}:9090/`), '::ffff:127.0.0.1', host);
    await interrupted(child);
    const json = await serving(/^\{.*\}\n/, 'forward', '--json', '-L', '8081:server:8080');
    assert.deepEqual(JSON.parse(json.text()), {
      kind: 'forward',
      side: 'local',
      spec: '8081:server:8080',
      udp: false,
      port: 8081,
    });
    await interrupted(json.child);
    const chosen = await serving(/-L 0:server:8080 at port \d+, until/, 'forward', '-L', '0:server:8080');
    const [, free = ''] = /at port (\d+)/.exec(chosen.text()) ?? [];
    assert.equal(await curl(userNode, `http://127.0.0.1:${free}/`), `::ffff:${ipv4}`);
    await interrupted(chosen.child);
    const udp = await serving(/-L 8082.*UDP/, 'forward', '--udp', '-L', '8082:server:8083');
    const echo = `
      import { createSocket } from 'node:dgram';
      const socket = createSocket('udp4');
      socket.on('message', (data, from) => socket.send(data, from.port, from.address)).bind(8083);`;
    server.node.spawn(process.execPath, ['--input-type=module', '-e', echo], { stdio: 'ignore' });
    const ask = `
      import { createSocket } from 'node:dgram';
      const socket = createSocket('udp4');
      setInterval(() => socket.send('asked', 8082, '127.0.0.1'), 200);
      socket.on('message', (data) => { console.log(String(data)); process.exit(); });`;
    const { stdout } = await userNode.run(process.execPath, ['--input-type=module', '-e', ask], {
      timeoutMs: 20_000,
    });
    assert.equal(stdout.trim(), 'asked');
    await interrupted(udp.child);
    for (const wrong of [['-L', '8081:server'], ['-L', '0.0.0.0:8081:server:80'], []])
      assert.equal((await type(['forward', ...wrong])).code, 2, wrong.join(' '));
  });

  it('is reached, and reaches the machine, by what the configuration says, from a reload on and after a restart', async () => {
    const { ipv4, ipv6 } = await own(user);
    const text = `[socks]
[[forward]]
local = "8084:server:8080"
[[forward]]
remote = "9091:127.0.0.1:8080"`;
    const reload = async (more: string): Promise<Finished> => {
      user.configure(more);
      return type(['reload']);
    };
    const works = async (): Promise<void> => {
      const proxy = ['-x', 'socks5h://127.0.0.1:1080'];
      assert.equal(await curl(userNode, ...proxy, 'http://server:8080/'), `::ffff:${ipv4}`);
      assert.equal(await curl(userNode, 'http://127.0.0.1:8084/'), `::ffff:${ipv4}`);
      for (const host of [ipv4, `[${ipv6}]`])
        assert.equal(await curl(server.node, `http://${host}:9091/`), '::ffff:127.0.0.1', host);
    };
    const { code, stdout, stderr } = await reload(text);
    assert.equal(code, 0, stderr);
    assert.match(stdout, /^forward: in force\nsocks: in force$/m);
    await works();
    const taken = await reload(`${text}\n[[forward]]\nlocal = "8080:server:1"`);
    assert.equal(taken.code, 1);
    assert.match(taken.stderr, /config forward\.2\.local: the port of local 8080:server:1 cannot be taken/);
    user.configure(text);
    await works();
    await user.kill();
    await user.start('up', '--foreground', '--no-tun');
    await until('the server is reached again', async () => {
      const answer = await curl(userNode, 'http://127.0.0.1:8084/');
      return answer === `::ffff:${ipv4}`;
    });
    await works();
    const { stdout: said } = await reload('');
    assert.match(said, /^socks: removed, there is no SOCKS proxy any more$/m);
    assert.match(said, /^forward: back at its default, \[\]$/m);
    for (const port of [1080, 8084])
      assert.equal((await userNode.run('curl', ['-m', '5', `http://127.0.0.1:${port}/`])).code, 7, `${port}`);
  });

  it('is gone with its daemon, killed or not', async () => {
    const { child, text } = await serving(/SOCKS 5 at/, 'socks');
    for (const end of ['down', 'kill'] as const) {
      const pid = await helper();
      assert.ok(existsSync(`/proc/${pid}`));
      if (end === 'down') assert.equal((await type(['down'])).code, 0);
      else await user.kill();
      await until('the helper has ended', () => !existsSync(`/proc/${pid}`));
      const { code, stderr } = await exec('true');
      assert.equal(code, 3);
      assert.match(stderr, /none is running for this state directory/);
      await user.start('up', '--foreground', '--no-tun');
    }
    await until('what served in it has ended', () => child.exitCode !== null);
    assert.match(text(), /none is running|started anew/);
  });

  it('says what is closed and what opens it, and serves exits all the same', async () => {
    const closed = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$0" "$@"';
    for (const [through, reason, remedy] of [
      [withTunDevice('600'), '/dev/net/tun cannot be opened by this user', 'sudo chmod 0666 /dev/net/tun'],
      [
        [...asOrdinaryUser, 'unshare', '-U', '--map-root-user', 'sh', '-c', closed],
        'user namespaces are closed (user.max_user_namespaces = 0)',
        'sudo sysctl -w user.max_user_namespaces=15000',
      ],
    ] as const) {
      await user.kill();
      user.through = through;
      const { engine, exit, noPrivateNetwork } = (await user.start(
        'up',
        '--foreground',
        '--no-tun',
      )) as DaemonStatus;
      assert.equal(engine.stack, true);
      assert.equal(exit?.backend, 'stack');
      assert.deepEqual(noPrivateNetwork, { reason, remedy });
      const { code, stderr } = await exec('true');
      assert.equal(code, 4, stderr);
      assert.ok(
        stderr.includes(`${reason}, so this member has no private network. Type: ${remedy}, then`),
        stderr,
      );
      await user.kill();
      // What is to lead into a private network is not left out in silence.
      user.configure('[[forward]]\nlocal = "8081:server:8080"\n');
      const [file = '', ...args] = [
        ...user.through,
        process.execPath,
        ...user.commandLine('up', '--foreground', '--no-tun'),
      ];
      const refused = await userNode.run(file, args, { timeoutMs: 30_000 });
      assert.equal(refused.code, 4, refused.stderr);
      assert.match(refused.stderr, /config forward: it leads into a private network, and none can be made/);
      assert.ok(
        refused.stderr.includes(`${reason}. Type: ${remedy}, then omerta up --no-tun`),
        refused.stderr,
      );
      user.configure('');
    }
    await user.kill();
    user.through = [];
  });

  it('is not there beside an interface of the machine', async () => {
    const { code, stderr } = await server.node.run(process.execPath, [
      join(server.installation, 'bin', 'omerta'),
      ...['exec', '--state', server.state, '--', 'true'],
    ]);
    assert.equal(code, 1);
    assert.match(stderr, /omerta up --no-tun/);
    server.configure('[socks]');
    const reload = await server.node.run(process.execPath, server.commandLine('reload'));
    assert.equal(reload.code, 2);
    assert.match(reload.stderr, /config socks: it leads into a private network.*omerta up --no-tun/);
    server.configure('');
  });
});
