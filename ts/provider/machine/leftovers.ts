// What runs, in a file for each machine and each member of one, so that what a process leaves that was killed is found and
// removed by the next.

import { existsSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { basename, join } from 'node:path';
import { z } from 'zod';
import { makeFolders } from '../../host/make-folders.js';
import { isProcessAlive } from '../../host/process-identity.js';
import { removeCgroups } from './machine-cgroup.js';

const SUFFIX = '.machine';

const MARKER = z.object({
  /** The process that looks after it (host/process-identity.ts). */
  owner: z.string(),
  /** QEMU, or the member's daemon, once it was started. */
  machine: z.string().optional(),
  user: z.number().optional(),
  cgroups: z.array(z.string()),
});
export type Marker = z.infer<typeof MARKER>;

/** Where the marker of a machine is. */
export function markerPath(folder: string, name: string): string {
  return join(folder, name + SUFFIX);
}

/** Of a member: its folder beside the marker, which goes with it. */
const MEMBER = /^[0-9a-f]+\.member$/;

/** All there are; undefined for what is none. */
function markersIn(folder: string): (readonly [path: string, marker: Marker | undefined])[] {
  makeFolders(folder, 0o700);
  return readdirSync(folder)
    .filter((file) => file.endsWith(SUFFIX))
    .map((file) => [join(folder, file), readMarker(join(folder, file))]);
}

function readMarker(path: string): Marker | undefined {
  try {
    return MARKER.parse(JSON.parse(readFileSync(path, 'utf8')));
  } catch {
    return undefined;
  }
}

/** Users of the machines that run. */
export function takenUsers(folder: string): number[] {
  return markersIn(folder).flatMap(([, marker]) => (marker?.user === undefined ? [] : [marker.user]));
}

/**
 * Removes what is left of machines nobody looks after any more.
 * @returns how many there were
 */
export async function sweepLeftovers(folder: string): Promise<number> {
  let swept = 0;
  for (const [path, marker] of markersIn(folder)) {
    if (marker === undefined && !existsSync(path)) continue; // it was removed meanwhile
    if (marker !== undefined && isProcessAlive(marker.owner)) continue;
    const { machine, cgroups = [] } = marker ?? {};
    if (machine !== undefined) end(machine);
    const left = await removeCgroups(cgroups);
    // By its name: the state directory may have another path now, or be a copy.
    const name = basename(path, SUFFIX);
    if (MEMBER.test(name)) rmSync(join(folder, name), { recursive: true, force: true, maxRetries: 3 });
    // Kept while anything of it is there: the next start tries again.
    if (left.length === 0) rmSync(path, { force: true });
    swept++;
  }
  return swept;
}

function end(machine: string): void {
  try {
    if (isProcessAlive(machine)) process.kill(Number(machine.split(' ')[0]), 'SIGKILL');
  } catch {
    // It ended by itself meanwhile, or by another start.
  }
}
