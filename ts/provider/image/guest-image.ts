// The image a guest boots from: Debian's kernel, busybox and this project's agent, made on first use and kept until one
// of them changes. Nothing of it is written to by a guest: its root is in its memory.
//
//   FOLDER/NAME/vmlinux         the kernel
//   FOLDER/NAME/initramfs       its root: /init (native/agent), busybox with its libraries, /modules/NN-NAME.ko, which init loads, and
//                               /modules/wireguard/NN-NAME.ko, which it does not
//   FOLDER/NAME/manifest.json   what it was made of
//   FOLDER/.making-…            one that is being made; it gets its name when it is whole

import { createHash } from 'node:crypto';
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { z } from 'zod';
import { writePrivate } from '../../daemon/state/state-directory.js';
import { addonPaths } from '../../engine/native/native-addon.js';
import { makeFolders } from '../../host/make-folders.js';
import { OperatorError, fileError, messageOf, systemErrorCode } from '../../host/operator-error.js';
import {
  candidates,
  imageError,
  listsChanged,
  unpackPackages,
  type DebianPackage,
  type Progress,
} from './debian-packages.js';
import { initramfs, type FileEntry } from './initramfs.js';
import { startableKernel } from './kernel-image.js';
import { loadingOrder } from './kernel-modules.js';

/** Another number makes every image anew: for a change of what is below. */
const RECIPE = 4;
/** The smallest of Debian's kernels; it stands for the one of the day, which it depends on. */
const KERNEL = 'linux-image-cloud-amd64';
/** Not the static one: with its libraries, programs of Debian that are piped into a guest run there as well. */
const BUSYBOX = 'busybox';
const LIBC = 'libc6';
const LOADER = 'ld-linux-x86-64.so.2';
const LIBRARIES = ['libc.so.6', 'libresolv.so.2', 'libm.so.6'];
const MODULES = ['virtio_pci', 'virtio_net', 'virtio_console'];
const WIREGUARD = ['wireguard'];

const PASSWD = 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n';
const GROUP = 'root:x:0:\nnogroup:x:65534:\n';
const HOSTS = '127.0.0.1 localhost\n::1 localhost\n';

/** What the host runs once a machine has a network device: `network IPV6-ADDRESS`. */
export const NETWORK_SCRIPT = '/etc/omerta/network';
/** IPv6's route comes by router advertisements; the rest by DHCP, renewed as long as the machine runs. */
const NETWORK = `#!/bin/sh
# Nobody else is on its link, and looking for one takes a second.
echo 0 > /proc/sys/net/ipv6/conf/eth0/accept_dad
ip link set eth0 up && ip -6 address add "$1/128" dev eth0 &&
  udhcpc -i eth0 -n -t 30 -T 1 -O staticroutes -O mtu -s /etc/omerta/lease > /tmp/udhcpc 2>&1 || {
  cat /tmp/udhcpc
  exit 1
}
`;
/** For udhcpc. A gateway that is on no prefix of the machine is reached by a route of its own (RFC 3442). */
const LEASE = `#!/bin/sh
case "$1" in
  deconfig) ip -4 address flush dev "$interface" ;;
  bound | renew)
    ip address replace "$ip/$mask" dev "$interface"
    [ -z "$mtu" ] || ip link set "$interface" mtu "$mtu"
    set -- $staticroutes
    while [ $# -ge 2 ]; do
      if [ "$2" = 0.0.0.0 ]; then ip route replace "$1" dev "$interface"
      else ip route replace "$1" via "$2" dev "$interface"; fi
      shift 2
    done
    for server in $dns; do echo "nameserver $server"; done > /etc/resolv.conf ;;
esac
`;

const MAKING = '.making-';
/** One that is this old was given up, by a process that is gone. */
const ABANDONED_MS = 60 * 60_000;

const MANIFEST = z.object({
  recipe: z.string(),
  /** What apt knew when it was last found to be the newest, in milliseconds. */
  lists: z.number(),
  packages: z.array(z.string()),
});
type Manifest = z.infer<typeof MANIFEST>;

export interface GuestImage {
  /** Its folder's name: of what it is made. */
  readonly name: string;
  readonly kernel: string;
  readonly initramfs: string;
  /** `name=version` of each package in it. */
  readonly packages: readonly string[];
}

/** Why no image can be made on this machine; undefined when it can, as far as can be told. */
export function imageUnavailable(): string | undefined {
  if (process.arch !== 'x64') return 'guest machines are x86-64 ones, and this is none';
  return agentPath() === undefined ? 'the agent omerta-agent is not built' : undefined;
}

/** `omerta-agent`, beside the addon. */
function agentPath(): string | undefined {
  return addonPaths.map((addon) => join(dirname(addon), 'omerta-agent')).find(existsSync);
}

const sha256 = (data: string | Buffer): string => createHash('sha256').update(data).digest('hex');

/** All there are in the folder, the newest first; what is no image is left out. */
function imagesIn(folder: string): (GuestImage & { readonly manifest: Manifest })[] {
  const names = existsSync(folder) ? readdirSync(folder).filter((name) => !name.startsWith('.')) : [];
  return names
    .flatMap((name) => {
      const file = join(folder, name, 'manifest.json');
      try {
        const manifest = MANIFEST.parse(JSON.parse(readFileSync(file, 'utf8')));
        return [{ ...imageAt(folder, name, manifest), manifest, made: statSync(file).mtimeMs }];
      } catch {
        return [];
      }
    })
    .sort((a, b) => b.made - a.made);
}

function imageAt(folder: string, name: string, { packages }: Manifest): GuestImage {
  const file = (of: string): string => join(folder, name, of);
  return { name, kernel: file('vmlinux'), initramfs: file('initramfs'), packages };
}

/** The image that would be used now, if it is there. */
export function findGuestImage(folder: string): GuestImage | undefined {
  const agent = agentPath();
  if (agent === undefined) return undefined;
  const recipe = recipeOf(readFileSync(agent));
  return imagesIn(folder).find(({ manifest }) => manifest.recipe === recipe);
}

const recipeOf = (agent: Buffer): string => `${RECIPE}-${sha256(agent).slice(0, 16)}`;

/**
 * The image of this folder that is made of the newest packages apt knows, made now if it is not there. One that is
 * there is used as well when a newer one cannot be made.
 * @throws OperatorError when there is none and none can be made
 */
export async function guestImage(folder: string, say: Progress): Promise<GuestImage> {
  const unavailable = imageUnavailable();
  if (unavailable !== undefined) throw imageError(unavailable, 'Type: npm run build, on an x86-64 machine');
  const agent = readFileSync(agentPath() ?? '');
  const recipe = recipeOf(agent);
  const lists = listsChanged() ?? 0;
  const found = imagesIn(folder).find(({ manifest }) => manifest.recipe === recipe);
  if (found?.manifest.lists === lists) return found;
  try {
    const [kernelName] = (await candidates([KERNEL])).flatMap(({ depends }) => depends);
    const packages = await candidates([kernelName ?? KERNEL, BUSYBOX, LIBC]);
    const manifest = { recipe, lists, packages: packages.map(({ name, version }) => `${name}=${version}`) };
    const name = sha256(JSON.stringify([recipe, manifest.packages])).slice(0, 16);
    if (existsSync(join(folder, name, 'manifest.json'))) writeManifest(join(folder, name), manifest);
    else await make(folder, name, manifest, packages, agent, say);
    return imageAt(folder, name, manifest);
  } catch (error) {
    if (found === undefined) throw error;
    say(`a newer guest image cannot be made (${messageOf(error)}); the one that is there is used`);
    return found;
  }
}

function writeManifest(folder: string, manifest: Manifest): void {
  const text = `${JSON.stringify(manifest, null, 2)}\n`;
  writePrivate('guest image', join(folder, 'manifest.json'), text, 'replace');
}

async function make(
  folder: string,
  name: string,
  manifest: Manifest,
  packages: readonly DebianPackage[],
  agent: Buffer,
  say: Progress,
): Promise<void> {
  try {
    makeFolders(folder, 0o700);
    removeAbandoned(folder);
    const place = mkdtempSync(join(folder, MAKING));
    try {
      const tree = join(place, 'tree');
      await unpackPackages(packages, place, tree, say);
      say('putting kernel and initramfs together');
      const made = join(place, 'image');
      mkdirSync(made);
      // Whoever runs a guest may read them, by a descriptor: they are no secret, and their folder is closed.
      const put = (file: string, content: Buffer): void => {
        writeFileSync(join(made, file), content, { flush: true });
        chmodSync(join(made, file), 0o644); // whatever the umask
      };
      const { kernel, files } = contents(tree, agent);
      put('vmlinux', kernel);
      put('initramfs', initramfs(files));
      writeManifest(made, manifest);
      moveTo(made, join(folder, name));
    } finally {
      rmSync(place, { recursive: true, force: true });
    }
    for (const old of imagesIn(folder).slice(2))
      rmSync(join(folder, old.name), { recursive: true, force: true });
  } catch (error) {
    if (error instanceof OperatorError) throw error;
    if (systemErrorCode(error) !== undefined) throw fileError('guest image', folder, error);
    throw imageError(messageOf(error), 'Type: sudo apt-get update, and try again');
  }
}

/** Another process may have made the same meanwhile: one is as good as the other. */
function moveTo(made: string, target: string): void {
  try {
    renameSync(made, target);
  } catch (error) {
    if (!existsSync(join(target, 'manifest.json'))) throw error;
  }
}

function removeAbandoned(folder: string): void {
  for (const name of readdirSync(folder).filter((each) => each.startsWith(MAKING))) {
    const place = join(folder, name);
    const made = statSync(place, { throwIfNoEntry: false })?.mtimeMs ?? 0;
    if (Date.now() - made > ABANDONED_MS) rmSync(place, { recursive: true, force: true });
  }
}

/** The kernel, and what its root has in it. */
function contents(tree: string, agent: Buffer): { readonly kernel: Buffer; readonly files: FileEntry[] } {
  const unpacked = readdirSync(tree, { recursive: true, encoding: 'utf8' }).map((file) => join(tree, file));
  const kernel = unpacked.find((file) => basename(file).startsWith('vmlinuz-'));
  const busybox = unpacked.find((file) => file.endsWith('bin/busybox'));
  if (kernel === undefined || busybox === undefined)
    throw new Error(`${KERNEL} or ${BUSYBOX} is not as it was`);
  const modules = unpacked.filter((file) => file.endsWith('.ko'));
  const first = loadingOrder(MODULES, modules);
  const later = loadingOrder(WIREGUARD, modules).filter((file) => !first.includes(file));
  const library = (file: string): string => join(tree, 'lib/x86_64-linux-gnu', file);
  // By its own loader and libraries, whatever this host has.
  const words = ['--library-path', dirname(library(LOADER)), busybox, '--list-full'];
  const applets = execFileSync(library(LOADER), words, { encoding: 'utf8' }).split('\n').filter(Boolean);
  const text = (path: string, content: string): FileEntry => ({ path, content, mode: 0o644 });
  return {
    kernel: startableKernel(readFileSync(kernel)),
    files: [
      { path: 'init', content: agent, mode: 0o755 },
      { path: 'bin/busybox', content: readFileSync(busybox), mode: 0o755 },
      { path: `lib64/${LOADER}`, content: readFileSync(library(LOADER)), mode: 0o755 },
      ...LIBRARIES.map((file) => ({
        path: `lib/x86_64-linux-gnu/${file}`,
        content: readFileSync(library(file)),
        mode: 0o755,
      })),
      ...applets
        .filter((path) => path !== 'bin/busybox')
        .map((path) => ({ path, content: '/bin/busybox', mode: 'symlink' as const })),
      ...[text('etc/passwd', PASSWD), text('etc/group', GROUP), text('etc/hosts', HOSTS)],
      text('root/.profile', ''),
      { path: NETWORK_SCRIPT.slice(1), content: NETWORK, mode: 0o755 },
      { path: 'etc/omerta/lease', content: LEASE, mode: 0o755 },
      ...moduleEntries('modules', first),
      ...moduleEntries('modules/wireguard', later),
    ],
  };
}

/** In the order of loading, by their names. */
function moduleEntries(folder: string, files: readonly string[]): FileEntry[] {
  return files.map((file, index) => ({
    path: `${folder}/${String(index).padStart(2, '0')}-${basename(file)}`,
    content: readFileSync(file),
    mode: 0o644,
  }));
}
