// Userspace WireGuards on this machine. All of them make an interface of a given name, stay in the
// foreground, and are configured by `wg`.

import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export type ImplementationName = 'omerta' | 'omerta-chacha' | 'newest' | 'debian';

export interface Implementation {
  readonly name: ImplementationName;
  readonly title: string;
  /** The interface's name is added to it. */
  readonly command: readonly string[];
}

const DEBIAN = '/usr/bin/wireguard-go';

/** What `--version` says, e.g. "0.0.20250522"; undefined when it is no wireguard-go. */
function wireguardGoVersion(file: string): string | undefined {
  try {
    return /^wireguard-go v(\S+)/.exec(execFileSync(file, ['--version'], { encoding: 'utf8' }))?.[1];
  } catch {
    return undefined;
  }
}

/** `go install` names the program after the last part of its path, so both names are looked for. */
function newestWireguardGo(): { file: string; version: string } | undefined {
  const { GOBIN, GOPATH, PATH } = process.env;
  const folders = [
    ...(GOBIN === undefined ? [] : [GOBIN]),
    ...(GOPATH ?? join(homedir(), 'go')).split(':').map((folder) => join(folder, 'bin')),
    ...(PATH ?? '').split(':'),
  ];
  const files = folders.flatMap((folder) => [join(folder, 'wireguard'), join(folder, 'wireguard-go')]);
  return files
    .filter((file) => file !== DEBIAN && existsSync(file))
    .map((file) => ({ file, version: wireguardGoVersion(file) ?? '' }))
    .filter(({ version }) => version !== '')
    .sort((a, b) => b.version.localeCompare(a.version))[0];
}

/** Those that are here, and for each of the others why not and how to get it. */
export function wireguardImplementations(): { present: Implementation[]; skipped: string[] } {
  const omerta = fileURLToPath(new URL('../../bin/omerta', import.meta.url));
  const command = [process.execPath, omerta, 'wg', '--foreground'];
  const present: Implementation[] = [
    // AES-256-GCM where both CPUs have instructions for it, as it comes.
    { name: 'omerta', title: 'Omerta', command },
    {
      name: 'omerta-chacha',
      title: 'Omerta, ChaCha20-Poly1305',
      command: [...command, '--disable', 'aes-256-gcm'],
    },
  ];
  const skipped: string[] = [];
  const newest = newestWireguardGo();
  if (newest === undefined)
    skipped.push('the newest wireguard-go is not installed: go install golang.zx2c4.com/wireguard@latest');
  else
    present.push({
      name: 'newest',
      title: `wireguard-go ${newest.version}`,
      command: [newest.file, '--foreground'],
    });
  const debian = existsSync(DEBIAN) ? wireguardGoVersion(DEBIAN) : undefined;
  if (debian === undefined)
    skipped.push("Debian's wireguard-go is not installed: sudo apt-get install wireguard-go");
  else if (debian === newest?.version)
    skipped.push(`Debian's wireguard-go is the newest one too (${debian})`);
  else present.push({ name: 'debian', title: `wireguard-go ${debian}`, command: [DEBIAN, '--foreground'] });
  return { present, skipped };
}
