// `omerta wg` under the stock tools: wg, ip, wg-quick, and Debian's wireguard-go at the other end.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, readlinkSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { mustRun } from '../../ts/lab/command.js';
import { tcpThroughput } from '../../ts/lab/iperf.js';
import { uapiListening } from '../../ts/lab/uapi-listening.js';
import { World, type Node } from '../../ts/lab/world.js';
import { OMERTA_WG, ask, carriesPings, processesOf, socketOf, until, wgUnavailable } from './wg-lab.js';

/** Sockets are files all namespaces see: names are of this process. */
const NAME = `om${process.pid}`;
const GO_NAME = `go${process.pid}`;
const INSIDE = '10.77.0.1';
const GO_INSIDE = '10.77.0.2';

const skip = wgUnavailable('wg-quick', 'wireguard-go', 'iperf3') ?? false;
if (skip !== false) console.log(`omerta wg with the stock tools is skipped: ${skip}`);

function kernelHasWireguard(): boolean {
  if (existsSync('/sys/module/wireguard')) return true;
  try {
    execFileSync('modprobe', ['-n', 'wireguard'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

describe('omerta wg under the stock tools', { skip, timeout: 300_000 }, () => {
  let world: World;
  let alice: Node;
  let bob: Node;
  let aliceKey: string;
  let bobKey: string;

  const file = (name: string, text: string): string => {
    const path = join(world.folder, name);
    writeFileSync(path, text, { mode: 0o600 });
    return path;
  };
  const newKey = async (name: string): Promise<string> => {
    const secret = await mustRun('wg', ['genkey']);
    file(name, secret);
    return (await mustRun('wg', ['pubkey'], { input: secret })).trim();
  };
  const keyFile = (name: string): string => join(world.folder, name);
  const wg = (...args: readonly string[]): Promise<string> => alice.mustRun('wg', args);
  const goWg = (...args: readonly string[]): Promise<string> => bob.mustRun('wg', args);
  const show = async (what: string): Promise<string> => (await wg('show', NAME, what)).trim();
  const field = async (what: string, index: number): Promise<number> =>
    Number((await show(what)).split('\t')[index]);
  const peerAtGo = (...args: readonly string[]): Promise<string> =>
    goWg('set', GO_NAME, 'peer', aliceKey, ...args);

  before(async () => {
    world = await World.create();
    alice = await world.addNode('alice');
    bob = await world.addNode('bob');
    aliceKey = await newKey('alice.key');
    bobKey = await newKey('bob.key');
    mkdirSync('/var/run/wireguard', { recursive: true });
    bob.spawn('wireguard-go', ['-f', GO_NAME], {
      stdio: 'ignore',
      env: { ...process.env, LOG_LEVEL: 'error' },
    });
    await uapiListening(GO_NAME);
    await goWg('set', GO_NAME, 'private-key', keyFile('bob.key'), 'listen-port', '51820');
    await bob.ip(`address add ${GO_INSIDE}/24 dev ${GO_NAME}`, `link set ${GO_NAME} mtu 1420 up`);
    await alice.mustRun(OMERTA_WG, [NAME]);
  });
  after(() => {
    world.remove();
    rmSync(socketOf(GO_NAME), { force: true });
  });

  it('goes to the background with an interface that is down and a socket for its owner alone', async () => {
    const [link] = JSON.parse(await alice.mustRun('ip', ['-j', 'link', 'show', NAME])) as {
      flags: string[];
      mtu: number;
    }[];
    assert.deepEqual([link?.flags.includes('UP'), link?.mtu], [false, 1420]);
    assert.equal(statSync(socketOf(NAME)).mode & 0o777, 0o600);
    assert.equal(processesOf(NAME).length, 1);
  });

  it('answers malformed lines on the socket with their errno', async () => {
    assert.equal(await ask(NAME, 'set=1\nlisten_port=70000\n\n'), 'errno=-22\n\n');
    assert.equal(await ask(NAME, 'set=1\nlisten_port\n\n'), 'errno=-71\n\n');
    assert.equal(await ask(NAME, 'get=1\n\n'), 'errno=0\n\n');
  });

  it('starts a handshake with wireguard-go and carries pings', async () => {
    await peerAtGo('allowed-ips', `${INSIDE}/32`);
    await wg('set', NAME, 'private-key', keyFile('alice.key'), 'listen-port', '7001');
    await wg(
      'set',
      NAME,
      'peer',
      bobKey,
      'allowed-ips',
      `${GO_INSIDE}/32`,
      'endpoint',
      `${bob.address}:51820`,
    );
    assert.equal(await field('latest-handshakes', 1), 0);
    await alice.ip(`address add ${INSIDE}/24 dev ${NAME}`, `link set ${NAME} up`);
    await carriesPings(alice, GO_INSIDE);
    assert.equal(
      await alice.mustRun('ip', ['-6', 'address', 'show', 'dev', NAME]),
      '',
      'no address of its own',
    );
    assert.ok(Math.abs((await field('latest-handshakes', 1)) - Date.now() / 1000) < 10);
    assert.match(await goWg('show', GO_NAME, 'endpoints'), new RegExp(`${alice.address}:7001`));
    // As the kernel counts them: 148 + 92 bytes of handshake, 128 for each ping, 32 for a keepalive.
    const [received, sent] = [await field('transfer', 1), await field('transfer', 2)];
    assert.ok(received >= 92 + 5 * 128 && (received - 92) % 128 <= 64, `${received} received`);
    assert.ok(sent >= 148 + 5 * 128 && (sent - 148) % 128 <= 64, `${sent} sent`);
  });

  it('answers a handshake that wireguard-go starts', async () => {
    await wg('set', NAME, 'peer', bobKey, 'remove');
    assert.equal(await show('peers'), '');
    await wg('set', NAME, 'peer', bobKey, 'allowed-ips', `${GO_INSIDE}/32`);
    await peerAtGo('remove');
    await peerAtGo('allowed-ips', `${INSIDE}/32`, 'endpoint', `${alice.address}:7001`);
    await carriesPings(bob, INSIDE);
    assert.equal(await show('endpoints'), `${bobKey}\t${bob.address}:51820`);
  });

  it('carries a TCP stream', async () => {
    const { megabitsPerSecond } = await tcpThroughput(alice, bob, GO_INSIDE, 1);
    assert.ok(megabitsPerSecond > 1, `${megabitsPerSecond} Mbit/s`);
  });

  it('keeps the session when the preshared key changes, and wants the new one at the next handshake', async () => {
    const psk = file('psk', await mustRun('wg', ['genpsk']));
    const handshake = await show('latest-handshakes');
    await wg('set', NAME, 'peer', bobKey, 'preshared-key', psk);
    await carriesPings(alice, GO_INSIDE);
    assert.equal(await show('latest-handshakes'), handshake);
    // A new peer has no session: the other end has to shake hands, without the key and with it.
    await peerAtGo('remove');
    await peerAtGo('allowed-ips', `${INSIDE}/32`, 'endpoint', `${alice.address}:7001`);
    assert.notEqual((await bob.run('ping', ['-c1', '-W1', INSIDE])).code, 0);
    await peerAtGo('remove');
    await peerAtGo('allowed-ips', `${INSIDE}/32`, 'endpoint', `${alice.address}:7001`, 'preshared-key', psk);
    await carriesPings(bob, INSIDE);
  });

  it('sends persistent keepalives', async () => {
    const received = async (): Promise<number> =>
      Number((await goWg('show', GO_NAME, 'transfer')).split('\t')[1]);
    await wg('set', NAME, 'peer', bobKey, 'persistent-keepalive', '1');
    assert.equal(await show('persistent-keepalive'), `${bobKey}\t1`);
    const first = await received();
    await until('two keepalives came', async () => (await received()) >= first + 64);
    await wg('set', NAME, 'peer', bobKey, 'persistent-keepalive', 'off');
    assert.equal(await show('persistent-keepalive'), `${bobKey}\toff`);
  });

  it('moves to another port with its sessions, and stays where it is when that is taken', async () => {
    const handshake = await show('latest-handshakes');
    const blocker = alice.spawn(process.execPath, [
      '-e',
      "require('node:dgram').createSocket('udp4').bind(7002, () => console.log('bound')); setInterval(() => {}, 1000)",
    ]);
    await new Promise((resolve) => blocker.stdout?.once('data', resolve));
    const refused = await alice.run('wg', ['set', NAME, 'listen-port', '7002', 'fwmark', '5']);
    blocker.kill();
    assert.notEqual(refused.code, 0);
    assert.match(refused.stderr, /Address already in use/);
    assert.deepEqual([await show('listen-port'), await show('fwmark')], ['7001', 'off']);
    await wg('set', NAME, 'listen-port', '7003');
    await carriesPings(alice, GO_INSIDE);
    assert.match(await goWg('show', GO_NAME, 'endpoints'), new RegExp(`${alice.address}:7003`));
    assert.equal(await show('latest-handshakes'), handshake);
  });

  it('marks what it sends', async () => {
    await wg('set', NAME, 'fwmark', '0x1234');
    await alice.nft(`table inet marks {
      chain out { type filter hook output priority 0
        udp dport 51820 meta mark 0x1234 counter
        udp dport 51820 meta mark != 0x1234 counter
      }
    }`);
    await carriesPings(alice, GO_INSIDE);
    const table = await alice.mustRun('nft', ['list', 'table', 'inet', 'marks']);
    // Several datagrams may be one packet there (UDP GSO).
    const [marked = 0, unmarked] = [...table.matchAll(/packets (\d+)/g)].map(([, packets]) =>
      Number(packets),
    );
    assert.ok(marked > 0 && unmarked === 0, table);
    await wg('set', NAME, 'fwmark', '0');
    assert.equal(await show('fwmark'), 'off');
  });

  it('takes another private key without losing the interface', async () => {
    const index = await alice.mustRun('cat', [`/sys/class/net/${NAME}/ifindex`]).catch(() => '');
    const before = await field('transfer', 1);
    const newPublic = await newKey('alice2.key');
    await wg('set', NAME, 'private-key', keyFile('alice2.key'));
    assert.equal(await show('public-key'), newPublic);
    await peerAtGo('remove');
    aliceKey = newPublic;
    const psk = keyFile('psk');
    await peerAtGo('allowed-ips', `${INSIDE}/32`, 'endpoint', `${alice.address}:7003`, 'preshared-key', psk);
    await carriesPings(alice, GO_INSIDE);
    assert.ok((await field('transfer', 1)) > before, 'counters go on');
    assert.equal(await alice.mustRun('cat', [`/sys/class/net/${NAME}/ifindex`]).catch(() => ''), index);
  });

  it('round-trips showconf, setconf, syncconf and addconf', async () => {
    const saved = await wg('showconf', NAME);
    assert.match(saved, /^\[Interface\]\nListenPort = 7003\nPrivateKey = .+\n\n\[Peer\]\nPublicKey = /);
    const other = await newKey('other.key');
    const extra = `[Peer]\nPublicKey = ${other}\nAllowedIPs = 10.99.0.0/16, fd99::/64\nPersistentKeepalive = 9\n`;
    await wg('addconf', NAME, file('extra.conf', extra));
    assert.deepEqual((await show('peers')).split('\n').sort(), [bobKey, other].sort());
    const handshake = (await show('latest-handshakes')).split('\n').find((line) => line.startsWith(bobKey));
    await wg('syncconf', NAME, file('saved.conf', saved));
    assert.equal(await show('latest-handshakes'), handshake, 'syncconf leaves a peer that stays alone');
    assert.equal(await wg('showconf', NAME), saved);
    await wg('setconf', NAME, keyFile('saved.conf'));
    assert.equal(await wg('showconf', NAME), saved);
    assert.equal(await field('latest-handshakes', 1), 0, 'setconf makes peers anew');
    await carriesPings(alice, GO_INSIDE);
  });

  it('round-trips 65,000 prefixes of one peer and 40 peers of 52', async () => {
    const saved = await wg('showconf', NAME);
    const prefixes = Array.from({ length: 65_000 }, (_, i) => `10.${i >> 8}.${i & 255}.0/24`);
    const one = `${saved}\n[Peer]\nPublicKey = ${await newKey('large.key')}\nAllowedIPs = ${prefixes.join(', ')}\n`;
    await wg('setconf', NAME, file('large.conf', one));
    const allowed = (await show('allowed-ips')).split('\n').find((line) => line.includes('10.253.0.0/24'));
    assert.deepEqual(allowed?.split('\t')[1]?.split(' '), prefixes);
    // Every route was built, and the longer one of the other peer wins.
    await carriesPings(alice, GO_INSIDE);
    let many = saved;
    for (let p = 0; p < 40; p++) {
      const list = Array.from(
        { length: 52 },
        (_, i) => `fd00:${(p + 1).toString(16)}:${(i + 1).toString(16)}::/48`,
      );
      const key = Buffer.alloc(32, p + 1).toString('base64');
      many += `\n[Peer]\nPublicKey = ${key}\nAllowedIPs = ${list.join(', ')}\n`;
    }
    await wg('setconf', NAME, file('many.conf', many));
    assert.equal(await wg('showconf', NAME), many);
    await wg('setconf', NAME, file('saved.conf', saved));
  });

  it('leaves its socket behind when the interface moves to another namespace', async () => {
    const inner = await world.addNode('inner');
    await alice.ip(`link set ${NAME} netns ${inner.name}`);
    await inner.ip(`address add ${INSIDE}/24 dev ${NAME}`, `link set ${NAME} mtu 1380 up`);
    await carriesPings(inner, GO_INSIDE);
    assert.match(await alice.mustRun('ss', ['-Hulnp', 'sport = :7003']), /:7003/);
    assert.equal(await inner.mustRun('ss', ['-Huln']), '');
    await wg('set', NAME, 'listen-port', '7004');
    await carriesPings(inner, GO_INSIDE);
    assert.match(await alice.mustRun('ss', ['-Hulnp', 'sport = :7004']), /:7004/);
    await inner.ip(`link set ${NAME} netns ${alice.name}`);
  });

  it('ends when its interface is deleted', async () => {
    assert.equal(processesOf(NAME).length, 1);
    await alice.ip(`link delete ${NAME}`);
    await until('the process ended', () => processesOf(NAME).length === 0);
    assert.equal(existsSync(socketOf(NAME)), false);
  });

  it('ends with its interface when its socket file is deleted, or when it is told to', async () => {
    const gone = async (): Promise<boolean> => (await alice.run('ip', ['link', 'show', NAME])).code !== 0;
    await alice.mustRun(OMERTA_WG, [NAME]);
    rmSync(socketOf(NAME));
    await until('the interface is gone', gone);
    await until('the process ended', () => processesOf(NAME).length === 0);
    const child = alice.spawn(OMERTA_WG, ['-f', NAME], { stdio: 'ignore' });
    await until('the socket is there', () => existsSync(socketOf(NAME)));
    child.kill('SIGTERM');
    await until('the interface is gone', gone);
    await until('the process ended', () => child.exitCode !== null);
    assert.deepEqual([child.exitCode, existsSync(socketOf(NAME))], [0, false]);
  });

  it('refuses a name that is taken, and takes over a socket nobody listens on', async () => {
    await alice.mustRun(OMERTA_WG, [NAME]);
    const sameNamespace = await alice.run(OMERTA_WG, [NAME]);
    assert.equal(sameNamespace.code, 1);
    assert.match(sameNamespace.stderr, new RegExp(`^omerta: interface: ${NAME} cannot be made`));
    const otherNamespace = await bob.run(OMERTA_WG, [NAME]);
    assert.equal(otherNamespace.code, 1);
    assert.match(otherNamespace.stderr, /^omerta: socket: .* belongs to a WireGuard process that runs/);
    const bad = await alice.run(OMERTA_WG, ['a/b']);
    assert.equal(bad.code, 2);
    assert.equal(processesOf(NAME).length, 1);
    process.kill(Number(processesOf(NAME)[0]), 'SIGKILL');
    await until(
      'the interface is gone',
      async () => (await alice.run('ip', ['link', 'show', NAME])).code !== 0,
    );
    assert.ok(existsSync(socketOf(NAME)), 'what is killed leaves its socket');
    await alice.mustRun(OMERTA_WG, [NAME]);
    assert.equal(await show('listen-port'), '0');
    await alice.ip(`link delete ${NAME}`);
  });

  it(
    'serves wg-quick with a default route through the tunnel',
    { skip: kernelHasWireguard() ? 'wg-quick takes the WireGuard of this kernel' : false },
    async () => {
      const name = `q${process.pid}`;
      const secret = readFileSync(keyFile('alice2.key'), 'utf8').trim();
      const psk = readFileSync(keyFile('psk'), 'utf8').trim();
      const config = file(
        `${name}.conf`,
        `[Interface]\nPrivateKey = ${secret}\nAddress = ${INSIDE}/24\nListenPort = 7003\nMTU = 1400\n` +
          `[Peer]\nPublicKey = ${bobKey}\nPresharedKey = ${psk}\nAllowedIPs = 0.0.0.0/0\n` +
          `Endpoint = ${bob.address}:51820\nPersistentKeepalive = 25\n`,
      );
      const quick = (command: string): Promise<string> =>
        alice.mustRun('env', [`WG_QUICK_USERSPACE_IMPLEMENTATION=${OMERTA_WG}`, 'wg-quick', command, config]);
      await bob.ip('address add 203.0.113.9/32 dev lo');
      await quick('up');
      try {
        await carriesPings(alice, GO_INSIDE);
        // Not an address of the tunnel's subnet: the default route leads there.
        await carriesPings(alice, '203.0.113.9');
        assert.match(await alice.mustRun('wg', ['show', name, 'fwmark']), /^0x/);
        assert.equal(readlinkSync(`/proc/${processesOf(name)[0] ?? ''}/cwd`), '/');
      } finally {
        await quick('down');
      }
      await until('the process ended', () => processesOf(name).length === 0);
      assert.equal(existsSync(socketOf(name)), false);
    },
  );
});
