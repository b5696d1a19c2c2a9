/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Where a leg lies in a table of legs, and how an entry is published. Shared by C++ and BPF like
 * omerta/wire.h, and as free of state.
 *
 * Terms
 *   slots     entries of the table, exactly its capacity
 *   home      the slot of an id; whoever receives on a leg chooses its id, so that the home is free
 *   reach     the furthest any leg ever sat from its home: legs whose homes were taken lie in the next
 *             free slots (linear probing), wrapping at `slots`
 *   vacant    an entry of action 0
 *
 * A look-up goes through the slots from the home to the reach and ends there, not at a vacant one: a
 * removed leg leaves no tombstone, and no entry moves under a reader.
 *
 * Publication. The sequence counter of an entry is in its first word, in the upper bits of four bytes
 * that need only the lower ones. It is odd while the writer is at the entry:
 *
 *   writer   word 0 with the next sequence (odd) · the other words, each after it · word 0, even again
 *   reader   word 0 · the others · word 0 again: the same, and even, or what was read is nobody's leg
 */
#ifndef OMERTA_LEG_SLOTS_H
#define OMERTA_LEG_SLOTS_H

#include <omerta/wire.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * The first word of an entry: leg id u32, action u8, flags u8, key epoch u8, next key epoch u8. Of these
 * bytes a leg uses two, one, four and four bits.
 */
#define OMERTA_LEG_POLICY_BITS 0x0f0f0103ffffffffULL
#define OMERTA_LEG_SEQUENCE_BITS (~OMERTA_LEG_POLICY_BITS)
#define OMERTA_LEG_ACTION_BITS 0x0000000300000000ULL
/* The counter's lowest bit: the writer is at the entry. */
#define OMERTA_LEG_WRITING_BIT 0x0000000400000000ULL

/* The sequence counter of `word`, one further: carries run through the leg's bits, which are all ones. */
static inline __attribute__((always_inline)) __u64 omerta_leg_next_sequence(__u64 word) {
  return ((word | OMERTA_LEG_POLICY_BITS) + 1) & OMERTA_LEG_SEQUENCE_BITS;
}

/* The home of an id: its share of 2^32 as a share of the slots (Lemire 2019, multiply-shift). */
static inline __attribute__((always_inline)) __u32 omerta_leg_home(__u32 leg_id, __u32 slots) {
  return (__u32)(((__u64)leg_id * slots) >> 32);
}

/* The slot after one. */
static inline __attribute__((always_inline)) __u32 omerta_leg_slot_after(__u32 slot, __u32 slots) {
  return slot + 1 == slots ? 0 : slot + 1;
}

/* How far a slot is from the home of an id, in the direction of probing. */
static inline __attribute__((always_inline)) __u32 omerta_leg_distance(__u32 slot, __u32 leg_id,
                                                                       __u32 slots) {
  const __u32 home = omerta_leg_home(leg_id, slots);

  return slot >= home ? slot - home : slot + slots - home;
}

#ifdef __cplusplus
}
static_assert((OMERTA_LEG_SEQUENCE_BITS & -OMERTA_LEG_SEQUENCE_BITS) == OMERTA_LEG_WRITING_BIT, "lowest bit");
#else
_Static_assert((OMERTA_LEG_SEQUENCE_BITS & -OMERTA_LEG_SEQUENCE_BITS) == OMERTA_LEG_WRITING_BIT,
               "lowest bit");
#endif
#endif
