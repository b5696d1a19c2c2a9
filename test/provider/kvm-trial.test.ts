// Whether KVM runs a guest is tried before it is used. One of `npm run test:long`: where it does not, that takes its time.

import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { describe, it } from 'node:test';
import { packageRoot } from '../../ts/host/version.js';
import { mustRun } from '../../ts/lab/command.js';
import { machineState, machinesUnavailable } from './machine-fixture.js';

const DEVICE = '/dev/kvm';

async function unavailable(): Promise<string | undefined> {
  if (process.getuid?.() !== 0) return 'needs root, for a device file of its own';
  return existsSync(DEVICE) ? await machinesUnavailable() : `there is no ${DEVICE}`;
}

const skip = (await unavailable()) ?? false;

describe('KVM', { skip, timeout: 300_000 }, () => {
  it('is used where a guest came up with it, and a command runs either way', async () => {
    const state = machineState();
    // One that everybody may open, and only the command sees.
    const commands = [
      `mknod ${state.path}/kvm c 10 232 && chmod 666 ${state.path}/kvm`,
      `mount --bind ${state.path}/kvm ${DEVICE}`,
      `${packageRoot()}/bin/omerta --state ${state.path} vm try -- echo it runs 2> ${state.path}/said`,
      `${packageRoot()}/bin/omerta --state ${state.path} doctor --json | grep -A4 'with KVM' || true`,
      `cat ${state.path}/said`,
    ];
    const options = { timeoutMs: 240_000 };
    const printed = await mustRun('unshare', ['--mount', 'sh', '-ec', commands.join('\n')], options);
    assert.match(printed, /^it runs$/m);
    assert.match(printed, /trying whether a guest runs with KVM here/);
    const isSlow = /without KVM, so that it is slow: with KVM a guest/.test(printed);
    assert.match(printed, isSlow ? /with KVM a guest|it can be opened/ : /a guest was up after \d+ ms/);
  });
});
