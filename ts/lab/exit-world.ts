// The world of exits. The guest is behind one NAT, the exit behind another; a web server is beyond a router that only
// the exit has a way to. A second server, on the Internet, is what the guest reaches without an exit.
//
//   guest ── home (NAT) ──┐            ┌── mobile (NAT) ── exit ── router ── web 203.0.113.10, 2001:db8:203::10
//                       switch ────────┤                     └── lan 192.168.7.2, fd00:7::2
//   relay, outside ───────┘            │

import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { z } from 'zod';
import type { ExitReport } from '../status/model/exit-report.js';
import type { Finished } from './command.js';
import type { NatKind } from './nat.js';
import { OmertaNode } from './omerta-node.js';
import { asOrdinaryUser } from './ordinary-user.js';
import type { Nat, Node, World } from './world.js';

export const WEB = { ipv4: '203.0.113.10', ipv6: '2001:db8:203::10' } as const;
export const LAN = { prefix: '192.168.7.0/24', ipv4: '192.168.7.2', ipv6: 'fd00:7::2' } as const;
/** What the web server sees guests by. */
export const EXIT_OUTSIDE = { ipv4: '192.0.2.2', ipv6: '2001:db8:192::2' } as const;
const ROUTER = { ipv4: '192.0.2.1', ipv6: '2001:db8:192::1' } as const;

const banner = z.object({ networks: z.tuple([z.object({ invite: z.string() })]) });
const addresses = z.object({
  mesh: z.object({
    peerId: z.string(),
    networks: z.tuple([z.object({ ipv4: z.string(), ipv6: z.string() })]),
  }),
});

/** Answers with the address it was asked from. */
const SERVER = `
  import { createServer } from 'node:http';
  for (const port of process.argv.slice(1))
    createServer((request, response) => response.end(request.socket.remoteAddress + '\\n')).listen(Number(port), '::');
`;
/** A name server that says of every name that it is the web server's; by UDP and, with its length before it, by TCP. */
const NAMES = `
  import { createSocket } from 'node:dgram';
  import { createServer } from 'node:net';
  const hex = { 1: '${Buffer.from(WEB.ipv4.split('.').map(Number)).toString('hex')}', 28: '20010db8020300000000000000000010' };
  const answer = (question) => {
    let end = 12;
    while (question[end] > 0) end += question[end] + 1;
    const type = question.readUInt16BE(end + 1);
    const data = Buffer.from(hex[type] ?? '', 'hex');
    const header = Buffer.from(question.subarray(0, 12));
    header.writeUInt16BE(0x8180, 2);
    [1, data.length > 0 ? 1 : 0, 0, 0].forEach((count, index) => header.writeUInt16BE(count, 4 + 2 * index));
    const record = Buffer.from([0xc0, 12, type >> 8, type & 255, 0, 1, 0, 0, 0, 60, 0, data.length, ...data]);
    return Buffer.concat([header, question.subarray(12, end + 5), ...(data.length > 0 ? [record] : [])]);
  };
  const udp = createSocket('udp6');
  udp.on('message', (question, from) => udp.send(answer(question), from.port, from.address));
  udp.bind(53);
  createServer((socket) => socket.on('error', () => 0).on('data', (bytes) => {
    const said = answer(bytes.subarray(2));
    socket.write(Buffer.concat([Buffer.from([said.length >> 8, said.length & 255]), said]));
  })).listen(53, '::');
`;
export const WEB_PORT = 80;

export interface ExitMember {
  readonly omerta: OmertaNode;
  readonly node: Node;
  readonly peerId: string;
  readonly ipv4: string;
  readonly ipv6: string;
}

export interface ExitWorldOptions {
  /** In front of the exit; default symmetric, which leaves the relay as the only way. */
  readonly exitNat?: NatKind;
  /** Whether guest and exit reach each other directly where they can. */
  readonly direct?: boolean;
  /** Which of them run without root, their interfaces in private networks. */
  readonly ordinary?: readonly ('guest' | 'exit')[];
  /** The exit has no interface at all, and nothing it could make one by: it serves by its engine's own stack. */
  readonly stack?: boolean;
  /** The guest is a virtual machine's, whose network device is to be connected to its `vm.sock`. */
  readonly virtual?: boolean;
}

export class ExitWorld {
  private constructor(
    readonly relay: OmertaNode,
    readonly guest: ExitMember,
    readonly exit: ExitMember,
    readonly web: Node,
    /** On the Internet: reached without an exit too. */
    readonly outside: Node,
    /** The exit's next hop. */
    readonly router: Node,
    readonly lan: Node,
    /** The NAT in front of the guest. */
    readonly home: Nat,
    private readonly invite: string,
  ) {}

  static async start(world: World, options: ExitWorldOptions = {}): Promise<ExitWorld> {
    const relayNode = await world.addNode('relay');
    const outside = await world.addNode('outside');
    const home = await world.addNat('home', 'port-restricted');
    const mobile = await world.addNat('mobile', options.exitNat ?? 'symmetric');
    const guestNode = await world.addNode('guest', { behind: home });
    const exitNode = await world.addNode('exit', { behind: mobile });
    const [router, web, lan] = [
      await world.addBareNode('router'),
      await world.addBareNode('web'),
      await world.addBareNode('lan'),
    ];
    await world.connect(
      [exitNode, 'eth1', [`${EXIT_OUTSIDE.ipv4}/24`, `${EXIT_OUTSIDE.ipv6}/64`]],
      [router, 'eth0', [`${ROUTER.ipv4}/24`, `${ROUTER.ipv6}/64`]],
    );
    await world.connect(
      [router, 'eth1', ['203.0.113.1/24', '2001:db8:203::1/64']],
      [web, 'eth0', [`${WEB.ipv4}/24`, `${WEB.ipv6}/64`]],
    );
    await world.connect(
      [exitNode, 'eth2', ['192.168.7.1/24', 'fd00:7::1/64']],
      [lan, 'eth0', [`${LAN.ipv4}/24`, `${LAN.ipv6}/64`]],
    );
    await router.sysctl('net.ipv4.ip_forward=1', 'net.ipv6.conf.all.forwarding=1');
    await web.ip('route add default via 203.0.113.1', 'route add ::/0 via 2001:db8:203::1');
    await lan.ip('route add default via 192.168.7.1', 'route add ::/0 via fd00:7::1');
    // The exit's own way to the Internet is the router; the mesh goes by the NAT.
    await exitNode.ip(
      `route add 198.51.100.0/24 via ${mobile.gateway}`,
      'route del default',
      `route add default via ${ROUTER.ipv4}`,
      `route add ::/0 via ${ROUTER.ipv6}`,
    );
    for (const server of [web, outside, lan])
      server.spawn(process.execPath, ['--input-type=module', '-e', SERVER, String(WEB_PORT), '25'], {
        stdio: 'ignore',
      });

    web.spawn(process.execPath, ['--input-type=module', '-e', NAMES], { stdio: 'ignore' });

    const relay = new OmertaNode(world, relayNode, 'relay');
    const [{ invite }] = banner.parse(await relay.start('relay')).networks;
    const joined = (node: Node, name: string): Promise<ExitMember> =>
      memberOf(
        world,
        node,
        name,
        invite,
        options.direct ?? false,
        name === 'exit' && options.stack === true
          ? 'stack'
          : name === 'guest' && options.virtual === true
            ? 'virtual'
            : options.ordinary?.some((each) => each === name) === true
              ? 'private'
              : 'machine',
      );
    const [guest, exit] = [await joined(guestNode, 'guest'), await joined(exitNode, 'exit')];
    const made = new ExitWorld(relay, guest, exit, web, outside, router, lan, home, invite);
    if (options.virtual !== true) await reached(guest, exit.ipv6);
    for (const server of [web, outside]) await serving(server);
    return made;
  }

  /** One more member, at a public address of its own. */
  async addMember(world: World, name: string): Promise<ExitMember> {
    return memberOf(world, await world.addNode(name), name, this.invite, false);
  }

  /** What a web server beyond the exit says the guest's address is; undefined = it was not reached. */
  async fetch(address: string, port = WEB_PORT, timeout = 3): Promise<string | undefined> {
    const { code, stdout } = await this.curl(address, port, timeout);
    return code === 0 ? seenAddress(stdout) : undefined;
  }

  curl(address: string, port = WEB_PORT, timeout = 3): Promise<Finished> {
    const host = address.includes(':') ? `[${address}]` : address;
    return this.guest.node.run('curl', ['-sS', '-g', '-m', String(timeout), `http://${host}:${port}/`]);
  }

  /** Whether the guest leaves by the exit. */
  async leaves(): Promise<boolean> {
    return (await this.fetch(WEB.ipv4, WEB_PORT, 1)) === EXIT_OUTSIDE.ipv4;
  }

  /** Whether a ping of the guest is answered. */
  async ping(address: string): Promise<boolean> {
    const { code } = await this.guest.node.run('ping', ['-n', '-c1', '-W2', address]);
    return code === 0;
  }
}

const STARTED = { machine: [], private: ['--no-tun'], stack: ['--stack'] } as const;

/** Where QEMU is to connect the network device of a member that is a virtual machine's. */
export const machineSocket = ({ state }: OmertaNode): string => join(state, 'vm.sock');

async function memberOf(
  world: World,
  node: Node,
  name: string,
  invite: string,
  direct: boolean,
  inside: 'machine' | 'private' | 'stack' | 'virtual' = 'machine',
): Promise<ExitMember> {
  const omerta = new OmertaNode(world, node, name, { direct, portMapping: 'off' });
  await omerta.command(['network', 'join', '-'], invite);
  if (inside !== 'machine') omerta.becomeOrdinary();
  if (inside === 'stack' || inside === 'virtual') omerta.through = asOrdinaryUser;
  const started = inside === 'virtual' ? ['--guest-socket', machineSocket(omerta)] : STARTED[inside];
  const { mesh } = addresses.parse(await omerta.start('up', '--foreground', ...started));
  const [{ ipv4, ipv6 }] = mesh.networks;
  return { omerta, node, peerId: mesh.peerId, ipv4, ipv6 };
}

/** The address a web server answered with, as it is written of IPv4 too. */
export const seenAddress = (answer: string): string => answer.trim().replace(/^::ffff:/, '');

/** What `omerta exit status` of a member shows. */
export async function exitReportOf({ omerta }: ExitMember): Promise<ExitReport> {
  return (await omerta.request({ command: 'exit-status' })) as ExitReport;
}

/** What a program that changes routing could leave on a host, without what changes by itself. */
export async function hostState(node: Node): Promise<Record<string, string>> {
  const shown = async (file: string, ...args: string[]): Promise<string> => {
    const { stdout } = await node.run(file, args);
    return stdout;
  };
  const lines = (text: string, keep: RegExp): string =>
    text
      .split('\n')
      .filter((line) => keep.test(line) && !/omerta0/.test(line))
      .sort()
      .join('\n');
  return {
    rules4: await shown('ip', '-4', 'rule', 'show'),
    rules6: await shown('ip', '-6', 'rule', 'show'),
    routes4: lines(await shown('ip', '-4', 'route', 'show', 'table', 'all'), /./),
    // What IPv6 learns and forgets is none of it.
    routes6: lines(
      await shown('ip', '-6', 'route', 'show', 'table', 'all'),
      /^(?!.*(proto ra|cache|expires|fe80::))./,
    ),
    nftables: await shown('nft', 'list', 'ruleset'),
    sysctls: lines(await shown('sysctl', '-a'), /^net\.ipv[46]\.(conf|ip_forward)/),
  };
}

async function reached({ node, omerta }: ExitMember, address: string): Promise<void> {
  const ping = ['ping', '-n', '-c1', '-W', '0.3', address];
  const [file = '', ...args] = omerta.isOrdinary ? omerta.typed('exec', '--', ...ping) : ping;
  for (let tries = 0; tries < 200; tries++) {
    const { code } = await node.run(file, args);
    if (code === 0) return;
    await setTimeout(50);
  }
  throw new Error(`${node.name} does not reach ${address}`);
}

async function serving(server: Node): Promise<void> {
  for (let tries = 0; tries < 200; tries++) {
    const { code } = await server.run('curl', ['-sS', '-m', '1', 'http://127.0.0.1/']);
    if (code === 0) return;
    await setTimeout(50);
  }
  throw new Error(`${server.name} does not serve`);
}
