// Whom `npm run lab -- failover` measures: each makes a tunnel between two nodes that have two networks in common.

import { newestWireguardGo } from './go-programs.js';
import { nebulaPrograms, startNebula } from './nebula.js';
import { joinFrom, startRelay } from './nat-matrix.js';
import { StockWireguard } from './stock-wireguard.js';
import type { Node, World } from './world.js';

/** Two nodes with an address in the first network each, `eth0`, and one in the second, `eth1`. */
export interface TwoNodes {
  readonly left: Node;
  readonly right: Node;
}

export interface FailoverSubject {
  readonly name: 'omerta' | 'wireguard-go' | 'nebula';
  readonly title: string;
  /** Sets it up; resolves to the nodes and the address inside the tunnel that `left` reaches `right` by. */
  readonly start: (world: World) => Promise<TwoNodes & { readonly inner: string }>;
}

const secondUplink = (world: World) => async (node: Node) => {
  await world.addSecondUplink(node, 'eth1');
};

async function twoNodes(world: World): Promise<TwoNodes> {
  const [left, right] = [await world.addNode('left'), await world.addNode('right')];
  for (const node of [left, right]) await world.addSecondUplink(node, 'eth1');
  return { left, right };
}

const omerta: FailoverSubject = {
  name: 'omerta',
  title: 'Omerta',
  start: async (world) => {
    const { invite } = await startRelay(world);
    const prepare = secondUplink(world);
    const left = await joinFrom(world, 'public', 'left', invite, { prepare });
    const right = await joinFrom(world, 'public', 'right', invite, { prepare });
    return { left: left.omerta.node, right: right.omerta.node, inner: right.ipv6 };
  },
};

const wireguardGo = (file: string, version: string): FailoverSubject => ({
  name: 'wireguard-go',
  title: `wireguard-go ${version}`,
  start: async (world) => {
    const { left, right } = await twoNodes(world);
    const [first, second] = [
      await StockWireguard.start(world, left, 'fl', '10.200.0.1', file),
      await StockWireguard.start(world, right, 'fr', '10.200.0.2', file),
    ];
    const allow = (overlay: string): string[] => [
      'allowed-ips',
      `${overlay}/32`,
      'persistent-keepalive',
      '25',
    ];
    await first.set('peer', second.publicKey, 'endpoint', `${right.address}:51820`, ...allow('10.200.0.2'));
    await second.set('listen-port', '51820', 'peer', first.publicKey, ...allow('10.200.0.1'));
    return { left, right, inner: '10.200.0.2' };
  },
});

/** Those that are here, and for each of the others how to get it. */
export function failoverSubjects(): { readonly present: FailoverSubject[]; readonly skipped: string[] } {
  const present = [omerta];
  const skipped: string[] = [];
  const newest = newestWireguardGo();
  if (newest !== undefined) present.push(wireguardGo(newest.file, newest.version));
  else skipped.push('the newest wireguard-go is not installed: go install golang.zx2c4.com/wireguard@latest');
  const programs = nebulaPrograms();
  if (programs !== undefined)
    present.push({
      name: 'nebula',
      title: `nebula ${programs.version}`,
      start: async (world) => {
        const { left, right } = await twoNodes(world);
        const lighthouse = await world.addNode('lighthouse');
        return { left, right, inner: await startNebula(world, programs, lighthouse, left, right) };
      },
    });
  else
    skipped.push(
      'nebula is not installed: go install github.com/slackhq/nebula/cmd/nebula@latest github.com/slackhq/nebula/cmd/nebula-cert@latest',
    );
  return { present, skipped };
}
