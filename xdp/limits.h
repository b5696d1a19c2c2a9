/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The maps behind omerta/limits.h, and the books of one frame. The loader sizes `limits`,
 * `identities` and `networks` like the socket engine's tables, so that every index a leg may name is
 * there, and fills in a policy with an odd prefix key.
 */
#ifndef OMERTA_XDP_LIMITS_H
#define OMERTA_XDP_LIMITS_H

#include <omerta/limits.h>

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(map_flags, BPF_F_MMAPABLE);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct omerta_policy);
} policy SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(map_flags, BPF_F_MMAPABLE);
  __uint(max_entries, 64);
  __type(key, __u32);
  __type(value, struct omerta_limits);
} limits SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(map_flags, BPF_F_MMAPABLE);
  __uint(max_entries, 65536);
  __type(key, __u32);
  __type(value, struct omerta_account);
} identities SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(map_flags, BPF_F_MMAPABLE);
  __uint(max_entries, 65536);
  __type(key, __u32);
  __type(value, struct omerta_account);
} networks SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(map_flags, BPF_F_MMAPABLE);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct omerta_account);
} host SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(map_flags, BPF_F_MMAPABLE);
  __uint(max_entries, OMERTA_PREFIX_BUCKETS);
  __type(key, __u32);
  __type(value, __u64);
} prefixes SEC(".maps");

/* What a leg names to be charged: identity u32, network u16, class of limits u16. */
static __always_inline __u64 accounts_of(const struct omerta_leg* leg) {
  return omerta_load64(&leg->identity);
}

/* Where a forward leg's frame is charged; false when the leg names what is not there. */
static __always_inline bool open_books(__u64 accounts, const struct omerta_address* source,
                                       struct omerta_books* books) {
  __u32 identity = (__u32)accounts, network = (__u16)(accounts >> 32), class = accounts >> 48;
  __u32 zero = 0, bucket;

  books->policy = bpf_map_lookup_elem(&policy, &zero);
  books->host = bpf_map_lookup_elem(&host, &zero);
  books->limits = bpf_map_lookup_elem(&limits, &class);
  books->identity = bpf_map_lookup_elem(&identities, &identity);
  books->network = bpf_map_lookup_elem(&networks, &network);
  if (!books->policy || !books->host || !books->limits || !books->identity || !books->network) return false;
  bucket = omerta_prefix_bucket(books->policy, source);
  books->prefix = bpf_map_lookup_elem(&prefixes, &bucket);
  return books->prefix;
}

/*
 * Begins to fetch the account charge() will want, so that it comes from memory while the tags are made. BPF
 * has no instruction for that, and a load would hold up what comes after it; a store does not.
 */
static __always_inline void expect_charge(__u32 identity) {
  struct omerta_account* account = bpf_map_lookup_elem(&identities, &identity);

  if (account) OMERTA_WRITE(&account->reserved, 0);
}

#define CHARGE_NO_BOOKS 255

/*
 * Charges a frame of a forward leg (omerta_admit) to what it named: a drop reason, or CHARGE_NO_BOOKS when
 * that is not there. Not static: so the verifier goes through it once, not for every way that leads to it.
 */
__noinline int charge(struct omerta_leg* leg, __u64 accounts, const struct omerta_address* source, __u32 size,
                      __u64 now) {
  struct omerta_books books;

  if (!leg || !source) return CHARGE_NO_BOOKS; /* never NULL, but the verifier demands it */
  if (!open_books(accounts, source, &books)) return CHARGE_NO_BOOKS;
  return omerta_admit(leg, OMERTA_LEG_FORWARD, &books, size, now, 1);
}

#endif
