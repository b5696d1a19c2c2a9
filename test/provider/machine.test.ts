// Machines that are started, with QEMU and a kernel: what runs in them, as what QEMU runs, and what is left.

import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { existsSync, readFileSync, readdirSync, readlinkSync } from 'node:fs';
import { Readable, Writable } from 'node:stream';
import { after, before, describe, it } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import type { StateDirectory } from '../../ts/daemon/state/state-directory.js';
import { isProcessAlive, processIdentity } from '../../ts/host/process-identity.js';
import type { Machine } from '../../ts/provider/machine/machine.js';
import type { MachineHost } from '../../ts/provider/machine/machine-host.js';
import { machineHost, machineState, machinesUnavailable } from './machine-fixture.js';

const REQUEST = { cpus: 1, memoryMiB: 128, isIdle: false };

const skip = (await machinesUnavailable()) ?? false;
if (skip !== false) console.log(`virtual machines are skipped: ${skip}`);

interface Result {
  readonly status: number;
  readonly failure?: string;
  readonly output: Buffer;
  readonly errors: string;
}

async function run(machine: Machine, words: readonly string[], given?: Buffer): Promise<Result> {
  const parts: [Buffer[], Buffer[]] = [[], []];
  const [output, errors] = parts.map(
    (into) =>
      new Writable({
        write(chunk: Buffer, _encoding, done) {
          into.push(Buffer.from(chunk));
          done();
        },
      }),
  ) as [Writable, Writable];
  const input = given === undefined ? undefined : Readable.from([given], { objectMode: false });
  const end = await machine.agent.run({ words, input, output, errors });
  return { ...end, output: Buffer.concat(parts[0]), errors: Buffer.concat(parts[1]).toString() };
}

const sh = async (machine: Machine, commands: string): Promise<string> => {
  const { status, output, errors } = await run(machine, ['sh', '-c', commands]);
  assert.equal(status, 0, errors);
  return output.toString();
};

/** A field of /proc/PID/status. */
function statusOf(pid: number, field: string): string {
  return (
    new RegExp(`^${field}:[ \\t]*(.*)$`, 'm').exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? ''
  );
}

function pidOf(machine: Machine): number {
  assert.ok(machine.pid !== undefined);
  return machine.pid;
}

describe('a machine', { skip, timeout: 300_000 }, () => {
  let state: StateDirectory;
  let host: MachineHost;
  let machine: Machine;

  before(async () => {
    state = machineState();
    host = await machineHost(state);
    machine = await host.start(REQUEST);
  });
  after(async () => {
    await machine.stop();
  });

  it('carries every byte to a command and back, and tells how it ended', async () => {
    const given = randomBytes(1 << 20);
    const { status, output, errors } = await run(machine, ['sh', '-c', 'cat; echo done >&2; exit 42'], given);
    const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');
    assert.deepEqual([status, errors], [42, 'done\n']);
    assert.equal(sha256(output), sha256(given));
    const missing = await run(machine, ['no-such-command']);
    assert.deepEqual([missing.status, missing.failure], [127, 'no-such-command: No such file or directory']);
  });

  it('ends a command by a signal', async () => {
    const running = run(machine, ['sh', '-c', 'echo started; sleep 1000']);
    await setTimeout(100);
    machine.agent.signal(15);
    assert.equal((await running).status, 128 + 15);
  });

  it("has a kernel, a root's shell, randomness, and no way out", async () => {
    assert.match(await sh(machine, 'uname -sr; id -u; pwd'), /^Linux 6\.[^\n]*\n0\n/);
    assert.equal((await sh(machine, 'head -c 8 /dev/random | wc -c')).trim(), '8');
    assert.equal(await sh(machine, 'ls /sys/class/net'), 'lo\n');
    assert.equal(await sh(machine, 'ls /sys/block'), '');
  });

  it('runs as nobody who has any right, in a network namespace of its own', () => {
    const pid = pidOf(machine);
    assert.equal(statusOf(pid, 'NoNewPrivs'), '1');
    assert.equal(statusOf(pid, 'Seccomp'), '2');
    for (const set of ['CapInh', 'CapPrm', 'CapEff', 'CapAmb']) assert.match(statusOf(pid, set), /^0+$/, set);
    assert.notEqual(readlinkSync(`/proc/${pid}/ns/net`), readlinkSync('/proc/self/ns/net'));
    assert.match(readFileSync(`/proc/${pid}/limits`, 'utf8'), /^Max core file size +0 +0 /m);
    assert.deepEqual(readFileSync(`/proc/${pid}/net/dev`, 'utf8').match(/^ *[^ ]+:/gm), ['    lo:']);
    if (process.getuid?.() !== 0) return;
    assert.match(statusOf(pid, 'CapBnd'), /^0+$/);
    const users = statusOf(pid, 'Uid').split('\t').map(Number);
    assert.ok(users.every((user) => user >= 61_184 && user <= 65_519));
    assert.equal(statusOf(pid, 'Groups'), '');
  });

  it('is held by its cgroups, where this host has them', () => {
    const pid = pidOf(machine);
    const cgroups = readFileSync(`/proc/${pid}/cgroup`, 'utf8');
    if (machine.limited.length > 0) assert.match(cgroups, new RegExp(`/omerta-vm-${machine.name}$`, 'm'));
  });

  it('stands still and goes on', async () => {
    await machine.pause();
    const asked = sh(machine, 'echo on');
    assert.equal(await Promise.race([asked, setTimeout(300, 'nothing')]), 'nothing');
    await machine.resume();
    assert.equal(await asked, 'on\n');
  });

  it('is unreadable by another machine, and gone without a trace', async () => {
    const other = await host.start(REQUEST);
    const ids = [machine, other].map((each) => statusOf(pidOf(each), 'Uid'));
    if (process.getuid?.() === 0) assert.notEqual(ids[0], ids[1]);
    const identity = processIdentity(pidOf(other));
    assert.equal(readdirSync(state.machines).length, 2);
    await other.stop();
    assert.equal(other.state, 'gone');
    assert.equal(await other.gone, 'it was stopped');
    assert.ok(identity !== undefined && !isProcessAlive(identity));
    assert.deepEqual(readdirSync(state.machines), [`${machine.name}.machine`]);
    await assert.rejects(sh(other, 'true'), /gone/);
  });
});

describe('the end of a machine', { skip, timeout: 300_000 }, () => {
  let state: StateDirectory;
  let host: MachineHost;
  before(async () => {
    state = machineState();
    host = await machineHost(state);
  });

  it('has its reason told when the guest switches itself off', async () => {
    const machine = await host.start(REQUEST);
    const running = run(machine, ['sh', '-c', 'poweroff -f; sleep 1000']);
    await assert.rejects(running, /gone/);
    assert.equal(await machine.gone, 'the guest switched itself off');
    assert.deepEqual(readdirSync(state.machines), []);
  });

  it('has its reason told when its kernel crashes', async () => {
    const machine = await host.start(REQUEST);
    const running = run(machine, ['sh', '-c', 'echo c > /proc/sysrq-trigger']);
    await assert.rejects(running, /gone/);
    assert.equal(await machine.gone, "the guest's kernel crashed, or started again");
    assert.match(machine.lastWords, /Kernel panic/);
  });

  it('has its reason told when QEMU is killed', async () => {
    const machine = await host.start(REQUEST);
    process.kill(pidOf(machine), 'SIGKILL');
    assert.equal(await machine.gone, 'QEMU was ended by SIGKILL');
    assert.deepEqual(readdirSync(state.machines), []);
  });

  it('comes while it starts when that is asked for, and by an image that is none', async () => {
    const signal = AbortSignal.timeout(100);
    await assert.rejects(host.start({ ...REQUEST, signal }), /stopped while it started/);
    const { Machine } = await import('../../ts/provider/machine/machine.js');
    const image = { kernel: '/etc/hostname', initramfs: '/etc/hostname' };
    const settings = {
      ...REQUEST,
      qemu: host.qemu,
      image,
      folder: state.machines,
      accelerator: 'tcg' as const,
    };
    await assert.rejects(Machine.start(settings), /virtual machine: /);
    assert.deepEqual(readdirSync(state.machines), []);
    assert.ok(existsSync(state.machines));
  });
});
