/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The Internet checksum, updated for what changes (RFC 1624, eqn. 3: HC' = ~(~HC + ~m + m')).
 *
 * A sum is kept in 64 bits and folded once at the end. Words may be of any size and byte order as
 * long as they lie at even offsets of what is summed: one's complement addition does not mind.
 */
#ifndef OMERTA_CHECKSUM_H
#define OMERTA_CHECKSUM_H

static __always_inline __u16 checksum_fold(__u64 sum) {
  sum = (sum & 0xffffffff) + (sum >> 32);
  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  return (__u16)sum;
}

/* The difference that replacing a 32-bit word makes. */
static __always_inline __u64 checksum_replace32(__u32 from, __u32 to) { return (__u64)(__u32)~from + to; }

static __always_inline __u64 checksum_replace16(__u16 from, __u16 to) { return (__u64)(__u16)~from + to; }

/* The checksum `old` after `difference`, the sum of what checksum_replace*() gave. */
static __always_inline __u16 checksum_update(__u16 old, __u64 difference) {
  return (__u16)~checksum_fold((__u64)(__u16)~old + difference);
}

#endif
