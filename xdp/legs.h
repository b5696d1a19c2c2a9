/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The legs, where their ids say (omerta/leg_slots.h), written by the daemon through shared memory.
 *
 * They are read in place. Whatever a verdict was made of counts only if is_unchanged() says so after it
 * was read: what is needed later is taken before that.
 */
#ifndef OMERTA_XDP_LEGS_H
#define OMERTA_XDP_LEGS_H

#include <omerta/leg_slots.h>
#include <omerta/leg_window.h>

/* Set by the loader before loading. */
const volatile __u32 leg_slots = 65536; /* of `legs` */
const volatile bool loads_pass_loads = false;

/* A value as large as an entry, and no larger: the address of one is a shift away. */
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(map_flags, BPF_F_MMAPABLE);
  __uint(max_entries, 65536);
  __type(key, __u32);
  __type(value, struct omerta_leg);
} legs SEC(".maps");

/* What each slot's leg let through. Cleared by the daemon before another leg is published there. */
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(map_flags, BPF_F_MMAPABLE);
  __uint(max_entries, 65536);
  __type(key, __u32);
  __type(value, struct omerta_leg_window);
} windows SEC(".maps");

/*
 * No load before it comes after one behind it. BPF has no fence, but every processor's translation of an
 * atomic operation with a result is one; where loads stay in order, the verifier leaves it out.
 */
static __always_inline void load_fence(void) {
  asm volatile("" ::: "memory");
  if (loads_pass_loads) {
    __u64 anything = 0;
    const __u64 result = __sync_fetch_and_add(&anything, 1);

    asm volatile("" ::"r"(result) : "memory");
  }
}

static __always_inline __u64 first_word(const struct omerta_leg* leg) { return *(const volatile __u64*)leg; }

static __always_inline bool is_leg(__u64 word, __u32 id) {
  return (__u32)word == id && (word & OMERTA_LEG_ACTION_BITS);
}

/* A leg whose home was taken. Out of the way of those at home. */
static __noinline struct omerta_leg* displaced_leg(__u32 id, __u64* word, __u32* found) {
  __u32 slot = omerta_leg_home(id, leg_slots);
  __u32 distance;

  for (distance = 1; distance <= OMERTA_XDP_REACH && distance <= settings.reach; distance++) {
    struct omerta_leg* leg;

    slot = omerta_leg_slot_after(slot, leg_slots);
    leg = bpf_map_lookup_elem(&legs, &slot);
    if (!leg) return NULL; /* never */
    *word = first_word(leg);
    *found = slot;
    if (is_leg(*word, id)) return leg;
  }
  return NULL;
}

/* The entry of a leg, its slot, and its first word, by which is_unchanged() knows it; it may be being
 * written. */
static __always_inline struct omerta_leg* find_leg(__u32 id, __u64* word, __u32* slot) {
  struct omerta_leg* leg;

  *slot = omerta_leg_home(id, leg_slots);
  leg = bpf_map_lookup_elem(&legs, slot);

  if (!leg) return NULL; /* never */
  *word = first_word(leg);
  if (!is_leg(*word, id)) {
    if (!settings.reach) return NULL;
    leg = displaced_leg(id, word, slot);
  }
  load_fence();
  return leg;
}

/* Whether all that was read of the leg since find_leg() was the leg's. */
static __always_inline bool is_unchanged(const struct omerta_leg* leg, __u64 word) {
  load_fence();
  return first_word(leg) == word && !(word & OMERTA_LEG_WRITING_BIT);
}

/*
 * Whether a frame's message is new to the leg in this slot (omerta_window_takes). Not static: so the verifier
 * goes through it once.
 */
__noinline int is_new(struct omerta_leg_window* window, __u64 first, __u64 second, __u64 tag) {
  if (!window) return 1; /* never NULL, but the verifier demands it */
  return omerta_window_takes(window, first, second, tag, 1);
}

#endif
