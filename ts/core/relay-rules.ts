// Who may use a relay, and how much of it: the policy in the form questions are asked of it.

import { isZero, toHex } from './bytes.js';
import type { PeerRecord } from './peer-record.js';
import { DEFAULT_RELAY_LIMITS, type RelayLimits, type RelayPolicy } from './relay-policy.js';

export class RelayRules {
  readonly limits: RelayLimits;
  /** Blinded ids (hex); undefined = every network. */
  readonly #served: ReadonlySet<string> | undefined;
  readonly #allow: ReadonlySet<string>;
  readonly #deny: ReadonlySet<string>;
  /** Identities of configured neighbours: admitted whatever network they are in. */
  readonly #peers: ReadonlySet<string>;

  constructor(policy: RelayPolicy) {
    this.limits = { ...DEFAULT_RELAY_LIMITS, ...policy.limits };
    this.#served = policy.serve === 'any' ? undefined : new Set(policy.serve.map(toHex));
    this.#allow = new Set(policy.allow.map(toHex));
    this.#deny = new Set(policy.deny.map(toHex));
    this.#peers = new Set((policy.peers ?? []).map(({ identity }) => toHex(identity)));
  }

  allows(identity: Uint8Array): boolean {
    const id = toHex(identity);
    return !this.#deny.has(id) && (this.#allow.size === 0 || this.#allow.has(id));
  }

  /** Whether the operator named this identity as a relay that carries circuits on. */
  isPeer(identity: Uint8Array): boolean {
    return this.#peers.has(toHex(identity));
  }

  /** Whether a stranger who claims to be of this network may come in. */
  admits(network: Uint8Array): boolean {
    return this.#served === undefined || (!isZero(network) && this.#served.has(toHex(network)));
  }

  /** Whether this network (hex) is served. */
  serves(network: string): boolean {
    return this.#served?.has(network) ?? true;
  }

  /** The networks (hex) of a record that are served. */
  servedOf(record: PeerRecord): string[] {
    return record.networks.map(toHex).filter((network) => this.serves(network));
  }
}
