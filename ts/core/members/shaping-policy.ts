// What the operator has decided about how packets to members are shaped, and what an engine is told of it.

import type { SessionKey } from '../../contract/engine.js';
import { LEAST_SLOT_MS, type PeerShaping } from '../../contract/shaping-control.js';
import { toHex } from '../../wire/bytes.js';

/** `buckets`: to the next of a few sizes; `constant`: to the longest there is; `constant-rate`: that, and so many a second. */
export const PADDING_MODES = ['off', 'buckets', 'constant', 'constant-rate'] as const;
export type PaddingMode = (typeof PADDING_MODES)[number];

export const MAX_PACKETS_PER_SECOND = 1000 / LEAST_SLOT_MS;

/** Of one member. */
export interface ShapingRules {
  readonly padding: PaddingMode;
  /** Bytes of padding for 100 bytes of data; undefined = as many as it takes. */
  readonly paddingBudget: number | undefined;
  /** Of `constant-rate`, which sends nothing at a constant rate without it. */
  readonly packetsPerSecond: number | undefined;
  /** Among the members of its network, where a ceiling lets less through than there is. */
  readonly weight: number;
}

/** What a peer shares a ceiling with: its network (lower-case hex) and that network's weight. */
export interface NetworkShare {
  readonly network: string;
  readonly weight: number;
}

export interface ShapingPolicy {
  /** Of members that have none of their own. */
  readonly rules: ShapingRules;
  /** By identity (lower-case hex). */
  readonly members: ReadonlyMap<string, ShapingRules>;
  /** Weights of networks, by name; those left out have 1. */
  readonly networks: ReadonlyMap<string, number>;
  /** Whether an interface has a ceiling. */
  readonly limited: boolean;
}

export const NO_SHAPING: ShapingPolicy = {
  rules: { padding: 'off', paddingBudget: undefined, packetsPerSecond: undefined, weight: 1 },
  members: new Map(),
  networks: new Map(),
  limited: false,
};

/** Of peers that are members of none. */
export const NO_NETWORK = '0'.repeat(32);

/** Stands for what the inner MTU and the path take. */
const LONGEST = 0xffff;
/** Acknowledgements, voice, small answers, and half of what is longer. */
const BUCKETS = [128, 256, 512, 1024, LONGEST];

const SIZES: Readonly<Record<PaddingMode, readonly number[]>> = {
  off: [],
  buckets: BUCKETS,
  constant: [LONGEST],
  'constant-rate': [LONGEST],
};

export function rulesOf({ rules, members }: ShapingPolicy, identity: Uint8Array): ShapingRules {
  return (members.size === 0 ? undefined : members.get(toHex(identity))) ?? rules;
}

/**
 * As an engine takes it.
 * @param share undefined: no ceiling concerns the peer, and packets of a constant rate share with nobody.
 */
export function peerShaping(peer: SessionKey, rules: ShapingRules, share?: NetworkShare): PeerShaping {
  const { padding, paddingBudget, weight } = rules;
  const slotMs = slotOf(rules);
  const waits = share !== undefined || slotMs !== undefined;
  const { network, weight: networkWeight } = share ?? { network: NO_NETWORK, weight: 1 };
  return {
    peer,
    paddedSizes: SIZES[padding],
    paddingBudget,
    ...(waits ? { queue: { weight, network, networkWeight, slotMs } } : {}),
  };
}

/** Whether it asks anything of an engine. */
export function isShaped({ paddedSizes, queue }: PeerShaping): boolean {
  return paddedSizes.length > 0 || queue !== undefined;
}

function slotOf({ padding, packetsPerSecond }: ShapingRules): number | undefined {
  return padding === 'constant-rate' && packetsPerSecond !== undefined ? 1000 / packetsPerSecond : undefined;
}
