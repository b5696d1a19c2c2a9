// The contact leg: leg id 0, by which strangers reach a node whose session key they know.

import { CONTACT_LEG } from '../../wire/frame.js';
import { UNCHARGED, type Leg, type LegKey } from '../../wire/leg.js';
import { utf8 } from '../../wire/bytes.js';
import type { Primitives } from '../../contract/primitives.js';

/** Id, key and epoch of a node's contact leg. */
export function contactLegKey(primitives: Primitives, receiverSessionKey: Uint8Array): LegKey {
  const key = primitives.sha256(utf8('omerta contact leg v1'), receiverSessionKey).slice(0, 16);
  return { id: CONTACT_LEG, key, epoch: 0 };
}

/** The table entry that makes a node reachable for strangers. */
export function contactLeg(primitives: Primitives, ownSessionKey: Uint8Array): Leg {
  return {
    ...contactLegKey(primitives, ownSessionKey),
    action: 'control',
    source: undefined,
    next: undefined,
    lifetimeMs: undefined,
    charging: UNCHARGED,
  };
}
