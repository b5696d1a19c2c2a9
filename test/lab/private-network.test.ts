// A member without root and without an interface on its machine: programs in its private network reach other members,
// and nobody else.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
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
import { until } from '../wg/wg-lab.js';

const SERVER = `
  import { createServer } from 'node:http';
  createServer((request, response) => response.end(request.socket.remoteAddress + '\\n')).listen(8080, '::');
`;
const unavailable =
  labUnavailable(['curl', 'ping', 'setpriv']) ?? ordinaryUserUnavailable() ?? addonMissing();

describe('a private network', { skip: unavailable ?? false, timeout: 200_000 }, () => {
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
  const type = (words: readonly string[], input?: string): Promise<Finished> => {
    const [file = '', ...args] = [
      ...asOrdinaryUser,
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
    const { code, stderr } = await type(['exec']);
    assert.equal(code, 2);
    assert.match(stderr, /missing required argument/);
    assert.equal((await type(['exec', '--', 'cat'], 'as it came')).stdout, 'as it came');
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

  it('is gone with its daemon, killed or not', async () => {
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
  });

  it('says what is closed and what opens it', async () => {
    await user.kill();
    user.through = withTunDevice('600');
    await assert.rejects(
      user.start('up', '--foreground', '--no-tun'),
      /\/dev\/net\/tun cannot be opened by this user\. Type: sudo chmod 0666 \/dev\/net\/tun/,
    );
    const closed = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$0" "$@"';
    user.through = [...asOrdinaryUser, 'unshare', '-U', '--map-root-user', 'sh', '-c', closed];
    await assert.rejects(
      user.start('up', '--foreground', '--no-tun'),
      /user namespaces are closed \(user\.max_user_namespaces = 0\).*Type: sudo sysctl -w user\.max_user_namespaces=15000/,
    );
    user.through = [];
  });

  it('is not there beside an interface of the machine', async () => {
    const { code, stderr } = await server.node.run(process.execPath, [
      join(server.installation, 'bin', 'omerta'),
      ...['exec', '--state', server.state, '--', 'true'],
    ]);
    assert.equal(code, 1);
    assert.match(stderr, /omerta up --no-tun/);
  });
});
