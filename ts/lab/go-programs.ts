// Programs others run that `go install` has put on this machine.

import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';

export const DEBIAN_WIREGUARD_GO = '/usr/bin/wireguard-go';

/** Files of one of these names in the folders `go install` writes to, and in the path. */
export function goProgramFiles(...names: readonly string[]): string[] {
  const { GOBIN, GOPATH, PATH } = process.env;
  const folders = [
    ...(GOBIN === undefined ? [] : [GOBIN]),
    ...(GOPATH ?? join(homedir(), 'go')).split(':').map((folder) => join(folder, 'bin')),
    ...(PATH ?? '').split(':'),
  ];
  return folders
    .flatMap((folder) => names.map((name) => join(folder, name)))
    .filter((file) => existsSync(file));
}

/** What `--version` says, e.g. "0.0.20250522"; undefined when it is no wireguard-go. */
export function wireguardGoVersion(file: string): string | undefined {
  try {
    return /^wireguard-go v(\S+)/.exec(execFileSync(file, ['--version'], { encoding: 'utf8' }))?.[1];
  } catch {
    return undefined;
  }
}

/**
 * The newest wireguard-go but Debian's. `go install` names the program after the last part of its path, so both
 * names are looked for.
 */
export function newestWireguardGo(): { readonly file: string; readonly version: string } | undefined {
  return goProgramFiles('wireguard', 'wireguard-go')
    .filter((file) => file !== DEBIAN_WIREGUARD_GO)
    .map((file) => ({ file, version: wireguardGoVersion(file) ?? '' }))
    .filter(({ version }) => version !== '')
    .sort((a, b) => b.version.localeCompare(a.version))[0];
}
