// What tests of the operator's rules on paths have in common: rules, what a node tells of ways, data, who hears it.

import assert from 'node:assert/strict';
import {
  OPEN_POLICY,
  OPEN_RULES,
  type PathPolicy,
  type PathRules,
  type WayPattern,
} from '../../ts/core/path/path-policy.js';
import type { MemberStatus } from '../../ts/core/runtime/mesh-status.js';
import type { WayStatus } from '../../ts/core/runtime/way-status.js';
import type { SimNode, SimUplink } from '../../ts/sim/mesh/simulation.js';
import { toHex } from '../../ts/wire/bytes.js';
import { parsePrefix } from '../../ts/wire/prefix.js';
import { formatIp, type SocketAddress } from '../../ts/wire/socket-address.js';
import { ip } from './mesh-world.js';
import { keyOf, type PairWorld } from '../../ts/sim/mesh/pair-world.js';

export const rules = (some: Partial<PathRules>): PathPolicy => ({
  ...OPEN_POLICY,
  rules: { ...OPEN_RULES, ...some },
});
export const over = (relay: SimNode | undefined): WayPattern => ({
  relay: toHex(relay?.identity ?? new Uint8Array(0)),
});
/** An IPv4 packet of 100 bytes, as far as the simulated engine looks. */
export const PACKET = Uint8Array.of(0x45, ...new Uint8Array(99));
export const by = (name: string): WayPattern => ({ interface: name, remote: undefined });
export const to = (prefix: string): WayPattern => ({ interface: undefined, remote: parsePrefix(prefix) });

export const memberOf = (node: SimNode): MemberStatus => {
  const [member] = node.mesh.status(node.step).networks[0]?.members ?? [];
  assert.ok(member);
  return member;
};
export const active = (node: SimNode): WayStatus | undefined =>
  memberOf(node).ways.find(({ role }) => role === 'active');
export const decide = (node: SimNode, policy: PathPolicy): void =>
  node.apply(node.mesh.setPathPolicy(policy, node.step));

/** Inner packets from one to the other, every 20 ms for so long. @returns how many arrived */
export function send(world: PairWorld, from: SimNode, target: SimNode, ms: number): number {
  const before = target.innerAt.length;
  for (let at = 0; at < ms; at += 20) {
    from.sendInner(keyOf(target), PACKET);
    world.simulation.run(20);
  }
  world.simulation.run(500);
  return target.innerAt.length - before;
}

/** Datagrams that reach the other's outer address without a relay, of either side, by who sent them. */
export function watchDirect(world: PairWorld): { readonly fromA: string[]; readonly fromB: string[] } {
  const seen = { fromA: [] as string[], fromB: [] as string[] };
  const relays = world.relays.map(({ address }) => formatIp(address.ip));
  const isRelay = ({ ip: at }: SocketAddress): boolean => relays.includes(formatIp(at));
  const outer = (node: SimNode): string => formatIp(node.nat?.ip ?? node.address.ip);
  const { internet } = world.simulation;
  const before = internet.blocked;
  internet.blocked = (from, target, bytes) => {
    if (!isRelay(from) && !isRelay(target))
      (formatIp(from.ip) === outer(world.b) ? seen.fromB : seen.fromA).push(formatIp(target.ip));
    return before(from, target, bytes);
  };
  return seen;
}

/** Two interfaces of `a`, both public. */
export const twoUplinks = (second: Partial<SimUplink> = {}): SimUplink[] => [
  { address: { ip: ip('198.51.100.11'), port: 51_820 }, link: {} },
  { address: { ip: ip('198.51.100.12'), port: 51_820 }, link: {}, latencyMs: 1, ...second },
];
