// SIGHUP, as nohup(1), a closed terminal and service managers send it.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { OmertaNode } from '../../ts/lab/omerta-node.js';
import { labUnavailable } from '../../ts/lab/requirements.js';
import { World, type Node } from '../../ts/lab/world.js';
import { OMERTA_WG, processesOf, socketOf, until } from '../wg/wg-lab.js';

const WG = `oh${process.pid}`;

interface Status {
  readonly pid: number;
}

describe('SIGHUP', { skip: labUnavailable(['script']) ?? false, timeout: 120_000 }, () => {
  let world: World;
  let node: Node;
  let member: OmertaNode;

  before(async () => {
    world = await World.create();
    const relayNode = await world.addNode('relay');
    const relay = new OmertaNode(world, relayNode, 'relay');
    const { networks } = (await relay.start('relay')) as { networks: readonly { invite: string }[] };
    node = await world.addNode('member');
    member = new OmertaNode(world, node, 'member');
    await member.command(['network', 'join', '-'], networks[0]?.invite ?? '');
  });
  after(() => world.remove());

  it('does not end a member without a terminal, which reads its configuration', async () => {
    const { pid } = (await member.start('up', '--foreground')) as Status;
    process.kill(pid, 'SIGHUP');
    await until('the log has it', () => member.log.includes('configuration-reloaded'));
    assert.equal(((await member.command(['status'])) as Status).pid, pid);
    await node.mustRun('ip', ['link', 'show', 'omerta0']);
    process.kill(pid, 'SIGTERM');
    await until('it has ended', () => !existsSync(join(member.state, 'omerta.sock')));
  });

  it('ends a member that has a terminal, and nothing of it stays', async () => {
    // script(1) gives it a terminal, which is gone when script is.
    const terminal = spawn('script', ['-qefc', member.shellCommand('up', '--foreground'), '/dev/null'], {
      stdio: ['pipe', 'ignore', 'ignore'],
    });
    const socket = join(member.state, 'omerta.sock');
    await until('it serves', async () => {
      try {
        await member.command(['status']);
        return true;
      } catch {
        return false;
      }
    });
    terminal.kill('SIGKILL');
    await until('its socket is gone', () => !existsSync(socket));
    await until(
      'its interface is gone',
      async () => (await node.run('ip', ['link', 'show', 'omerta0'])).code !== 0,
    );
  });

  it('does not end omerta wg in the background, and its socket stays', async () => {
    await node.mustRun(OMERTA_WG, [WG]);
    const [pid] = processesOf(WG);
    assert.ok(pid !== undefined);
    process.kill(Number(pid), 'SIGHUP');
    await sleep(500);
    assert.ok(existsSync(socketOf(WG)));
    await node.mustRun('ip', ['link', 'show', WG]);
    await node.mustRun('ip', ['link', 'delete', WG]);
    await until('it ends with its interface', () => !existsSync(socketOf(WG)));
  });
});
