// What a killed relay leaves pinned in the bpf file system outlives its namespace, and another
// namespace may get the same inode number.

import { readdirSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';

const ROOT = '/sys/fs/bpf/omerta';

/** Folders a relay in the namespace has pinned things in (native/xdp/pins.h). */
export function pinsOf(namespace: string): string[] {
  try {
    const { ino } = statSync(`/run/netns/${namespace}`);
    return readdirSync(ROOT)
      .filter((name) => name.endsWith(`-${ino}`))
      .map((name) => join(ROOT, name));
  } catch {
    return []; // no relay has pinned anything
  }
}

/** Removes what relays in the namespace have pinned. */
export function removePins(namespace: string): void {
  for (const folder of pinsOf(namespace)) rmSync(folder, { recursive: true, force: true });
}
