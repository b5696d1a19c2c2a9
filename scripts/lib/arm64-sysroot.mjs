// Headers and libraries of Debian for arm64, unpacked beside the tree: the host's own dpkg is not
// told of a second architecture.

import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { quietly } from './command.mjs';
import { root } from './paths.mjs';
import { isCurrent, setCurrent } from './stamp.mjs';
import { step, unchanged } from './steps.mjs';

export const SYSROOT = join(root, 'build/arm64-sysroot');

const PACKAGES = [
  'libssl-dev',
  'libssl3',
  'libsodium-dev',
  'libsodium23',
  'libbpf-dev',
  'libbpf1',
  'libelf-dev',
  'libelf1',
  'zlib1g-dev',
  'zlib1g',
  'liburing-dev',
  'liburing2',
  'nlohmann-json3-dev',
];

/** Downloads and unpacks the arm64 packages once; throws when apt cannot. */
export async function prepareSysroot() {
  const title = 'arm64 headers and libraries';
  const wanted = PACKAGES.join(' ');
  if (isCurrent('arm64-sysroot', wanted, ['build/arm64-sysroot/usr/include'])) return unchanged(title);
  await step(title, async (say) => {
    // apt drops its privileges to download, and its user cannot enter everybody's home.
    const state = mkdtempSync(join(tmpdir(), 'omerta-arm64-'));
    try {
      for (const folder of ['lists/partial', 'cache/archives/partial'])
        mkdirSync(join(state, folder), { recursive: true });
      writeFileSync(join(state, 'status'), '');
      const options = [
        'APT::Architecture=arm64',
        'APT::Architectures=arm64',
        `Dir::State=${state}`,
        `Dir::State::status=${join(state, 'status')}`,
        `Dir::Cache=${join(state, 'cache')}`,
        'APT::Sandbox::User=root',
      ].flatMap((option) => ['-o', option]);
      await quietly('arm64-sysroot', 'apt-get', [...options, 'update'], { say });
      const log = { say, append: true };
      await quietly('arm64-sysroot', 'apt-get', [...options, 'download', ...PACKAGES], {
        ...log,
        cwd: state,
      });
      rmSync(SYSROOT, { recursive: true, force: true });
      mkdirSync(SYSROOT, { recursive: true });
      for (const file of readdirSync(state).filter((name) => name.endsWith('.deb')))
        await quietly('arm64-sysroot', 'dpkg-deb', ['-x', join(state, file), SYSROOT], log);
    } finally {
      rmSync(state, { recursive: true, force: true });
    }
    setCurrent('arm64-sysroot', wanted);
  });
}
