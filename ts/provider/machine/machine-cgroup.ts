// The cgroups of one machine: what it may take of memory and processes, and that it gives way to everything else when
// it is asked to. Version 2, version 1, a mixture, or none: a host has what it has, and says what it does not limit.
// Linux Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/.

import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { setTimeout } from 'node:timers/promises';

const PREFIX = 'omerta-vm-';
const REMOVAL_MS = 5000;

export interface CgroupLimits {
  readonly memoryMiB: number;
  /** Threads, of all processes. */
  readonly tasks: number;
  /** Whether it runs only when nothing else wants to. */
  readonly isIdle: boolean;
}

/** Where the cgroups of this process are: the text of /proc/self/cgroup and of /proc/self/mountinfo. */
export interface CgroupFiles {
  readonly membership: string;
  readonly mounts: string;
}

interface Hierarchy {
  /** Where a cgroup for a machine may be made. */
  readonly base: string;
  /** Undefined: version 2, with all of them. */
  readonly controllers: readonly string[] | undefined;
}

type Setting = readonly [file: string, value: string, isNeeded: boolean];

/** This process's own. */
export function ownCgroupFiles(): CgroupFiles {
  return {
    membership: readFileSync('/proc/self/cgroup', 'utf8'),
    mounts: readFileSync('/proc/self/mountinfo', 'utf8'),
  };
}

/** Where the hierarchies are that can limit anything. */
function hierarchies({ membership, mounts }: CgroupFiles): Hierarchy[] {
  // proc(5): … root mount-point options - type source super-options
  const mounted = mounts.split('\n').flatMap((line) => {
    const [left = '', right = ''] = line.split(' - ');
    const [type = '', , options = ''] = right.split(' ');
    const [root = '', point = ''] = left.split(' ').slice(3);
    return type === 'cgroup' || type === 'cgroup2'
      ? [{ type, root, point, options: options.split(',') }]
      : [];
  });
  return membership.split('\n').flatMap((line) => {
    const [, id, names = '', path = ''] = /^(\d+):([^:]*):(.*)$/.exec(line) ?? [];
    if (id === undefined) return [];
    const isV2 = names === '' && id === '0';
    const controllers = names.split(',');
    const place = mounted.find(({ type, options }) =>
      isV2 ? type === 'cgroup2' : type === 'cgroup' && controllers.every((each) => options.includes(each)),
    );
    if (place === undefined) return [];
    const below = path.startsWith(place.root === '/' ? '/' : `${place.root}/`)
      ? path.slice(place.root.length)
      : '/';
    const own = join(place.point, place.root === '/' ? path : below);
    // In version 2 what has processes has no children with limits: the new one stands beside this process's own.
    return [{ base: isV2 && path !== '/' ? dirname(own) : own, controllers: isV2 ? undefined : controllers }];
  });
}

/** Not by a shift: of 2 GiB and more it leaves what 32 bits hold. */
const bytesOf = (mebibytes: number): string => String(mebibytes * 2 ** 20);

function settingsV2({ memoryMiB, tasks, isIdle }: CgroupLimits): Setting[] {
  return [
    ['memory.max', bytesOf(memoryMiB), true],
    ['memory.swap.max', '0', false],
    ['memory.oom.group', '1', false],
    ['pids.max', String(tasks), true],
    ...(isIdle ? [['cpu.idle', '1', false] as const] : []),
  ];
}

function settingsV1(controller: string, { memoryMiB, tasks, isIdle }: CgroupLimits): Setting[] {
  if (controller === 'memory')
    return [
      ['memory.limit_in_bytes', bytesOf(memoryMiB), true],
      ['memory.swappiness', '0', false],
    ];
  if (controller === 'pids') return [['pids.max', String(tasks), true]];
  if (controller === 'cpu' && isIdle)
    return [
      ['cpu.shares', '2', false],
      ['cpu.idle', '1', false],
    ];
  return [];
}

function write(file: string, value: string): boolean {
  try {
    writeFileSync(file, value);
    return true;
  } catch {
    return false;
  }
}

/** Makes one and sets it. @returns whether it has all it needs; otherwise it is gone again */
function makeCgroup(folder: string, settings: readonly Setting[]): boolean {
  try {
    mkdirSync(folder);
  } catch {
    return false; // of another user, or read-only
  }
  const done = settings.every(([file, value, isNeeded]) => write(join(folder, file), value) || !isNeeded);
  if (!done) removeFolder(folder);
  return done;
}

function removeFolder(folder: string): boolean {
  try {
    rmdirSync(folder);
    return true;
  } catch {
    return !existsSync(folder);
  }
}

export class MachineCgroup {
  private constructor(
    readonly folders: readonly string[],
    /** What it limits: `memory`, `tasks`; what is missing the host cannot, or this user may not. */
    readonly limited: readonly string[],
  ) {}

  /** One with the name, in every hierarchy that takes it. */
  static make(name: string, limits: CgroupLimits, files: CgroupFiles = ownCgroupFiles()): MachineCgroup {
    const folders: string[] = [];
    const limited = new Set<string>();
    for (const { base, controllers } of hierarchies(files)) {
      const folder = join(base, PREFIX + name);
      if (controllers === undefined) {
        // Where it cannot be switched on, the files are missing, and it is left out.
        write(join(base, 'cgroup.subtree_control'), '+memory +pids');
        if (limits.isIdle) write(join(base, 'cgroup.subtree_control'), '+cpu');
        if (!makeCgroup(folder, settingsV2(limits))) continue;
        limited.add('memory').add('tasks');
      } else {
        const settings = controllers.flatMap((each) => settingsV1(each, limits));
        if (settings.length === 0 || !makeCgroup(folder, settings)) continue;
        if (controllers.includes('memory')) limited.add('memory');
        if (controllers.includes('pids')) limited.add('tasks');
      }
      folders.push(folder);
    }
    return new MachineCgroup(folders, [...limited]);
  }

  /** What the machine's process writes its number into, before it becomes QEMU. */
  get processFiles(): string[] {
    return this.folders.map((folder) => join(folder, 'cgroup.procs'));
  }

  /** Ends what is in there, and removes it. @returns the folders that could not be removed */
  remove(): Promise<string[]> {
    return removeCgroups(this.folders);
  }
}

/** The same of cgroups another process made; what does not have the name of a machine's is left alone. */
export async function removeCgroups(folders: readonly string[]): Promise<string[]> {
  const deadline = performance.now() + REMOVAL_MS;
  let left = folders.filter((folder) => basename(folder).startsWith(PREFIX));
  for (;;) {
    left = left.filter((folder) => !removeFolder(folder));
    if (left.length === 0 || performance.now() > deadline) return left;
    for (const folder of left) killAll(join(folder, 'cgroup.procs'));
    await setTimeout(10);
  }
}

function killAll(processFile: string): void {
  try {
    // 0 is a process of another namespace, and would be this process's group.
    const ids = readFileSync(processFile, 'utf8').split('\n').map(Number);
    for (const id of ids.filter((each) => each > 0)) process.kill(id, 'SIGKILL');
  } catch {
    // It ended by itself meanwhile.
  }
}
