// Names for the guests of an exit: a forwarder of their questions, at the addresses guests know this node by. Where it
// cannot listen, guests are not told that names are resolved, and `omerta exit status` says why.

import type { Logger } from 'pino';
import { DnsForwarder, hostResolvers } from '../../exit/dns-forwarder.js';
import type { ExitPlace } from '../../exit/exit-place.js';
import { messageOf } from '../../host/operator-error.js';
import type { ExitDnsReport } from '../../status/model/exit-report.js';

export interface ExitNamesOptions {
  readonly host: ExitPlace;
  readonly log: Logger;
  /** Monotonic ms. */
  readonly now: () => number;
  /** Addresses of name servers the operator chose; empty = those of this host. */
  readonly chosen: () => readonly string[];
  /** Own addresses inside the networks. */
  readonly own: () => readonly string[];
}

export class ExitNames {
  readonly #options: ExitNamesOptions;
  readonly #dns: DnsForwarder;
  /** Why names are not resolved; undefined = they are, or are not to be. */
  #error: string | undefined;

  constructor(options: ExitNamesOptions) {
    this.#options = options;
    this.#dns = new DnsForwarder(() => this.#resolvers(), options.now, undefined, options.host.names);
  }

  get areResolved(): boolean {
    return this.#dns.listening;
  }

  status(): ExitDnsReport {
    return { ...this.#dns.counts, error: this.#error };
  }

  setGuests(addresses: readonly string[]): void {
    this.#dns.setGuests(addresses);
  }

  /** Resolves names from now on, or no longer. */
  async serve(isWanted: boolean): Promise<void> {
    if (!isWanted) {
      this.#dns.close();
      this.#error = undefined;
      return;
    }
    if (this.#dns.listening) return;
    try {
      await this.#dns.listen(this.#options.host.innerAddresses(this.#options.own()));
      this.#error = undefined;
    } catch (error) {
      this.#error = messageOf(error);
      this.#options.log.warn({ error: this.#error }, 'exit-without-dns');
    }
  }

  close(): void {
    this.#dns.close();
  }

  /** Whom guests' questions are asked of: never this node itself. */
  #resolvers(): string[] {
    const chosen = this.#options.chosen();
    const own = this.#options.own();
    return (chosen.length > 0 ? chosen : hostResolvers()).filter((address) => !own.includes(address));
  }
}
