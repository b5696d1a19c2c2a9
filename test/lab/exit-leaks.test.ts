// What leaves a machine that is to leave by an exit alone: every probe leaks without the guard, and none with it, whatever
// becomes of the exit and the daemon.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { exitReportOf, ExitWorld, hostState, WEB } from '../../ts/lab/exit-world.js';
import { LeakProbes } from '../../ts/lab/leak-table.js';
import { labUnavailable } from '../../ts/lab/requirements.js';
import { World } from '../../ts/lab/world.js';
import { until } from '../wg/wg-lab.js';

const unavailable = labUnavailable(['curl', 'ping', 'tcpdump', 'python3']);

describe('the guard of an exit', { skip: unavailable ?? false, timeout: 400_000 }, () => {
  let world: World;
  let made: ExitWorld;
  let probes: LeakProbes;
  let untouched: Record<string, string>;

  const type = async (on: ExitWorld['guest'], ...words: string[]): Promise<number> => {
    const { code } = await on.node.run(process.execPath, on.omerta.commandLine('exit', ...words));
    return code;
  };
  const nothingLeaks = async (when: string): Promise<void> => {
    const { leaked, others } = await probes.round();
    assert.deepEqual(
      leaked.map(({ kind, probe }) => `${kind}: ${probe}`),
      [],
      when,
    );
    assert.deepEqual(others, [], when);
  };

  before(async () => {
    world = await World.create();
    made = await ExitWorld.start(world);
    probes = await LeakProbes.start(world, {
      machine: made.guest.node,
      router: made.home,
      inner: made.guest.ipv4,
      relay: made.relay.node.address,
    });
    untouched = await hostState(made.guest.node);
  });
  after(() => {
    probes.stop();
    world.remove();
  });

  it('is needed: without it each probe comes out', async () => {
    const { leaked } = await probes.round();
    const missing = probes.leaks.filter((leak) => !leaked.includes(leak));
    assert.deepEqual(
      missing.map(({ kind, probe }) => `${kind}: ${probe}`),
      [],
    );
  });

  it('lets nothing out while no exit grants, when one is used, and when it is gone', async () => {
    assert.equal(await type(made.guest, 'use', made.exit.peerId, '--paranoid'), 5);
    assert.equal(await type(made.guest, 'use', made.exit.peerId), 2, 'the guard does not go unasked');
    await nothingLeaks('connecting');
    assert.equal(await type(made.exit, 'serve', '--allow', made.guest.peerId), 0);
    await until(
      'it is used',
      async () => (await exitReportOf(made.guest)).using?.active !== undefined,
      90_000,
    );
    assert.ok(await made.fetch(WEB.ipv4));
    assert.ok(await made.fetch(WEB.ipv6));
    await nothingLeaks('in use');
    await made.exit.omerta.kill();
    await nothingLeaks('exit gone');
    await until(
      'it is found out',
      async () => (await exitReportOf(made.guest)).using?.active === undefined,
      60_000,
    );
    await nothingLeaks('exit found to be gone');
    await made.exit.omerta.start('up', '--foreground');
  });

  it('lets nothing out when the daemon is killed or down, nor when its interface is deleted', async () => {
    await until('it is used', async () => (await made.fetch(WEB.ipv4, 80, 1)) !== undefined, 90_000);
    await made.guest.node.ip('link delete omerta0');
    await nothingLeaks('interface deleted');
    await made.guest.omerta.kill();
    await nothingLeaks('killed');
    await made.guest.omerta.start('up', '--foreground');
    await until('it is used', async () => (await made.fetch(WEB.ipv4, 80, 1)) !== undefined, 90_000);
    await nothingLeaks('started again');
    await made.guest.node.mustRun(
      process.execPath,
      made.guest.omerta.commandLine('down').filter((word) => word !== '--json'),
    );
    assert.equal(await type(made.guest, 'off', '--serve'), 0);
    await nothingLeaks('down');
  });

  it('is gone with `exit off` alone, and leaves nothing', async () => {
    assert.equal(await type(made.guest, 'off'), 0);
    assert.deepEqual(await hostState(made.guest.node), untouched);
    const { leaked } = await probes.round();
    assert.ok(leaked.length >= probes.leaks.length - 2, 'the inner address is gone, the rest is open again');
  });
});
