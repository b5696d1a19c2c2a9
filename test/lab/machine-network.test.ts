// A virtual machine on a host behind a NAT, which is a member of its own and leaves by another member's exit: it reaches
// what that exit reaches, and has no other way.

import assert from 'node:assert/strict';
import { readdirSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import type { Finished } from '../../ts/lab/command.js';
import { EXIT_OUTSIDE, ExitWorld, LAN, WEB, type ExitMember } from '../../ts/lab/exit-world.js';
import { GUEST_IMAGES } from '../../ts/lab/guest.js';
import { labUnavailable } from '../../ts/lab/requirements.js';
import { World } from '../../ts/lab/world.js';
import { addonMissing } from '../engine/addon.js';
import { machinesUnavailable } from '../provider/machine-fixture.js';

const skip = labUnavailable(['curl', 'ping']) ?? addonMissing() ?? (await machinesUnavailable()) ?? false;
if (skip !== false) console.log(`virtual machines in the mesh are skipped: ${skip}`);

const TRY = ['vm', 'try', '--accelerator', 'tcg', '--exit', 'exit', '--'];

describe('a virtual machine that leaves by an exit', { skip, timeout: 300_000 }, () => {
  let world: World;
  let made: ExitWorld;
  let host: ExitMember;

  const type = async (on: ExitMember, words: readonly string[]): Promise<Finished> => {
    const [file = '', ...args] = on.omerta.typed(...words);
    return on.node.run(file, args, { timeoutMs: 200_000 });
  };
  const nothingIsLeft = (): void => {
    assert.deepEqual(readdirSync(join(host.omerta.state, 'machines')), []);
  };

  before(async () => {
    world = await World.create();
    made = await ExitWorld.start(world);
    host = made.guest;
    symlinkSync(GUEST_IMAGES, join(host.omerta.state, 'images'));
  });
  after(() => world.remove());

  it('does not run its command while the exit gives it no right', async () => {
    const { code, stderr, stdout } = await type(host, [...TRY, 'echo', 'it ran']);
    assert.deepEqual([code, stdout], [5, ''], stderr);
    assert.match(stderr, /exit/);
    nothingIsLeft();
  });

  it('reaches what the exit reaches, by both families and by names, and nothing of its host', async () => {
    const [{ name }] = (await host.omerta.command(['network', 'list'])) as [{ name: string }];
    const served = await type(made.exit, ['exit', 'serve', '--network', name, '--resolver', WEB.ipv4]);
    assert.equal(served.code, 0, served.stderr);
    const gateway = made.home.gateway;
    const commands = [
      `for url in ${WEB.ipv4} '[${WEB.ipv6}]' shop.example; do wget -q -O - http://$url/; done`,
      'grep -c nameserver /etc/resolv.conf',
      // The host itself, its gateway, a LAN the exit does not offer, and what clouds tell their machines.
      `for other in ${host.node.address} ${gateway} ${LAN.ipv4} 169.254.169.254; do`,
      '  ping -c 1 -W 1 $other > /dev/null 2>&1 && echo reached $other; done',
      'echo done',
    ];
    const { code, stdout, stderr } = await type(host, [...TRY, 'sh', '-c', commands.join('\n')]);
    assert.equal(code, 0, stderr);
    const lines = stdout.trim().split('\n');
    const seen = lines.map((line) => line.replace('::ffff:', ''));
    assert.deepEqual(seen.slice(0, 2), [EXIT_OUTSIDE.ipv4, EXIT_OUTSIDE.ipv6], `${stdout}\n${stderr}`);
    assert.ok(seen[2] === EXIT_OUTSIDE.ipv4 || seen[2] === EXIT_OUTSIDE.ipv6, seen[2]);
    assert.notEqual(seen[3], '0');
    assert.deepEqual(seen.slice(4), ['done']);
    nothingIsLeft();
  });
});
