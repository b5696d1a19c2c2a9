// `omerta wg` and the WireGuard of the Linux kernel, which runs in a guest machine: both roles, both
// families, keys, keepalives and roaming.

import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { mustRun } from '../../ts/lab/command.js';
import { Guest, guestUnavailable } from '../../ts/lab/guest.js';
import { World, type Node } from '../../ts/lab/world.js';
import { OMERTA_WG, carriesPings, until, wgUnavailable } from './wg-lab.js';

/** Sockets are files all namespaces see: the name is of this process. */
const NAME = `ok${process.pid}`;
const INSIDE = { omerta: '10.78.0.1', kernel: '10.78.0.2' };
const INSIDE6 = { omerta: 'fd78::1', kernel: 'fd78::2' };
const ALLOWED = {
  omerta: `${INSIDE.omerta}/32,${INSIDE6.omerta}/128`,
  kernel: `${INSIDE.kernel}/32,${INSIDE6.kernel}/128`,
};
const KERNEL_PORT = 51821;
const MEGABYTE = 1 << 20;
const TRANSFER = 4 * MEGABYTE;

// Whether a guest runs here, only booting one tells.
let world: World | undefined;
let guest: Guest | undefined;
let skip: string | false = guestUnavailable() ?? wgUnavailable() ?? false;
if (skip === false) {
  world = await World.create();
  const booted = await Guest.boot(world);
  if (typeof booted === 'string') {
    skip = booted;
    world.remove();
  } else guest = booted;
}
if (skip !== false) console.log(`interoperability with the kernel's WireGuard is skipped: ${skip}`);

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

/** Writes what comes over one TCP connection to a file; run by node in a namespace. */
const RECEIVE = `
  const { createServer } = require('node:net');
  const [port, file] = process.argv.slice(1);
  createServer((socket) => {
    socket.pipe(require('node:fs').createWriteStream(file)).on('finish', () => process.exit(0));
  }).listen(Number(port), () => console.log('listening'));`;

describe("omerta wg and the kernel's WireGuard", { skip, timeout: 300_000 }, () => {
  let alice: Node;
  let aliceKey: string;
  let kernelKey: string;
  let port = 7001;

  const machine = (): Guest => {
    assert.ok(guest !== undefined);
    return guest;
  };
  const kernel = (commands: string): Promise<string> => machine().sh(commands);
  const folder = (): string => {
    assert.ok(world !== undefined);
    return world.folder;
  };
  const file = (name: string, text: string): string => {
    const path = join(folder(), name);
    writeFileSync(path, text, { mode: 0o600 });
    return path;
  };
  const wg = (...args: readonly string[]): Promise<string> => alice.mustRun('wg', args);
  const kernelWg = (args: string): Promise<string> => kernel(`wg set wg0 ${args}`);
  const newKey = async (name: string): Promise<{ secret: string; publicKey: string }> => {
    const secret = (await mustRun('wg', ['genkey'])).trim();
    file(name, secret);
    return { secret, publicKey: (await mustRun('wg', ['pubkey'], { input: secret })).trim() };
  };
  /** One ping from the guest; whether it was answered. */
  const kernelPings = async (to: string, seconds = 15): Promise<boolean> =>
    (await kernel(`ping -c 1 -W ${seconds} ${to} > /dev/null && echo answered || echo silence`)) ===
    'answered\n';
  const omertaShows = async (what: string): Promise<string> =>
    (await wg('show', NAME, what)).trim().split('\t').slice(1).join('\t');
  const kernelShows = async (what: string): Promise<string> =>
    (await kernel(`wg show wg0 ${what}`)).trim().split('\t').slice(1).join('\t');
  /** Both forget each other; only `initiator` knows where the other one is. */
  const strangers = async (initiator: 'omerta' | 'kernel', options: { psk?: string } = {}): Promise<void> => {
    const at = (side: string): string[] =>
      initiator === side
        ? ['endpoint', side === 'omerta' ? `${machine().address}:${KERNEL_PORT}` : `${alice.address}:${port}`]
        : [];
    const { psk } = options;
    await wg('set', NAME, 'peer', kernelKey, 'remove');
    await kernelWg(`peer ${aliceKey} remove`);
    await wg(
      ...['set', NAME, 'peer', kernelKey, 'allowed-ips', ALLOWED.kernel, ...at('omerta')],
      ...(psk === undefined ? [] : ['preshared-key', file('psk', psk)]),
    );
    if (psk !== undefined) await kernel(`echo ${psk} > /tmp/psk`);
    await kernelWg(
      `peer ${aliceKey} allowed-ips ${ALLOWED.omerta} ${at('kernel').join(' ')} ${psk === undefined ? '' : 'preshared-key /tmp/psk'}`,
    );
  };

  before(async () => {
    assert.ok(world !== undefined);
    alice = await world.addNode('alice');
    aliceKey = (await newKey('alice.key')).publicKey;
    const { secret, publicKey } = await newKey('kernel.key');
    kernelKey = publicKey;
    await alice.mustRun(OMERTA_WG, [NAME]);
    await wg('set', NAME, 'private-key', join(folder(), 'alice.key'), 'listen-port', String(port));
    await alice.ip(
      `address add ${INSIDE.omerta}/24 dev ${NAME}`,
      `address add ${INSIDE6.omerta}/64 dev ${NAME} nodad`,
      `link set ${NAME} up`,
    );
    await kernel(
      [
        `echo ${secret} > /tmp/key`,
        'ip link add wg0 type wireguard',
        `wg set wg0 private-key /tmp/key listen-port ${KERNEL_PORT}`,
        `ip address add ${INSIDE.kernel}/24 dev wg0`,
        `ip address add ${INSIDE6.kernel}/64 dev wg0`,
        'ip link set wg0 mtu 1420 up',
      ].join(' && '),
    );
  });
  after(() => world?.remove());

  it('a handshake that Omerta starts is answered by the kernel', async () => {
    await strangers('omerta');
    await carriesPings(alice, INSIDE.kernel);
    await carriesPings(alice, INSIDE6.kernel);
    assert.equal(await kernelShows('endpoints'), `${alice.address}:${port}`);
  });

  it('a handshake that the kernel starts is answered by Omerta', async () => {
    await strangers('kernel');
    assert.equal(await omertaShows('endpoints'), '(none)');
    assert.ok(await kernelPings(INSIDE.omerta));
    assert.ok(await kernelPings(INSIDE6.omerta));
    assert.equal(await omertaShows('endpoints'), `${machine().address}:${KERNEL_PORT}`);
  });

  it('both count the same bytes', async () => {
    await carriesPings(alice, INSIDE.kernel);
    // A passive keepalive comes ten seconds later, if at all: on a busy machine between the two questions.
    await until('both count the same', async () => {
      const [received, sent] = (await omertaShows('transfer')).split('\t');
      assert.ok(Number(received) > 5 * 128);
      return (await kernelShows('transfer')) === `${sent}\t${received}`;
    });
  });

  it('carries TCP to the kernel, and every byte arrives', async () => {
    const bytes = randomBytes(TRANSFER);
    const path = join(folder(), 'to-kernel');
    writeFileSync(path, bytes);
    await kernel(
      'rm -f /tmp/sum; (tail -f /dev/null | nc -l -p 5000 | sha256sum > /tmp/sum) > /dev/null 2>&1 &',
    );
    await until('the guest listens', async () => (await kernel('netstat -ltn')).includes(':5000 '));
    await alice.mustRun('sh', ['-c', `busybox nc ${INSIDE.kernel} 5000 < ${path}`]);
    await until('the guest has a checksum', async () => (await kernel('cat /tmp/sum')).includes('-'));
    assert.equal((await kernel('cat /tmp/sum')).split(' ')[0], sha256(bytes));
  });

  it('carries TCP from the kernel, and every byte arrives', async () => {
    const path = join(folder(), 'from-kernel');
    const receiver = alice.spawn(process.execPath, ['-e', RECEIVE, '5001', path]);
    await new Promise((resolve) => receiver.stdout?.once('data', resolve));
    const ended = new Promise((resolve) => receiver.once('exit', resolve));
    const sum = await kernel(
      `head -c ${TRANSFER} /dev/urandom > /tmp/out; nc ${INSIDE.omerta} 5001 < /tmp/out; sha256sum /tmp/out`,
    );
    await ended;
    const bytes = readFileSync(path);
    assert.equal(bytes.length, TRANSFER);
    assert.equal(sha256(bytes), sum.split(' ')[0]);
  });

  it('a preshared key has to be the same on both sides', async () => {
    const psk = (await mustRun('wg', ['genpsk'])).trim();
    await strangers('kernel', { psk });
    assert.ok(await kernelPings(INSIDE.omerta));
    await strangers('omerta', { psk });
    await carriesPings(alice, INSIDE.kernel);
    const other = (await mustRun('wg', ['genpsk'])).trim();
    await wg('set', NAME, 'peer', kernelKey, 'preshared-key', file('psk', other));
    // The running session goes on; the next handshake needs the new key on both sides.
    await carriesPings(alice, INSIDE.kernel);
    await kernelWg(`peer ${aliceKey} remove`);
    await kernelWg(`peer ${aliceKey} allowed-ips ${ALLOWED.omerta} endpoint ${alice.address}:${port}`);
    assert.ok(!(await kernelPings(INSIDE.omerta, 2)));
  });

  it('a new private key of the kernel makes a new session', async () => {
    await strangers('omerta');
    await carriesPings(alice, INSIDE.kernel);
    const { secret, publicKey } = await newKey('kernel2.key');
    await kernel(`echo ${secret} > /tmp/key && wg set wg0 private-key /tmp/key`);
    const old = kernelKey;
    kernelKey = publicKey;
    await wg('set', NAME, 'peer', old, 'remove');
    await strangers('kernel');
    assert.ok(await kernelPings(INSIDE.omerta));
    await carriesPings(alice, INSIDE.kernel);
  });

  it('persistent keepalives are understood in both directions', async () => {
    const keepalives = async (shows: (what: string) => Promise<string>): Promise<void> => {
      const received = async (): Promise<number> => Number((await shows('transfer')).split('\t')[0]);
      const before = await received();
      await until('two keepalives came', async () => (await received()) >= before + 64);
      assert.equal((await received()) % 32, before % 32);
    };
    await kernelWg(`peer ${aliceKey} persistent-keepalive 1`);
    await keepalives(omertaShows);
    await kernelWg(`peer ${aliceKey} persistent-keepalive 0`);
    await wg('set', NAME, 'peer', kernelKey, 'persistent-keepalive', '1');
    await keepalives(kernelShows);
    await wg('set', NAME, 'peer', kernelKey, 'persistent-keepalive', '0');
  });

  it('the kernel follows Omerta to another port and another address', async () => {
    const handshake = await omertaShows('latest-handshakes');
    port = 7002;
    await wg('set', NAME, 'listen-port', String(port));
    await carriesPings(alice, INSIDE.kernel);
    assert.equal(await kernelShows('endpoints'), `${alice.address}:${port}`);
    const moved = '198.51.100.200';
    await alice.ip(`address add ${moved}/24 dev eth0`, `address delete ${alice.address}/24 dev eth0`);
    // The kernel makes a secondary address primary or drops it, as the system is set up.
    await alice.ip(`address replace ${moved}/24 dev eth0`);
    await carriesPings(alice, INSIDE.kernel);
    assert.equal(await kernelShows('endpoints'), `${moved}:${port}`);
    assert.equal(await omertaShows('latest-handshakes'), handshake, 'the session is the same');
    await alice.ip(`address replace ${alice.address}/24 dev eth0`, `address delete ${moved}/24 dev eth0`);
    await alice.ip(`address replace ${alice.address}/24 dev eth0`);
  });

  it('Omerta follows the kernel to another port and another address', async () => {
    await carriesPings(alice, INSIDE.kernel);
    await kernelWg('listen-port 51822');
    assert.ok(await kernelPings(INSIDE.omerta));
    assert.equal(await omertaShows('endpoints'), `${machine().address}:51822`);
    // Traffic to Omerta leaves from a second address from now on, once the kernel forgets the first, which
    // it sticks to; commands still go to that.
    await kernel(
      `ip address add 198.51.100.201/32 dev eth0 && ip route add ${alice.address} dev eth0 src 198.51.100.201`,
    );
    await kernelWg(`peer ${aliceKey} endpoint ${alice.address}:${port}`);
    await until('a ping from there is answered', () => kernelPings(INSIDE.omerta, 5));
    assert.equal(await omertaShows('endpoints'), '198.51.100.201:51822');
    await carriesPings(alice, INSIDE.kernel);
  });

  it('the kernel had nothing to complain about', async () => {
    const said = await kernel('dmesg | grep -E "wireguard|wg0|WARNING|BUG|Oops" || true');
    assert.deepEqual(
      said.split('\n').filter((line) => line !== '' && !/loaded|Copyright/.test(line)),
      [],
    );
  });
});
