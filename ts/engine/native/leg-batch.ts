// Legs in one buffer, as they cross into the native addon and into that of the kernel path.

import type { Leg } from '../../wire/leg.js';
import { LEG_ENTRY_SIZE, encodeLegEntry, legEntry } from '../../wire/leg-entry.js';

/**
 * Entries of `struct omerta_leg`. The addon adds its clock to a lifetime, so it counts from zero here;
 * from one, in fact, because an expiry of 0 means "never".
 */
export function packLegs(legs: readonly Leg[]): Uint8Array {
  const packed = new Uint8Array(legs.length * LEG_ENTRY_SIZE);
  legs.forEach((leg, index) =>
    encodeLegEntry(legEntry(leg, 1n), packed.subarray(index * LEG_ENTRY_SIZE, (index + 1) * LEG_ENTRY_SIZE)),
  );
  return packed;
}
