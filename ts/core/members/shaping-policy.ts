// What the operator has decided about how packets to members are shaped, and what an engine is told of it.

import type { SessionKey } from '../../contract/engine.js';
import type { PeerShaping } from '../../contract/shaping-control.js';
import { toHex } from '../../wire/bytes.js';

/** `buckets`: to the next of a few sizes; `constant`: to the longest there is. */
export const PADDING_MODES = ['off', 'buckets', 'constant'] as const;
export type PaddingMode = (typeof PADDING_MODES)[number];

/** Of one member. */
export interface ShapingRules {
  readonly padding: PaddingMode;
  /** Bytes of padding for 100 bytes of data; undefined = as many as it takes. */
  readonly paddingBudget: number | undefined;
}

export interface ShapingPolicy {
  /** Of members that have none of their own. */
  readonly rules: ShapingRules;
  /** By identity (lower-case hex). */
  readonly members: ReadonlyMap<string, ShapingRules>;
}

export const NO_SHAPING: ShapingPolicy = {
  rules: { padding: 'off', paddingBudget: undefined },
  members: new Map(),
};

/** Stands for what the inner MTU and the path take. */
const LONGEST = 0xffff;
/** Acknowledgements, voice, small answers, and half of what is longer. */
const BUCKETS = [128, 256, 512, 1024, LONGEST];

const SIZES: Readonly<Record<PaddingMode, readonly number[]>> = {
  off: [],
  buckets: BUCKETS,
  constant: [LONGEST],
};

export function rulesOf({ rules, members }: ShapingPolicy, identity: Uint8Array): ShapingRules {
  return (members.size === 0 ? undefined : members.get(toHex(identity))) ?? rules;
}

/** As an engine takes it. */
export function peerShaping(peer: SessionKey, { padding, paddingBudget }: ShapingRules): PeerShaping {
  return { peer, paddedSizes: SIZES[padding], paddingBudget };
}
