// Nebula between two nodes, as its users run it: a lighthouse, and two hosts that know it alone.

import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { mustRun } from './command.js';
import { goProgramFiles } from './go-programs.js';
import type { Node, World } from './world.js';

const PORT = 4242;
const LIGHTHOUSE = '10.201.0.1';

export interface NebulaPrograms {
  readonly nebula: string;
  readonly cert: string;
  readonly version: string;
}

/** Undefined where it is not installed. */
export function nebulaPrograms(): NebulaPrograms | undefined {
  const [nebula, cert] = [goProgramFiles('nebula')[0], goProgramFiles('nebula-cert')[0]];
  if (nebula === undefined || cert === undefined) return undefined;
  const printed = execFileSync(nebula, ['-version'], { encoding: 'utf8' });
  return { nebula, cert, version: /Version: (\S+)/.exec(printed)?.[1] ?? printed.trim() };
}

/** Starts the three; resolves to the address `left` reaches `right` by. */
export async function startNebula(
  world: World,
  { nebula, cert }: NebulaPrograms,
  lighthouse: Node,
  left: Node,
  right: Node,
): Promise<string> {
  const file = (name: string): string => join(world.folder, `nebula-${name}`);
  await mustRun(cert, ['ca', '-name', 'lab', '-out-crt', file('ca.crt'), '-out-key', file('ca.key')]);
  const members = [
    { node: lighthouse, name: 'lighthouse', overlay: LIGHTHOUSE },
    { node: left, name: 'left', overlay: '10.201.0.2' },
    { node: right, name: 'right', overlay: '10.201.0.3' },
  ];
  for (const { node, name, overlay } of members) {
    const ca = ['-ca-crt', file('ca.crt'), '-ca-key', file('ca.key')];
    const out = ['-out-crt', file(`${name}.crt`), '-out-key', file(`${name}.key`)];
    await mustRun(cert, ['sign', ...ca, '-name', name, '-networks', `${overlay}/24`, ...out]);
    const isLighthouse = node === lighthouse;
    const all = [{ port: 'any', proto: 'any', host: 'any' }];
    // YAML takes JSON.
    const configuration = {
      pki: { ca: file('ca.crt'), cert: file(`${name}.crt`), key: file(`${name}.key`) },
      static_host_map: { [LIGHTHOUSE]: [`${lighthouse.address}:${PORT}`] },
      lighthouse: { am_lighthouse: isLighthouse, interval: 5, hosts: isLighthouse ? [] : [LIGHTHOUSE] },
      listen: { host: '0.0.0.0', port: PORT },
      punchy: { punch: true },
      tun: { dev: `neb-${name}`.slice(0, 15), mtu: 1300 },
      logging: { level: 'error' },
      firewall: { outbound: all, inbound: all },
    };
    writeFileSync(file(`${name}.yml`), JSON.stringify(configuration), { mode: 0o600 });
    node.spawn(nebula, ['-config', file(`${name}.yml`)], { stdio: 'ignore' });
  }
  return '10.201.0.3';
}
