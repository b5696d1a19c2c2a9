// What a guest may leave by: a guest, an exit and a web server that the exit alone has a way to. All stand at the same time,
// in one world, joined alike: guest and exit by the world's switch, exit and web server by a cable.
//
//   guest ── switch ── exit ── web 203.0.113.10, 2001:db8:203::10 ── line ── far 203.0.113.20
//
// By the line it takes 20 ms there and back, and one packet of a thousand is lost.

import { once } from 'node:events';
import { setTimeout } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { OmertaNode } from '../ts/lab/omerta-node.js';
import type { Node, World } from '../ts/lab/world.js';
import type { DaemonStatus } from '../ts/status/model/daemon-status.js';
import type { Implementation } from './wireguard-implementations.js';
import { PORT, WireguardInterface } from './wireguard-interface.js';

export const WEB = { ipv4: '203.0.113.10', ipv6: '2001:db8:203::10' } as const;
export const FAR = '203.0.113.20';
export const ECHO_PORT = 7;
/** Of the line, in each direction. */
const DELAY_US = 10_000;
const LOSS_PPM = 1000;
const LINE = fileURLToPath(new URL('../../build/bench/bench/native/link', import.meta.url));
/** Of the tunnels, inside: what Omerta has by default. */
const MTU = 1400;
const WAIT_MS = 60_000;

/** Sends back what comes, at once. */
const ECHO = `
  import { createServer } from 'node:net';
  createServer({ noDelay: true }, (socket) => socket.on('error', () => 0).pipe(socket)).listen(${ECHO_PORT}, '::');
`;

export type SubjectName = 'plain' | OmertaExit | 'wireguard-go' | Rootless;

/** Omerta's exits, by what ends the guests' connections. */
export type OmertaExit = 'kernel' | 'namespace' | 'stack';

/** What gives a namespace the machine's network without root. */
export type Rootless = 'slirp4netns' | 'pasta';

const OMERTA = {
  kernel: { title: "Omerta, the kernel's exit", up: [] },
  namespace: { title: 'Omerta, the gateway without root', up: ['--no-tun'] },
  stack: { title: "Omerta, the engine's own stack", up: ['--stack'] },
} as const;

export interface Subject {
  readonly name: SubjectName;
  readonly title: string;
  readonly guest: Node;
  readonly exit: Node;
  readonly web: Node;
  readonly far: Node;
  /** It has no way for IPv6. */
  readonly isIpv4Only?: boolean;
}

/** Whether it is somebody else's. */
export const isPeer = ({ name }: Subject): boolean => !(name in OMERTA) && name !== 'plain';

type Machines = Pick<Subject, 'guest' | 'exit' | 'web' | 'far'>;

/** Machines without any tunnel. The web server is behind a gateway: what is on-link at an exit it does not forward to. */
async function machines(world: World, name: SubjectName): Promise<Machines> {
  const [guest, exit, web] = [
    await world.addNode(`guest-${name}`),
    await world.addNode(`exit-${name}`),
    await world.addBareNode(`web-${name}`),
  ];
  await world.connect(
    [exit, 'eth1', ['192.0.2.1/25', '2001:db8:192::1/64']],
    [web, 'eth0', ['192.0.2.2/25', '2001:db8:192::2/64']],
  );
  await web.ip(`address add ${WEB.ipv4}/32 dev lo`, `address add ${WEB.ipv6}/128 dev lo nodad`);
  await exit.ip('route add default via 192.0.2.2', 'route add ::/0 via 2001:db8:192::2');
  web.spawn(process.execPath, ['--input-type=module', '-e', ECHO], { stdio: 'ignore' });
  return { guest, exit, web, far: await farFrom(world, name, web) };
}

/** A machine at the other end of a long line, to which the web server forwards. */
async function farFrom(world: World, name: string, web: Node): Promise<Node> {
  const [line, far] = [await world.addBareNode(`line-${name}`), await world.addBareNode(`far-${name}`)];
  await line.sysctl('net.ipv6.conf.all.disable_ipv6=1'); // it is a cable
  await world.connect([web, 'eth1', ['192.0.2.129/25']], [line, 'eth0', []]);
  await world.connect([far, 'eth0', ['192.0.2.130/25']], [line, 'eth1', []]);
  for (const [node, device] of [
    [web, 'eth1'],
    [far, 'eth0'],
  ] as const)
    await node.mustRun('ethtool', ['-K', device, 'tx', 'off', 'tso', 'off', 'gso', 'off', 'gro', 'off']);
  await web.ip(`route add ${FAR} via 192.0.2.130`);
  await web.sysctl('net.ipv4.ip_forward=1');
  await far.ip(`address add ${FAR}/32 dev lo`, 'route add default via 192.0.2.129');
  const options = ['--delay-us', String(DELAY_US), '--loss-ppm', String(LOSS_PPM)];
  const bridge = line.spawn(LINE, ['eth0', 'eth1', ...options], { stdio: ['ignore', 'pipe', 2] });
  if (bridge.stdout !== null) await once(bridge.stdout, 'data');
  return far;
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
  const { guest, exit, web, far } = await machines(world, 'plain');
  await masquerade(exit);
  await guest.ip(
    ...[WEB.ipv4, FAR].map((address) => `route add ${address} via ${exit.address}`),
    `route add ${WEB.ipv6} via ${exit.address6}`,
  );
  return { name: 'plain', title: 'no tunnel, masquerade', guest, exit, web, far };
}

/** Both ends of a userspace WireGuard, and the exit's masquerade. */
export async function wireguardGo(world: World, implementation: Implementation): Promise<Subject> {
  const { guest, exit, web, far } = await machines(world, 'wireguard-go');
  await masquerade(exit);
  await tunnel(implementation, guest, exit);
  return { name: 'wireguard-go', title: `${implementation.title}, masquerade`, guest, exit, web, far };
}

/**
 * The exit's end of the same tunnel in a namespace of its own, as where there is no root: what it sends goes on by a user-space
 * stack of the machine. Only the stack's process, and not the tunnel's, runs as it would without root.
 */
export async function rootless(
  world: World,
  implementation: Implementation,
  name: Rootless,
): Promise<Subject> {
  const { guest, exit, web, far } = await machines(world, name);
  const inner = await world.addBareNode(`inner-${name}`);
  const path = `/run/netns/${inner.name}`;
  const { device, args } = {
    slirp4netns: { device: 'tap0', args: ['--configure', '--mtu=65520', '--netns-type=path', path, 'tap0'] },
    // By default it leaves root, and with it the right to enter a namespace that root has made.
    pasta: {
      device: 'eth1',
      args: ['--netns', path, '--config-net', '--foreground', '--quiet', '--runas', '0'],
    },
  }[name];
  exit.spawn(name, args, { stdio: 'ignore' });
  await until(`${name}: there is a way out`, async () =>
    (await inner.run('ip', ['route', 'show', 'default'])).stdout.includes(device),
  );
  await inner.sysctl('net.ipv4.ip_forward=1');
  await inner.nft(`table ip home {
    chain translate { type nat hook postrouting priority srcnat; oifname "${device}" masquerade; }
  }\n`);
  await tunnel(implementation, guest, exit, inner);
  return { name, title: `${implementation.title}, ${name}`, guest, exit, web, far, isIpv4Only: true };
}

/** @param inner where the exit's end is, with its socket still in `exit` */
async function tunnel(implementation: Implementation, guest: Node, exit: Node, inner = exit): Promise<void> {
  const [own, its] = [
    await WireguardInterface.start(implementation, guest),
    await WireguardInterface.start(implementation, exit),
  ];
  if (inner !== exit) await exit.ip(`link set ${its.name} netns ${inner.name}`);
  await own.addPeers(
    `[Peer]\nPublicKey = ${its.publicKey}\nEndpoint = ${exit.address}:${PORT}\nAllowedIPs = 0.0.0.0/0,::/0\n`,
  );
  await its.addPeers(
    `[Peer]\nPublicKey = ${own.publicKey}\nEndpoint = ${guest.address}:${PORT}\nAllowedIPs = 10.88.0.1/32,fd88::1/128\n`,
  );
  for (const [node, name, ipv4, ipv6] of [
    [guest, own.name, '10.88.0.1', 'fd88::1'],
    [inner, its.name, '10.88.0.2', 'fd88::2'],
  ] as const)
    await node.ip(
      `address add ${ipv4}/24 dev ${name}`,
      `address add ${ipv6}/64 dev ${name} nodad`,
      `link set ${name} mtu ${MTU} up`,
    );
  await guest.ip(...[WEB.ipv4, FAR, WEB.ipv6].map((address) => `route add ${address} dev ${own.name}`));
}

/** Two members of a network, of which one is the exit. */
export async function omerta(world: World, invite: string, name: OmertaExit): Promise<Subject> {
  const { guest, exit, web, far } = await machines(world, name);
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
  return { name, title, guest, exit, web, far };
}

async function until(what: string, condition: () => Promise<boolean>): Promise<void> {
  const begin = performance.now();
  while (!(await condition())) {
    if (performance.now() - begin > WAIT_MS) throw new Error(`${what}: not within ${WAIT_MS / 1000} s`);
    await setTimeout(50);
  }
}
