// Userspace WireGuards on this machine. All of them make an interface of a given name, stay in the
// foreground, and are configured by `wg`.

import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { DEBIAN_WIREGUARD_GO, newestWireguardGo, wireguardGoVersion } from '../ts/lab/go-programs.js';

export type ImplementationName = 'omerta' | 'omerta-chacha' | 'newest' | 'debian';

export interface Implementation {
  readonly name: ImplementationName;
  readonly title: string;
  /** The interface's name is added to it. */
  readonly command: readonly string[];
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
  const debian = existsSync(DEBIAN_WIREGUARD_GO) ? wireguardGoVersion(DEBIAN_WIREGUARD_GO) : undefined;
  if (debian === undefined)
    skipped.push("Debian's wireguard-go is not installed: sudo apt-get install wireguard-go");
  else if (debian === newest?.version)
    skipped.push(`Debian's wireguard-go is the newest one too (${debian})`);
  else
    present.push({
      name: 'debian',
      title: `wireguard-go ${debian}`,
      command: [DEBIAN_WIREGUARD_GO, '--foreground'],
    });
  return { present, skipped };
}
