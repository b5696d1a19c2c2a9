// npm run build:arm64: everything native compiled for arm64, and its tests run under emulation.

import { existsSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { SYSROOT, prepareSysroot } from './lib/arm64-sysroot.mjs';
import { hasProgram, output, quietly } from './lib/command.mjs';
import { root } from './lib/paths.mjs';
import { putPrebuilt } from './lib/prebuild.mjs';
import { setup } from './lib/setup.mjs';
import { StepFailed, main, step, warn } from './lib/steps.mjs';
import { readArguments } from './lib/usage.mjs';

const HELP = `Usage: npm run build:arm64 [-- --prebuild | --compile-only]

Compiles the addon, the native tests and the BPF objects for arm64 (ARM servers, DPUs such as
BlueField) with Debian's cross compiler into build/arm64, and runs the native tests under QEMU's
user mode emulation. Needs root on Debian the first time, to install the cross compiler; where
it cannot be had this is skipped and says so.
  --prebuild      put the addon, without debug information, into prebuilds/linux-arm64, from where
                  the package loads it on an arm64 machine (docs/operators-guide.md, "arm64")
  --compile-only  run no tests, install no emulator, and fail where it cannot be compiled`;

const BUILD = join(root, 'build/arm64');
const ADDON = join(BUILD, 'omerta.node');
const PREBUILT = 'prebuilds/linux-arm64';

await main(async () => {
  const { values } = readArguments(HELP, {
    prebuild: { type: 'boolean', default: false },
    'compile-only': { type: 'boolean', default: false },
  });
  const compileOnly = values['compile-only'];
  await setup(['build', 'arm64', ...(compileOnly ? [] : ['emulator'])]);
  // With --compile-only, a compilation that could not be done is a failure and not a skipped step.
  const skipped = (reason) => {
    warn(`${compileOnly ? 'failed' : 'skipped'}: ${reason}`);
    return compileOnly ? 1 : 0;
  };
  if (!hasProgram('aarch64-linux-gnu-g++') || !hasProgram('apt-get'))
    return skipped(
      'no cross compiler for arm64 here. As root on Debian: apt-get install g++-aarch64-linux-gnu',
    );
  try {
    await prepareSysroot();
  } catch (error) {
    if (!(error instanceof StepFailed)) throw error;
    return skipped('the arm64 packages cannot be downloaded here');
  }
  await step('arm64: addon, tests, BPF', async (say) => {
    const modules = join(root, 'node_modules');
    const configure = [
      ...['-S', root, '-B', BUILD],
      ...(hasProgram('ninja') ? ['-G', 'Ninja'] : []),
      `-DCMAKE_TOOLCHAIN_FILE=${join(root, 'native/toolchains/aarch64-linux-gnu.cmake')}`,
      `-DOMERTA_SYSROOT=${SYSROOT}`,
      `-DCMAKE_JS_INC=${modules}/node-api-headers/include;${modules}/node-addon-api`,
    ];
    await quietly('arm64', 'cmake', configure, { say });
    const parallel = ['--parallel', String(availableParallelism())];
    await quietly('arm64', 'cmake', ['--build', BUILD, ...parallel], { say, append: true });
    const header = output('readelf', ['-h', ADDON]) ?? '';
    if (!header.includes('AArch64')) throw new Error('build/arm64/omerta.node is not an arm64 library');
    // Without type information of a kernel there is nothing to compile BPF programs against.
    const wanted = existsSync('/sys/kernel/btf/vmlinux');
    const bpf = output('readelf', ['-h', join(BUILD, 'xdp/generated/relay.bpf.o')]) ?? '';
    if (wanted && !(bpf.includes('BPF') && existsSync(join(BUILD, 'omerta_xdp.node'))))
      throw new Error('the kernel path was left out: build/logs/arm64.log says what is missing');
  });
  if (values.prebuild) {
    await step(PREBUILT, () => putPrebuilt(BUILD, PREBUILT, 'aarch64-linux-gnu-strip'));
  }
  if (compileOnly) return 0;
  if (!hasProgram('qemu-aarch64-static')) {
    warn('arm64 tests skipped: no emulator (apt-get install qemu-user-static)');
    return 0;
  }
  await step('arm64: native tests under emulation', async (say) => {
    // The emulator has no bpf(2), no SO_MEMINFO, no socket filters that steer and no time stamps of
    // receipt, and a flood at emulated speed is none: those tests are the host's.
    const hosts = 'bpf|xdp|strangers|flood|^udp_test|^engine_|^workers_test|^stack_interop_test';
    const args = ['--test-dir', BUILD, '--output-on-failure', '--timeout', '120', '-E', hosts];
    await quietly('arm64-tests', 'ctest', args, { say });
    return 'without the flood, and those of BPF programs and sockets';
  });
});
