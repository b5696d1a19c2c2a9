// The modules of a Debian kernel: which a module needs, and so the order in which they are loaded.

import { readFileSync } from 'node:fs';
import { basename } from 'node:path';

/** `virtio-net.ko` and `virtio_net.ko` are one module. */
const moduleName = (file: string): string => basename(file, '.ko').replaceAll('-', '_');

/** What a module asks for in its .modinfo section. */
function dependenciesOf(file: string): string[] {
  const found = /\0depends=([^\0]*)\0/.exec(readFileSync(file, 'latin1'))?.[1] ?? '';
  return found === '' ? [] : found.split(',').map((name) => name.replaceAll('-', '_'));
}

/**
 * The files of `wanted` and of all they depend on, each after what it needs.
 * @param files every module file there is
 * @throws Error when one is not among them
 */
export function loadingOrder(wanted: readonly string[], files: readonly string[]): string[] {
  const byName = new Map(files.map((file) => [moduleName(file), file]));
  const order = new Set<string>();
  const visit = (name: string): void => {
    const file = byName.get(name);
    if (file === undefined) throw new Error(`the kernel has no module ${name}`);
    if (order.has(file)) return;
    for (const needed of dependenciesOf(file)) visit(needed);
    order.add(file);
  };
  for (const name of wanted) visit(name);
  return [...order];
}
