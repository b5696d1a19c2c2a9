// A machine that is reached by way of a router whose link to it is narrower than others.
//
//   switch "net" ── eth0 router small ──── small far

import type { Node, World } from './world.js';

export interface FarNode {
  /** 203.0.113.2 and 2001:db8:200::2 at its interface `small`. */
  readonly far: Node;
  readonly router: Node;
}

/** @param others who find their way to it @param mtu of its link */
export async function addFarNode(world: World, others: readonly Node[], mtu: number): Promise<FarNode> {
  const router = await world.addNode('router');
  const far = await world.addNode('far');
  await router.ip(
    `link add small mtu ${mtu} type veth peer name small mtu ${mtu} netns ${far.name}`,
    'link set small up',
    'address add 203.0.113.1/24 dev small',
    'address add 2001:db8:200::1/64 dev small nodad',
  );
  await router.sysctl('net.ipv4.ip_forward=1', 'net.ipv6.conf.all.forwarding=1');
  await far.ip(
    'link set eth0 down',
    'link set small up',
    'address add 203.0.113.2/24 dev small',
    'address add 2001:db8:200::2/64 dev small nodad',
    'route add default via 203.0.113.1',
    'route add default via 2001:db8:200::1',
  );
  for (const other of others)
    await other.ip(
      `route add 203.0.113.0/24 via ${router.address}`,
      `route add 2001:db8:200::/64 via ${router.address6 ?? ''}`,
    );
  return { far, router };
}

/** The router drops what is larger, in either direction, and says nothing. */
export async function blackHole({ router }: FarNode, bytes: number): Promise<void> {
  await router.nft(`table inet hole {
    chain forward {
      type filter hook forward priority 0
      meta length > ${bytes} drop
    }
  }`);
}
