/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What the engine tells the kernel path about those who knock at this node: which addresses it knows, and by
 * which key an initiation is for it. Shared memory, one struct: map `door` of the XDP program, written by the
 * engine while the program runs. Shared by C++ and BPF like omerta/wire.h.
 *
 * Terms
 *   known   an address that proved itself not long ago: a session's endpoint, a stock client that answered
 *           the relay's cookie, the source of a leg. IPv4 whole, IPv6 by its /64; the port plays no part
 *   slot    of `known`: the upper half of the address's keyed hash, and when it proved itself. Two addresses
 *           that share a slot take turns; a stranger is taken for a known one once in 2^32
 */
#ifndef OMERTA_DOOR_H
#define OMERTA_DOOR_H

#include <omerta/limits.h>

#ifdef __cplusplus
extern "C" {
#endif

#define OMERTA_KNOWN_SLOTS 65536u
/* How long an address is known, in steps of 2^30 ns: a session in use proves it again every 2 minutes. */
#define OMERTA_KNOWN_STEPS 559 /* 600 s */

struct omerta_door {
  __u32 mac1_state[8]; /* omerta_mac1_begin() under this node's MAC1 key */
  __u32 checks_mac1;   /* that is set */
  __u32
      relays_wireguard; /* there are servers stock clients are relayed to: initiations for other keys come */
  __u64 secret[2];      /* nobody chooses who shares a slot */
  __u64 known[OMERTA_KNOWN_SLOTS];
};

static inline __attribute__((always_inline)) __u64 omerta_known_hash(const struct omerta_door* door,
                                                                     const __u8 ip[16]) {
  const __u64 high = omerta_load64(ip);
  /* ::ffff:a.b.c.d */
  const __u64 low = high == 0 ? omerta_load64(ip + 8) : 0;
  const __u64 secret[2] = {door->secret[0], door->secret[1]};

  return omerta_tag(secret, high, low, 0, 0);
}

/* Whether the address with this hash is known; `now` in ns. */
static inline __attribute__((always_inline)) int omerta_is_known(const struct omerta_door* door, __u64 hash,
                                                                 __u64 now) {
  const __u64 slot = OMERTA_READ(&door->known[hash & (OMERTA_KNOWN_SLOTS - 1)]);

  return slot && !((slot ^ hash) >> 32) && (__s32)((__u32)(now >> 30) - (__u32)slot) < OMERTA_KNOWN_STEPS;
}

/* The address has proven itself. */
static inline void omerta_know(struct omerta_door* door, const __u8 ip[16], __u64 now) {
  const __u64 hash = omerta_known_hash(door, ip);

  OMERTA_WRITE(&door->known[hash & (OMERTA_KNOWN_SLOTS - 1)],
               (hash & ~(__u64)0xffffffff) | (__u32)(now >> 30));
}

#ifdef __cplusplus
}
#endif
#endif
