import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { ownProcessIdentity, processIdentity } from '../../ts/host/process-identity.js';
import { markerPath, sweepLeftovers, takenUsers, type Marker } from '../../ts/provider/machine/leftovers.js';
import { temporaryDirectory } from '../daemon/temporary.js';

function sleeping(): { child: ChildProcess; identity: string } {
  const child = spawn('sleep', ['1000'], { stdio: 'ignore' });
  const identity = processIdentity(child.pid ?? 0);
  assert.ok(identity !== undefined);
  return { child, identity };
}

function mark(folder: string, name: string, marker: Marker): void {
  writeFileSync(markerPath(folder, name), JSON.stringify(marker));
}

describe('what a killed process left of its machines', () => {
  it('is ended and removed; what somebody looks after stays', async (t) => {
    const folder = join(temporaryDirectory(t), 'machines');
    assert.equal(await sweepLeftovers(folder), 0);
    const [left, kept] = [sleeping(), sleeping()];
    try {
      mark(folder, 'left', { owner: '1 1 another-boot', machine: left.identity, user: 61_300, cgroups: [] });
      mark(folder, 'kept', {
        owner: ownProcessIdentity(),
        machine: kept.identity,
        user: 61_301,
        cgroups: [],
      });
      assert.deepEqual(takenUsers(folder).sort(), [61_300, 61_301]);
      const ended = once(left.child, 'exit');
      assert.equal(await sweepLeftovers(folder), 1);
      assert.equal((await ended)[1], 'SIGKILL');
      assert.deepEqual(readdirSync(folder), ['kept.machine']);
      assert.equal(kept.child.exitCode, null);
    } finally {
      for (const { child } of [left, kept]) child.kill('SIGKILL');
    }
  });

  it('does not end another process that has its number now', async (t) => {
    const folder = join(temporaryDirectory(t), 'machines');
    await sweepLeftovers(folder);
    const other = sleeping();
    try {
      const [pid] = other.identity.split(' ');
      mark(folder, 'left', { owner: '1 1 another-boot', machine: `${pid} 1 another-boot`, cgroups: [] });
      assert.equal(await sweepLeftovers(folder), 1);
      assert.equal(other.child.exitCode ?? other.child.signalCode, null);
      assert.ok(!existsSync(markerPath(folder, 'left')));
    } finally {
      other.child.kill('SIGKILL');
    }
  });

  it('is removed when its marker is damaged, and touches no cgroup but of machines', async (t) => {
    const folder = join(temporaryDirectory(t), 'machines');
    await sweepLeftovers(folder);
    const bystander = temporaryDirectory(t);
    writeFileSync(markerPath(folder, 'damaged'), '{"owner": 7');
    mark(folder, 'liar', { owner: '1 1 another-boot', cgroups: [bystander] });
    assert.equal(await sweepLeftovers(folder), 2);
    assert.ok(existsSync(bystander));
    assert.deepEqual(readdirSync(folder), []);
  });

  it("is a member's folder with its keys too, wherever the state directory was when it was made", async (t) => {
    const state = temporaryDirectory(t);
    const before = join(state, 'before');
    await sweepLeftovers(before);
    const gone = { owner: '1 1 another-boot', cgroups: [] };
    const folders = ['0a1b.member', '.', '..'];
    for (const name of folders) {
      mkdirSync(join(before, name), { recursive: true });
      writeFileSync(join(before, name, 'identity.key'), 'secret');
      mark(before, name, gone);
    }
    const folder = join(state, 'after');
    renameSync(before, folder);
    assert.equal(await sweepLeftovers(folder), 3);
    // Of what is no member's name nothing but the marker goes.
    assert.deepEqual(readdirSync(folder), ['identity.key']);
    assert.ok(existsSync(join(state, 'identity.key')));
  });
});
