// What the forwarding table holds legs to (contract/limit-control.ts), in its units, and the host's rate dealt
// out to identities.

import { randomBytes } from 'node:crypto';
import { EngineError } from '../../contract/engine.js';
import type { AccountStatus, LimitControl } from '../../contract/limit-control.js';
import type { ForwardingTable } from '../../wire/forwarding-table.js';
import {
  NO_RATE,
  limitsOf,
  prefixRateOf,
  rateOf,
  type AccountCapacity,
  type AccountKind,
  type LegLimits,
  type PrefixLimit,
  type Rate,
  type RateLimit,
} from '../../wire/limits.js';
import { FAIR_SHARE_INTERVAL_MS, FairShare } from './fair-share.js';

export class TableLimits implements LimitControl {
  readonly #table: ForwardingTable;
  readonly #accounts: AccountCapacity;
  /** The odd secret that spreads source prefixes over buckets. */
  readonly #prefixKey = randomBytes(8).readBigUInt64LE() | 1n;
  readonly #fairShare = new FairShare();
  readonly #clock: () => bigint;
  #shareTimer: NodeJS.Timeout | undefined;

  /** @param clock the table's, in ns */
  constructor(table: ForwardingTable, accounts: AccountCapacity, clock: () => bigint) {
    this.#table = table;
    this.#accounts = accounts;
    this.#clock = clock;
  }

  setLimits(index: number, limits: LegLimits): void {
    refusingRanges(() => this.#table.setLimits(index, limitsOf(limits)));
  }

  setAccountLimit(kind: AccountKind, index: number, limit: RateLimit | undefined): void {
    refusingRanges(() => this.#table.setRate(kind, index, rateOf(limit, kind)));
  }

  resetAccount(kind: AccountKind, index: number): void {
    refusingRanges(() => this.#table.resetAccount(kind, index));
  }

  setHostLimit(limit: RateLimit | undefined): void {
    refusingRanges(() => {
      const rate = rateOf(limit, 'host');
      this.#table.setHostRate(rate);
      clearInterval(this.#shareTimer);
      this.#fairShare.reset();
      if (rate === NO_RATE) {
        this.#table.setFairShare({ factor: 0, burst: 0 });
        return;
      }
      this.#dealShares(rate);
      this.#shareTimer = setInterval(() => this.#dealShares(rate), FAIR_SHARE_INTERVAL_MS);
      this.#shareTimer.unref();
    });
  }

  setPrefixLimit(limit: PrefixLimit | undefined): void {
    refusingRanges(() => this.#table.setPrefixRate(prefixRateOf(limit), this.#prefixKey));
  }

  accounts(kind: AccountKind): readonly AccountStatus[] {
    const count = kind === 'identity' ? this.#accounts.identities : this.#accounts.networks;
    const all = Array.from({ length: count }, (_, index) => ({ index, ...this.#table.account(kind, index) }));
    for (const leg of this.#table.legs()) {
      const account = all[leg[kind]];
      if (account === undefined) continue;
      account.packets = BigInt.asUintN(64, account.packets + leg.packets);
      account.bytes = BigInt.asUintN(64, account.bytes + leg.bytes);
    }
    return all
      .filter(({ packets, refused }) => packets > 0n || refused > 0n)
      .map(({ index, packets, bytes, refused }) => ({
        index,
        packets: Number(packets),
        bytes: Number(bytes),
        refused: Number(refused),
      }));
  }

  /** Shares are dealt no more. */
  close(): void {
    clearInterval(this.#shareTimer);
  }

  /** Deals the host's rate out to identities. */
  #dealShares({ burst }: Rate): void {
    const now = this.#clock();
    const demands = Array.from(
      { length: this.#accounts.identities },
      (_, index) => this.#table.account('identity', index).demand,
    );
    const { theoreticalArrival } = this.#table.host();
    const backlog = theoreticalArrival > now ? Number(theoreticalArrival - now) : 0;
    this.#table.setFairShare({ factor: this.#fairShare.update(demands, Number(now), backlog), burst });
  }
}

/** @throws EngineError BAD_ARGUMENT for a value that is out of its range. */
function refusingRanges(change: () => void): void {
  try {
    change();
  } catch (error) {
    if (error instanceof RangeError) throw new EngineError('BAD_ARGUMENT', error.message);
    throw error;
  }
}
