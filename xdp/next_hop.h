/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * How a destination is reached: the kernel's routes and neighbours (bpf_fib_lookup), remembered for
 * a second on each CPU. The table is direct-mapped: a miss costs a look-up, never a list walk.
 *
 * The kernel is asked as for a datagram of this machine's own, which comes in by `lo`. The helper
 * wants forwarding switched on at that interface; nothing arrives there that could be forwarded, so
 * this does not make a router of the machine, which switching it on at a real interface would.
 */
#ifndef OMERTA_NEXT_HOP_H
#define OMERTA_NEXT_HOP_H

#define LOOPBACK_INTERFACE 1 /* `lo` of every network namespace */
#define NEXT_HOP_TTL 1000000000ULL
#define AF_INET 2
#define AF_INET6 10

struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, OMERTA_NEXT_HOPS);
  __type(key, __u32);
  __type(value, struct omerta_next_hop);
} next_hops SEC(".maps");

/* The interfaces the program is attached to, by their index. */
struct {
  __uint(type, BPF_MAP_TYPE_DEVMAP_HASH);
  __uint(max_entries, 64);
  __type(key, __u32);
  __type(value, __u32);
} devices SEC(".maps");

/* The counter of a datagram that passes because of what bpf_fib_lookup said. */
static __always_inline enum omerta_xdp_counter pass_reason(long result) {
  switch (result) {
    case BPF_FIB_LKUP_RET_FWD_DISABLED:
      return OMERTA_XDP_PASSED_FORWARDING_OFF;
    case BPF_FIB_LKUP_RET_NO_NEIGH:
      return OMERTA_XDP_PASSED_NO_NEIGHBOUR;
    case BPF_FIB_LKUP_RET_NO_SRC_ADDR:
    case -22: /* EINVAL: this kernel (before 6.7) does not tell the source */
      return OMERTA_XDP_PASSED_NO_SOURCE;
    default:
      return OMERTA_XDP_PASSED_NO_ROUTE;
  }
}

/* Asks the kernel for the way to `hop->to` from `hop->from` and fills the rest in; 0, or why not. */
static __noinline int resolve(struct xdp_md* ctx, struct omerta_next_hop* hop, __u64 now) {
  struct bpf_fib_lookup fib;
  const bool any_source = !(omerta_load64(hop->from) | omerta_load64(hop->from + 8));
  const bool v4 = is_v4(hop->to);
  long result;

  __builtin_memset(&fib, 0, sizeof(fib));
  hop->valid_until = 0;
  fib.l4_protocol = IPPROTO_UDP;
  fib.ifindex = LOOPBACK_INTERFACE;
  if (v4) {
    fib.family = AF_INET;
    fib.ipv4_dst = omerta_load32(hop->to + 12);
    fib.ipv4_src = any_source ? 0 : omerta_load32(hop->from + 12);
  } else {
    fib.family = AF_INET6;
    copy_ip((__u8*)fib.ipv6_dst, hop->to);
    copy_ip((__u8*)fib.ipv6_src, hop->from);
  }
  result = bpf_fib_lookup(ctx, &fib, sizeof(fib), any_source ? BPF_FIB_LOOKUP_SRC : 0);
  if (result != BPF_FIB_LKUP_RET_SUCCESS) return pass_reason(result);
  if (v4)
    store_v4(hop->source, fib.ipv4_src);
  else
    copy_ip(hop->source, fib.ipv6_src);
  __builtin_memcpy(hop->destination_mac, fib.dmac, 6);
  __builtin_memcpy(hop->source_mac, fib.smac, 6);
  hop->interface = fib.ifindex;
  hop->mtu = fib.mtu_result;
  hop->redirects = bpf_map_lookup_elem(&devices, &fib.ifindex) != NULL;
  hop->valid_until = now + NEXT_HOP_TTL;
  return 0;
}

/*
 * The way to `to`, from the address `from` when it is of the same family. NULL when a datagram has
 * to go by the socket; *why is the counter then.
 */
static __always_inline struct omerta_next_hop* next_hop(struct xdp_md* ctx, const __u8 to[16],
                                                        const __u8 from[16], __u64 now, int* why) {
  __u32 slot = omerta_next_hop_slot(to);
  struct omerta_next_hop* hop = bpf_map_lookup_elem(&next_hops, &slot);

  *why = OMERTA_XDP_PASSED_NO_ROUTE;
  if (!hop) return NULL;
  if (hop->valid_until < now || !same_ip(hop->to, to) || !same_ip(hop->from, from)) {
    copy_ip(hop->to, to);
    copy_ip(hop->from, from);
    *why = resolve(ctx, hop, now);
    if (*why) return NULL;
  }
  if (hop->interface != ctx->ingress_ifindex && !hop->redirects) {
    *why = OMERTA_XDP_PASSED_OTHER_INTERFACE;
    return NULL;
  }
  return hop;
}

#endif
