// What this machine has to run guests with: QEMU, and the programs that confine it.

import { execFile } from 'node:child_process';
import { accessSync, constants, existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { ExitCode, OperatorError, messageOf } from '../../host/operator-error.js';

export const QEMU = 'qemu-system-x86_64';
/** `-netdev stream` is of this version. */
const MIN_VERSION = [7, 2] as const;
const KVM = '/dev/kvm';
const TIMEOUT_MS = 20_000;

/** By which program a machine is confined, and Debian's package of it. */
const PROGRAMS: Readonly<Record<string, string>> = {
  [QEMU]: 'qemu-system-x86',
  unshare: 'util-linux',
  setpriv: 'util-linux',
  prlimit: 'util-linux',
  chrt: 'util-linux',
};

export interface QemuHost {
  readonly path: string;
  /** `7.2.22`, as QEMU prints it. */
  readonly version: string;
}

/** Why machines cannot be run, and what to type. */
export function machineError(expected: string, next: string): OperatorError {
  return new OperatorError(ExitCode.failure, 'virtual machine', expected, next);
}

function inPath(file: string): string | undefined {
  const folders = `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`.split(':');
  return folders
    .filter((folder) => folder.startsWith('/'))
    .map((folder) => join(folder, file))
    .find((path) => existsSync(path));
}

/** @throws OperatorError that says what to install */
export async function findQemu(): Promise<QemuHost> {
  if (process.platform !== 'linux' || process.arch !== 'x64')
    throw machineError('they run on x86-64 Linux only', 'Use another machine as provider');
  const missing = Object.keys(PROGRAMS).filter((file) => inPath(file) === undefined);
  if (missing.length > 0) {
    const packages = [...new Set(missing.map((file) => PROGRAMS[file]))].join(' ');
    throw machineError(
      `not installed: ${missing.join(', ')}`,
      `Type: sudo apt-get install --no-install-recommends ${packages}`,
    );
  }
  const path = inPath(QEMU) ?? QEMU;
  const version = await versionOf(path);
  const [major = 0, minor = 0] = version.split('.').map(Number);
  if (major < MIN_VERSION[0] || (major === MIN_VERSION[0] && minor < MIN_VERSION[1]))
    throw machineError(
      `QEMU ${MIN_VERSION.join('.')} is needed, and ${version} is installed`,
      'Install a newer one',
    );
  return { path, version };
}

async function versionOf(path: string): Promise<string> {
  try {
    const { stdout } = await promisify(execFile)(path, ['--version'], { timeout: TIMEOUT_MS });
    return /version (\d+\.\d+(\.\d+)?)/.exec(stdout)?.[1] ?? '0.0';
  } catch (error) {
    throw machineError(`${path} does not run: ${messageOf(error).trim()}`, `Type: ${path} --version`);
  }
}

/** Whether QEMU can open the device of KVM. Whether a guest runs with it, only a guest tells (kvm-trial.ts). */
export type KvmAccess = { readonly group: number | undefined } | { readonly why: string };

/**
 * @param isOwnUser whether QEMU runs as this process's user, or as one without any right
 * @returns the group that may open it, where QEMU has to be given one
 */
export function kvmAccess(isOwnUser: boolean): KvmAccess {
  const device = statSync(KVM, { throwIfNoEntry: false });
  if (device === undefined) return { why: `there is no ${KVM}` };
  if (isOwnUser) {
    try {
      accessSync(KVM, constants.R_OK | constants.W_OK);
      return { group: undefined };
    } catch {
      return { why: `this user may not open ${KVM}: sudo adduser $USER kvm` };
    }
  }
  if ((device.mode & 0o006) === 0o006) return { group: undefined };
  // The group of root has more to open than this device.
  if ((device.mode & 0o060) === 0o060 && device.gid !== 0) return { group: device.gid };
  return {
    why: `only root may open ${KVM}, and a machine does not run as root: chgrp kvm ${KVM}; chmod 660 ${KVM}`,
  };
}
