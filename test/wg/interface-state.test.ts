// The port of `omerta wg` is bound while its interface is up, as the kernel's WireGuard has it, with
// several workers and wherever the interface is.

import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { mustRun } from '../../ts/lab/command.js';
import { World, type Node } from '../../ts/lab/world.js';
import { OMERTA_WG, carriesPings, processesOf, socketOf, until, wgUnavailable } from './wg-lab.js';

const A = `oa${process.pid}`;
const B = `ob${process.pid}`;
const A_INSIDE = '10.78.0.1';
const B_INSIDE = '10.78.0.2';
const A_PORT = 7101;
const B_PORT = 7102;
const WORKERS = 3;

const skip = wgUnavailable() ?? false;
if (skip !== false) console.log(`the interface state of omerta wg is not tested: ${skip}`);

describe('the port of omerta wg', { skip, timeout: 300_000 }, () => {
  let world: World;
  let alice: Node;
  let bob: Node;
  let keyOfBob: string;

  /** The sockets of a node, one a worker, and the port they share. */
  const boundPorts = async (node: Node): Promise<number[]> => {
    const lines = (await node.mustRun('ss', ['-Huln'])).split('\n').filter(Boolean);
    return lines.map((line) => Number(/:(\d+)\s/.exec(line)?.[1])).sort();
  };
  const portsAre = (node: Node, port: number | undefined): Promise<void> =>
    until(`${node.name} listens on ${port ?? 'nothing'}`, async () => {
      const ports = await boundPorts(node);
      return port === undefined
        ? ports.length === 0
        : ports.length === WORKERS && ports.every((bound) => bound === port);
    });
  const show = async (what: string): Promise<string> =>
    (await alice.mustRun('wg', ['show', A, what])).trim().split('\t').at(-1) ?? '';
  const isUp = async (node: Node, name: string): Promise<boolean> =>
    (await node.mustRun('ip', ['-br', 'link', 'show', name])).includes(',UP');
  const keyFile = (name: string): string => join(world.folder, name);
  const newKey = async (name: string): Promise<string> => {
    const secret = await mustRun('wg', ['genkey']);
    writeFileSync(keyFile(name), secret, { mode: 0o600 });
    return (await mustRun('wg', ['pubkey'], { input: secret })).trim();
  };

  before(async () => {
    world = await World.create();
    alice = await world.addNode('alice');
    bob = await world.addNode('bob');
    const keyOfAlice = await newKey('alice');
    keyOfBob = await newKey('bob');
    const sides = [
      { node: alice, name: A, key: 'alice', port: A_PORT, inside: A_INSIDE },
      { node: bob, name: B, key: 'bob', port: B_PORT, inside: B_INSIDE },
    ];
    for (const { node, name, key, port, inside } of sides) {
      await node.mustRun(OMERTA_WG, ['--workers', String(WORKERS), name]);
      await node.mustRun('wg', ['set', name, 'private-key', keyFile(key), 'listen-port', String(port)]);
      await node.ip(`address add ${inside}/24 dev ${name}`);
    }
    const peer = (key: string, inside: string, at: string): string[] => [
      'peer',
      key,
      'allowed-ips',
      `${inside}/32`,
      'endpoint',
      at,
    ];
    await alice.mustRun('wg', ['set', A, ...peer(keyOfBob, B_INSIDE, `${bob.address}:${B_PORT}`)]);
    await bob.mustRun('wg', ['set', B, ...peer(keyOfAlice, A_INSIDE, `${alice.address}:${A_PORT}`)]);
  });
  after(() => world.remove());

  it('is not bound while the interface is down, and remembered', async () => {
    assert.deepEqual([await boundPorts(alice), await boundPorts(bob)], [[], []]);
    assert.equal(await show('listen-port'), String(A_PORT));
  });

  it('is bound by every worker once the interface is up', async () => {
    await alice.ip(`link set ${A} up`);
    await bob.ip(`link set ${B} up`);
    await portsAre(alice, A_PORT);
    await portsAre(bob, B_PORT);
    await carriesPings(alice, B_INSIDE);
    await carriesPings(bob, A_INSIDE);
  });

  it('is closed when the interface goes down; sessions end, counters and the last handshake stay', async () => {
    const [transfer, handshake] = [await show('transfer'), await show('latest-handshakes')];
    assert.notEqual(handshake, '0');
    await alice.ip(`link set ${A} down`);
    await portsAre(alice, undefined);
    assert.deepEqual([await show('transfer'), await show('latest-handshakes')], [transfer, handshake]);
    assert.equal(await show('endpoints'), `${bob.address}:${B_PORT}`);
    // A packet of the old session finds nobody.
    assert.notEqual((await bob.run('ping', ['-c1', '-W1', A_INSIDE])).code, 0);
    await alice.ip(`link set ${A} up`);
    await portsAre(alice, A_PORT);
    await carriesPings(alice, B_INSIDE);
    assert.notEqual(await show('latest-handshakes'), handshake);
  });

  it('sends the persistent keepalive as soon as the interface is up again', async () => {
    await alice.mustRun('wg', ['set', A, 'peer', keyOfBob, 'persistent-keepalive', '600']);
    await alice.ip(`link set ${A} down`);
    await portsAre(alice, undefined);
    const handshake = await show('latest-handshakes');
    await until('a second went by', () => Date.now() / 1000 > Number(handshake) + 1);
    await alice.ip(`link set ${A} up`);
    await until('a handshake came of it', async () => (await show('latest-handshakes')) !== handshake);
    await alice.mustRun('wg', ['set', A, 'peer', keyOfBob, 'persistent-keepalive', 'off']);
  });

  it('may be set to a taken one while the interface is down, which then cannot come up', async () => {
    const blocker = alice.spawn(process.execPath, [
      '-e',
      "require('node:dgram').createSocket('udp4').bind(7109, () => console.log('bound')); setInterval(() => {}, 1000)",
    ]);
    await new Promise((resolve) => blocker.stdout?.once('data', resolve));
    assert.notEqual((await alice.run('wg', ['set', A, 'listen-port', '7109'])).code, 0, 'refused while up');
    await alice.ip(`link set ${A} down`);
    await until('only the other socket is left', async () => (await boundPorts(alice)).length === 1);
    await alice.mustRun('wg', ['set', A, 'listen-port', '7109']);
    assert.equal(await show('listen-port'), '7109');
    await alice.ip(`link set ${A} up`);
    await until('the interface is down again', async () => !(await isUp(alice, A)));
    blocker.kill();
    await until('the other socket is gone', async () => (await boundPorts(alice)).length === 0);
    await alice.ip(`link set ${A} up`);
    await portsAre(alice, 7109);
    await alice.mustRun('wg', ['set', A, 'listen-port', String(A_PORT)]);
    await portsAre(alice, A_PORT);
    await carriesPings(alice, B_INSIDE);
  });

  it('says in the foreground why the interface went down again', async () => {
    const name = `oc${process.pid}`;
    const child: ChildProcess = alice.spawn(OMERTA_WG, ['-f', '--workers', '2', name], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    let said = '';
    child.stderr?.setEncoding('utf8').on('data', (text: string) => (said += text));
    await until('the socket is there', () => existsSync(socketOf(name)));
    await alice.mustRun('wg', ['set', name, 'listen-port', String(A_PORT)]);
    await alice.ip(`link set ${name} up`);
    await until('it said so', () => said.includes(`UDP port ${A_PORT} is in use`));
    assert.match(said, new RegExp(`^omerta: port: .*${name} is down again`));
    child.kill('SIGTERM');
    await until('it ended', () => child.exitCode !== null);
  });

  it('stays in its namespace, and follows the interface in another', async () => {
    const inner = await world.addNode('inner');
    await alice.ip(`link set ${A} netns ${inner.name}`); // which takes it down
    await portsAre(alice, undefined);
    await inner.ip(`address add ${A_INSIDE}/24 dev ${A}`, `link set ${A} mtu 9000 up`);
    await portsAre(alice, A_PORT);
    assert.deepEqual(await boundPorts(inner), []);
    await carriesPings(inner, B_INSIDE);
    const marked = ['set', A, 'fwmark', '0x77', 'listen-port', '7105', 'private-key', keyFile('alice')];
    await inner.mustRun('wg', marked);
    await portsAre(alice, 7105);
    await carriesPings(inner, B_INSIDE);
    await inner.ip(`link set ${A} down`);
    await portsAre(alice, undefined);
    await inner.ip(`link set ${A} up`);
    await portsAre(alice, 7105);
  });

  it('is given up with the namespace the interface was moved to', async () => {
    assert.equal(processesOf(A).length, 1);
    await mustRun('ip', ['netns', 'delete', `${world.prefix}inner`]);
    await until('the process ended', () => processesOf(A).length === 0);
    assert.equal(existsSync(socketOf(A)), false);
    await bob.ip(`link delete ${B}`);
    await until('the other one ended', () => processesOf(B).length === 0);
  });
});
