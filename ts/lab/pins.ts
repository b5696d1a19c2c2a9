// What a killed relay leaves pinned in the machine's bpf file system outlives its namespace, and another
// namespace may get the same inode number. (A world may have a bpf file system of its own, bpf-mount.ts.)

import { readdirSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { Namespace } from './namespace.js';

const MACHINE = '/sys/fs/bpf';

/** Folders a relay in the namespace has pinned things in (native/xdp/pins.h). */
export function pinsOf({ name, bpf }: Pick<Namespace, 'name' | 'bpf'>): string[] {
  const root = join(bpf?.folder ?? MACHINE, 'omerta');
  try {
    const { ino } = statSync(`/run/netns/${name}`);
    return readdirSync(root)
      .filter((folder) => folder.endsWith(`-${ino}`))
      .map((folder) => join(root, folder));
  } catch {
    return []; // no relay has pinned anything
  }
}

/** Removes what relays in the namespace have pinned in the machine's. */
export function removePins(name: string): void {
  for (const folder of pinsOf({ name, bpf: undefined })) rmSync(folder, { recursive: true, force: true });
}
