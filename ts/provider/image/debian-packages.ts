// Debian packages, downloaded and verified by apt and unpacked beside the system, without any right.

import { execFile } from 'node:child_process';
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { ExitCode, OperatorError, messageOf, systemErrorCode } from '../../host/operator-error.js';
import { formatBytes } from '../../host/units.js';

/** What apt knows of packages; changed by `apt-get update`. */
const LISTS = '/var/lib/apt/lists';
const TIMEOUT_MS = 10 * 60_000;
/** A server that says nothing is given up after this many seconds. */
const SILENCE_S = 20;

export interface DebianPackage {
  readonly name: string;
  readonly version: string;
  /** Of the archive, in bytes. */
  readonly size: number;
  /** Names it depends on, of the first alternative each. */
  readonly depends: readonly string[];
}

/** Told what is done at the moment. */
export type Progress = (what: string) => void;

const run = promisify(execFile);

/** Why the image cannot be made, and what to type. */
export function imageError(expected: string, next: string): OperatorError {
  return new OperatorError(ExitCode.failure, 'guest image', expected, next);
}

async function debianTool(file: string, args: readonly string[], cwd?: string): Promise<string> {
  try {
    const options = { cwd, timeout: TIMEOUT_MS, maxBuffer: 16 << 20, env: { ...process.env, LC_ALL: 'C' } };
    return (await run(file, [...args], options)).stdout;
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT')
      throw imageError(
        `it is made of Debian packages, and ${file} is not installed`,
        'Run it on Debian, or a system that descends from it',
      );
    const said = (error as { stderr?: string }).stderr?.trim().split('\n').at(-1) ?? '';
    const why = said === '' ? messageOf(error) : said;
    throw imageError(
      `${file} ${args.find((word) => !word.startsWith('-')) ?? ''} failed: ${why}`,
      /No space left/.test(why)
        ? 'Make room on the disk: df -h'
        : 'Look at the network and at /etc/apt, then type: sudo apt-get update',
    );
  }
}

/** When what apt knows last changed, in milliseconds; undefined without apt. */
export function listsChanged(): number | undefined {
  return statSync(LISTS, { throwIfNoEntry: false })?.mtimeMs;
}

function field(stanza: string, name: string): string {
  return new RegExp(`^${name}: (.*)$`, 'm').exec(stanza)?.[1] ?? '';
}

/** These packages as apt would install them, in the same order. @throws OperatorError */
export async function candidates(names: readonly string[]): Promise<DebianPackage[]> {
  // apt-cache fails when one is unknown, and says which.
  const printed = await debianTool('apt-cache', ['show', '--no-all-versions', ...names]);
  const found = printed.split(/\n\n+/).map((stanza) => ({
    name: field(stanza, 'Package'),
    version: field(stanza, 'Version'),
    size: Number(field(stanza, 'Size')),
    depends: field(stanza, 'Depends')
      .split(',')
      .map((each) => each.trim().split(/[\s(|]/)[0] ?? '')
      .filter((each) => each !== ''),
  }));
  return names.map((name) => {
    const one = found.find((each) => each.name === name);
    if (one === undefined) throw imageError(`apt knows no package ${name}`, 'Type: sudo apt-get update');
    return one;
  });
}

/** Downloads these versions and unpacks all of them into one tree, in a folder of the caller's. @throws OperatorError */
export async function unpackPackages(
  packages: readonly DebianPackage[],
  folder: string,
  tree: string,
  say: Progress,
): Promise<void> {
  const total = packages.reduce((sum, { size }) => sum + size, 0);
  say(`downloading ${packages.map(({ name }) => name).join(', ')}: ${formatBytes(total)}`);
  // apt drops its privileges to download, and its user cannot enter everybody's folders.
  const asRoot = process.getuid?.() === 0 ? ['-o', 'APT::Sandbox::User=root'] : [];
  const patience = [
    '-o',
    `Acquire::http::Timeout=${SILENCE_S}`,
    '-o',
    `Acquire::https::Timeout=${SILENCE_S}`,
  ];
  const versions = packages.map(({ name, version }) => `${name}=${version}`);
  await debianTool('apt-get', ['-q', ...asRoot, ...patience, 'download', ...versions], folder);
  for (const archive of readdirSync(folder).filter((file) => file.endsWith('.deb'))) {
    say(`unpacking ${archive}`);
    await debianTool('dpkg-deb', ['-x', join(folder, archive), tree]);
  }
}
