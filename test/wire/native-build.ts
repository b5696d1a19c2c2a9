// Where the compiled C++ and BPF tests are, and why one cannot be run.

import { existsSync } from 'node:fs';
import { join } from 'node:path';

const BUILD = process.env['OMERTA_NATIVE_BUILD'] ?? 'build/native';

/** The path of a program of the native build, or the reason there is none. */
export function nativeProgram(path: string): { readonly file: string } | { readonly missing: string } {
  const file = join(BUILD, path);
  return existsSync(file) ? { file } : { missing: `${file} is not built; run: npm run build` };
}
