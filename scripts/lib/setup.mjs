// What a fresh clone lacks: system packages and node_modules.

import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { quietly } from './command.mjs';
import { root } from './paths.mjs';
import { ScriptError, step } from './steps.mjs';
import { systemPackages } from './system-packages.mjs';

/** Whether node_modules holds what package-lock.json asks for, whoever installed it. */
function nodeModulesCurrent() {
  const installed = 'node_modules/.package-lock.json';
  if (!existsSync(join(root, installed))) return false;
  const read = (path) => JSON.parse(readFileSync(join(root, path), 'utf8')).packages;
  const present = read(installed);
  // Optional packages are those of other platforms: npm leaves them out.
  return Object.entries(read('package-lock.json')).every(
    ([path, { version, optional }]) => path === '' || optional === true || present[path]?.version === version,
  );
}

/** Makes the tree ready to build. `groups`: which system packages are wanted, of 'build' and 'lab'. */
export async function setup(groups) {
  const [major, minor] = process.versions.node.split('.').map(Number);
  if (major < 20 || (major === 20 && minor < 17)) {
    throw new ScriptError(`Node ${process.versions.node} is too old: Omerta needs Node 20.17 or newer`);
  }
  await systemPackages(groups);
  if (nodeModulesCurrent()) return;
  // The addon is a step of its own (native.mjs); node-gyp, which would run it here, would empty build/.
  const args = ['ci', '--ignore-scripts', '--no-fund', '--no-audit'];
  await step('npm packages', (say) => quietly('npm-ci', 'npm', args, { say }));
}
