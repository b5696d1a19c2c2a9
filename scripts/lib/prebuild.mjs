// Puts the modules of a build, without debug information, where a package carries them.

import { copyFileSync, existsSync, mkdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { quietly } from './command.mjs';
import { root } from './paths.mjs';

/**
 * The engine, the helper of private networks, the agent of guest machines, and the kernel path where the build has it: it
 * is a module of its own, for libbpf's sake.
 */
const MODULES = ['omerta.node', 'omerta-namespace', 'omerta-agent', 'omerta_xdp.node'];

/** Copies from a build's folder to one under prebuilds/; resolves to what was copied. */
export async function putPrebuilt(build, folder, strip) {
  const target = join(root, folder);
  mkdirSync(target, { recursive: true });
  const sizes = [];
  for (const name of MODULES.filter((each) => existsSync(join(build, each)))) {
    copyFileSync(join(build, name), join(target, name));
    await quietly('prebuild', strip, ['--strip-unneeded', join(target, name)]);
    sizes.push(`${name} ${Math.round(statSync(join(target, name)).size / 1024)} KiB`);
  }
  return sizes.join(', ');
}
