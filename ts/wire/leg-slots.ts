// Where a leg lies in an engine's table of legs, as native/wire/include/omerta/leg_slots.h has it: an
// id's share of 2^32 is its home's share of the table's slots, of which there are at most 2^28.

export const MAX_SLOTS = 2 ** 28;

/** The home of an id. */
export function legHome(id: number, slots: number): number {
  // id · slots / 2^32, rounded down. The product can exceed 2^53, where doubles are not exact; those with
  // the two halves of the id cannot.
  const low = Math.floor(((id & 0xffff) * slots) / 0x10000);
  return Math.floor(((id >>> 16) * slots + low) / 0x10000);
}

/** The smallest id whose home is this slot; 2^32 for the one after the last. */
export function firstIdOfHome(slot: number, slots: number): number {
  // slot · 2^32 / slots, rounded up, in two steps of 16 bits.
  const high = Math.floor((slot * 0x10000) / slots);
  const rest = slot * 0x10000 - high * slots;
  return high * 0x10000 + Math.ceil((rest * 0x10000) / slots);
}
