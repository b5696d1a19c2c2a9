// The legs (leg-entry.ts), each with its window (leg-window.ts) behind it, in an open-addressed table
// with linear probing, at most half full. One thread: a removed leg's place is closed by moving later
// entries up, so no tombstones are left. Limits and accounts (limits.ts) lie behind the entries.

import { Leg } from './leg-entry';
import { accountBytes, createAccounts, settle } from './limits';

const COUNTERS_AND_WINDOW: usize = 96;

let entries: usize = 0;
let mask: u32 = 0;
let capacity: u32 = 0;
let used: u32 = 0;

/** Makes room for `legs` legs and their accounts. Called once; false when the memory cannot be had. */
export function create(legs: u32, identities: u32, networks: u32, classes: u32): bool {
  let slots: u32 = 2;
  while (slots < legs * 2) slots <<= 1;
  const table = usize(slots) * Leg.Size;
  const bytes = table + accountBytes(identities, networks, classes);
  // The heap only ever holds this table, so it takes whole pages behind the module's own data.
  const start = (__heap_base + 127) & ~127;
  const pages = i32((start + bytes + 0xffff) >>> 16) - memory.size();
  if (pages > 0 && memory.grow(pages) < 0) return false;
  entries = start;
  memory.fill(entries, 0, bytes);
  createAccounts(entries + table, identities, networks);
  mask = slots - 1;
  capacity = legs;
  return true;
}

export function size(): u32 {
  return used;
}

function slotAddress(slot: u32): usize {
  return entries + usize(slot) * Leg.Size;
}

function home(id: u32): u32 {
  // Fibonacci hashing (Knuth, TAOCP 6.4): the upper half of the product is well mixed.
  return u32((u64(id) * 0x9e3779b97f4a7c15) >> 32) & mask;
}

/** The slot of a leg, or the vacant one where it would go. */
function probe(id: u32): u32 {
  let slot = home(id);
  let entry = slotAddress(slot);
  while (load<u8>(entry, Leg.Action) != 0 && load<u32>(entry, Leg.Id) != id) {
    slot = (slot + 1) & mask;
    entry = slotAddress(slot);
  }
  return slot;
}

/** The address of a leg's entry, 0 when there is none. */
export function find(id: u32): usize {
  const entry = slotAddress(probe(id));
  return load<u8>(entry, Leg.Action) == 0 ? 0 : entry;
}

/** The address of the first entry in use at or after the one at `from` (0: from the start), or 0. */
export function nextEntry(from: usize): usize {
  const end = slotAddress(mask) + Leg.Size;
  for (let entry = from == 0 ? entries : from; entry < end; entry += Leg.Size) {
    if (load<u8>(entry, Leg.Action) != 0) return entry;
  }
  return 0;
}

/** Adds the leg at `leg`, or replaces the one with its id and keeps its counters. False: full. */
export function install(leg: usize): bool {
  const entry = slotAddress(probe(load<u32>(leg, Leg.Id)));
  if (load<u8>(entry, Leg.Action) == 0) {
    if (used == capacity) return false;
    used++;
    memory.fill(entry + Leg.TheoreticalArrival, 0, COUNTERS_AND_WINDOW);
  } else {
    settle(entry, 1); // what it carried so far was the former accounts'
  }
  memory.copy(entry, leg, Leg.TheoreticalArrival);
  settle(entry, -1);
  return true;
}

/** Removes a leg; false when there was none. Knuth, TAOCP 6.4, Algorithm R. */
export function remove(id: u32): bool {
  let gap = probe(id);
  if (load<u8>(slotAddress(gap), Leg.Action) == 0) return false;
  settle(slotAddress(gap), 1);
  let slot = gap;
  for (;;) {
    slot = (slot + 1) & mask;
    const entry = slotAddress(slot);
    if (load<u8>(entry, Leg.Action) == 0) break;
    // An entry moves up unless its home lies between the gap and where it is.
    const fromHome = (slot - home(load<u32>(entry, Leg.Id))) & mask;
    if (fromHome >= ((slot - gap) & mask)) {
      memory.copy(slotAddress(gap), entry, Leg.Size);
      gap = slot;
    }
  }
  memory.fill(slotAddress(gap), 0, Leg.Size);
  used--;
  return true;
}
