// What identities and networks use of a relay, and what they may.

import type { AccountUse, RelayStatus } from '../../core/runtime/mesh-status.js';
import type { AccountStatus, LimitControl } from '../../contract/limit-control.js';
import type { RateLimit } from '../../wire/limits.js';

export interface AccountRow {
  /** A peer id, or a network's blinded id. */
  readonly id: string;
  /** The network's name, if this relay is a member. */
  readonly name: string | undefined;
  readonly quotaClass: string;
  /** Circuits and WireGuard bindings charged to it at present. */
  readonly uses: number;
  /** What all of it together may; undefined = unlimited. */
  readonly limit: RateLimit | undefined;
  /** Since it was last given an account. */
  readonly packets: number;
  readonly bytes: number;
  /** Frames refused for its limit, or for its fair share of the host. */
  readonly refused: number;
}

export interface RelayAccountsStatus {
  readonly identities: readonly AccountRow[];
  readonly networks: readonly AccountRow[];
}

/** @param networks names by blinded id. */
export function relayAccounts(
  uses: RelayStatus['accounts'],
  engine: Pick<LimitControl, 'accounts'>,
  networks: ReadonlyMap<string, string>,
): RelayAccountsStatus {
  const rows = (used: readonly AccountUse[], counted: readonly AccountStatus[]): AccountRow[] => {
    const counts = new Map(counted.map((account) => [account.index, account]));
    return used.map(({ name, index, ...use }) => {
      const { packets = 0, bytes = 0, refused = 0 } = counts.get(index) ?? {};
      return { id: name, name: networks.get(name), ...use, packets, bytes, refused };
    });
  };
  return {
    identities: rows(uses.identities, engine.accounts('identity')),
    networks: rows(uses.networks, engine.accounts('network')),
  };
}
