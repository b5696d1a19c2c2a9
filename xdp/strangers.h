/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What strangers may make this node do: a budget for each source prefix and one for all of them, for each
 * kind of datagram. An address that has proven itself (omerta/door.h) has one of its own before that, so that
 * no flood of strangers keeps members and clients out that come again. The tables are of fixed size:
 * prefixes, or known addresses, that share a slot share a bucket.
 */
#ifndef OMERTA_STRANGERS_H
#define OMERTA_STRANGERS_H

#define STRANGER_BUCKETS 4096
#define BUDGET_ATTEMPTS 4 /* compare-and-swaps before a contended bucket refuses */

#include <omerta/door.h>

/* Theoretical arrival times. */
__u64 prefix_buckets[OMERTA_STRANGER_KINDS][STRANGER_BUCKETS];
__u64 total_buckets[OMERTA_STRANGER_KINDS];
__u64 known_buckets[OMERTA_STRANGER_KINDS][STRANGER_BUCKETS];

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(map_flags, BPF_F_MMAPABLE);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct omerta_door);
} door SEC(".maps");

static __always_inline bool has_budget(const __u64* bucket, const struct omerta_budget* budget, __u64 now) {
  const __u64 before = *(const volatile __u64*)bucket;

  return (before < now ? now : before) + budget->interval - now <= budget->burst;
}

static __always_inline bool take_budget(__u64* bucket, const struct omerta_budget* budget, __u64 now) {
  int i;

  for (i = 0; i < BUDGET_ATTEMPTS; i++) {
    __u64 before = *(volatile __u64*)bucket;
    __u64 arrival = (before < now ? now : before) + budget->interval;

    /* Refused without a write: a flood does not fight for the cache line. */
    if (arrival - now > budget->burst) return false;
    if (__sync_val_compare_and_swap(bucket, before, arrival) == before) return true;
  }
  return false;
}

/* Whether an address that has proven itself is within its own budget. */
static __always_inline bool known_within_budget(__u32 kind, const struct omerta_address* from, __u64 now) {
  __u32 zero = 0;
  const struct omerta_door* here = bpf_map_lookup_elem(&door, &zero);
  __u64 hash;

  if (!here) return false; /* never */
  hash = omerta_known_hash(here, from->ip);
  return omerta_is_known(here, hash, now) &&
         take_budget(&known_buckets[kind][(hash >> 16) & (STRANGER_BUCKETS - 1)], &settings.known[kind], now);
}

/*
 * Whether a datagram of this kind from this address is within its budgets. Not static: so the verifier goes
 * through it once.
 */
__noinline int within_budget(__u32 kind, const struct omerta_address* from, __u64 now) {
  __u64 high, low = 0;
  __u32 slot;

  if (!from || kind >= OMERTA_STRANGER_KINDS) return 0; /* never NULL, but the verifier demands it */
  if (known_within_budget(kind, from, now)) return 1;
  /* A flood has used this one up: no hash is made for it. */
  if (!has_budget(&total_buckets[kind], &settings.total[kind], now)) return 0;
  high = omerta_load64(from->ip) & bpf_cpu_to_be64(0xffffffffffff0000ULL); /* IPv6 /48 */
  if (is_v4(from->ip)) low = omerta_load64(from->ip + 8) & bpf_cpu_to_be64(0xffffffffffffff00ULL); /* /24 */
  slot = omerta_tag((const __u64*)settings.secret, high, low, 0, 0) & (STRANGER_BUCKETS - 1);
  return take_budget(&prefix_buckets[kind][slot], &settings.prefix[kind], now) &&
         take_budget(&total_buckets[kind], &settings.total[kind], now);
}

#endif
