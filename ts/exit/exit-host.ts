// The host's half of exits: from what is served and used, and from what the host is like, come the changes that are
// to be made on it. One thing at a time; what was asked for last counts.

import { networkInterfaces } from 'node:os';
import type { ExitRule } from '../contract/exit-control.js';
import type { ExitGuest, ExitInUse, RouteInUse } from '../core/runtime/exit-change.js';
import { defaultRouteDevices, gatewayRouteDevices, hostSettings } from '../host/host-tuning.js';
import { ExitCode, messageOf, OperatorError } from '../host/operator-error.js';
import { parsePrefix } from '../wire/prefix.js';
import { parseIp } from '../wire/socket-address.js';
import { MACHINE_NAMES } from './dns-forwarder.js';
import type { ExitPlace } from './exit-place.js';
import {
  exitRules,
  interfaceTowards,
  lanRules,
  onLinkRanges,
  ownRanges,
  type Interfaces,
} from './denied-ranges.js';
import type { GuardFacts } from './guard-table.js';
import { kernelSysctls, type HostChange, type Sysctls, type Undo } from './host-change.js';
import { HostChanges } from './host-changes.js';
import { runCommand, type RunCommand } from './host-commands.js';
import { readCounters } from './nft-counters.js';
import { serveChanges, TIMEOUT_PROBE, type GuestAddress } from './serve-changes.js';
import { BOOT_TABLE, EXIT_TABLE, GUARD_TABLE, MAIN_TABLE, SERVE_TABLE } from './exit-numbers.js';
import { isOnLink, routeChanges } from './route-changes.js';
import { SOCKET_PROBE, strictInterfaces, useChanges } from './use-changes.js';

/** The host keeps forwarding for a guest a little longer than its lease: the engine ends it to the moment. */
const GRACE_SECONDS = 5;
/** So often it is looked whether others have taken away what was changed: three or four programs. */
const LOOK_MS = 5000;

export interface Serving {
  readonly ipv4: boolean;
  readonly ipv6: boolean;
  readonly lan: readonly string[];
  readonly chain: boolean;
}

export interface Using {
  readonly allowLan: boolean;
  readonly include: readonly string[];
  readonly exclude: readonly string[];
  /** Whether nothing leaves but by the tunnel, whatever happens to this process. */
  readonly paranoid: boolean;
}

/** LANs behind this host, and those behind members. */
export interface Routing {
  readonly advertised: readonly string[];
  readonly accepted: readonly string[];
}

/** What is to be; undefined = no exit of that kind, no routes. */
export interface ExitWish {
  readonly tunnel: string;
  readonly port: number;
  readonly serving: Serving | undefined;
  readonly using: Using | undefined;
  readonly routing?: Routing | undefined;
}

/** The machine; tests give another. */
export interface ExitHostOptions {
  readonly journal: string;
  /** Monotonic milliseconds. */
  readonly now: () => number;
  readonly run?: RunCommand;
  readonly sysctls?: Sysctls;
  readonly interfaces?: () => Interfaces;
  /** Devices of routes that lead beyond other machines. */
  readonly uplinks?: () => readonly string[];
  readonly boot?: string;
}

/** As `nft -json list chains` prints one. */
interface PrintedChain {
  readonly family: string;
  readonly table: string;
  readonly name: string;
  readonly hook?: string;
  readonly policy?: string;
}

export class ExitHost implements ExitPlace {
  readonly isMachine = true;
  readonly backend = 'kernel';
  readonly names = MACHINE_NAMES;
  readonly gateway = undefined;
  readonly #run: RunCommand;
  readonly #sysctls: Sysctls;
  readonly #changes: HostChanges;
  readonly #options: ExitHostOptions;
  #wish: ExitWish | undefined;
  #guests: readonly (Pick<GuestAddress, 'of' | 'address'> & { readonly until: number })[] = [];
  #use: ExitInUse | undefined;
  #routes: readonly RouteInUse[] = [];
  /** Whether nftables knows sockets; undefined = it was not needed yet. */
  #knowsSockets: boolean | undefined;
  /** Likewise how long the kernel remembers a flow. */
  #knowsTimeouts: boolean | undefined;
  /** What the host was like when it was changed last. */
  #seen = '';
  #lookedAt = -Infinity;
  /** What has not begun yet, and will bring the host to all that is asked for until then. */
  #waiting: Promise<void> | undefined;
  #busy: Promise<void> = Promise.resolve();
  /** Why the host is not as it should be; undefined = it is. */
  error: string | undefined;

  constructor(options: ExitHostOptions) {
    this.#options = options;
    this.#run = options.run ?? runCommand;
    this.#sysctls = options.sysctls ?? kernelSysctls;
    this.#changes = new HostChanges({
      journal: options.journal,
      run: this.#run,
      sysctls: this.#sysctls,
      boot: options.boot ?? hostSettings.read('/proc/sys/kernel/random/boot_id')?.trim() ?? '',
    });
  }

  /** Whether anything is changed on the host, by this process or one before it. */
  get isChanged(): boolean {
    return this.#changes.any;
  }

  /** Brings the host to this. @throws OperatorError; what was closed stays closed. */
  set(wish: ExitWish): Promise<void> {
    this.#wish = wish;
    if (wish.using === undefined) this.#use = undefined;
    this.#guests = this.#guests.filter(({ of }) =>
      of === 'exit' ? wish.serving !== undefined : isAdvertising(wish),
    );
    if (!isAccepting(wish)) this.#routes = [];
    return this.#apply();
  }

  setGuests(of: GuestAddress['of'], guests: readonly ExitGuest[]): Promise<void> {
    const now = this.#options.now();
    this.#guests = [
      ...this.#guests.filter((guest) => guest.of !== of),
      ...guests.flatMap(({ addresses, lifetimeMs }) =>
        addresses.map((address) => ({ of, address, until: now + lifetimeMs })),
      ),
    ];
    return this.#apply();
  }

  setRoutesInUse(routes: readonly RouteInUse[]): Promise<void> {
    this.#routes = routes;
    return this.#apply();
  }

  setInUse(use: ExitInUse | undefined): Promise<void> {
    this.#use = use;
    return this.#apply();
  }

  /** When all that was asked for so far is done, or has failed. */
  get done(): Promise<void> {
    return this.#busy;
  }

  /** Looks whether the host has changed, or something could not be done before, and if so does it. */
  async check(): Promise<boolean> {
    if (this.#wish === undefined) return false;
    const isAsSeen = this.error === undefined && this.#facts() === this.#seen;
    if (isAsSeen && (await this.#isWhole())) return false;
    await this.#apply();
    return isAsSeen;
  }

  /** Undoes everything. @throws OperatorError naming what could not be undone. */
  clear(): Promise<void> {
    this.#wish = undefined;
    this.#waiting = undefined; // what is asked for after this is done after it
    return this.#queue(async () => {
      await this.#changes.clear();
      this.error = undefined;
    });
  }

  /** Without a daemon: undoes what is there because something was served; what is closed stays closed. @throws OperatorError */
  clearServing(): Promise<void> {
    return this.#queue(() => this.#changes.clear(isForServing));
  }

  /** Likewise what is there because of LANs: nothing is served without a daemon. @throws OperatorError */
  clearRoutes(): Promise<void> {
    return this.#queue(() => this.#changes.clear((undo) => isForServing(undo) || isForRoutes(undo)));
  }

  /** The daemon ends: nothing is served any more, and what is closed stays closed. @throws OperatorError */
  keepClosed(): Promise<void> {
    const wish = this.#wish;
    this.#use = undefined;
    if (wish !== undefined) this.#wish = { ...wish, serving: undefined, routing: undefined };
    return this.#apply();
  }

  /** What the engine forwards to. */
  rules(lan: readonly string[], tunnel: string): ExitRule[] {
    return exitRules(ownRanges(this.#interfaces(), tunnel), lan);
  }

  lanRules(advertised: readonly string[], tunnel: string): ExitRule[] {
    return lanRules(ownRanges(this.#interfaces(), tunnel), advertised);
  }

  /** Of prefixes, those that are on-link here: no route leads there. */
  onLink(prefixes: readonly string[], tunnel: string): string[] {
    const ranges = ownRanges(this.#interfaces(), tunnel);
    return prefixes.filter((prefix) => isOnLink(prefix, ranges));
  }

  /**
   * What else on this host sends everything elsewhere by a rule of its own.
   * @throws OperatorError naming it.
   */
  async requireNoRival(): Promise<void> {
    for (const family of [4, 6] as const) {
      const printed = await this.#run('ip', ['-json', `-${family}`, 'rule', 'show']).catch(() => '[]');
      const rules = JSON.parse(printed === '' ? '[]' : printed) as readonly {
        priority: number;
        table?: string;
      }[];
      for (const { priority, table } of rules) {
        if (table === undefined || ['local', 'main', 'default', String(EXIT_TABLE)].includes(table)) continue;
        const routes = await this.#run('ip', ['-json', `-${family}`, 'route', 'show', 'table', table]).catch(
          () => '[]',
        );
        const isRival = (JSON.parse(routes === '' ? '[]' : routes) as readonly { dst: string }[]).some(
          ({ dst }) => dst === 'default',
        );
        // Tables behind main are asked only where main knows no way.
        if (isRival && priority < 32_766)
          throw new OperatorError(
            ExitCode.failure,
            'exit',
            `another program sends everything by a table of its own (ip -${family} rule ${priority}, table ${table}); with two of them neither knows where packets go`,
            `See whose it is (ip -${family} route show table ${table}), stop that program, and type the command again`,
          );
      }
    }
  }

  /**
   * Chains of other programs that drop what is forwarded unless they know it, as Docker's and ufw's do: no table of ours
   * can undo that. `family table chain`; empty where nft cannot be asked.
   */
  async foreignDrops(): Promise<string[]> {
    const printed = await this.#run('nft', ['-json', 'list', 'chains']).catch(() => '{"nftables":[]}');
    const { nftables } = JSON.parse(printed) as {
      readonly nftables: readonly { readonly chain?: PrintedChain }[];
    };
    return nftables.flatMap(({ chain }) =>
      chain?.hook === 'forward' && chain.policy === 'drop' && ![GUARD_TABLE, BOOT_TABLE].includes(chain.table)
        ? [`${chain.family} ${chain.table} ${chain.name}`]
        : [],
    );
  }

  /** New flows of guests that were refused at a cap, by counter (CAP_COUNTERS); empty where nft cannot be asked. */
  capped(): Promise<Readonly<Record<string, number>>> {
    return readCounters(this.#run, SERVE_TABLE);
  }

  innerAddresses(own: readonly string[]): readonly string[] {
    const present = Object.values(this.#interfaces()).flatMap(
      (infos) => infos?.map(({ address }) => address) ?? [],
    );
    return own.filter((address) => present.includes(address));
  }

  /** One that waits is enough: guests may come and go faster than programs run. */
  #apply(): Promise<void> {
    const waiting =
      this.#waiting ??
      this.#queue(async () => {
        if (this.#waiting === waiting) this.#waiting = undefined;
        const wish = this.#wish;
        if (wish === undefined) return;
        if (wish.using !== undefined && this.#strictInterfaces(wish.tunnel).length > 0)
          this.#knowsSockets ??= await this.#accepts(SOCKET_PROBE);
        if (wish.serving !== undefined || isAdvertising(wish))
          this.#knowsTimeouts ??= await this.#accepts(TIMEOUT_PROBE);
        const seen = this.#facts();
        await this.#changes.set(this.#wanted(wish, this.#use)).catch(async (error: unknown) => {
          if (wish.using?.paranoid === true) await this.#closeByRoutes(wish);
          throw error;
        });
        this.#seen = seen;
        this.error = undefined;
      });
    this.#waiting = waiting;
    return waiting;
  }

  #strictInterfaces(tunnel: string): string[] {
    return strictInterfaces(Object.keys(this.#interfaces()), tunnel, this.#sysctls);
  }

  /** Whether nftables knows all that is in there. */
  #accepts(probe: string): Promise<boolean> {
    return this.#run('nft', ['-c', '-f', '-'], probe).then(
      () => true,
      () => false,
    );
  }

  /** Where the guard cannot be made: nothing leaves by an exit until it is, and by routes nowhere. */
  async #closeByRoutes(wish: ExitWish): Promise<void> {
    const using = wish.using && { ...wish.using, paranoid: false };
    const closed = this.#wanted({ ...wish, using, serving: undefined, routing: undefined }, undefined);
    await this.#changes
      .add(closed.filter(({ kind }) => kind === 'routes' || kind === 'rule'))
      .catch(() => undefined); // what kept the guard from being made is said
  }

  /** Looked at now and then. */
  async #isWhole(): Promise<boolean> {
    const now = this.#options.now();
    if (now - this.#lookedAt < LOOK_MS) return true;
    this.#lookedAt = now;
    const done = this.#busy;
    await done;
    // What is changed while it is looked at is not what others did.
    return (await this.#changes.isWhole()) || this.#busy !== done;
  }

  #queue(run: () => Promise<void>): Promise<void> {
    const done = this.#busy.then(run).catch((error: unknown) => {
      this.error = messageOf(error);
      throw error instanceof OperatorError
        ? error
        : new OperatorError(ExitCode.failure, 'exit', this.error, 'See docs/exit.md, "When it fails"');
    });
    this.#busy = done.catch(() => undefined);
    return done;
  }

  /** Closing comes first: rules and routes of the exit in use, then what is served. */
  #wanted(wish: ExitWish, use: ExitInUse | undefined): HostChange[] {
    const { tunnel, port, serving, using } = wish;
    const { accepted, advertised } = wish.routing ?? { accepted: [], advertised: [] };
    const interfaces = this.#interfaces();
    const hasIpv6 = this.#sysctls.read('net/ipv6/conf/all/forwarding') !== undefined;
    const granted = this.#granted(accepted, interfaces[tunnel] ?? []);
    const changes: HostChange[] = [];
    if (using !== undefined)
      changes.push(
        ...useChanges({
          tunnel,
          meshes: (interfaces[tunnel] ?? []).flatMap(({ cidr }) => cidr ?? []),
          port,
          use: use && usable(use, interfaces[tunnel] ?? []),
          onLink: using.allowLan ? onLinkRanges(interfaces, tunnel) : [],
          include: using.include,
          exclude: using.exclude,
          hasIpv6,
          accepted,
          granted,
          guard: using.paranoid ? this.#guard(tunnel, using.allowLan) : undefined,
          strictInterfaces: this.#strictInterfaces(tunnel),
          knowsSockets: this.#knowsSockets === true,
        }),
      );
    const onLink = ownRanges(interfaces, tunnel);
    changes.push(...routeChanges({ tunnel, accepted, granted, onLink, hasIpv6 }));
    if (serving !== undefined || advertised.length > 0) {
      const uplinks = this.#waysOut(wish);
      const wasOff = (path: string): boolean => this.#changes.before(path) === '0';
      const has = (isV6: boolean): boolean => advertised.some((prefix) => prefix.includes(':') === isV6);
      const ipv6 = serving?.ipv6 === true || has(true);
      changes.push(
        ...serveChanges(
          {
            tunnel,
            uplinks,
            ipv4: serving?.ipv4 === true || has(false),
            ipv6,
            lan: serving?.lan ?? [],
            chain: serving?.chain ?? false,
            knowsTimeouts: this.#knowsTimeouts === true,
            advertised,
            own: onLink,
            closed4: wasOff('net/ipv4/conf/all/forwarding')
              ? uplinks.filter((name) => wasOff(`net/ipv4/conf/${name}/forwarding`))
              : [],
            closed6: ipv6 && wasOff('net/ipv6/conf/all/forwarding'),
          },
          this.#guestAddresses(),
          this.#sysctls,
        ),
      );
    }
    return changes;
  }

  #guard(tunnel: string, allowLan: boolean): Omit<GuardFacts, 'tunnel'> {
    const interfaces = this.#interfaces();
    return {
      devices: this.#uplinks([], tunnel),
      inner: (interfaces[tunnel] ?? []).flatMap(({ address, family }) =>
        family === 'IPv4' ? [address] : [],
      ),
      onLink: allowLan ? onLinkRanges(interfaces, tunnel) : [],
    };
  }

  #guestAddresses(): GuestAddress[] {
    const now = this.#options.now();
    return this.#guests
      .filter(({ until }) => until > now)
      .map(({ of, address, until }) => ({
        of,
        address,
        seconds: Math.ceil((until - now) / 1000) + GRACE_SECONDS,
      }));
  }

  /** By prefix, the own address it is sent from, which the tunnel has: where IPv6 is switched off, it has none. */
  #granted(
    accepted: readonly string[],
    present: NonNullable<Interfaces[string]>,
  ): ReadonlyMap<string, string> {
    return new Map(
      this.#routes.flatMap(({ prefix, source }) =>
        source !== undefined && accepted.includes(prefix) && hasAddress(present, source)
          ? [[prefix, source]]
          : [],
      ),
    );
  }

  /** Where guests of an exit leave by, and where LANs that are advertised are. */
  #waysOut({ tunnel, serving, routing }: ExitWish): string[] {
    const towards = (prefixes: readonly string[]): string[] => this.#towards(prefixes, tunnel);
    const advertised = routing?.advertised ?? [];
    const behind = advertised.filter((prefix) => towards([prefix]).length === 0);
    const names = [
      ...(serving === undefined && behind.length === 0 ? [] : this.#uplinks([], tunnel)),
      ...towards([...(serving?.lan ?? []), ...advertised]),
    ];
    return [...new Set(names)];
  }

  /** Interfaces that hold an address of one of these on-link. */
  #towards(prefixes: readonly string[], tunnel: string): string[] {
    const interfaces = this.#interfaces();
    return prefixes.flatMap((text) => {
      const prefix = parsePrefix(text);
      const name = prefix && interfaceTowards(interfaces, prefix);
      return name === undefined || name === tunnel ? [] : [name];
    });
  }

  #interfaces(): Interfaces {
    return (this.#options.interfaces ?? networkInterfaces)();
  }

  #uplinks(lan: readonly string[], tunnel: string): string[] {
    const defaults = (
      this.#options.uplinks ??
      (() => [...defaultRouteDevices(hostSettings), ...gatewayRouteDevices(hostSettings)])
    )();
    return [...new Set([...defaults, ...this.#towards(lan, tunnel)])].filter((name) => name !== tunnel);
  }

  /** All of the host that the changes depend on. */
  #facts(): string {
    const wish = this.#wish;
    const { tunnel = '', serving } = wish ?? {};
    const interfaces = this.#interfaces();
    return JSON.stringify([
      ownRanges(interfaces, tunnel),
      this.#uplinks(serving?.lan ?? [], tunnel),
      wish === undefined ? [] : this.#waysOut(wish),
      [
        'net/ipv4/conf/all/forwarding',
        'net/ipv6/conf/all/forwarding',
        `net/ipv4/conf/${tunnel}/forwarding`,
      ].map((path) => this.#sysctls.read(path)),
      Object.keys(interfaces),
      interfaces[tunnel]?.map(({ address }) => address),
    ]);
  }
}

/** The exit in use, of the families whose address the tunnel has: where IPv6 is switched off, it goes nowhere. */
function usable(use: ExitInUse, present: NonNullable<Interfaces[string]>): ExitInUse {
  const there = (address: string | undefined): string | undefined =>
    address !== undefined && hasAddress(present, address) ? address : undefined;
  return { ...use, ipv4: there(use.ipv4), ipv6: there(use.ipv6) };
}

function hasAddress(present: NonNullable<Interfaces[string]>, address: string): boolean {
  const ip = parseIp(address);
  return ip !== undefined && present.some((info) => parseIp(info.address)?.join() === ip.join());
}

const isAdvertising = ({ routing }: ExitWish): boolean => (routing?.advertised.length ?? 0) > 0;
const isAccepting = ({ routing }: ExitWish): boolean => (routing?.accepted.length ?? 0) > 0;

const isForRoutes = (undo: Undo): boolean => undo.kind === 'routes' && undo.table === MAIN_TABLE;

/** What an exit in use needs of kernel parameters is one for all interfaces, src_valid_mark. */
const isForServing = (undo: Undo): boolean =>
  undo.kind === 'sysctl'
    ? !undo.path.endsWith('/src_valid_mark')
    : undo.kind === 'nft' && undo.table === SERVE_TABLE;
