// A guest machine with Debian's kernel, which has a WireGuard of its own: QEMU without a hypervisor, so that
// it runs wherever QEMU does. Emulated it is slow: a place for interoperability, not for speed. Its image, its agent
// and QEMU's command line are those of a provider (ts/provider).
//
//   world's switch ── eth0 ┌ gate ┐ tap0 ── guest eth0
//   a member's engine ── unix socket ── guest eth0

import type { ChildProcess } from 'node:child_process';
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Writable, type Duplex } from 'node:stream';
import { setTimeout } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { DEFAULT_GUEST_MAC } from '../contract/guest-control.js';
import {
  findGuestImage,
  imageUnavailable,
  NETWORK_SCRIPT,
  type GuestImage,
} from '../provider/image/guest-image.js';
import { initramfs, type FileEntry } from '../provider/image/initramfs.js';
import { GuestAgent } from '../provider/machine/guest-agent.js';
import { LastWords } from '../provider/machine/last-words.js';
import { FD, qemuArguments } from '../provider/machine/qemu-arguments.js';
import { QEMU } from '../provider/machine/qemu-host.js';
import { asOrdinaryUser } from './ordinary-user.js';
import { labUnavailable } from './requirements.js';
import type { Node, World } from './world.js';

/** Where `npm test` has the image made (scripts/lib/guest-image.mjs). */
export const GUEST_IMAGES = fileURLToPath(new URL('../../../build/guest', import.meta.url));
const BOOT_TIMEOUT_MS = 90_000;
const HARDWARE = { accelerator: 'tcg', cpus: 1, memoryMiB: 256 } as const;
const TAP = 'tap,ifname=tap0,script=no,downscript=no';

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

/** The image there is for tests; or why there is none. */
export function guestImageOfTests(): GuestImage | string {
  const unavailable = imageUnavailable();
  if (unavailable !== undefined) return unavailable;
  return findGuestImage(GUEST_IMAGES) ?? 'there is no image for guest machines: npm test makes it, with apt';
}

/** Why a guest cannot be tried here; undefined when it can. Whether it boots, only booting tells. */
export function guestUnavailable(): string | undefined {
  const missing = labUnavailable([QEMU, 'busybox', 'wg', 'ldd']);
  if (missing !== undefined) return missing;
  const image = guestImageOfTests();
  return typeof image === 'string' ? image : undefined;
}

/** A writer that keeps what it is given. */
function keeping(parts: Buffer[]): Writable {
  return new Writable({
    write(chunk: Buffer, _encoding, done) {
      parts.push(Buffer.from(chunk));
      done();
    },
  });
}

export class Guest {
  private constructor(
    /** Its first address in the world, or its address in the mesh. */
    readonly address: string,
    /** Whose namespace QEMU is in. */
    readonly host: Node,
    private readonly machine: ChildProcess,
    private readonly agent: GuestAgent,
    private readonly said: LastWords,
  ) {}

  /**
   * Boots a guest in this world; world.remove() ends it. Resolves to the reason when it does not come
   * up, with the end of what its kernel said.
   */
  static async boot(world: World): Promise<Guest | string> {
    const gate = await world.addNode('gate');
    await gate.ip(
      'address flush dev eth0',
      'tuntap add dev tap0 mode tap',
      'link add bridge type bridge',
      'link set eth0 master bridge',
      'link set tap0 master bridge',
      'link set tap0 up',
      'link set bridge up',
    );
    const guest = await Guest.start(world, gate, gate.address, TAP, wgFiles());
    if (typeof guest === 'string') return guest;
    await guest.sh(
      'for module in /modules/wireguard/*; do insmod $module; done\n' +
        `ip link set eth0 up && ip address add ${gate.address}/24 dev eth0`,
    );
    return guest;
  }

  /**
   * Boots one whose network device is a member's: as a user without rights, in a namespace without any interface. It asks for its
   * IPv4 address, and is given its IPv6 address by hand: busybox has no client of DHCPv6.
   * @param socket where the member's engine takes it
   */
  static async bootInMesh(
    world: World,
    socket: string,
    { ipv4, ipv6 }: { readonly ipv4: string; readonly ipv6: string },
  ): Promise<Guest | string> {
    const host = await world.addBareNode('provider');
    const netdev = `stream,server=off,addr.type=unix,addr.path=${socket}`;
    const guest = await Guest.start(world, host, ipv4, netdev, [], asOrdinaryUser);
    if (typeof guest === 'string') return guest;
    await guest.sh(`${NETWORK_SCRIPT} ${ipv6}`);
    return guest;
  }

  /** @param more files beside those of the image. `through`: what starts QEMU */
  private static async start(
    world: World,
    host: Node,
    address: string,
    netdev: string,
    more: readonly FileEntry[],
    through: readonly string[] = [],
  ): Promise<Guest | string> {
    const image = guestImageOfTests();
    if (typeof image === 'string') return image;
    const root = join(world.folder, 'guest-initramfs');
    // A kernel unpacks one archive after the other.
    writeFileSync(root, Buffer.concat([readFileSync(image.initramfs), initramfs(more)]));
    const files = [image.kernel, root].map((file) => openSync(file, 'r'));
    const hardware = { ...HARDWARE, network: { netdev, mac: DEFAULT_GUEST_MAC } };
    const [file = QEMU, ...args] = [...through, QEMU, ...qemuArguments(hardware)];
    const machine = host.spawn(file, args, {
      stdio: ['ignore', 'ignore', 'inherit', 'pipe', 'pipe', 'pipe', ...files],
    });
    files.forEach(closeSync);
    const stream = (fd: number): Duplex => machine.stdio[fd] as Duplex;
    const agent = new GuestAgent(stream(FD.command));
    const guest = new Guest(address, host, machine, agent, new LastWords(stream(FD.console)));
    return (await guest.isUp()) ? guest : `the guest did not come up: ${guest.lastWords()}`;
  }

  /** Ends it as a crash would. */
  async kill(): Promise<void> {
    if (this.machine.exitCode !== null || this.machine.signalCode !== null) return;
    const gone = once(this.machine, 'exit');
    this.machine.kill('SIGKILL');
    await gone;
  }

  private async isUp(): Promise<boolean> {
    const late = new AbortController();
    const up = await Promise.race([
      this.agent.ready.then(
        () => true,
        () => false,
      ),
      setTimeout(BOOT_TIMEOUT_MS, false, { signal: late.signal }),
    ]);
    late.abort();
    return up && this.machine.exitCode === null;
  }

  private lastWords(): string {
    return this.said.lines || 'its kernel said nothing';
  }

  /** Runs shell commands in the guest and resolves to what they print. @throws Error when they fail */
  async sh(commands: string): Promise<string> {
    const parts: Buffer[] = [];
    const printed = keeping(parts);
    const { status } = await this.agent.run({
      words: ['sh', '-c', `exec 2>&1\n${commands}`],
      output: printed,
      errors: printed,
    });
    const text = Buffer.concat(parts).toString('utf8');
    if (status === 0) return text;
    throw new Error(`in the guest: ${commands}\n${text.trim() || this.lastWords()}`);
  }
}
