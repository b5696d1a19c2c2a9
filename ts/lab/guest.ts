// A guest machine with Debian's kernel, which has a WireGuard of its own: QEMU without a hypervisor, so that
// it runs wherever QEMU does. Emulated it is slow: a place for interoperability, not for speed.
//
//   world's switch ── eth0 ┌ gate ┐ tap0 ── guest eth0     shell commands: TCP port 2323 of the guest

import type { ChildProcess } from 'node:child_process';
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { initramfs, type FileEntry } from './initramfs.js';
import { labUnavailable } from './requirements.js';
import type { Node, World } from './world.js';

/** Filled by scripts/lib/guest-kernel.mjs. */
const KERNEL = fileURLToPath(new URL('../../../build/guest', import.meta.url));
const QEMU = 'qemu-system-x86_64';
const SHELL_PORT = 2323;
const BOOT_TIMEOUT_MS = 45_000;

const MACHINE = [
  // The parts left out are slow to look for; this combination boots every time without a hypervisor.
  ...['-M', 'q35,sata=off,smbus=off,i8042=off,usb=off,vmport=off', '-accel', 'tcg', '-cpu', 'Nehalem'],
  ...['-m', '256', '-nodefaults', '-display', 'none', '-monitor', 'none', '-no-reboot'],
  ...['-append', 'console=ttyS0 quiet panic=-1'],
  ...[
    '-netdev',
    'tap,id=n0,ifname=tap0,script=no,downscript=no',
    '-device',
    'virtio-net-pci,netdev=n0,romfile=',
  ],
];

/** `wg` and the libraries it was linked with, where its loader looks for them. */
function wgFiles(): FileEntry[] {
  const program = execFileSync('sh', ['-c', 'command -v wg'], { encoding: 'utf8' }).trim();
  const libraries = execFileSync('ldd', [program], { encoding: 'utf8' }).matchAll(/(\/\S+) \(0x/g);
  return [
    { path: 'bin/wg', content: readFileSync(program), mode: 0o755 },
    ...[...libraries].map(([, file = '']) => ({
      path: file.slice(1),
      content: readFileSync(file),
      mode: 0o755,
    })),
  ];
}

function rootFileSystem(address: string): Buffer {
  const modules = readdirSync(join(KERNEL, 'modules')).sort();
  const init = [
    '#!/bin/busybox sh',
    '/bin/busybox --install -s /bin',
    'export PATH=/bin',
    'mkdir -p /proc /sys /tmp',
    'mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev',
    ...modules.map((name) => `insmod /modules/${name}`),
    // Waits until the kernel has randomness: before that its WireGuard drops handshakes.
    'head -c 1 /dev/random > /dev/null',
    'ip link set lo up; ip link set eth0 up',
    `ip address add ${address}/24 dev eth0`,
    `exec nc -ll -p ${SHELL_PORT} -e /bin/sh`,
  ];
  return initramfs([
    { path: 'init', content: `${init.join('\n')}\n`, mode: 0o755 },
    { path: 'bin/busybox', content: readFileSync(inPath('busybox')), mode: 0o755 },
    ...wgFiles(),
    ...modules.map((name) => ({
      path: `modules/${name}`,
      content: readFileSync(join(KERNEL, 'modules', name)),
      mode: 0o644,
    })),
  ]);
}

function inPath(program: string): string {
  return execFileSync('sh', ['-c', `command -v ${program}`], { encoding: 'utf8' }).trim();
}

/** Why a guest cannot be tried here; undefined when it can. Whether it boots, only booting tells. */
export function guestUnavailable(): string | undefined {
  if (process.arch !== 'x64') return 'the guest machine is an x86-64 one';
  const missing = labUnavailable([QEMU, 'busybox', 'wg', 'ldd']);
  if (missing !== undefined) return missing;
  return existsSync(join(KERNEL, 'vmlinuz'))
    ? undefined
    : 'there is no kernel for the guest machine: npm test fetches it with apt';
}

export class Guest {
  private constructor(
    /** Its first address in the world, where it takes commands. */
    readonly address: string,
    private readonly desk: Node,
    private readonly machine: ChildProcess,
    private readonly consoleFile: string,
  ) {}

  /**
   * Boots a guest in this world; world.remove() ends it. Resolves to the reason when it does not come
   * up, with the end of what its kernel said.
   */
  static async boot(world: World): Promise<Guest | string> {
    const gate = await world.addNode('gate');
    const desk = await world.addNode('desk');
    await gate.ip(
      'address flush dev eth0',
      'tuntap add dev tap0 mode tap',
      'link add bridge type bridge',
      'link set eth0 master bridge',
      'link set tap0 master bridge',
      'link set tap0 up',
      'link set bridge up',
    );
    const consoleFile = join(world.folder, 'guest-console');
    const image = join(world.folder, 'guest-initramfs');
    writeFileSync(image, rootFileSystem(gate.address));
    const files = ['-kernel', join(KERNEL, 'vmlinuz'), '-initrd', image, '-serial', `file:${consoleFile}`];
    const machine = gate.spawn(QEMU, [...MACHINE, ...files], { stdio: ['ignore', 'ignore', 'inherit'] });
    const guest = new Guest(gate.address, desk, machine, consoleFile);
    return (await guest.isUp()) ? guest : `the guest did not come up: ${guest.lastWords()}`;
  }

  private async isUp(): Promise<boolean> {
    const deadline = performance.now() + BOOT_TIMEOUT_MS;
    while (performance.now() < deadline && this.machine.exitCode === null) {
      const { stdout } = await this.desk.run('busybox', ['nc', '-w', '2', this.address, String(SHELL_PORT)], {
        input: 'echo up; exit\n',
      });
      if (stdout === 'up\n') return true;
      await setTimeout(200);
    }
    return false;
  }

  private lastWords(): string {
    const said = existsSync(this.consoleFile) ? readFileSync(this.consoleFile, 'utf8').trim() : '';
    return said === '' ? 'its kernel said nothing' : said.split('\n').slice(-3).join(' | ');
  }

  /** Runs shell commands in the guest and resolves to what they print. @throws Error when they fail */
  async sh(commands: string): Promise<string> {
    const input = `( ${commands}\n) 2>&1\necho "exit code $?"\nexit\n`;
    const { stdout } = await this.desk.run('busybox', ['nc', '-w', '5', this.address, String(SHELL_PORT)], {
      input,
    });
    const match = /^([\s\S]*)exit code (\d+)\n$/.exec(stdout);
    if (match?.[2] === '0') return match[1] ?? '';
    throw new Error(`in the guest: ${commands}\n${stdout.trim() || this.lastWords()}`);
  }
}
