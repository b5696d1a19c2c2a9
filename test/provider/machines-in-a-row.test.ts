// Twenty machines, one after the other: nothing of any of them is left. One of `npm run test:long`; what a single
// machine leaves, machine.test.ts sees.

import assert from 'node:assert/strict';
import { readFileSync, readdirSync, readlinkSync } from 'node:fs';
import { describe, it } from 'node:test';
import { Writable } from 'node:stream';
import { ownCgroupFiles } from '../../ts/provider/machine/machine-cgroup.js';
import { machineHost, machineState, machinesUnavailable } from './machine-fixture.js';

const COUNT = 20;

const skip = (await machinesUnavailable()) ?? false;
if (skip !== false) console.log(`virtual machines in a row are skipped: ${skip}`);

/** Open descriptors of this process, by what they are. */
function descriptors(): string[] {
  return readdirSync('/proc/self/fd').flatMap((fd) => {
    try {
      return [readlinkSync(`/proc/self/fd/${fd}`).replace(/\d+/, '')];
    } catch {
      return [];
    }
  });
}

/** Processes this one started and that are there, ended or not. */
function children(): string[] {
  return readdirSync('/proc').filter((pid) => {
    if (!/^\d+$/.test(pid)) return false;
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
      return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]) === process.pid;
    } catch {
      return false;
    }
  });
}

/** Cgroups of machines of this test, wherever they are. */
function cgroupsOf(names: readonly string[]): string[] {
  const points = ownCgroupFiles()
    .mounts.split('\n')
    .filter((line) => / - cgroup2? /.test(line))
    .map((line) => line.split(' ')[4] ?? '');
  return points.flatMap((point) =>
    readdirSync(point, { recursive: true, encoding: 'utf8' }).filter((path) =>
      names.some((name) => path.endsWith(`omerta-vm-${name}`)),
    ),
  );
}

describe('machines in a row', { skip, timeout: 580_000 }, () => {
  it('leave no file, process, descriptor or cgroup; a namespace goes with its last process', async () => {
    const state = machineState();
    const host = await machineHost(state);
    const names: string[] = [];
    let before: string[] = [];
    for (let count = 0; count < COUNT; count++) {
      const machine = await host.start({ cpus: 1, memoryMiB: 128, isIdle: false });
      names.push(machine.name);
      let printed = '';
      const output = new Writable({
        write(chunk: Buffer, _encoding, done) {
          printed += chunk.toString();
          done();
        },
      });
      const { status } = await machine.agent.run({ words: ['echo', String(count)], output, errors: output });
      assert.deepEqual([status, printed], [0, `${count}\n`]);
      await machine.stop();
      if (count === 0) before = descriptors();
    }
    assert.deepEqual(readdirSync(state.machines), []);
    assert.deepEqual(children(), []);
    assert.deepEqual(cgroupsOf(names), []);
    assert.deepEqual(descriptors().sort(), before.sort());
  });
});
