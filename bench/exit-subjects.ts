// What a guest may leave by: a guest, an exit and a web server that the exit alone has a way to. All stand at the same time,
// in one world, joined alike: guest and exit by the world's switch, exit and web server by a cable.
//
//   guest ── switch ── exit ── web 203.0.113.10, 2001:db8:203::10

import { setTimeout } from 'node:timers/promises';
import { OmertaNode } from '../ts/lab/omerta-node.js';
import type { Node, World } from '../ts/lab/world.js';
import type { DaemonStatus } from '../ts/status/model/daemon-status.js';
import type { Implementation } from './wireguard-implementations.js';
import { PORT, WireguardInterface } from './wireguard-interface.js';

export const WEB = { ipv4: '203.0.113.10', ipv6: '2001:db8:203::10' } as const;
export const ECHO_PORT = 7;
/** Of the tunnels, inside: what Omerta has by default. */
const MTU = 1400;
const WAIT_MS = 60_000;

/** Sends back what comes, at once. */
const ECHO = `
  import { createServer } from 'node:net';
  createServer({ noDelay: true }, (socket) => socket.on('error', () => 0).pipe(socket)).listen(${ECHO_PORT}, '::');
`;

export type SubjectName = 'plain' | OmertaExit | 'wireguard-go';

/** Omerta's exits, by what ends the guests' connections. */
export type OmertaExit = 'kernel' | 'namespace' | 'stack';

const OMERTA = {
  kernel: { title: "Omerta, the kernel's exit", up: [] },
  namespace: { title: 'Omerta, the gateway without root', up: ['--no-tun'] },
  stack: { title: "Omerta, the engine's own stack", up: ['--stack'] },
} as const;

export interface Subject {
  readonly name: SubjectName;
  readonly title: string;
  readonly guest: Node;
  readonly web: Node;
}

interface Machines {
  readonly guest: Node;
  readonly exit: Node;
  readonly web: Node;
}

/** Machines without any tunnel. The web server is behind a gateway: what is on-link at an exit it does not forward to. */
async function machines(world: World, name: SubjectName): Promise<Machines> {
  const [guest, exit, web] = [
    await world.addNode(`guest-${name}`),
    await world.addNode(`exit-${name}`),
    await world.addBareNode(`web-${name}`),
  ];
  await world.connect(
    [exit, 'eth1', ['192.0.2.1/24', '2001:db8:192::1/64']],
    [web, 'eth0', ['192.0.2.2/24', '2001:db8:192::2/64']],
  );
  await web.ip(`address add ${WEB.ipv4}/32 dev lo`, `address add ${WEB.ipv6}/128 dev lo nodad`);
  await exit.ip('route add default via 192.0.2.2', 'route add ::/0 via 2001:db8:192::2');
  web.spawn(process.execPath, ['--input-type=module', '-e', ECHO], { stdio: 'ignore' });
  return { guest, exit, web };
}

/** Forwarding with masquerade, as it is set up by hand, MSS clamp included. */
async function masquerade(exit: Node): Promise<void> {
  await exit.sysctl('net.ipv4.ip_forward=1', 'net.ipv6.conf.all.forwarding=1');
  await exit.nft(`table inet home {
    chain translate { type nat hook postrouting priority srcnat; oifname "eth1" masquerade;
    }
    chain clamp { type filter hook forward priority mangle; tcp flags syn tcp option maxseg size set rt mtu;
    }
  }\n`);
}

/** No tunnel: what all others are compared with. */
export async function plain(world: World): Promise<Subject> {
  const { guest, exit, web } = await machines(world, 'plain');
  await masquerade(exit);
  await guest.ip(`route add ${WEB.ipv4} via ${exit.address}`, `route add ${WEB.ipv6} via ${exit.address6}`);
  return { name: 'plain', title: 'no tunnel, masquerade', guest, web };
}

/** Both ends of a userspace WireGuard, and the exit's masquerade. */
export async function wireguardGo(world: World, implementation: Implementation): Promise<Subject> {
  const { guest, exit, web } = await machines(world, 'wireguard-go');
  await masquerade(exit);
  const ends = [
    { node: guest, own: ['10.88.0.1', 'fd88::1'], allowed: '0.0.0.0/0,::/0' },
    { node: exit, own: ['10.88.0.2', 'fd88::2'], allowed: '10.88.0.1/32,fd88::1/128' },
  ];
  const made = [
    await WireguardInterface.start(implementation, guest),
    await WireguardInterface.start(implementation, exit),
  ];
  for (const [index, { node, own, allowed }] of ends.entries()) {
    const [wireguard, other] = [made[index], made[1 - index]];
    const remote = ends[1 - index]?.node.address ?? '';
    if (wireguard === undefined || other === undefined) throw new Error('two ends are needed');
    await wireguard.addPeers(
      `[Peer]\nPublicKey = ${other.publicKey}\nEndpoint = ${remote}:${PORT}\nAllowedIPs = ${allowed}\n`,
    );
    await wireguard.up(own[0] ?? '');
    await node.ip(
      `address add ${own[1] ?? ''}/64 dev ${wireguard.name} nodad`,
      `link set ${wireguard.name} mtu ${MTU}`,
    );
    if (node === guest)
      await guest.ip(
        `route add ${WEB.ipv4} dev ${wireguard.name}`,
        `route add ${WEB.ipv6} dev ${wireguard.name}`,
      );
  }
  return { name: 'wireguard-go', title: `${implementation.title}, masquerade`, guest, web };
}

/** Two members of a network, of which one is the exit. */
export async function omerta(world: World, invite: string, name: OmertaExit): Promise<Subject> {
  const { guest, exit, web } = await machines(world, name);
  const { title, up } = OMERTA[name];
  const join = async (node: Node, as: string, options: readonly string[]): Promise<OmertaNode> => {
    const member = new OmertaNode(world, node, as, { direct: true, portMapping: 'off' });
    await member.command(['network', 'join', '-'], invite);
    if (options.length > 0) member.becomeOrdinary();
    await member.start('up', '--foreground', ...options);
    return member;
  };
  const [using, served] = [await join(guest, `guest-${name}`, []), await join(exit, `exit-${name}`, up)];
  const status = async (of: OmertaNode): Promise<DaemonStatus> =>
    (await of.request({ command: 'status' })) as DaemonStatus;
  const [own, its] = [await status(using), await status(served)];
  const inside = its.mesh.networks[0]?.ipv6 ?? '';
  const ping = (): Promise<{ readonly code: number | null }> =>
    guest.run('ping', ['-n', '-c1', '-W', '0.3', inside]);
  await until(`${name}: the exit is reached`, async () => (await ping()).code === 0);
  await served.command(['exit', 'serve', '--allow', own.mesh.peerId]);
  await using.command(['exit', 'use', its.mesh.peerId]);
  await until(`${name}: the path is direct`, async () => {
    await ping();
    const members = (await status(using)).mesh.networks[0]?.members ?? [];
    return members.find(({ peerId }) => peerId === its.mesh.peerId)?.path === 'direct';
  });
  return { name, title, guest, web };
}

async function until(what: string, condition: () => Promise<boolean>): Promise<void> {
  const begin = performance.now();
  while (!(await condition())) {
    if (performance.now() - begin > WAIT_MS) throw new Error(`${what}: not within ${WAIT_MS / 1000} s`);
    await setTimeout(50);
  }
}
