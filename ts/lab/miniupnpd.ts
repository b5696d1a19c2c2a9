// Debian's miniupnpd on a NAT of the world: the gateway that port mappings are asked of, by PCP, NAT-PMP and UPnP.
// What it was told to let in is read from its own nftables rules.

import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fromHex } from '../wire/bytes.js';
import { formatIp } from '../wire/socket-address.js';
import { LAN, WAN } from './nat.js';
import type { Nat, Node, World } from './world.js';

export const MINIUPNPD = '/usr/sbin/miniupnpd';
/**
 * Of the addresses NATs with it have outside, which exist in the world alone: it does not map where its own address is
 * one of those for documentation.
 */
const MAPPABLE_PREFIX = '11.22.33';

const TABLE = 'upnp';
const FIREWALL6 =
  'chain forward { type filter hook forward priority 0; ct state established,related accept; jump miniupnpd; ' +
  `iifname "${WAN}" meta nfproto ipv6 drop; }`;
/** Of the router, in its LAN. */
export const ROUTER6 = 'fe80::1';
const STARTED_MS = 5000;

export interface MiniupnpdOptions {
  readonly natPmpAndPcp: boolean;
  readonly upnp: boolean;
  /** What it says of itself instead of its own address: a gateway may lie. */
  readonly externalIp?: string;
  /**
   * It is a router of IPv6 as well, whose firewall lets in what was asked for and answers: the LAN has this /64 (`…::`), and
   * the machine that reaches it from outside a route there. Default: no IPv6.
   */
  readonly prefix6?: string;
  /** Seconds that a mapping lasts at most. */
  readonly longestLifetime?: number;
}

/** A mapping as the rules say it. */
export interface Redirection {
  readonly externalPort: number;
  /** `ip:port`. */
  readonly to: string;
}

export class Miniupnpd {
  readonly #nat: Nat;
  readonly #file: string;
  #process: ChildProcess | undefined;

  private constructor(
    nat: Nat,
    file: string,
    /** What its NAT has outside. */
    readonly address: string,
  ) {
    this.#nat = nat;
    this.#file = file;
  }

  /** Has a machine at a public address answer NATs that have such gateways. */
  static async reach(node: Node): Promise<void> {
    await node.ip(`route add ${MAPPABLE_PREFIX}.0/24 dev eth0`);
  }

  /** Starts it on this NAT, which gets another address outside. */
  static async start(world: World, nat: Nat, options: MiniupnpdOptions): Promise<Miniupnpd> {
    const yes = (on: boolean): string => (on ? 'yes' : 'no');
    const lines = [
      `ext_ifname=${WAN}`,
      ...(options.externalIp === undefined ? [] : [`ext_ip=${options.externalIp}`]),
      'listening_ip=lan',
      'port=0',
      `enable_natpmp=${yes(options.natPmpAndPcp)}`,
      `enable_upnp=${yes(options.upnp)}`,
      `ipv6_disable=${options.prefix6 === undefined ? 'yes' : 'no'}`,
      'secure_mode=yes',
      'min_lifetime=2',
      `max_lifetime=${options.longestLifetime ?? 86_400}`,
      `upnp_table_name=${TABLE}`,
      `upnp_nat_table_name=${TABLE}`,
      'uuid=10692daf-d548-4123-8fd1-2711812bdc96',
    ];
    const file = join(world.folder, `${nat.name}-miniupnpd.conf`);
    writeFileSync(file, `${lines.join('\n')}\n`);
    await nat.nft(
      [
        `table inet ${TABLE} {`,
        'chain prerouting { type nat hook prerouting priority -110; jump prerouting_miniupnpd; }',
        'chain postrouting { type nat hook postrouting priority 90; jump postrouting_miniupnpd; }',
        'chain miniupnpd { }',
        ...(options.prefix6 === undefined ? [] : [FIREWALL6]),
        'chain prerouting_miniupnpd { }',
        'chain postrouting_miniupnpd { }',
        '}',
        '',
      ].join('\n'),
    );
    // What is sent to all hosts of a network wants a way there.
    await nat.ip('route add 224.0.0.0/4 dev lan');
    const address = nat.address.replace(/^\d+\.\d+\.\d+/, MAPPABLE_PREFIX);
    const others = nat.address.replace(/\.\d+$/, '.0/24');
    await nat.ip(
      `address add ${address}/24 dev ${WAN}`,
      `address delete ${nat.address}/24 dev ${WAN}`,
      `route add ${others} dev ${WAN}`,
    );
    if (options.prefix6 !== undefined) await routeIpv6(nat, options.prefix6);
    const gateway = new Miniupnpd(nat, file, address);
    await gateway.run();
    return gateway;
  }

  /** Starts it (again): it knows nothing of mappings it gave before. */
  async run(): Promise<void> {
    const child = this.#nat.spawn(MINIUPNPD, ['-d', '-f', this.#file, '-P', `${this.#file}.pid`], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#process = child;
    let said = '';
    for (const stream of [child.stdout, child.stderr]) stream?.on('data', (part) => (said += String(part)));
    const deadline = performance.now() + STARTED_MS;
    while (!/listening on|Listening for NAT-PMP/i.test(said)) {
      if (child.exitCode !== null || performance.now() > deadline)
        throw new Error(`miniupnpd does not start: ${said}`);
      await sleep(20);
    }
  }

  /** SIGKILL, and its rules go: as when the router loses its power. */
  async kill(): Promise<void> {
    const child = this.#process;
    if (child === undefined || child.exitCode !== null) return;
    const gone = once(child, 'exit');
    child.kill('SIGKILL');
    await gone;
    for (const chain of ['miniupnpd', 'prerouting_miniupnpd', 'postrouting_miniupnpd'])
      await this.#nat.mustRun('nft', ['flush', 'chain', 'inet', TABLE, chain]);
  }

  /** What its firewall lets in of IPv6: `[ip]:port`. */
  async pinholes(): Promise<string[]> {
    const rules = await this.#nat.mustRun('nft', ['-n', 'list', 'chain', 'inet', TABLE, 'miniupnpd']);
    // It writes where packets lead to as raw bytes of their header.
    return [...rules.matchAll(/dport (\d+) @nh,192,128 0x([0-9a-f]{32}) .*accept/g)].map(
      ([, port = '', ip = '']) => `[${formatIp(fromHex(ip) ?? new Uint8Array(16))}]:${port}`,
    );
  }

  /** The mappings it has made rules of. */
  async redirections(): Promise<Redirection[]> {
    const rules = await this.#nat.mustRun('nft', [
      '-n',
      'list',
      'chain',
      'inet',
      TABLE,
      'prerouting_miniupnpd',
    ]);
    return [...rules.matchAll(/dport (\d+).* dnat ip to ([0-9.]+:\d+)/g)].map(([, port, to = '']) => ({
      externalPort: Number(port),
      to,
    }));
  }
}

/** Has a NAT forward IPv6, which it does not translate. */
async function routeIpv6(nat: Nat, prefix: string): Promise<void> {
  await nat.sysctl('net.ipv6.conf.all.forwarding=1');
  await nat.ip(
    `address add ${outside6(nat)}/64 dev ${WAN} nodad`,
    `address add ${prefix}1/64 dev ${LAN} nodad`,
    `address add ${ROUTER6}/64 dev ${LAN} nodad`,
  );
}

/** The IPv6 address of such a router outside, by which others have a route to its LAN. */
export function outside6({ address }: Nat): string {
  return `2001:db8:100::ff:${address.split('.').at(-1) ?? ''}`;
}
