import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { MachineCgroup, type CgroupFiles } from '../../ts/provider/machine/machine-cgroup.js';
import { temporaryDirectory } from '../daemon/temporary.js';

const LIMITS = { memoryMiB: 256, tasks: 64, isIdle: true };

const read = (...path: string[]): string => readFileSync(join(...path), 'utf8');

/** Ordinary folders in the place of cgroup file systems: what is written there stays readable. */
function hostOf(
  t: TestContext,
  mounts: readonly (readonly [point: string, type: string, options: string])[],
  membership: string,
): { root: string; files: CgroupFiles } {
  const root = temporaryDirectory(t);
  const lines = mounts.map(
    ([point, type, options], at) =>
      `${20 + at} 1 0:30 / ${join(root, point)} rw,nosuid - ${type} none rw,${options}`,
  );
  return {
    root,
    files: { membership, mounts: ['19 1 8:1 / / rw - ext4 /dev/sda1 rw', ...lines, ''].join('\n') },
  };
}

describe('the cgroups of a machine', () => {
  it('of version 2 stand beside those of the process, and hold memory, tasks and priority', (t) => {
    const { root, files } = hostOf(t, [['unified', 'cgroup2', 'nsdelegate']], '0::/user.slice/app.slice\n');
    mkdirSync(join(root, 'unified/user.slice/app.slice'), { recursive: true });
    const cgroup = MachineCgroup.make('ab', LIMITS, files);
    const folder = join(root, 'unified/user.slice/omerta-vm-ab');
    assert.deepEqual([cgroup.folders, cgroup.limited], [[folder], ['memory', 'tasks']]);
    assert.deepEqual(cgroup.processFiles, [join(folder, 'cgroup.procs')]);
    assert.equal(read(folder, 'memory.max'), String(1 << 28));
    assert.equal(read(folder, 'memory.swap.max'), '0');
    assert.equal(read(folder, 'pids.max'), '64');
    assert.equal(read(folder, 'cpu.idle'), '1');
  });

  it('of version 1 are made where the controllers are, and nowhere else', (t) => {
    const { root, files } = hostOf(
      t,
      [
        ['memory', 'cgroup', 'memory'],
        ['pids', 'cgroup', 'pids'],
        ['cpu', 'cgroup', 'cpu,cpuacct'],
        ['freezer', 'cgroup', 'freezer'],
        ['unified', 'cgroup2', ''],
      ],
      '5:cpu,cpuacct:/a\n4:pids:/a\n3:memory:/a\n2:freezer:/a\n0::/\n',
    );
    for (const each of ['memory', 'pids', 'cpu', 'freezer'])
      mkdirSync(join(root, each, 'a'), { recursive: true });
    // A version 2 that has neither controller, as beside version 1: its files cannot be written.
    mkdirSync(join(root, 'unified/omerta-vm-ab/memory.max'), { recursive: true });
    const cgroup = MachineCgroup.make('ab', LIMITS, files);
    assert.deepEqual(cgroup.limited, ['tasks', 'memory']);
    assert.equal(read(root, 'memory/a/omerta-vm-ab/memory.limit_in_bytes'), String(1 << 28));
    assert.equal(read(root, 'pids/a/omerta-vm-ab/pids.max'), '64');
    assert.equal(read(root, 'cpu/a/omerta-vm-ab/cpu.idle'), '1');
    assert.ok(!existsSync(join(root, 'freezer/a/omerta-vm-ab')));
    assert.ok(!cgroup.folders.some((folder) => folder.includes('unified')));
  });

  it('hold the memory of machines of many GiB as well', (t) => {
    const { root, files } = hostOf(
      t,
      [
        ['unified', 'cgroup2', ''],
        ['memory', 'cgroup', 'memory'],
      ],
      '3:memory:/\n0::/\n',
    );
    for (const each of ['unified', 'memory']) mkdirSync(join(root, each));
    MachineCgroup.make('ab', { ...LIMITS, memoryMiB: 4416 }, files);
    assert.equal(read(root, 'unified/omerta-vm-ab/memory.max'), '4630511616');
    assert.equal(read(root, 'memory/omerta-vm-ab/memory.limit_in_bytes'), '4630511616');
  });

  it('of a container are below what it sees of the hierarchy', (t) => {
    const root = temporaryDirectory(t);
    mkdirSync(join(root, 'pids'));
    const mounts = `30 1 0:30 /docker/x ${join(root, 'pids')} rw - cgroup none rw,pids\n`;
    const cgroup = MachineCgroup.make('ab', LIMITS, { membership: '4:pids:/docker/x\n', mounts });
    assert.deepEqual(cgroup.folders, [join(root, 'pids/omerta-vm-ab')]);
  });

  it('are none where there are none, or the user may make none', (t) => {
    assert.deepEqual(MachineCgroup.make('ab', LIMITS, { membership: '', mounts: '' }).limited, []);
    const { root, files } = hostOf(t, [['pids', 'cgroup', 'pids']], '4:pids:/a\n');
    writeFileSync(join(root, 'pids'), 'no folder');
    assert.deepEqual(MachineCgroup.make('ab', LIMITS, files).folders, []);
  });

  it('are made and removed on this host, with what runs in them', async () => {
    const cgroup = MachineCgroup.make(`test${process.pid}`, LIMITS);
    assert.ok(cgroup.folders.every((folder) => existsSync(folder)));
    assert.deepEqual(await cgroup.remove(), []);
    assert.ok(!cgroup.folders.some((folder) => existsSync(folder)));
  });
});
