// Watches the member's interface: somebody may take its addresses away (a network manager, down and up
// again), bring it down, move it elsewhere or delete it. Addresses are put back; what cannot be mended
// here is told, once, and shown.

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
}

export const interfaceFacts: InterfaceFacts = {
  exists: (name) =>
    readFileSync('/proc/self/net/dev', 'utf8')
      .split('\n')
      .some((line) => line.trim().startsWith(`${name}:`)),
  addresses: (name) => (networkInterfaces()[name] ?? []).map(({ address }) => address),
};

/** Of an interface in a private network, which nobody else is in: it is as it was made, or deleted. */
export const privateFacts = (addresses: () => readonly string[]): InterfaceFacts => ({
  exists: () => true,
  addresses,
});

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
    this.#status = { name, state: 'up', missing: [] };
  }

  status(): TunnelStatus {
    return this.#status;
  }

  /** Looks and mends; to be called every second. `now` is in ms and never goes back. */
  check(engine: Pick<Engine, 'describe' | 'putAddresses'>, wanted: readonly string[], now: number): void {
    if (engine.describe().tun === undefined) {
      this.#tell('gone', wanted);
      if (this.#mayMend(now)) this.reopen();
      return;
    }
    if (!this.facts.exists(this.name)) {
      this.#tell('elsewhere', wanted);
      return;
    }
    let missing = this.#missing(wanted);
    // Another state than a moment ago, such as up again: worth an attempt at once.
    if (missing.join(' ') !== this.#status.missing.join(' ')) this.#notBefore = now;
    const isLost = missing.some((address) => !this.#refused.includes(address)) && this.#mayMend(now);
    if (isLost || (missing.length > 0 && now >= this.#refusedUntil)) {
      this.#refusedUntil = now + REFUSED_PAUSE_MS;
      try {
        this.#refused = engine.putAddresses?.() ?? [];
      } catch (error) {
        this.log.warn({ interface: this.name, error: messageOf(error) }, 'interface-addresses-not-restored');
      }
      const lost = missing.filter((address) => !this.#refused.includes(address));
      missing = this.#missing(wanted);
      const restored = lost.filter((address) => !missing.includes(address));
      if (restored.length > 0)
        this.log.warn(
          { interface: this.name, addresses: restored.join(' ') },
          'interface-addresses-restored',
        );
    }
    if (now > this.#notBefore + LONGEST_PAUSE_MS) this.#pause = FIRST_PAUSE_MS; // it lasts
    this.#tell(missing.length === wanted.length && wanted.length > 0 ? 'down' : 'up', missing);
  }

  #missing(wanted: readonly string[]): string[] {
    const text = (address: string): string => String(parseIp(address.replace(/[/%].*$/, '')));
    const present = new Set(this.facts.addresses(this.name).map(text));
    return wanted.filter((address) => !present.has(text(address)));
  }

  #mayMend(now: number): boolean {
    if (now < this.#notBefore) return false;
    this.#notBefore = now + this.#pause;
    this.#pause = Math.min(2 * this.#pause, LONGEST_PAUSE_MS);
    return true;
  }

  #tell(state: TunnelStatus['state'], missing: readonly string[]): void {
    this.#status = { name: this.name, state, missing };
    const now = `${state} ${missing.join(' ')}`.trim();
    if (now === this.#told) return;
    this.#told = now;
    const fields = { interface: this.name, state, missing: missing.join(' ') };
    if (now === 'up') this.log.info(fields, 'interface-in-order');
    else this.log.warn(fields, 'interface-not-in-order');
  }
}
