// What places of exits have in common that change nothing of the machine: a private network (private-exit.ts), and the
// engine's own stack (stack-exit.ts).

import { networkInterfaces } from 'node:os';
import type { ExitRule } from '../contract/exit-control.js';
import type { ExitGuest, ExitInUse } from '../core/runtime/exit-change.js';
import { loadNativeAddon } from '../engine/native/native-addon.js';
import type { ExitBackend } from '../status/model/exit-report.js';
import { exitRules, hostRanges, lanRules, ownRanges } from './denied-ranges.js';
import type { DnsNetworks } from './dns-forwarder.js';
import type { ExitWish } from './exit-host.js';
import type { ExitPlace } from './exit-place.js';
import type { GatewayCounts } from './gateway-messages.js';

interface GuestAddress {
  readonly of: 'exit' | 'lan';
  readonly address: string;
  /** Monotonic ms. */
  readonly until: number;
}

export abstract class ExitBesideHost implements ExitPlace {
  readonly isMachine = false;
  abstract readonly backend: ExitBackend;
  abstract readonly names: DnsNetworks;
  abstract readonly isChanged: boolean;
  abstract readonly done: Promise<void>;
  /** What goes by it; undefined = nothing is served. */
  abstract readonly gateway: GatewayCounts | undefined;
  error: string | undefined;
  #guests: readonly GuestAddress[] = [];

  /** @param now monotonic milliseconds */
  protected constructor(private readonly now: () => number) {}

  abstract set(wish: ExitWish): Promise<void>;
  abstract setInUse(use: ExitInUse | undefined): Promise<void>;
  abstract check(): Promise<boolean>;
  abstract clear(): Promise<void>;
  /** Who may send by it, or where to, may be others now. */
  protected abstract tellGuests(): void;

  setGuests(of: 'exit' | 'lan', guests: readonly ExitGuest[]): Promise<void> {
    const now = this.now();
    this.#guests = [
      ...this.#guests.filter((guest) => guest.of !== of),
      ...guests.flatMap(({ addresses, lifetimeMs }) =>
        addresses.map((address) => ({ of, address, until: now + lifetimeMs })),
      ),
    ];
    this.tellGuests();
    return this.done;
  }

  /** Of guests whose right has not ended. */
  protected guestAddresses(kind: 'exit' | 'lan'): string[] {
    const now = this.now();
    return this.#guests.filter(({ of, until }) => of === kind && until > now).map(({ address }) => address);
  }

  setRoutesInUse(): Promise<void> {
    return this.done;
  }

  /** Nothing of it is open without its daemon. */
  keepClosed(): Promise<void> {
    return this.clear();
  }

  rules(lan: readonly string[]): ExitRule[] {
    return exitRules(machineRanges(), lan);
  }

  lanRules(advertised: readonly string[]): ExitRule[] {
    return lanRules(machineRanges(), advertised);
  }

  onLink(): string[] {
    return [];
  }

  requireNoRival(): Promise<void> {
    return Promise.resolve();
  }

  capped(): Promise<Readonly<Record<string, number>>> {
    return Promise.resolve({});
  }

  foreignDrops(): Promise<string[]> {
    return Promise.resolve([]);
  }

  innerAddresses(own: readonly string[]): readonly string[] {
    return own;
  }
}

/** The machine's own addresses, and what is on-link at its interfaces. */
function machineRanges(): string[] {
  const hosts = hostRanges(loadNativeAddon().localAddresses());
  return [...new Set([...ownRanges(networkInterfaces(), ''), ...hosts])];
}
