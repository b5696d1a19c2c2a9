// Debian's wireguard-go between two nodes, for comparison.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { mustRun } from './command.js';
import { controlSocketName, removeStaleControlSockets } from './control-sockets.js';
import { uapiListening } from './uapi-listening.js';
import type { Node } from './world.js';

const PORT = 51820;

interface Side {
  readonly node: Node;
  readonly name: string;
  readonly overlay: string;
  readonly keyFile: string;
  readonly publicKey: string;
}

/** Sets up a tunnel between two public nodes; resolves to the addresses inside it. */
export async function wireguardGo(first: Node, second: Node): Promise<readonly [string, string]> {
  removeStaleControlSockets();
  const folder = mkdtempSync(join(tmpdir(), 'omerta-lab-wg-'));
  try {
    const sides = await Promise.all([side(first, 1, folder), side(second, 2, folder)]);
    for (const [index, own] of sides.entries()) {
      const other = sides[1 - index] ?? own;
      own.node.spawn('wireguard-go', ['-f', own.name], {
        stdio: 'ignore',
        env: { ...process.env, LOG_LEVEL: 'error' },
      });
      await uapiListening(own.name);
      const peer = [
        'peer',
        other.publicKey,
        'endpoint',
        `${other.node.address}:${PORT}`,
        'allowed-ips',
        `${other.overlay}/32`,
      ];
      await own.node.mustRun('wg', [
        'set',
        own.name,
        'private-key',
        own.keyFile,
        'listen-port',
        String(PORT),
        ...peer,
      ]);
      await own.node.ip(`address add ${own.overlay}/24 dev ${own.name}`, `link set ${own.name} mtu 1420 up`);
    }
    return [sides[0].overlay, sides[1].overlay];
  } finally {
    rmSync(folder, { recursive: true });
  }
}

async function side(node: Node, index: number, folder: string): Promise<Side> {
  const privateKey = (await mustRun('wg', ['genkey'])).trim();
  const keyFile = join(folder, `key${index}`);
  writeFileSync(keyFile, privateKey, { mode: 0o600 });
  const publicKey = (await mustRun('wg', ['pubkey'], { input: privateKey })).trim();
  return { node, name: controlSocketName(index), overlay: `10.200.0.${index}`, keyFile, publicKey };
}
