// The steps from sources to something that runs. Each is skipped when nothing it reads has changed.

import { existsSync, rmSync } from 'node:fs';
import { join, relative } from 'node:path';
import { quietly } from './command.mjs';
import { buildNative } from './native.mjs';
import { root } from './paths.mjs';
import { filesUnder, fingerprint, isCurrent, setCurrent } from './stamp.mjs';
import { step, unchanged } from './steps.mjs';

async function when(title, name, value, outputs, work) {
  if (isCurrent(name, value, outputs)) return unchanged(title);
  await step(title, work);
  setCurrent(name, value);
}

function buildWasm() {
  const value = fingerprint(['wasm', 'node_modules/assemblyscript/package.json']);
  return when('WASM engine', 'wasm', value, ['dist/wasm'], (say) => {
    const asc = join(root, 'node_modules/assemblyscript/bin/asc.js');
    return quietly('wasm', process.execPath, [asc, '--config', 'wasm/asconfig.json', '--target', 'release'], {
      say,
    });
  });
}

// tsc leaves the output of a deleted source behind, and a deleted test would go on running.
function removeOrphans() {
  for (const file of filesUnder(['dist/ts', 'dist/test', 'dist/bench'], (name) =>
    /\.js(\.map)?$/.test(name),
  )) {
    const source = relative(join(root, 'dist'), file).replace(/\.js(\.map)?$/, '.ts');
    if (!existsSync(join(root, source))) rmSync(file);
  }
}

export function buildTypeScript() {
  const inputs = ['ts', 'test', 'bench', 'tsconfig.json', 'package-lock.json'];
  const value = fingerprint(inputs);
  return when('TypeScript', 'typescript', value, ['dist/ts'], async (say) => {
    // tsc trusts its own record of what it emitted, even when dist/ is gone.
    if (!existsSync(join(root, 'dist/ts'))) rmSync(join(root, 'build/tsconfig.tsbuildinfo'), { force: true });
    await quietly(
      'typescript',
      process.execPath,
      [join(root, 'node_modules/typescript/bin/tsc'), '-p', '.'],
      { say },
    );
    removeOrphans();
  });
}

/** Builds everything; resolves to whether there is a native engine. */
export async function build({ nativeTests = false, nativeRequired = false } = {}) {
  const native = await buildNative({ tests: nativeTests, required: nativeRequired });
  await buildWasm();
  await buildTypeScript();
  return native;
}
