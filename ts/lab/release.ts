// Another release of the program, as an upgrade installs it: a folder of its own with everything in it, whose
// kernel path is another build (xdp/CMakeLists.txt).

import { cpSync, existsSync, mkdirSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../host/version.js';

/** The same tables with another program, and other tables. */
export type Release = 'next-build' | 'next-layout';

const moduleOf = (release: Release): string =>
  join(packageRoot(), 'build', 'native', 'xdp', release, 'omerta_xdp.node');

/** Why no release can be installed here. */
export function releasesUnavailable(): string | undefined {
  return existsSync(moduleOf('next-build')) && existsSync(moduleOf('next-layout'))
    ? undefined
    : 'the other releases are not built (npm run build)';
}

/** @param folder is made. @returns it */
export function installRelease(release: Release, folder: string): string {
  // Copies: what imports is found by where the importing file really is.
  for (const part of ['package.json', 'bin', 'dist/ts', 'dist/wasm', 'dist/bench'])
    cpSync(join(packageRoot(), part), join(folder, part), { recursive: true });
  symlinkSync(join(packageRoot(), 'node_modules'), join(folder, 'node_modules'));
  const modules = join(folder, 'build', 'native');
  mkdirSync(modules, { recursive: true });
  symlinkSync(join(packageRoot(), 'build', 'native', 'omerta.node'), join(modules, 'omerta.node'));
  symlinkSync(moduleOf(release), join(modules, 'omerta_xdp.node'));
  return folder;
}
