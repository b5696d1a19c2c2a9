// Who may use a relay, and how much of it: the policy in the form questions are asked of it. It can be
// replaced while the relay runs.

import { isZero, toHex } from '../../wire/bytes.js';
import type { PeerRecord } from '../protocol/peer-record.js';
import { DEFAULT_RELAY_LIMITS, type RelayLimits } from './relay-limits.js';
import { DEFAULT_CLASS, type QuotaClass, type RelayPolicy } from './relay-policy.js';

/** No limits but the relay's caps. */
export const NO_QUOTA: QuotaClass = {
  name: DEFAULT_CLASS,
  identities: [],
  networks: [],
  circuit: {},
  identity: undefined,
  network: undefined,
  circuits: undefined,
  seconds: undefined,
};

interface Rules {
  readonly policy: RelayPolicy;
  readonly limits: RelayLimits;
  /** Blinded ids (hex); undefined = every network. */
  readonly served: ReadonlySet<string> | undefined;
  readonly allow: ReadonlySet<string>;
  readonly deny: ReadonlySet<string>;
  /** Identities of configured neighbours: admitted whatever network they are in. */
  readonly peers: ReadonlySet<string>;
  /** The default one first. */
  readonly classes: readonly [QuotaClass, ...QuotaClass[]];
  /** By identity, and by network, all in hex. */
  readonly classOfIdentity: ReadonlyMap<string, QuotaClass>;
  readonly classOfNetwork: ReadonlyMap<string, QuotaClass>;
}

function compile(policy: RelayPolicy): Rules {
  const classes = policy.classes ?? [];
  const defaultClass = classes.find(({ name }) => name === DEFAULT_CLASS) ?? NO_QUOTA;
  const listed = (list: 'identities' | 'networks'): Map<string, QuotaClass> =>
    new Map(classes.flatMap((quota) => quota[list].map((id) => [toHex(id), quota] as const)));
  return {
    policy,
    limits: { ...DEFAULT_RELAY_LIMITS, ...policy.limits },
    served: policy.serve === 'any' ? undefined : new Set(policy.serve.map(toHex)),
    allow: new Set(policy.allow.map(toHex)),
    deny: new Set(policy.deny.map(toHex)),
    peers: new Set((policy.peers ?? []).map(({ identity }) => toHex(identity))),
    classes: [defaultClass, ...classes.filter((quota) => quota !== defaultClass)],
    classOfIdentity: listed('identities'),
    classOfNetwork: listed('networks'),
  };
}

export class RelayRules {
  #rules: Rules;

  constructor(policy: RelayPolicy) {
    this.#rules = compile(policy);
  }

  /** The rules from now on. What becomes of clients that are connected is for the caller to see to. */
  replace(policy: RelayPolicy): void {
    this.#rules = compile(policy);
  }

  get policy(): RelayPolicy {
    return this.#rules.policy;
  }

  get limits(): RelayLimits {
    return this.#rules.limits;
  }

  allows(identity: Uint8Array): boolean {
    const { allow, deny } = this.#rules;
    const id = toHex(identity);
    return !deny.has(id) && (allow.size === 0 || allow.has(id));
  }

  /** Whether the operator named this identity as a relay that carries circuits on. */
  isPeer(identity: Uint8Array): boolean {
    return this.#rules.peers.has(toHex(identity));
  }

  /** Whether a stranger who claims to be of this network may come in. */
  admits(network: Uint8Array): boolean {
    return this.#rules.served === undefined || (!isZero(network) && this.serves(toHex(network)));
  }

  /** Whether this network (hex) is served. */
  serves(network: string): boolean {
    return this.#rules.served?.has(network) ?? true;
  }

  /** The networks (hex) of a record that are served. */
  servedOf(record: PeerRecord): string[] {
    return record.networks.map(toHex).filter((network) => this.serves(network));
  }

  /** All classes, the default one first. */
  get classes(): readonly [QuotaClass, ...QuotaClass[]] {
    return this.#rules.classes;
  }

  /** The class of an identity that is in these networks (hex). */
  classOf(identity: Uint8Array, networks: readonly string[]): QuotaClass {
    const { classOfIdentity, classOfNetwork, classes } = this.#rules;
    const own = classOfIdentity.get(toHex(identity));
    if (own !== undefined) return own;
    for (const network of networks) {
      const quota = classOfNetwork.get(network);
      if (quota !== undefined) return quota;
    }
    return classes[0];
  }

  /** The class of a network (hex). */
  classOfNetwork(network: string): QuotaClass {
    return this.#rules.classOfNetwork.get(network) ?? this.#rules.classes[0];
  }
}
