// The native part: CMake driven by cmake-js (headers from node-api-headers) into build/native.

import { existsSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { output, quietly } from './command.mjs';
import { root } from './paths.mjs';
import { fingerprint, isCurrent, setCurrent } from './stamp.mjs';
import { ScriptError, step, unchanged, warn } from './steps.mjs';
import { canCompile } from './system-packages.mjs';

/** Where CMake puts the addon, and where a package carries one (the layout node-gyp-build loads). */
export const ADDON = 'build/native/omerta.node';
export const PREBUILT = `prebuilds/${process.platform}-${process.arch}/omerta.node`;

/** Whether the addon at `path` exists and Node can load it; tried in a process of its own. */
export function loads(path) {
  if (!existsSync(join(root, path))) return false;
  return output(process.execPath, ['-e', `require(${JSON.stringify(join(root, path))})`]) !== undefined;
}

/**
 * Builds the addon and the BPF objects, with the native tests when `tests` is set. Resolves to
 * whether a native engine is there; without one the WASM engine carries the packets. Throws
 * when `required`.
 */
export async function buildNative({ tests = false, required = false } = {}) {
  const title = tests ? 'native engine and its tests' : 'native engine';
  const sources = fingerprint(['CMakeLists.txt', 'native', 'xdp', 'bench/native'], process.version);
  const current = (kind) => isCurrent('native', `${sources} ${kind}`, [ADDON]);
  if (current('with tests') || (!tests && current('addon'))) {
    unchanged(title);
    return true;
  }
  // A tree that was never built here uses the binary it came with; a developer's tree builds its own.
  if (!tests && !existsSync(join(root, 'build/native')) && loads(PREBUILT)) {
    unchanged(`${title} (${PREBUILT})`);
    return true;
  }
  if (!canCompile()) {
    const text = 'no C++ compiler or no CMake: the slower WASM engine will carry the packets';
    if (required) throw new ScriptError(text);
    warn(text);
    return false;
  }
  try {
    await step(title, async (say) => {
      const cmakeJs = join(root, 'node_modules/cmake-js/bin/cmake-js');
      const options = [
        '--out',
        'build/native',
        '--config',
        'Release',
        `--CDOMERTA_TESTS=${tests ? 'ON' : 'OFF'}`,
      ];
      // cmake-js's own `build` configures a new folder only, and would not see a changed option.
      await quietly('native', process.execPath, [cmakeJs, 'configure', ...options], { say });
      const parallel = ['--parallel', String(availableParallelism())];
      await quietly('native', process.execPath, [cmakeJs, 'build', ...parallel, ...options], {
        say,
        append: true,
      });
      if (!loads(ADDON)) throw new Error(`the addon was built, but Node cannot load ${ADDON}`);
      setCurrent('native', `${sources} ${tests ? 'with tests' : 'addon'}`);
    });
    return true;
  } catch (error) {
    if (required) throw error;
    warn('the native engine could not be built: the slower WASM engine will carry the packets');
    return loads(ADDON);
  }
}
