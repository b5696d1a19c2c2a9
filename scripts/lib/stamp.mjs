// Up-to-date checks: a step is repeated only when the files it reads changed since it last succeeded.

import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { root } from './paths.mjs';

function walk(path, visit) {
  const stat = statSync(path, { throwIfNoEntry: false });
  if (stat === undefined) return;
  if (!stat.isDirectory()) return visit(path, stat);
  for (const name of readdirSync(path).sort()) walk(join(path, name), visit);
}

/** Every file under the given paths (relative to the root) that `accept` takes; absolute names. */
export function filesUnder(paths, accept = () => true) {
  const found = [];
  for (const path of paths) walk(join(root, path), (file) => accept(file) && found.push(file));
  return found;
}

/** A hash over names, sizes and modification times of all files under `paths`, and over `extra`. */
export function fingerprint(paths, extra = '') {
  const hash = createHash('sha256').update(extra);
  for (const path of paths) {
    walk(join(root, path), (file, stat) => hash.update(`${file}\0${stat.size}\0${stat.mtimeMs}\n`));
  }
  return hash.digest('hex');
}

/** A hash over one file's content. */
export function contentHash(path) {
  return createHash('sha256')
    .update(readFileSync(join(root, path)))
    .digest('hex');
}

/** Whether step `name` last succeeded with this value and its `outputs` still exist. */
export function isCurrent(name, value, outputs) {
  const file = join(root, 'build/stamps', name);
  if (!existsSync(file) || readFileSync(file, 'utf8') !== value) return false;
  return outputs.every((path) => existsSync(join(root, path)));
}

/** Records that step `name` succeeded with this value. */
export function setCurrent(name, value) {
  const file = join(root, 'build/stamps', name);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, value);
}
