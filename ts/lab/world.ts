// A small Internet made of network namespaces.
//
//     alice            home (NAT)                                   relay
//   +---------+      +------------+      +----------------+      +---------+
//   |     eth0|------|lan      wan|------| switch "net"   |------|eth0     |
//   +---------+      +------------+      +----------------+      +---------+
//     10.1.0.2        10.1.0.1  198.51.100.11                     198.51.100.10
//
// Public addresses come from 198.51.100.0/24 and 2001:db8:100::/64 (RFC 5737, RFC 3849) and exist
// only inside the world. Everything is removed by remove(), when the process exits, and when
// SIGINT, SIGTERM or SIGHUP ends it; what a killed process left behind, the next World removes.

import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, rmSync } from 'node:fs';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import { BpfMount } from './bpf-mount.js';
import { mustRun } from './command.js';
import { Namespace } from './namespace.js';
import { LAN, WAN, natRules, type NatKind } from './nat.js';
import { removePins } from './pins.js';

const NAMESPACES = '/run/netns';
/** om-PID-COUNT-NAME; a world that is kept is omkeep-PID-COUNT-NAME and outlives its process. */
const NAME = /^((om|omkeep)-(\d+)-\d+-)/;
const LINK_MTU = 1500;

/** A machine: one namespace with one interface `eth0`. */
export class Node extends Namespace {
  constructor(
    name: string,
    /** Its IPv4 address: public, or private behind a NAT. */
    readonly address: string,
    /** Its public IPv6 address; undefined behind a NAT. */
    readonly address6: string | undefined,
  ) {
    super(name);
  }
}

/** A router that translates addresses: interfaces `wan` (outside) and `lan` (bridge of its clients). */
export class Nat extends Namespace {
  private connected = 0;

  constructor(
    name: string,
    readonly kind: NatKind,
    /** Its outside IPv4 address: public, or private behind another NAT. */
    readonly address: string,
    private readonly subnet: string,
  ) {
    super(name);
  }

  get gateway(): string {
    return `${this.subnet}.1`;
  }

  /** CIDR of its clients. */
  get clients(): string {
    return `${this.subnet}.0/24`;
  }

  /** The next free private address. */
  nextClient(): { readonly address: string; readonly port: string } {
    this.connected++;
    return { address: `${this.subnet}.${this.connected + 1}`, port: `${LAN}${this.connected}` };
  }
}

export interface NodeOptions {
  /** The NAT this node is behind; public without one. */
  readonly behind?: Nat;
}

export interface NatOptions {
  /** The NAT this one is behind, as in a carrier's network; at a public address without one. */
  readonly behind?: Nat;
  /** Whether its clients reach each other by its outside address (RFC 4787 6); default: not. */
  readonly hairpins?: boolean;
}

export interface WorldOptions {
  /** Leave the world in place when the process ends. */
  readonly keep?: boolean;
}

const worlds = new Set<World>();
let count = 0;

function onSignal(signal: NodeJS.Signals): void {
  for (const world of worlds) world.removeNow();
  process.exit(128 + constants.signals[signal]);
}

function folderOf(prefix: string): string {
  return join(tmpdir(), `${prefix}files`);
}

/** Two processes may remove what a third one left, so all of it may be gone at any moment. */
function removeNamespaces(names: readonly string[]): void {
  for (const name of names) {
    try {
      removeNamespace(name);
    } catch (error) {
      if (namespaceNames().includes(name)) throw error;
    }
  }
  const prefixes = new Set(names.map((name) => NAME.exec(name)?.[1] ?? ''));
  for (const prefix of prefixes) if (prefix !== '') removeFolder(folderOf(prefix));
}

function removeNamespace(name: string): void {
  // Namespaces vanish only when their last process has ended.
  const ids = execFileSync('ip', ['netns', 'pids', name], { encoding: 'utf8' }).split('\n').filter(Boolean);
  for (const id of ids) {
    try {
      process.kill(Number(id), 'SIGKILL');
    } catch {
      // It ended by itself meanwhile.
    }
  }
  removePins(name);
  execFileSync('ip', ['netns', 'delete', name], { stdio: ['ignore', 'ignore', 'pipe'] });
}

/** What was killed a moment ago may still finish the call it is in, and make a file. */
function removeFolder(path: string): void {
  rmSync(path, { recursive: true, force: true, maxRetries: 10, retryDelay: 50 });
}

function namespaceNames(): string[] {
  try {
    return readdirSync(NAMESPACES).filter((name) => NAME.test(name));
  } catch {
    return []; // the folder appears with the first namespace
  }
}

/** Whether a process of this id runs. */
export function isAlive(processId: number): boolean {
  try {
    process.kill(processId, 0);
    return true;
  } catch {
    return false;
  }
}

/** Removes worlds that were kept on purpose; returns the names of their namespaces. */
export function removeKeptWorlds(): string[] {
  const kept = namespaceNames().filter((name) => name.startsWith('omkeep-'));
  removeNamespaces(kept);
  return kept;
}

function removeOrphanedWorlds(): void {
  removeNamespaces(
    namespaceNames().filter((name) => {
      const match = NAME.exec(name);
      return match?.[2] === 'om' && !isAlive(Number(match[3]));
    }),
  );
}

export class World {
  /** What every namespace of this world is called first. */
  readonly prefix: string;
  /** A folder for its files (0700), removed with it. */
  readonly folder: string;
  private readonly namespaces: Namespace[] = [];
  private readonly onExit = (): void => this.removeNow();
  private hosts = 0;
  private nats = 0;
  /** The switch's port each public address is at. */
  private readonly ports = new Map<string, string>();
  private bpf: BpfMount | undefined;
  /** Once there is a second network. */
  private second: Promise<void> | undefined;

  private constructor(
    private readonly net: Namespace,
    prefix: string,
  ) {
    this.prefix = prefix;
    this.folder = folderOf(prefix);
  }

  /** Makes a world with nothing but its public switch. Needs root. */
  static async create(options: WorldOptions = {}): Promise<World> {
    if (process.getuid?.() !== 0)
      throw new Error('a lab world needs root: network namespaces cannot be made without');
    removeOrphanedWorlds();
    const kept = options.keep === true;
    const prefix = `${kept ? 'omkeep' : 'om'}-${process.pid}-${++count}-`;
    const world = new World(new Namespace(`${prefix}net`), prefix);
    if (!kept) {
      if (worlds.size === 0)
        for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, onSignal);
      worlds.add(world);
      process.on('exit', world.onExit);
    }
    mkdirSync(world.folder, { mode: 0o700 });
    await world.addNamespace(world.net);
    await world.net.ip('link add switch type bridge', 'link set switch up');
    return world;
  }

  /** Gives what is started from now on a bpf file system of this world. */
  async mountBpf(): Promise<void> {
    this.bpf ??= await BpfMount.create();
    for (const namespace of this.namespaces) namespace.bpf = this.bpf;
  }

  private async addNamespace(namespace: Namespace): Promise<void> {
    namespace.bpf = this.bpf;
    this.namespaces.push(namespace);
    await mustRun('ip', ['netns', 'add', namespace.name]);
    // It begins with what this machine has, which may be a router.
    await namespace.sysctl('net.ipv4.ip_forward=0');
    await namespace.ip('link set lo up');
  }

  /** A cable from interface `name` of `from` to a port of bridge `bridge` in `to`. */
  private async plug(
    from: Namespace,
    name: string,
    to: Namespace,
    port: string,
    bridge: string,
  ): Promise<void> {
    await from.ip(
      `link add ${name} mtu ${LINK_MTU} type veth peer name ${port} mtu ${LINK_MTU} netns ${to.name}`,
    );
    await to.ip(`link set ${port} master ${bridge}`, `link set ${port} up`);
    await from.ip(`link set ${name} up`);
  }

  private nextPublic(network = 'switch'): {
    readonly address: string;
    readonly address6: string;
    readonly port: string;
  } {
    this.hosts++;
    const host = 9 + this.hosts;
    const [prefix, prefix6] =
      network === 'switch' ? ['198.51.100', '2001:db8:100'] : ['203.0.113', '2001:db8:113'];
    const address = `${prefix}.${host}`;
    const port = `port${this.hosts}`;
    this.ports.set(address, port);
    return { address, address6: `${prefix6}::${host.toString(16)}`, port };
  }

  /** Adds a machine with a public address, or behind a NAT. `name` is unique in this world. */
  async addNode(name: string, options: NodeOptions = {}): Promise<Node> {
    const { behind } = options;
    if (behind !== undefined) {
      const { address, port } = behind.nextClient();
      const node = new Node(this.prefix + name, address, undefined);
      await this.addNamespace(node);
      await this.plug(node, 'eth0', behind, port, LAN);
      await node.ip(`address add ${address}/24 dev eth0`, `route add default via ${behind.gateway}`);
      return node;
    }
    const { address, address6, port } = this.nextPublic();
    const node = new Node(this.prefix + name, address, address6);
    await this.addNamespace(node);
    await this.plug(node, 'eth0', this.net, port, 'switch');
    await node.ip(`address add ${address}/24 dev eth0`, `address add ${address6}/64 dev eth0 nodad`);
    return node;
  }

  /** Gives a machine one more interface with a public IPv4 address, which it returns. */
  async addUplink(node: Node, name: string): Promise<string> {
    return this.uplink(node, name, 'switch');
  }

  /**
   * The same in a second network, 203.0.113.0/24 (RFC 5737), that has no connection to the first: what is in both
   * has two ways to another that is in both.
   */
  async addSecondUplink(node: Node, name: string): Promise<string> {
    this.second ??= this.net.ip('link add second type bridge', 'link set second up');
    await this.second;
    // Linux answers in each network for the addresses it has in the other: then each would lead to both.
    await node.sysctl('net.ipv4.conf.all.arp_ignore=1');
    return this.uplink(node, name, 'second');
  }

  private async uplink(node: Node, name: string, network: string): Promise<string> {
    const { address, port } = this.nextPublic(network);
    await this.plug(node, name, this.net, port, network);
    await node.ip(`address add ${address}/24 dev ${name}`);
    return address;
  }

  /** Adds a machine with no interface; `connect` gives it some. */
  async addBareNode(name: string): Promise<Node> {
    const node = new Node(this.prefix + name, '', undefined);
    await this.addNamespace(node);
    return node;
  }

  /** A cable between two machines: its ends are interfaces of these names, with these addresses (`192.0.2.1/24`). */
  async connect(
    [from, name, addresses]: readonly [Namespace, string, readonly string[]],
    [to, otherName, otherAddresses]: readonly [Namespace, string, readonly string[]],
  ): Promise<void> {
    await from.ip(
      `link add ${name} mtu ${LINK_MTU} type veth peer name ${otherName} mtu ${LINK_MTU} netns ${to.name}`,
    );
    const set = (device: string, wanted: readonly string[]): string[] => [
      ...wanted.map(
        (address) => `address add ${address} dev ${device}${address.includes(':') ? ' nodad' : ''}`,
      ),
      `link set ${device} up`,
    ];
    await from.ip(...set(name, addresses));
    await to.ip(...set(otherName, otherAddresses));
  }

  /**
   * What has this public address is cut off: the switch drops all it sends and gets, and its interface stays up. With
   * `false` it is connected again.
   */
  async cut(address: string, isCut = true): Promise<void> {
    const port = this.portOf(address);
    const chain = (hook: string): string =>
      `chain ${hook} { type filter hook ${hook} device ${port} priority 0; policy drop; };`;
    await this.net.nft(
      isCut
        ? `table netdev cut_${port} { ${chain('ingress')} ${chain('egress')} }\n`
        : `delete table netdev cut_${port}\n`,
    );
  }

  /** Packets that what has this public address has sent into the network. */
  async sentBy(address: string): Promise<number> {
    return (await this.net.received(this.portOf(address))).packets;
  }

  private portOf(address: string): string {
    const port = this.ports.get(address);
    if (port === undefined) throw new Error(`no interface has the public address ${address}`);
    return port;
  }

  /** Adds a NAT router of the given kind. */
  async addNat(name: string, kind: NatKind, options: NatOptions = {}): Promise<Nat> {
    const { behind, hairpins = false } = options;
    const { address, port } = behind?.nextClient() ?? this.nextPublic();
    const nat = new Nat(this.prefix + name, kind, address, `10.${++this.nats}.0`);
    await this.addNamespace(nat);
    if (behind === undefined) await this.plug(nat, WAN, this.net, port, 'switch');
    else await this.plug(nat, WAN, behind, port, LAN);
    await nat.ip(
      `address add ${address}/24 dev ${WAN}`,
      ...(behind === undefined ? [] : [`route add default via ${behind.gateway}`]),
      `link add ${LAN} type bridge`,
      `address add ${nat.gateway}/24 dev ${LAN}`,
      `link set ${LAN} up`,
    );
    await nat.sysctl('net.ipv4.ip_forward=1');
    // Where br_netfilter is loaded, packets between clients would be translated on their way through the bridge and not
    // be routed; where it is not, there is no such setting.
    await nat.mustRun('sysctl', ['-eqw', 'net.bridge.bridge-nf-call-iptables=0']);
    if (hairpins)
      await nat.sysctl('net.ipv4.conf.all.send_redirects=0', 'net.ipv4.conf.lan.send_redirects=0');
    await nat.nft(natRules(kind, hairpins ? { address, clients: nat.clients } : undefined));
    return nat;
  }

  /** Ends every process in the world and removes it. Idempotent. */
  remove(): void {
    this.removeNow();
    worlds.delete(this);
    process.off('exit', this.onExit);
    if (worlds.size === 0)
      for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.off(signal, onSignal);
  }

  /** Synchronous, because nothing else runs while a process exits. */
  removeNow(): void {
    const namespaces = this.namespaces.splice(0);
    for (const namespace of namespaces) namespace.killChildren();
    const present = namespaceNames();
    removeNamespaces(namespaces.map(({ name }) => name).filter((name) => present.includes(name)));
    this.bpf?.close();
    this.bpf = undefined;
    removeFolder(this.folder);
  }
}
