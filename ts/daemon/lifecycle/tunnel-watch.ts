// Watches the member's interface: somebody may take its addresses or their routes away (a network manager, down
// and up again), bring it down, move it elsewhere or delete it. Addresses and routes are put back; what cannot be
// mended here is told, once, and shown.

import { readFileSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import type { Logger } from 'pino';
import type { Engine } from '../../contract/engine.js';
import { messageOf } from '../../host/operator-error.js';
import { parseIp } from '../../wire/socket-address.js';
import type { TunnelStatus } from '../../status/model/daemon-status.js';

/** Between two attempts: at once, then less and less often while it does not last. */
const FIRST_PAUSE_MS = 1000;
const LONGEST_PAUSE_MS = 60_000;
/** What an interface cannot have it may be able to later: IPv6 is switched on, the MTU is raised again. */
const REFUSED_PAUSE_MS = 10_000;

/** What of the machine is looked at; tests give another. */
export interface InterfaceFacts {
  /** Whether the network namespace has an interface of this name. */
  readonly exists: (name: string) => boolean;
  /** Its addresses; none while it is down. */
  readonly addresses: (name: string) => readonly string[];
  /** Its addresses, with prefix length, to whose networks no route leads by it. */
  readonly unrouted: (engine: Pick<Engine, 'unroutedAddresses'>) => readonly string[];
}

export const interfaceFacts: InterfaceFacts = {
  exists: (name) =>
    readFileSync('/proc/self/net/dev', 'utf8')
      .split('\n')
      .some((line) => line.trim().startsWith(`${name}:`)),
  addresses: (name) => (networkInterfaces()[name] ?? []).map(({ address }) => address),
  unrouted: (engine) => engine.unroutedAddresses?.() ?? [],
};

/** Of an interface in a private network, which nobody else is in: it is as it was made, or deleted. */
export const privateFacts = (addresses: () => readonly string[]): InterfaceFacts => ({
  exists: () => true,
  addresses,
  unrouted: () => [],
});

type Watched = Pick<Engine, 'describe' | 'putAddresses' | 'unroutedAddresses'>;

export class TunnelWatch {
  #status: TunnelStatus;
  #told = 'up';
  #notBefore = 0;
  #pause = FIRST_PAUSE_MS;
  /** Addresses the interface cannot have, as when IPv6 is switched off. */
  #refused: readonly string[] = [];
  #refusedUntil = 0;

  /**
   * @param wanted addresses with prefix length
   * @param reopen makes the interface anew
   */
  constructor(
    readonly name: string,
    readonly log: Logger,
    readonly reopen: () => void,
    readonly facts: InterfaceFacts = interfaceFacts,
  ) {
    this.#status = { name, state: 'up', missing: [], unrouted: [] };
  }

  status(): TunnelStatus {
    return this.#status;
  }

  /** Looks and mends; to be called every second. `now` is in ms and never goes back. */
  check(engine: Watched, wanted: readonly string[], now: number): void {
    if (engine.describe().tun === undefined) {
      this.#tell('gone', wanted, []);
      if (this.#mayMend(now)) this.reopen();
      return;
    }
    if (!this.facts.exists(this.name)) {
      this.#tell('elsewhere', wanted, []);
      return;
    }
    let missing = this.#missing(wanted);
    let unrouted = this.#unrouted(engine, missing);
    // Another state than a moment ago, such as up again: worth an attempt at once.
    if ([...missing, ...unrouted].join(' ') !== [...this.#status.missing, ...this.#status.unrouted].join(' '))
      this.#notBefore = now;
    const isLost = missing.some((address) => !this.#refused.includes(address)) || unrouted.length > 0;
    if ((isLost && this.#mayMend(now)) || (missing.length > 0 && now >= this.#refusedUntil)) {
      this.#refusedUntil = now + REFUSED_PAUSE_MS;
      try {
        this.#refused = engine.putAddresses?.() ?? [];
      } catch (error) {
        this.log.warn({ interface: this.name, error: messageOf(error) }, 'interface-addresses-not-restored');
      }
      const lost = missing.filter((address) => !this.#refused.includes(address));
      const led = unrouted;
      missing = this.#missing(wanted);
      unrouted = this.#unrouted(engine, missing);
      this.#restored('addresses', without(lost, missing));
      this.#restored('routes', without(led, [...missing, ...unrouted]));
    }
    if (now > this.#notBefore + LONGEST_PAUSE_MS) this.#pause = FIRST_PAUSE_MS; // it lasts
    if (wanted.length > 0 && missing.length === wanted.length) this.#tell('down', missing, unrouted);
    else if (wanted.length > 0 && missing.length + unrouted.length === wanted.length)
      this.#tell('unrouted', missing, unrouted);
    else this.#tell('up', missing, unrouted);
  }

  #missing(wanted: readonly string[]): string[] {
    const text = (address: string): string => String(parseIp(address.replace(/[/%].*$/, '')));
    const present = new Set(this.facts.addresses(this.name).map(text));
    return wanted.filter((address) => !present.has(text(address)));
  }

  /** Of the addresses it has. */
  #unrouted(engine: Watched, missing: readonly string[]): readonly string[] {
    return without(this.facts.unrouted(engine), missing);
  }

  #restored(what: 'addresses' | 'routes', addresses: readonly string[]): void {
    if (addresses.length > 0)
      this.log.warn({ interface: this.name, addresses: addresses.join(' ') }, `interface-${what}-restored`);
  }

  #mayMend(now: number): boolean {
    if (now < this.#notBefore) return false;
    this.#notBefore = now + this.#pause;
    this.#pause = Math.min(2 * this.#pause, LONGEST_PAUSE_MS);
    return true;
  }

  #tell(state: TunnelStatus['state'], missing: readonly string[], unrouted: readonly string[]): void {
    this.#status = { name: this.name, state, missing, unrouted };
    const now = [state, ...missing, ...unrouted.map((address) => `unrouted ${address}`)].join(' ');
    if (now === this.#told) return;
    this.#told = now;
    const fields = {
      interface: this.name,
      state,
      missing: missing.join(' '),
      unrouted: unrouted.join(' '),
    };
    if (now === 'up') this.log.info(fields, 'interface-in-order');
    else this.log.warn(fields, 'interface-not-in-order');
  }
}

const without = (all: readonly string[], some: readonly string[]): string[] =>
  all.filter((each) => !some.includes(each));
