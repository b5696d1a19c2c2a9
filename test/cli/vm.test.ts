// omerta vm, as it is typed.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { isProcessAlive } from '../../ts/host/process-identity.js';
import { machineState, machinesUnavailable } from '../provider/machine-fixture.js';
import { omerta, start } from './run-omerta.js';

const skip = (await machinesUnavailable()) ?? false;
if (skip !== false) console.log(`omerta vm is skipped: ${skip}`);

describe('omerta vm try', { timeout: 300_000 }, () => {
  it('says what is wrong with what was typed', async () => {
    for (const [words, complaint] of [
      [['--cpus', '0'], /--cpus: "0" is not a whole number from 1 to/],
      [['--memory', '64'], /--memory: "64" is not a whole number from 128 to/],
      [['--memory', '1G'], /--memory: "1G"/],
      [['--accelerator', 'fast'], /--accelerator: "fast" is none of auto, kvm, tcg/],
      [['--exit', 'home'], /network: none is joined yet/],
      [['--network', 'office'], /network: "office" is not joined/],
    ] as const) {
      const { code, stderr } = await omerta([
        '--state',
        '/nonexistent/state',
        'vm',
        'try',
        ...words,
        '--',
        'true',
      ]);
      assert.equal(code, 2);
      assert.match(stderr, complaint);
    }
    const { code, stderr } = await omerta(['vm', 'try']);
    assert.equal(code, 2);
    assert.match(stderr, /missing required argument 'command'/);
  });

  it('runs a command in a machine, with its input, output and exit code', { skip }, async () => {
    const state = machineState();
    const words = ['sh', '-c', 'tr a-z A-Z; echo of the guest >&2; exit 9'];
    const { code, stdout, stderr } = await omerta(
      ['--state', state.path, 'vm', 'try', '--accelerator', 'tcg', '--', ...words],
      { input: 'hello\n' },
    );
    assert.deepEqual([code, stdout], [9, 'HELLO\n'], stderr);
    assert.match(stderr, /^of the guest$/m);
    assert.deepEqual(readdirSync(state.machines), []);
  });

  it('leaves nothing that the next start does not remove when it is killed', { skip }, async () => {
    const state = machineState();
    const args = ['--state', state.path, 'vm', 'try', '--accelerator', 'tcg', '--'];
    const child = start([...args, 'sh', '-c', 'echo up; sleep 1000']);
    const [said] = (await once(child.stdout ?? child, 'data')) as [Buffer];
    assert.equal(String(said), 'up\n');
    const [file = ''] = readdirSync(state.machines);
    const marker = JSON.parse(readFileSync(join(state.machines, file), 'utf8')) as {
      machine: string;
      cgroups: string[];
    };
    assert.ok(isProcessAlive(marker.machine));
    child.kill('SIGKILL');
    await once(child, 'exit');
    for (let waited = 0; waited < 10_000 && isProcessAlive(marker.machine); waited += 20)
      await setTimeout(20);
    assert.ok(!isProcessAlive(marker.machine), 'it ends with the process that started it');
    const { code, stderr } = await omerta([...args, 'true']);
    assert.equal(code, 0, stderr);
    assert.match(stderr, /left of 1 virtual machine/);
    assert.deepEqual(readdirSync(state.machines), []);
    for (const cgroup of marker.cgroups) assert.throws(() => readdirSync(cgroup), /ENOENT/);
  });

  it('ends with its command when it is told to', { skip }, async () => {
    const state = machineState();
    const child = start([
      '--state',
      state.path,
      'vm',
      'try',
      '--accelerator',
      'tcg',
      '--',
      'sh',
      '-c',
      'echo up; sleep 1000',
    ]);
    await once(child.stdout ?? child, 'data');
    child.kill('SIGTERM');
    assert.deepEqual(await once(child, 'exit'), [128 + 15, null]);
    assert.deepEqual(readdirSync(state.machines), []);
  });

  it('has its command see Ctrl-C, which a terminal sends to everything there is', { skip }, async () => {
    const state = machineState();
    const words = ['sh', '-c', 'trap "echo seen; exit 7" INT; echo up; while :; do sleep 1; done'];
    const child = start(['--state', state.path, 'vm', 'try', '--accelerator', 'tcg', '--', ...words], {
      isGroup: true,
    });
    let said = '';
    child.stdout?.on('data', (chunk) => (said += String(chunk)));
    await once(child.stdout ?? child, 'data');
    process.kill(-(child.pid ?? 0), 'SIGINT');
    assert.deepEqual(await once(child, 'close'), [7, null]);
    assert.equal(said, 'up\nseen\n');
    assert.deepEqual(readdirSync(state.machines), []);
  });
});
