// The system packages of Debian and its descendants that this project uses, and how they get there.

import { output, hasProgram, quietly } from './command.mjs';
import { step, warn } from './steps.mjs';

export const PACKAGES = {
  /** What the addon, the BPF objects and the native tests are built with. */
  build: [
    'build-essential',
    'cmake',
    'ninja-build',
    'pkg-config',
    'clang',
    'lld',
    'llvm',
    'libbpf-dev',
    'bpftool',
    'libsodium-dev',
    'libssl-dev',
    'libipsec-mb-dev',
    'libipsec-mb1',
    'liburing-dev',
    'nlohmann-json3-dev',
  ],
  /** What tests and the lab need beside that: fuzzing runtime, networks in namespaces, formatters. */
  lab: [
    'libclang-rt-14-dev',
    'nftables',
    'iproute2',
    'iperf3',
    'iputils-ping',
    'bind9-dnsutils',
    'ethtool',
    'wireguard-go',
    'wireguard-tools',
    'clang-format',
    'bpftrace',
    'tcpdump',
    'miniupnpd-nftables',
    'procps',
    'valgrind',
  ],
  /** What boots a guest machine; what is in it is downloaded beside (ts/provider/image). */
  guest: ['qemu-system-x86', 'busybox-static'],
  /** What `npm run build:arm64` compiles with, and what it runs the tests in. */
  arm64: ['g++-aarch64-linux-gnu'],
  emulator: ['qemu-user-static'],
};

const PURPOSE = {
  build: 'the native engine',
  lab: 'tests and the lab',
  guest: 'the guest machine',
  arm64: 'arm64',
  emulator: 'tests of the arm64 build',
};

/** Those of `names` that dpkg does not know as installed. */
function missing(names) {
  // dpkg-query fails when one name is unknown, and still prints the others: the status is ignored.
  const printed = output('sh', [
    '-c',
    'dpkg-query -W -f "\\${db:Status-Status} \\${Package}\\n" "$@" 2>/dev/null; true',
    'sh',
    ...names,
  ]);
  const installed = new Set(
    (printed ?? '')
      .split('\n')
      .filter((line) => line.startsWith('installed '))
      .map((line) => line.slice(10)),
  );
  return names.filter((name) => !installed.has(name));
}

/** Those of `names` that apt could install; a newer release may have renamed one. */
function available(names) {
  const policy = output('apt-cache', ['policy', ...names]) ?? '';
  const known = new Set();
  let current = '';
  for (const line of policy.split('\n')) {
    if (/^\S+:$/.test(line)) current = line.slice(0, -1);
    else if (/^ {2}Candidate: /.test(line) && !line.endsWith('(none)')) known.add(current);
  }
  return names.filter((name) => known.has(name));
}

/**
 * Installs what is missing of the given groups when this is root on a system with apt; otherwise
 * says which command would. Never fails: what can run without them runs.
 */
export async function systemPackages(groups) {
  if (!hasProgram('dpkg-query') || !hasProgram('apt-get')) {
    if (!canCompile())
      warn(`no apt here; for ${PURPOSE.build} install the equivalents of: ${PACKAGES.build.join(' ')}`);
    return;
  }
  for (const group of groups) {
    const names = missing(PACKAGES[group]);
    if (names.length === 0) continue;
    if (process.getuid() !== 0) {
      warn(
        `for ${PURPOSE[group]} these packages are missing. Type: sudo apt-get install --no-install-recommends ${names.join(' ')}`,
      );
      continue;
    }
    await step(`system packages for ${PURPOSE[group]}`, async (say) => {
      const env = { DEBIAN_FRONTEND: 'noninteractive' };
      await quietly('apt', 'apt-get', ['update'], { env, say });
      const wanted = available(names);
      if (wanted.length > 0) {
        const args = ['install', '-y', '--no-install-recommends', ...wanted];
        await quietly('apt', 'apt-get', args, { env, say, append: true });
      }
      const unknown = names.filter((name) => !wanted.includes(name));
      return [wanted.join(' '), unknown.length > 0 ? `not known to apt here: ${unknown.join(' ')}` : '']
        .filter(Boolean)
        .join('; ');
    }).catch(() => warn(`going on without them; what needs them is skipped`));
  }
}

/** Whether the native part can be compiled on this machine. */
export function canCompile() {
  return hasProgram('c++') && hasProgram('cmake') && (hasProgram('ninja') || hasProgram('make'));
}
