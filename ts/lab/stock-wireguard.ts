// wireguard-go in a node, as its users run it.

import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { mustRun } from './command.js';
import { uapiListening } from './uapi-listening.js';
import type { Node, World } from './world.js';

export class StockWireguard {
  private constructor(
    readonly node: Node,
    readonly name: string,
    readonly publicKey: string,
  ) {}

  /** `program`: a wireguard-go; default: Debian's. */
  static async start(
    world: World,
    node: Node,
    name: string,
    address: string,
    program = 'wireguard-go',
  ): Promise<StockWireguard> {
    // The control socket is a file outside the namespace: its name is unique on the machine.
    const device = `omr${process.pid}${name}`;
    const privateKey = (await mustRun('wg', ['genkey'])).trim();
    const publicKey = (await mustRun('wg', ['pubkey'], { input: privateKey })).trim();
    const file = join(world.folder, `${name}.key`);
    writeFileSync(file, privateKey, { mode: 0o600 });
    node.spawn(program, ['-f', device], {
      stdio: 'ignore',
      env: { ...process.env, LOG_LEVEL: 'error' },
    });
    await uapiListening(device);
    await node.mustRun('wg', ['set', device, 'private-key', file]);
    await node.ip(`address add ${address}/24 dev ${device}`, `link set ${device} mtu 1380 up`);
    return new StockWireguard(node, device, publicKey);
  }

  async set(...settings: readonly string[]): Promise<void> {
    await this.node.mustRun('wg', ['set', this.name, ...settings]);
  }

  async handshakeAt(publicKey: string): Promise<number> {
    const lines = await this.node.mustRun('wg', ['show', this.name, 'latest-handshakes']);
    const line = lines.split('\n').find((text) => text.startsWith(publicKey));
    return Number(line?.split('\t')[1] ?? 0);
  }

  remove(): void {
    const socket = `/var/run/wireguard/${this.name}.sock`;
    if (existsSync(socket)) rmSync(socket);
  }
}
