/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What strangers may make this node do: a budget for each source prefix and one for all of them,
 * for each kind of datagram. The table is of fixed size: prefixes that share a slot share a bucket.
 */
#ifndef OMERTA_STRANGERS_H
#define OMERTA_STRANGERS_H

#define STRANGER_BUCKETS 4096
#define BUDGET_ATTEMPTS 4 /* compare-and-swaps before a contended bucket refuses */

/* Theoretical arrival times. */
__u64 prefix_buckets[OMERTA_STRANGER_KINDS][STRANGER_BUCKETS];
__u64 total_buckets[OMERTA_STRANGER_KINDS];

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

/* Whether a datagram of this kind (a constant) from this address is within its budgets. */
static __always_inline bool within_budget(enum omerta_stranger_kind kind, const struct omerta_address* from,
                                          __u64 now) {
  __u64 high = omerta_load64(from->ip) & bpf_cpu_to_be64(0xffffffffffff0000ULL); /* IPv6 /48 */
  __u64 low = 0;
  __u32 slot;

  /* A flood has used this one up: no hash is made for it. */
  if (!has_budget(&total_buckets[kind], &settings.total[kind], now)) return false;
  if (is_v4(from->ip)) low = omerta_load64(from->ip + 8) & bpf_cpu_to_be64(0xffffffffffffff00ULL); /* /24 */
  slot = omerta_tag((const __u64*)settings.secret, high, low, 0, 0) & (STRANGER_BUCKETS - 1);
  return take_budget(&prefix_buckets[kind][slot], &settings.prefix[kind], now) &&
         take_budget(&total_buckets[kind], &settings.total[kind], now);
}

#endif
