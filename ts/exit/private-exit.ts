// Exits of a member whose interface is in a private network: nothing of the machine is changed. What it uses is the way of
// that network alone; what it serves goes by a gateway.

import type { ExitInUse } from '../core/runtime/exit-change.js';
import { ExitCode, messageOf, OperatorError } from '../host/operator-error.js';
import { DnsForwarder, type DnsNetworks } from './dns-forwarder.js';
import { ExitBesideHost } from './exit-beside-host.js';
import type { ExitWish } from './exit-host.js';
import { Gateway } from './gateway.js';
import { NOWHERE, type GatewayCounts } from './gateway-messages.js';
import { SERVE_TABLE } from './exit-numbers.js';
import { machineNetwork } from './inner-network.js';
import { readCounters } from './nft-counters.js';
import { PRIVATE_RESOLVER } from './private-hosts.js';
import type { PrivateNetwork } from './private-network.js';

const DNS_PORTS = { port: 53, resolverPort: 53, answerMs: 5000 };

export interface PrivateExitOptions {
  readonly network: PrivateNetwork;
  /** Monotonic milliseconds. */
  readonly now: () => number;
  /** Own inner addresses. */
  readonly own: () => readonly string[];
}

export class PrivateExit extends ExitBesideHost {
  readonly backend = 'namespace';
  readonly names: DnsNetworks;
  readonly #options: PrivateExitOptions;
  readonly #resolver: DnsForwarder;
  #use: ExitInUse | undefined;
  #gateway: Gateway | undefined;
  #served = '';
  #wish: ExitWish | undefined;
  /** A thread of the gateway ended: it is made anew. */
  #hasFailed = false;
  #lan: readonly string[] = [];
  #advertised: readonly string[] = [];
  #busy: Promise<void> = Promise.resolve();

  constructor(options: PrivateExitOptions) {
    super(options.now);
    this.#options = options;
    const { network, now } = options;
    this.names = { guests: network, resolvers: machineNetwork };
    this.#resolver = new DnsForwarder(() => this.#use?.resolvers ?? [], now, DNS_PORTS, {
      guests: network,
      resolvers: network,
    });
  }

  /** Answers questions of the private network's programs for names, from now on. */
  async begin(): Promise<void> {
    await this.#resolver.listen([PRIVATE_RESOLVER]);
    this.#resolver.setGuests([PRIVATE_RESOLVER]);
  }

  get isChanged(): boolean {
    return this.#gateway !== undefined;
  }

  get done(): Promise<void> {
    return this.#busy;
  }

  set(wish: ExitWish): Promise<void> {
    const { tunnel, serving, using } = wish;
    if (
      using !== undefined &&
      (using.paranoid || using.allowLan || using.include.length + using.exclude.length > 0)
    )
      return Promise.reject(
        new OperatorError(
          ExitCode.usage,
          'exit',
          'a private network has no other way out, so --paranoid, --allow-lan, --include and --exclude mean nothing in it',
          'Leave them out',
        ),
      );
    if (serving?.chain === true)
      return Promise.reject(
        new OperatorError(
          ExitCode.usage,
          '--chain',
          'what a gateway forwards leaves by the machine, and not by the exit this member uses',
          'Leave it out, or serve with an interface of the machine: sudo omerta up',
        ),
      );
    if (using === undefined) this.#use = undefined;
    this.#wish = wish;
    return this.#queue(async () => {
      const own = this.#options.own();
      this.#lan = serving?.lan ?? [];
      const advertised = (this.#advertised = wish.routing?.advertised ?? []);
      const has = (isV6: boolean): boolean => advertised.some((prefix) => prefix.includes(':') === isV6);
      const wanted =
        serving === undefined && advertised.length === 0
          ? undefined
          : {
              tunnel,
              own,
              ipv4: serving?.ipv4 === true || has(false),
              ipv6: serving?.ipv6 === true || has(true),
            };
      const text = JSON.stringify(wanted ?? '');
      if (text === this.#served) {
        this.tellGuests();
        return;
      }
      this.#served = text;
      await this.#gateway?.close();
      this.#gateway = undefined;
      if (wanted === undefined) return;
      this.#gateway = await Gateway.open(this.#options.network, wanted, (error) => {
        this.error = `the gateway ended (${error.message})`;
        this.#served = '';
        this.#hasFailed = true;
      });
      this.tellGuests();
    });
  }

  setInUse(use: ExitInUse | undefined): Promise<void> {
    this.#use = use;
    return this.#busy;
  }

  /** The machine's addresses change, and rights end. */
  async check(): Promise<boolean> {
    if (this.#hasFailed && this.#wish !== undefined) {
      this.#hasFailed = false;
      await this.set(this.#wish);
    } else this.tellGuests();
    return false;
  }

  clear(): Promise<void> {
    this.#use = undefined;
    this.#wish = undefined;
    return this.#queue(async () => {
      this.#served = '';
      await this.#gateway?.close();
      this.#gateway = undefined;
    });
  }

  async end(): Promise<void> {
    this.#resolver.close();
    await this.clear();
  }

  helperReplaced(): void {
    this.#gateway?.helperReplaced();
  }

  override capped(): Promise<Readonly<Record<string, number>>> {
    const { network } = this.#options;
    if (this.#gateway === undefined) return Promise.resolve({});
    return readCounters((file, args, input = '') => network.run(file, args, input), SERVE_TABLE);
  }

  /** What goes by the gateway; undefined = nothing is served. */
  get gateway(): GatewayCounts | undefined {
    return this.#gateway?.counts;
  }

  protected tellGuests(): void {
    this.#gateway?.setGuests(
      {
        addresses: this.guestAddresses('exit'),
        rules: [...this.rules(this.#lan), { prefix: 'ff00::/8', denied: true }],
      },
      {
        addresses: this.guestAddresses('lan'),
        rules: [...NOWHERE, ...this.lanRules(this.#advertised)],
      },
    );
  }

  #queue(run: () => Promise<void>): Promise<void> {
    const done = this.#busy.then(run).then(
      () => {
        // A thread that ended meanwhile is said until another is there.
        if (!this.#hasFailed) this.error = undefined;
      },
      (error: unknown) => {
        this.#served = '';
        this.error = messageOf(error);
        throw error;
      },
    );
    this.#busy = done.catch(() => undefined);
    return done;
  }
}
