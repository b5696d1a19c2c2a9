// Cryptokey routing of `omerta wg` in both directions, what an inner host hears of it, and how large
// what goes out is.

import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { mustRun } from '../../ts/lab/command.js';
import { World, type Node } from '../../ts/lab/world.js';
import { OMERTA_WG, carriesPings, processesOf, until, wgUnavailable } from './wg-lab.js';

const A = `oa${process.pid}r`;
const B = `ob${process.pid}r`;
const A_INSIDE = '10.79.0.1';
const B_INSIDE = '10.79.0.2';
const PORT = 7301;

const skip = wgUnavailable() ?? false;
if (skip !== false) console.log(`cryptokey routing of omerta wg is not tested: ${skip}`);

describe('cryptokey routing of omerta wg', { skip, timeout: 300_000 }, () => {
  let world: World;
  let alice: Node;
  let bob: Node;
  let keyOfBob: string;
  let stranger: string;

  const newKey = async (name: string): Promise<string> => {
    const secret = await mustRun('wg', ['genkey']);
    writeFileSync(join(world.folder, name), secret, { mode: 0o600 });
    return (await mustRun('wg', ['pubkey'], { input: secret })).trim();
  };
  const allow = (key: string, ...prefixes: readonly string[]): Promise<string> =>
    alice.mustRun('wg', ['set', A, 'peer', key, 'allowed-ips', prefixes.join(',')]);
  const answered = async (...args: readonly string[]): Promise<boolean> =>
    (await alice.run('ping', ['-c1', '-W15', ...args])).code === 0;
  /** Bytes sent to Bob, as `wg` counts them. */
  const sentToBob = async (): Promise<number> => {
    const lines = (await alice.mustRun('wg', ['show', A, 'transfer'])).split('\n');
    return Number(lines.find((line) => line.startsWith(keyOfBob))?.split('\t')[2]);
  };

  before(async () => {
    world = await World.create();
    alice = await world.addNode('alice');
    bob = await world.addNode('bob');
    const keyOfAlice = await newKey('alice');
    keyOfBob = await newKey('bob');
    stranger = await newKey('stranger');
    await alice.mustRun(OMERTA_WG, [A]);
    await bob.mustRun(OMERTA_WG, [B]);
    const own = (name: string): string[] => [
      'private-key',
      join(world.folder, name),
      'listen-port',
      String(PORT),
    ];
    await alice.mustRun('wg', ['set', A, ...own('alice')]);
    await bob.mustRun('wg', ['set', B, ...own('bob'), 'peer', keyOfAlice, 'allowed-ips', `${A_INSIDE}/32`]);
    const endpoint = ['endpoint', `[${bob.address6 ?? ''}]:${PORT}`];
    await alice.mustRun('wg', ['set', A, 'peer', keyOfBob, ...endpoint, 'allowed-ips', '10.79.0.0/16']);
    await alice.mustRun('wg', ['set', A, 'peer', stranger]);
    await alice.ip(`address add ${A_INSIDE}/16 dev ${A}`, `link set ${A} up`);
    await bob.ip(
      `address add ${B_INSIDE}/16 dev ${B}`,
      `address add 10.79.5.5/16 dev ${B}`,
      `link set ${B} up`,
    );
  });
  after(async () => {
    await alice.run('ip', ['link', 'delete', A]);
    await bob.run('ip', ['link', 'delete', B]);
    await until('both ended', () => processesOf(A).length + processesOf(B).length === 0);
    world.remove();
  });

  it('sends to the peer with the longest prefix, also when it changes', async () => {
    await carriesPings(alice, B_INSIDE);
    assert.ok(await answered('10.79.5.5'));
    await allow(stranger, '10.79.5.0/24'); // a subnet of Bob's prefix
    assert.equal(await answered('-W1', '10.79.5.5'), false);
    assert.ok(await answered(B_INSIDE));
    await allow(stranger, '10.80.0.0/16'); // given back: Bob's wider one holds again
    assert.ok(await answered('10.79.5.5'));
  });

  it('takes from a peer only what comes from its own prefixes', async () => {
    await alice.nft(`table inet seen {
      chain in { type filter hook input priority 0
        ip saddr 10.79.5.5 counter
      }
    }`);
    const seen = async (): Promise<number> =>
      Number(/packets (\d+)/.exec(await alice.mustRun('nft', ['list', 'table', 'inet', 'seen']))?.[1]);
    const fromAside = (): Promise<unknown> =>
      bob.run('ping', ['-c2', '-i0.2', '-W1', '-I', '10.79.5.5', A_INSIDE]);
    await fromAside();
    await until('both got in', async () => (await seen()) === 2);
    await allow(keyOfBob, `${B_INSIDE}/32`);
    await fromAside();
    await carriesPings(bob, A_INSIDE);
    assert.equal(await seen(), 2, 'neither packet of a source that is not the peer’s got in');
    await allow(keyOfBob, '10.79.0.0/16');
  });

  it('tells the inner host at once that no peer takes its packet', async () => {
    await alice.ip(`route add 10.81.0.0/16 dev ${A}`);
    const { code, stdout } = await alice.run('ping', ['-c1', '-W3', '10.81.0.1']);
    assert.notEqual(code, 0);
    assert.match(stdout, /Destination Host Unreachable/);
  });

  it('pads to 16 bytes, but never past the MTU', async () => {
    await until('keepalives are past', async () => {
      const before = await sentToBob();
      await new Promise((resolve) => setTimeout(resolve, 300));
      return (await sentToBob()) === before;
    });
    const costOf = async (inner: number): Promise<number> => {
      const before = await sentToBob();
      assert.ok(await answered('-M', 'do', '-s', String(inner - 28), B_INSIDE));
      return (await sentToBob()) - before;
    };
    assert.equal(await costOf(85), 96 + 32);
    assert.equal(await costOf(96), 96 + 32);
    assert.equal(await costOf(1419), 1420 + 32);
    assert.equal(await costOf(1420), 1420 + 32);
    // The MTU is followed while it runs, up to jumbo frames.
    await alice.ip(`link set ${A} mtu 8921`);
    await bob.ip(`link set ${B} mtu 8921`);
    await until('the new MTU is known', async () => (await costOf(1420)) === 1424 + 32);
    assert.equal(await costOf(8921), 8921 + 32);
  });
});
