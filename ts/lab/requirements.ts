// What the lab needs of the machine, and why it cannot run when it cannot.

import { execFileSync } from 'node:child_process';

function inPath(program: string): boolean {
  try {
    execFileSync('sh', ['-c', `command -v ${program}`], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

/** The reason why a world with these programs cannot be made here; undefined when it can. */
export function labUnavailable(programs: readonly string[] = []): string | undefined {
  if (process.platform !== 'linux') return 'network namespaces exist on Linux only';
  if (process.getuid?.() !== 0) return 'needs root, for network namespaces';
  const absent = ['ip', 'nft', 'nsenter', 'sysctl', ...programs].filter((program) => !inPath(program));
  return absent.length === 0 ? undefined : `these programs are not installed: ${absent.join(', ')}`;
}
