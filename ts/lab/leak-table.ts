// What can leave a machine beside its tunnel: a probe of each kind, sent by a program that was started before an exit was
// used, and a capture of what then came out of the machine, taken at its router.

import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout } from 'node:timers/promises';
import type { Namespace } from './namespace.js';
import type { Node, World } from './world.js';

export interface Leak {
  readonly kind: string;
  readonly probe: string;
  /** What of it is seen in a line of tcpdump. */
  readonly seen: RegExp;
}

const target = (host: number): string => `203.0.113.${host}`;
const to = (host: number): RegExp => new RegExp(`> 203\\.0\\.113\\.${host}[.: ]`);

/** @param inner the machine's IPv4 address in the tunnel; @param gateway its router */
export function leaks(inner: string, gateway: string, relay: string): readonly Leak[] {
  const quoted = (text: string): string => text.replaceAll('.', '\\.');
  return [
    { kind: 'IPv4', probe: 'TCP to the Internet', seen: to(101) },
    { kind: 'IPv4', probe: 'UDP to the Internet', seen: to(102) },
    { kind: 'IPv4', probe: 'ping to the Internet', seen: to(103) },
    { kind: 'IPv4', probe: 'TCP to the gateway', seen: new RegExp(`> ${quoted(gateway)}\\.81[ :]`) },
    { kind: 'IPv6', probe: 'UDP to the Internet', seen: /> 2001:db8:203::102\.9[ :]/ },
    { kind: 'IPv6', probe: 'ping to the Internet', seen: /> 2001:db8:203::103:/ },
    {
      kind: 'DNS',
      probe: 'question to the LAN\u2019s resolver',
      seen: new RegExp(`> ${quoted(gateway)}\\.53:`),
    },
    { kind: 'DNS', probe: 'question to a public resolver', seen: to(104) },
    { kind: 'DNS', probe: 'mDNS', seen: /> 224\.0\.0\.251\.5353/ },
    { kind: 'DNS', probe: 'LLMNR', seen: /> 224\.0\.0\.252\.5355/ },
    { kind: 'sockets', probe: 'SO_BINDTODEVICE', seen: to(105) },
    { kind: 'sockets', probe: 'bound to the uplink\u2019s address', seen: to(106) },
    { kind: 'sockets', probe: 'open since before', seen: to(107) },
    { kind: 'raw', probe: 'ICMP by a raw socket', seen: to(108) },
    { kind: 'raw', probe: 'a frame by AF_PACKET', seen: to(109) },
    { kind: 'forwarded', probe: 'ping of a container', seen: to(110) },
    { kind: 'routes', probe: 'a host route by the gateway (DHCP option 121)', seen: to(111) },
    { kind: 'routes', probe: 'a public prefix on-link', seen: to(112) },
    {
      kind: 'endpoint',
      probe: 'unmarked, to the relay\u2019s port',
      seen: new RegExp(`\\.40001 > ${quoted(relay)}\\.51900`),
    },
    {
      kind: 'inbound',
      probe: 'answer to a SYN for the inner address',
      seen: new RegExp(`IP ${quoted(inner)}\\.81 >`),
    },
    {
      kind: 'inbound',
      probe: 'answer to ARP for the inner address',
      seen: new RegExp(`Reply ${quoted(inner)} is-at`),
    },
  ];
}

/** Sends one probe of each kind for every line it reads. Python, because Node.js has neither raw nor packet sockets. */
const PROBER = `
import errno, fcntl, os, socket, struct, subprocess, sys
source, gateway, gateway_mac, relay, container = sys.argv[1:6]
def quietly(send):
    try: send()
    except OSError: pass
def udp(address, port, *options, bind=None, family=socket.AF_INET):
    def send():
        with socket.socket(family, socket.SOCK_DGRAM) as s:
            for level, name, value in options: s.setsockopt(level, name, value)
            if bind: s.bind(bind)
            s.sendto(b'omerta leak probe', (address, port))
    quietly(send)
def tcp(address, port):
    def send():
        with socket.socket() as s:
            s.setblocking(False)
            s.connect_ex((address, port))
    quietly(send)
def checksum(data):
    total = sum(struct.unpack('!%dH' % (len(data) // 2), data))
    total = (total >> 16) + (total & 0xffff)
    return ~(total + (total >> 16)) & 0xffff
def icmp():
    body = struct.pack('!BBHHH', 8, 0, 0, 1, 1)
    return struct.pack('!BBHHH', 8, 0, checksum(body), 1, 1)
def raw():
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as s: s.sendto(icmp(), ('${target(108)}', 0))
def mac(device):
    with socket.socket() as s: return fcntl.ioctl(s, 0x8927, struct.pack('256s', device.encode()))[18:24]
def frame():
    header = struct.pack('!BBHHHBBH4s4s', 0x45, 0, 28, 1, 0, 64, 1, 0, socket.inet_aton(source), socket.inet_aton('${target(109)}'))
    header = header[:10] + struct.pack('!H', checksum(header)) + header[12:]
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as s:
        s.bind(('eth0', 0x0800))
        s.send(bytes.fromhex(gateway_mac.replace(':', '')) + mac('eth0') + b'\\x08\\x00' + header + icmp())
def ping(*arguments):
    subprocess.Popen(['ping', '-n', '-c1', '-W1', *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
early = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
early.connect(('${target(107)}', 9))
print('ready', flush=True)
for _ in sys.stdin:
    tcp('${target(101)}', 80)
    udp('${target(102)}', 9)
    ping('${target(103)}')
    tcp(gateway, 81)
    udp('2001:db8:203::102', 9, family=socket.AF_INET6)
    ping('2001:db8:203::103')
    udp(gateway, 53)
    udp('${target(104)}', 53)
    udp('224.0.0.251', 5353, (socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(source)))
    udp('224.0.0.252', 5355, (socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(source)))
    udp('${target(105)}', 9, (socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b'eth0'))
    udp('${target(106)}', 9, (socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b'eth0'), bind=(source, 0))
    quietly(lambda: early.send(b'omerta leak probe'))
    quietly(raw)
    quietly(frame)
    subprocess.Popen(['nsenter', '--net=/run/netns/' + container, '--', 'ping', '-n', '-c1', '-W1', '${target(110)}'], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    udp('${target(111)}', 9)
    udp('${target(112)}', 9)
    udp(relay, 51900, (socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b'eth0'), bind=('', 40001))
    print('sent', flush=True)
`;

export interface LeakWorld {
  readonly machine: Node;
  /** What the machine's uplink ends at. */
  readonly router: Namespace & { readonly gateway: string };
  readonly inner: string;
  readonly relay: string;
}

/** What one round of probes came to. */
export interface LeakRound {
  readonly leaked: readonly Leak[];
  /** Lines of what came out, and was neither a probe, nor the engine's, nor what a link needs. */
  readonly others: readonly string[];
}

export class LeakProbes {
  readonly #lines: string[] = [];

  private constructor(
    readonly leaks: readonly Leak[],
    private readonly world: LeakWorld,
    private readonly prober: ChildProcess,
    private readonly tcpdump: ChildProcess,
  ) {}

  /** Sets the machine up so that without a guard all of it leaks. */
  static async start(world: World, made: LeakWorld): Promise<LeakProbes> {
    const { machine, router, inner, relay } = made;
    const container = await world.addBareNode('container');
    await world.connect([machine, 'c0', ['172.30.0.1/24']], [container, 'eth0', ['172.30.0.2/24']]);
    await container.ip('route add default via 172.30.0.1');
    await machine.sysctl('net.ipv4.ip_forward=1');
    await router.ip('address add 2001:db8:10::1/64 dev lan nodad');
    const routerMac = await macOf(router, 'lan');
    await machine.ip('address add 2001:db8:10::2/64 dev eth0 nodad');
    await addRoutes(made);
    // Somebody on the link sends to the inner address.
    await router.ip(`route add ${inner}/32 dev lan`);
    const mac = await macOf(machine, 'eth0');
    const tcpdump = router.spawn('tcpdump', ['-l', '-nn', '-i', 'lan', `ether src ${mac}`], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const prober = machine.spawn(
      'python3',
      ['-c', PROBER, machine.address, router.gateway, routerMac, relay, container.name],
      { stdio: ['pipe', 'pipe', 'inherit'] },
    );
    if (tcpdump.stdout === null || tcpdump.stderr === null || prober.stdout === null)
      throw new Error('no pipes');
    const probes = new LeakProbes(leaks(inner, router.gateway, relay), made, prober, tcpdump);
    let rest = '';
    tcpdump.stdout.setEncoding('utf8').on('data', (text: string) => {
      const lines = (rest + text).split('\n');
      rest = lines.pop() ?? '';
      probes.#lines.push(...lines);
    });
    await Promise.all([once(tcpdump.stderr, 'data'), once(prober.stdout, 'data')]);
    return probes;
  }

  /** Sends each probe twice and tells what came out. */
  async round(): Promise<LeakRound> {
    const { router, inner } = this.world;
    this.#lines.length = 0;
    for (let time = 0; time < 2; time++) {
      const sent = once(this.prober.stdout ?? this.prober, 'data');
      this.prober.stdin?.write('go\n');
      await router.run('ip', ['neighbor', 'flush', 'to', inner]);
      const knock = router.run('curl', ['-sS', '-m', '1', `http://${inner}:81/`]);
      await Promise.all([sent, knock]);
      // ARP, so that it could be reached at all, is a probe of its own.
      await router.run('ip', [
        'neighbor',
        'replace',
        inner,
        'lladdr',
        await macOf(this.world.machine, 'eth0'),
        'dev',
        'lan',
      ]);
      await router.run('curl', ['-sS', '-m', '1', `http://${inner}:81/`]);
    }
    await setTimeout(300);
    const lines = [...this.#lines];
    const isExpected = (line: string): boolean =>
      this.leaks.some(({ seen }) => seen.test(line)) ||
      /\.51900 > |ARP, Re|neighbor (solicitation|advertisement)|router solicitation|bootps|dhcpv6/.test(line);
    return {
      leaked: this.leaks.filter(({ seen }) => lines.some((line) => seen.test(line))),
      others: lines.filter((line) => !isExpected(line)),
    };
  }

  stop(): void {
    this.prober.kill('SIGKILL');
    this.tcpdump.kill('SIGKILL');
  }
}

/** Ways of the machine that probes go by; an uplink that was down has lost them. */
export async function addRoutes({ machine, router }: LeakWorld): Promise<void> {
  await machine.ip(
    'route add ::/0 via 2001:db8:10::1',
    `route add ${target(111)}/32 via ${router.gateway}`,
    `route add ${target(112)}/32 dev eth0`,
    `neighbor replace ${target(112)} lladdr ${await macOf(router, 'lan')} dev eth0 nud permanent`,
  );
}

async function macOf(node: Namespace, device: string): Promise<string> {
  const printed = await node.mustRun('ip', ['-json', 'link', 'show', 'dev', device]);
  return (JSON.parse(printed) as { address: string }[])[0]?.address ?? '';
}
