// mkdir -p. That of Node.js goes on for ever where a folder that is there takes none, as /proc does and whatever is
// mounted when it is asked for (autofs).

import { mkdirSync, statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { systemErrorCode } from './operator-error.js';

/**
 * Makes a folder and those it is in.
 * @param mode of each that is made
 * @returns the first that was made; undefined when all were there
 * @throws the error of the first that cannot be made
 */
export function makeFolders(path: string, mode = 0o777): string | undefined {
  const wanted = resolve(path);
  try {
    mkdirSync(wanted, { mode });
    return wanted;
  } catch (error) {
    if (isFolder(wanted)) return undefined;
    const parent = dirname(wanted);
    if (systemErrorCode(error) !== 'ENOENT' || isFolder(parent)) throw error;
    const first = makeFolders(parent, mode);
    return makeFolders(wanted, mode) === undefined ? first : (first ?? wanted);
  }
}

const isFolder = (path: string): boolean => {
  try {
    return statSync(path).isDirectory();
  } catch {
    return false;
  }
};
