// Whom the engine charges for what is relayed, and how much each may use: classes of limits, accounts of
// identities and networks, what holds for source prefixes and for the host.
//
// An account outlives its circuits, so that closing and opening one anew does not fill the token bucket.
// It is given to another identity or network only when no unused one is left.

import type { LegCharging } from '../../wire/leg.js';
import type { AccountCapacity, AccountKind, RateLimit } from '../../wire/limits.js';
import { fromHex, toHex } from '../../wire/bytes.js';
import type { AccountUse } from '../runtime/mesh-status.js';
import { encodePeerId } from '../protocol/peer-id.js';
import { BoundedTable } from '../runtime/bounded-table.js';
import type { RelayLimits } from './relay-limits.js';
import { MAX_QUOTA_CLASSES, type QuotaClass } from './relay-policy.js';
import type { RelayRules } from './relay-rules.js';
import type { Turn } from '../runtime/turn.js';

/** Relays that carry circuits on, and WireGuard servers the operator names, have accounts too. */
const ACCOUNTS_BESIDE_CLIENTS = 256;
const MOST_NETWORKS = 65_536;

/** What an engine needs room for. */
export function accountCapacity({ admissions, circuits }: RelayLimits): AccountCapacity {
  return {
    identities: 1 + admissions + ACCOUNTS_BESIDE_CLIENTS,
    networks: Math.min(1 + circuits, MOST_NETWORKS),
    classes: 1 + MAX_QUOTA_CLASSES,
  };
}

interface Account {
  readonly index: number;
  /** Circuits and bindings that are charged to it. */
  uses: number;
  quota: QuotaClass;
  limit: RateLimit | undefined;
}

/** Accounts of one kind. Index 0 is shared by all that came when the table was full. */
class AccountTable {
  readonly #kind: AccountKind;
  readonly #capacity: number;
  /** Those not in use in the order they were last used. */
  readonly #accounts: BoundedTable<string, Account, AccountKind>;
  #next = 1;

  constructor(kind: AccountKind, capacity: number) {
    this.#kind = kind;
    this.#capacity = capacity;
    this.#accounts = new BoundedTable(() => ({
      total: capacity - 1, // index 0 is not one of them
      shares: { identity: 1, network: 1 },
    }));
  }

  /** One more use of the account of `key`. */
  hold(key: string, quota: QuotaClass, turn: Turn): void {
    const account = this.#accounts.get(key) ?? this.#make(key, quota, turn);
    if (account === undefined) return;
    account.uses++;
    this.assign(key, quota, turn);
  }

  release(key: string): void {
    const account = this.#accounts.get(key);
    if (account === undefined || --account.uses > 0) return;
    this.#accounts.delete(key); // to the end of the order
    this.#accounts.set(key, account, { [this.#kind]: key });
  }

  index(key: string): number {
    return this.#accounts.get(key)?.index ?? 0;
  }

  /** Its limit is that of this class. */
  assign(key: string, quota: QuotaClass, turn: Turn): void {
    const account = this.#accounts.get(key);
    if (account === undefined) return;
    const limit = quota[this.#kind];
    account.quota = quota;
    if (sameRate(account.limit, limit)) return;
    account.limit = limit;
    turn.emit({ type: 'set-account-limit', kind: this.#kind, index: account.index, limit });
  }

  *entries(): Iterable<readonly [key: string, Account]> {
    yield* this.#accounts;
  }

  #make(key: string, quota: QuotaClass, turn: Turn): Account | undefined {
    const index = this.#next < this.#capacity ? this.#next++ : this.#reclaim();
    if (index === undefined) return undefined;
    const limit = quota[this.#kind];
    const account = { index, uses: 0, quota, limit };
    this.#accounts.set(key, account, { [this.#kind]: key });
    turn.emit({ type: 'reset-account', kind: this.#kind, index });
    turn.emit({ type: 'set-account-limit', kind: this.#kind, index, limit });
    return account;
  }

  /** The account that has not been used for longest. */
  #reclaim(): number | undefined {
    for (const [key, { uses, index }] of this.#accounts) {
      if (uses > 0) continue;
      this.#accounts.delete(key);
      return index;
    }
    return undefined;
  }
}

function sameRate(a: RateLimit | undefined, b: RateLimit | undefined): boolean {
  return (
    a?.bytesPerSecond === b?.bytesPerSecond &&
    a?.packetsPerSecond === b?.packetsPerSecond &&
    a?.burstMs === b?.burstMs
  );
}

/** Who pays: an identity, in the network of a circuit. */
export interface Payer {
  readonly identity: Uint8Array;
  /** Networks (hex) it is in. */
  readonly networks: readonly string[];
}

export class RelayAccounts {
  readonly #rules: RelayRules;
  readonly #identities: AccountTable;
  readonly #networks: AccountTable;

  constructor(rules: RelayRules) {
    const { identities, networks } = accountCapacity(rules.limits);
    this.#rules = rules;
    this.#identities = new AccountTable('identity', identities);
    this.#networks = new AccountTable('network', networks);
  }

  /** Tells the engine what the rules say of everybody: at start, and when they have changed. */
  apply(turn: Turn): void {
    const { host, prefix } = this.#rules.policy;
    const classes = this.#rules.classes;
    for (const quota of classes)
      turn.emit({ type: 'set-limits', index: this.#classIndex(quota), limits: quota.circuit });
    const [fallback] = classes;
    turn.emit({ type: 'set-account-limit', kind: 'identity', index: 0, limit: fallback.identity });
    turn.emit({ type: 'set-account-limit', kind: 'network', index: 0, limit: fallback.network });
    turn.emit({ type: 'set-host-limit', limit: host });
    turn.emit({ type: 'set-prefix-limit', limit: prefix });
  }

  /** A circuit or binding of these, until it is released. */
  hold(payers: readonly Payer[], network: string | undefined, turn: Turn): void {
    for (const { identity, networks } of payers)
      this.#identities.hold(toHex(identity), this.#rules.classOf(identity, networks), turn);
    if (network !== undefined) this.#networks.hold(network, this.#rules.classOfNetwork(network), turn);
  }

  release(payers: readonly Uint8Array[], network: string | undefined): void {
    for (const identity of payers) this.#identities.release(toHex(identity));
    if (network !== undefined) this.#networks.release(network);
  }

  /** How what `payer` sends is charged; its account's limit is brought up to date. */
  charging(payer: Payer, network: string | undefined, turn: Turn): LegCharging {
    const id = toHex(payer.identity);
    this.#identities.assign(id, this.#rules.classOf(payer.identity, payer.networks), turn);
    if (network !== undefined) this.#networks.assign(network, this.#rules.classOfNetwork(network), turn);
    const quota = this.#rules.classOf(payer.identity, network === undefined ? payer.networks : [network]);
    return {
      identity: this.#identities.index(id),
      network: network === undefined ? 0 : this.#networks.index(network),
      limits: this.#classIndex(quota),
    };
  }

  status(): { readonly identities: AccountUse[]; readonly networks: AccountUse[] } {
    const use = (table: AccountTable, name: (key: string) => string): AccountUse[] =>
      [...table.entries()].map(([key, { index, quota, limit, uses }]) => ({
        name: name(key),
        index,
        quotaClass: quota.name,
        uses,
        limit,
      }));
    return {
      identities: use(this.#identities, (key) => encodePeerId(fromHex(key) ?? new Uint8Array(32))),
      networks: use(this.#networks, (key) => key),
    };
  }

  /** Its place in the list: after a change of the rules every leg is installed anew. */
  #classIndex(quota: QuotaClass): number {
    return this.#rules.classes.indexOf(quota) + 1;
  }
}
