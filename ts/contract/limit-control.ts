// The part of an engine that holds limits: classes that legs name, accounts they are charged to, and
// what holds for the whole host. Indexes are the control plane's; 0 is everybody's who has none.
// Every change applies to live legs from the next frame on.

import type { AccountKind, LegLimits, PrefixLimit, RateLimit } from '../wire/limits.js';

/** A change of what the engine holds frames to; carried out in order, before legs. */
export type LimitEffect =
  | { readonly type: 'set-limits'; readonly index: number; readonly limits: LegLimits }
  | {
      readonly type: 'set-account-limit';
      readonly kind: AccountKind;
      readonly index: number;
      readonly limit: RateLimit | undefined;
    }
  | { readonly type: 'reset-account'; readonly kind: AccountKind; readonly index: number }
  | { readonly type: 'set-host-limit'; readonly limit: RateLimit | undefined }
  | { readonly type: 'set-prefix-limit'; readonly limit: PrefixLimit | undefined };

export interface AccountStatus {
  readonly index: number;
  /** Carried by its legs, those that are gone included. */
  readonly packets: number;
  readonly bytes: number;
  /** Datagrams its own limit, or its fair share of the host, refused. */
  readonly refused: number;
}

export interface LimitControl {
  /** What each leg of class `index` may. @throws EngineError BAD_ARGUMENT */
  setLimits(index: number, limits: LegLimits): void;
  /** The rate of an account; what it was charged stays. @throws EngineError BAD_ARGUMENT */
  setAccountLimit(kind: AccountKind, index: number, limit: RateLimit | undefined): void;
  /** Forgets what an account was charged: it is another's now. @throws EngineError BAD_ARGUMENT */
  resetAccount(kind: AccountKind, index: number): void;
  /**
   * What is relayed in all. While identities ask for more, each gets a fair share of it (max-min).
   * @throws EngineError BAD_ARGUMENT
   */
  setHostLimit(limit: RateLimit | undefined): void;
  /** What each source prefix may send through. @throws EngineError BAD_ARGUMENT */
  setPrefixLimit(limit: PrefixLimit | undefined): void;
  /** Accounts that carried or were refused something. */
  accounts(kind: AccountKind): readonly AccountStatus[];
}
