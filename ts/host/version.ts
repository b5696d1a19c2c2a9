// The version in package.json, found from wherever this file was emitted to.

import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The installation's root: the nearest directory above with a package.json. */
export function packageRoot(from = dirname(fileURLToPath(import.meta.url))): string {
  for (let directory = from; ; directory = dirname(directory)) {
    try {
      readFileSync(join(directory, 'package.json'));
      return directory;
    } catch {
      if (directory === dirname(directory)) throw new Error('package.json: not found above the program');
    }
  }
}

export const VERSION: string = (
  JSON.parse(readFileSync(join(packageRoot(), 'package.json'), 'utf8')) as { version: string }
).version;
