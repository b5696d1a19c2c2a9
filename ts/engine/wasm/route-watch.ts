// Tells when a datagram that sticks to one of this host's addresses would leave by another interface than it did, as
// native/udp/route_watch.h: what leads out there lets in other addresses only (RFC 2827).
//
// Node.js neither hears of routes nor can ask for one from an address. So the kernel's tables are read every second,
// and where they have changed ip(8) is asked; without it nothing is told. A host that has addresses at one interface
// alone is asked nothing before that changes.

import { execFile, type ChildProcess } from 'node:child_process';
import { closeSync, openSync, readSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import { formatIp, parseIp } from '../../wire/socket-address.js';
import type { IsForgotten, LocalAddress } from './local-address.js';
import type { HostInterfaces } from './udp-shell.js';

const LOOK_INTERVAL_MS = 1000;
/** Of each table: that of a router on the Internet has a million routes. */
const TABLE_BYTES = 1 << 16;
/** Ways that are followed; those of further remotes are as they were without. */
const MOST_WAYS = 1024;
const PATIENCE_MS = 5000;

/** A remote's address and one of this host's, as texts. */
export interface Way {
  readonly to: string;
  readonly from: string;
}

/** What of the machine is looked at; tests give another. */
export interface RouteFacts {
  /** Another text when routes of the table main, or of IPv6, have changed. */
  readonly routes: () => string;
  readonly interfaces: HostInterfaces;
  /** The interface each way leads out by now, by its key; what leads nowhere, or nobody can tell, is left out. */
  readonly ask: (ways: readonly Way[]) => Promise<ReadonlyMap<string, string>>;
}

export interface RouteWatchEvents {
  /** Asks it of everything that sticks to an address, and forgets what is to be. */
  readonly review: (isForgotten: IsForgotten) => void;
  /** Whether nothing is to be sent from an address until further notice. */
  readonly avoid: (local: LocalAddress, isAvoided: boolean) => void;
}

/** An address that is avoided, and by what it is seen that it need not be any more. */
interface Witness {
  readonly local: LocalAddress;
  readonly way: Way;
  readonly interface: string;
}

export const keyOf = ({ to, from }: Way): string => `${to} ${from}`;

export class RouteWatch {
  readonly #events: RouteWatchEvents;
  readonly #facts: RouteFacts;
  /** The interface each way led out by; empty: nobody could tell. */
  #ways = new Map<string, string>();
  #avoided: Witness[] = [];
  #routes: string | undefined;
  #timer: NodeJS.Timeout | undefined;
  #looking = false;

  constructor(events: RouteWatchEvents, facts: RouteFacts = kernelRoutes) {
    this.#events = events;
    this.#facts = facts;
  }

  start(): void {
    // What cannot be looked at now, as without a descriptor left, is looked at in a second.
    this.#timer = setInterval(() => void this.look().catch(() => undefined), LOOK_INTERVAL_MS).unref();
  }

  close(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  /** Looks once; one look at a time. Where it fails, the next one sees what has changed since the last that did not. */
  async look(): Promise<void> {
    if (this.#looking) return;
    this.#looking = true;
    try {
      await this.#look();
    } finally {
      this.#looking = false;
    }
  }

  async #look(): Promise<void> {
    const sticky = this.#sticky();
    if (sticky.size === 0 && this.#avoided.length === 0) {
      this.#ways.clear();
      this.#routes = undefined;
      return;
    }
    const routes = this.#facts.routes();
    const hasChanged = this.#routes !== undefined && routes !== this.#routes;
    for (const key of this.#ways.keys()) if (!sticky.has(key)) this.#ways.delete(key);
    this.#begin(sticky);
    const asked = hasChanged
      ? [...sticky.values(), ...this.#avoided.map(({ way }) => way)]
      : [...sticky.values()].filter((way) => !this.#ways.has(keyOf(way)));
    if (asked.length > 0) this.#compare(sticky, await this.#facts.ask(asked));
    this.#routes = routes;
  }

  #sticky(): Map<string, Way> {
    const ways = new Map<string, Way>();
    this.#events.review((remote, local) => {
      const way = { to: formatIp(remote.ip), from: addressOf(local) };
      // A link-local address is told with its interface.
      if (!local.includes('%') && ways.size < MOST_WAYS) ways.set(keyOf(way), way);
      return false;
    });
    return ways;
  }

  /** Where all addresses are at one interface, what is sent from them leaves by that. */
  #begin(sticky: ReadonlyMap<string, Way>): void {
    const outward = Object.entries(this.#facts.interfaces()).filter(([, infos]) =>
      (infos ?? []).some(({ internal }) => !internal),
    );
    const [only, another] = outward;
    if (only === undefined || another !== undefined) return;
    const [name, infos = []] = only;
    const own = new Set(infos.map(({ address }) => address));
    for (const [key, { from }] of sticky)
      if (!this.#ways.has(key) && own.has(from)) this.#ways.set(key, name);
  }

  #compare(sticky: ReadonlyMap<string, Way>, now: ReadonlyMap<string, string>): void {
    this.#avoided = this.#avoided.filter(({ local, way, interface: before }) => {
      if (now.get(keyOf(way)) !== before) return true;
      this.#events.avoid(local, false);
      return false;
    });
    const moved = new Map<string, Witness['interface']>();
    for (const key of sticky.keys()) {
      const [before, after] = [this.#ways.get(key), now.get(key)];
      if (before === undefined) this.#ways.set(key, after ?? '');
      // None at all: the next one is compared with the last there was.
      if (after === undefined || after === before) continue;
      this.#ways.set(key, after);
      if (before !== undefined && before !== '') moved.set(key, before);
    }
    if (moved.size === 0) return;
    this.#events.review((remote, local) => {
      const way = { to: formatIp(remote.ip), from: addressOf(local) };
      const before = moved.get(keyOf(way));
      if (before === undefined) return false;
      if (!this.#avoided.some((witness) => witness.local === local)) {
        this.#avoided.push({ local, way, interface: before });
        this.#events.avoid(local, true);
      }
      return true;
    });
  }
}

const addressOf = (local: LocalAddress): string => local.replace(/#.*/, '');

const kernelRoutes: RouteFacts = {
  routes: () => readTable('/proc/self/net/route') + readTable('/proc/self/net/ipv6_route').replace(USES, ''),
  interfaces: networkInterfaces,
  ask: askIp,
};

/** Of an IPv6 route, how often it is referred to and used: the two before its flags and its interface. */
const USES = /[0-9a-f]{8} [0-9a-f]{8} (?=[0-9a-f]{8} +\S+$)/gm;

const buffer = Buffer.alloc(TABLE_BYTES);

/** The beginning of a table; empty where there is none. */
function readTable(path: string): string {
  try {
    const file = openSync(path, 'r');
    try {
      let size = 0;
      for (let got = -1; got !== 0 && size < buffer.length; size += got)
        got = readSync(file, buffer, size, buffer.length - size, null);
      return buffer.toString('latin1', 0, size);
    } finally {
      closeSync(file);
    }
  } catch {
    return '';
  }
}

/** By `ip route get`, all of them of one process. */
function askIp(ways: readonly Way[]): Promise<ReadonlyMap<string, string>> {
  return new Promise((resolve, reject) => {
    const questions = ways.map(({ to, from }) => `route get ${to} from ${from}\n`);
    const child: ChildProcess = execFile(
      'ip',
      ['-force', '-oneline', '-batch', '-'],
      { timeout: PATIENCE_MS, maxBuffer: 1 << 20 },
      // What it could not answer, it says of that alone, and ends with an error.
      (error, answers) => {
        const { code } = (error ?? {}) as { readonly code?: unknown };
        if (typeof code === 'string' && code !== 'ENOENT') reject(new Error(`ip: ${code}`));
        else resolve(interfacesIn(answers));
      },
    );
    child.stdin?.on('error', () => undefined);
    child.stdin?.end(questions.join(''));
  });
}

function interfacesIn(answers: string): Map<string, string> {
  const found = new Map<string, string>();
  for (const [, to = '', from = '', name = ''] of answers.matchAll(
    /^(?:[a-z]+ )?([0-9a-f.:]+) from ([0-9a-f.:]+) .*?\bdev (\S+)/gm,
  ))
    found.set(keyOf({ to: spelled(to), from: spelled(from) }), name);
  return found;
}

function spelled(address: string): string {
  const ip = parseIp(address);
  return ip === undefined ? address : formatIp(ip);
}
