// What the configuration says of exits: it holds in place of what is typed, a reload takes it over, and a mistake in it
// changes nothing.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { exitReportOf, ExitWorld, hostState, type ExitMember } from '../../ts/lab/exit-world.js';
import { labUnavailable } from '../../ts/lab/requirements.js';
import { World } from '../../ts/lab/world.js';
import { until } from '../wg/wg-lab.js';

describe(
  'exits of the configuration',
  { skip: labUnavailable(['curl', 'ping']) ?? false, timeout: 400_000 },
  () => {
    let world: World;
    let made: ExitWorld;
    let guest: ExitMember;
    let exit: ExitMember;
    let untouched: Record<string, string>;

    const type = async (on: ExitMember, ...words: string[]): Promise<{ code: number; said: string }> => {
      const { code, stderr } = await on.node.run(process.execPath, on.omerta.commandLine(...words));
      return { code, said: stderr };
    };
    const shown = async (on: ExitMember, ...words: string[]): Promise<string> =>
      on.node.mustRun(
        process.execPath,
        on.omerta.commandLine(...words).filter((word) => word !== '--json'),
      );
    const reload = async (on: ExitMember, text: string): Promise<{ code: number; said: string }> => {
      on.omerta.configure(text);
      return type(on, 'reload');
    };
    const leaves = (): Promise<void> => until('the guest leaves by the exit', () => made.leaves(), 90_000);

    before(async () => {
      world = await World.create();
      made = await ExitWorld.start(world);
      ({ guest, exit } = made);
      untouched = await hostState(guest.node);
    });
    after(() => world.remove());

    it('serve and are used from a reload on, and are said by status', async () => {
      assert.doesNotMatch(await shown(guest, 'status'), /^exit/m);
      const served = await reload(exit, `[exit]\nserve = true\nallow = ["${guest.peerId}"]`);
      assert.equal(served.code, 0, served.said);
      const used = await reload(guest, `[exit.use]\nexits = ["${exit.peerId}"]`);
      assert.equal(used.code, 0, used.said);
      await leaves();
      assert.deepEqual((await exitReportOf(guest)).configured, ['exit.use']);
      assert.match(await shown(guest, 'status'), /^exit used +everything leaves by exit \(IPv4 and IPv6/m);
      const status = await shown(exit, 'status');
      assert.match(status, /^exit served +IPv4 and IPv6, names .* 1 leave by it\n +guest since .* from it/m);
    });

    it('are not changed by what is typed, which says where they are', async () => {
      for (const words of [['use', exit.peerId, '--paranoid'], ['off'], ['off', '--use']]) {
        const { code, said } = await type(guest, 'exit', ...words);
        assert.equal(code, 2, words.join(' '));
        assert.match(said, /\[exit\.use\] of .*omerta\.toml says it.*omerta reload/);
      }
      const { code, said } = await type(exit, 'exit', 'serve');
      assert.equal(code, 2, said);
      // A right for a time is typed beside them, and who is allowed by the file stays so.
      assert.equal((await type(exit, 'exit', 'grant', guest.peerId, '--for', '1h')).code, 0);
      const revoked = await type(exit, 'exit', 'revoke', guest.peerId);
      assert.equal(revoked.code, 1);
      assert.match(revoked.said, /still may leave by \[exit\] of .*omerta\.toml\. Take it out/);
      await leaves();
    });

    it('stay as they were after a mistake in the file', async () => {
      for (const [text, said] of [
        ['[exit.use]\nexits = ["home"]', /config exit\.use\.exits\.0: expected a list of peer ids/],
        [`[exit.use]\nexits = ["${guest.peerId}"]`, /cannot be its own exit/],
        ['[exit]\nserve = true\nnetworks = ["work"]', /config exit\.networks: "work" is not a network/],
      ] as const) {
        const refused = await reload(guest, text);
        assert.equal(refused.code, 2, text);
        assert.match(refused.said, said);
        await leaves();
      }
      assert.deepEqual((await exitReportOf(guest)).configured, ['exit.use']);
    });

    it('hold after a restart, and end when they are taken out of the file', async () => {
      assert.equal((await reload(guest, `[exit.use]\nexits = ["${exit.peerId}"]\nparanoid = true`)).code, 0);
      await guest.omerta.kill();
      assert.equal(await made.fetch(made.outside.address, 80, 1), undefined, 'closed');
      await guest.omerta.start('up', '--foreground');
      await leaves();
      assert.match(await shown(guest, 'status'), /^exit used .*with the guard on/m);
      assert.equal((await reload(guest, '')).code, 0);
      assert.deepEqual(await hostState(guest.node), untouched);
      assert.ok(await made.fetch(made.outside.address));
    });

    it('do not open what was closed by --paranoid', async () => {
      assert.equal((await type(guest, 'exit', 'use', exit.peerId, '--paranoid')).code, 0);
      const { code, said } = await reload(guest, `[exit.use]\nexits = ["${exit.peerId}"]`);
      assert.equal(code, 2);
      assert.match(said, /config exit\.use\.paranoid: .*Write paranoid = true in .*omerta\.toml/);
      assert.equal((await exitReportOf(guest)).using?.paranoid, true);
      assert.equal((await type(guest, 'exit', 'off')).code, 0);
      assert.deepEqual(await hostState(guest.node), untouched);
    });
  },
);
