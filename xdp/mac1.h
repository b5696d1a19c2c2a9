/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * MAC1 of WireGuard initiations (whitepaper 5.4.4), seen before a budget is taken: whoever does not know the
 * key of this node has no part in the budget of those who do.
 */
#ifndef OMERTA_XDP_MAC1_H
#define OMERTA_XDP_MAC1_H

#include <omerta/blake2s.h>

/* An initiation as omerta_mac1_finish() wants it: BPF's stack of 512 bytes has no room for it. */
struct initiation {
  __u32 covered[32];
  __u32 mac1[4];
  __u32 state[8];
};

struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct initiation);
} initiations SEC(".maps");

/* Not static: so the verifier goes through it once. */
__noinline int has_mac1(struct initiation* message) {
  __u32 zero = 0;
  const struct omerta_door* here = bpf_map_lookup_elem(&door, &zero);
  __u32* h;
  int i;

  if (!here || !message) return 0; /* never NULL, but the verifier demands it */
  h = message->state;
  for (i = 0; i < 8; i++) h[i] = here->mac1_state[i];
  omerta_mac1_finish(h, message->covered);
  /* Constant time. */
  return !((h[0] ^ message->mac1[0]) | (h[1] ^ message->mac1[1]) | (h[2] ^ message->mac1[2]) |
           (h[3] ^ message->mac1[3]));
}

enum mac1_verdict { MAC1_OURS, MAC1_OTHERS, MAC1_NOBODYS };

/* For whom an initiation is; its size is in order. */
static __always_inline enum mac1_verdict judge_mac1(const struct datagram* d, const void* end) {
  __u32 zero = 0;
  const struct omerta_door* here = bpf_map_lookup_elem(&door, &zero);
  struct initiation* message = bpf_map_lookup_elem(&initiations, &zero);
  __u32 i;

  if (!here || !message || !here->checks_mac1) return MAC1_OURS;
  if ((void*)(d->payload + OMERTA_WIREGUARD_INITIATION_SIZE) > end) return MAC1_NOBODYS; /* never */
  for (i = 0; i < OMERTA_MAC1_COVERS / 4; i++) message->covered[i] = omerta_load32(d->payload + 4 * i);
  for (i = 0; i < 4; i++) message->mac1[i] = omerta_load32(d->payload + OMERTA_MAC1_COVERS + 4 * i);
  /* What is behind it in `covered` is zero, and stays so. */
  if (has_mac1(message)) return MAC1_OURS;
  return here->relays_wireguard ? MAC1_OTHERS : MAC1_NOBODYS;
}

#endif
