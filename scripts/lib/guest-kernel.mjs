// Debian's kernel for the guest machine of the lab: unpacked beside the tree, never installed. What the
// guest needs of it is its image and, in the order of loading, a few modules.

import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { hasProgram, output, quietly } from './command.mjs';
import { root } from './paths.mjs';
import { isCurrent, setCurrent } from './stamp.mjs';
import { step, unchanged, warn } from './steps.mjs';

/** Where ts/lab/guest.ts looks: `vmlinuz` and `modules/NN-NAME.ko`. */
const FOLDER = 'build/guest';
const META_PACKAGE = 'linux-image-cloud-amd64';
const WANTED = ['virtio_pci', 'virtio_net', 'wireguard'];

const moduleName = (file) => basename(file, '.ko').replaceAll('-', '_');

/** What a module asks for in its .modinfo section. */
function dependenciesOf(file) {
  const found = /\0depends=([^\0]*)\0/.exec(readFileSync(file, 'latin1'))?.[1] ?? '';
  return found === '' ? [] : found.split(',').map((name) => name.replaceAll('-', '_'));
}

/** The files of `wanted` and of all they depend on, each after what it needs. */
function loadingOrder(wanted, files) {
  const byName = new Map(files.map((file) => [moduleName(file), file]));
  const order = new Set();
  const visit = (name) => {
    const file = byName.get(name);
    if (file === undefined) throw new Error(`the kernel has no module ${name}`);
    if (order.has(file)) return;
    for (const needed of dependenciesOf(file)) visit(needed);
    order.add(file);
  };
  for (const name of wanted) visit(name);
  return [...order];
}

/** The package the meta package stands for at the moment, with its version in the name. */
function kernelPackage() {
  return /Depends: (linux-image-\S+)/.exec(output('apt-cache', ['depends', META_PACKAGE]) ?? '')?.[1];
}

/** Fetches it once. Never fails: without it, tests that need the guest are skipped and say so. */
export async function prepareGuestKernel() {
  const title = 'kernel of the guest machine';
  if (process.arch !== 'x64' || !hasProgram('apt-get') || !hasProgram('dpkg-deb')) return;
  const name = kernelPackage();
  if (name === undefined) {
    if (!existsSync(join(root, FOLDER, 'vmlinuz')))
      warn(`apt knows no ${META_PACKAGE}: the guest is skipped`);
    return;
  }
  if (isCurrent('guest-kernel', name, [`${FOLDER}/vmlinuz`])) return unchanged(title);
  await step(title, async (say) => {
    // apt drops its privileges to download, and its user cannot enter everybody's home.
    const state = mkdtempSync(join(tmpdir(), 'omerta-guest-'));
    try {
      const options = { say, cwd: state };
      await quietly('guest-kernel', 'apt-get', ['-o', 'APT::Sandbox::User=root', 'download', name], options);
      const [archive] = readdirSync(state);
      const tree = join(state, 'tree');
      await quietly('guest-kernel', 'dpkg-deb', ['-x', join(state, archive), tree], { say, append: true });
      const files = readdirSync(tree, { recursive: true }).map((file) => join(tree, file));
      const image = files.find((file) => basename(file).startsWith('vmlinuz-'));
      const modules = loadingOrder(
        WANTED,
        files.filter((file) => file.endsWith('.ko')),
      );
      const folder = join(root, FOLDER);
      rmSync(folder, { recursive: true, force: true });
      mkdirSync(join(folder, 'modules'), { recursive: true });
      modules.forEach((file, index) => {
        const place = String(index).padStart(2, '0');
        copyFileSync(file, join(folder, 'modules', `${place}-${basename(file)}`));
      });
      copyFileSync(image, join(folder, 'vmlinuz'));
      setCurrent('guest-kernel', name);
      return name;
    } finally {
      rmSync(state, { recursive: true, force: true });
    }
  }).catch(() => warn('going on without it; what needs the guest is skipped'));
}
