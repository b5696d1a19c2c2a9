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

struct remote {
  __u8 ip[16];
  __u16 port;
  __u16 zero[3];
};

/*
 * The address of ours each remote last talked to: its NAT or firewall lets in only what comes from
 * there. Used only where this machine has several addresses of a family.
 */
struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __uint(max_entries, 1);
  __type(key, struct remote);
  __type(value, struct omerta_own_address);
} remotes SEC(".maps");

/* The interfaces the program is attached to, by their index. */
struct {
  __uint(type, BPF_MAP_TYPE_DEVMAP_HASH);
  __uint(max_entries, 64);
  __type(key, __u32);
  __type(value, __u32);
} devices SEC(".maps");

/* What `remote` proved to be talking to. A frame of its own on BPF's stack of 512 bytes. */
static __noinline void learn_remote(const struct omerta_address* remote, const __u8 own[16]) {
  struct remote key = {.port = remote->port};
  const struct omerta_own_address* known;
  struct omerta_own_address local;

  copy_ip(key.ip, remote->ip);
  known = bpf_map_lookup_elem(&remotes, &key);
  if (known && same_ip(known->ip, own)) return;
  copy_ip(local.ip, own);
  bpf_map_update_elem(&remotes, &key, &local, BPF_ANY);
}

/* Whether the datagram is for this machine, not one it only carries for others. */
static __always_inline bool is_own(const __u8 ip[16]) {
  __u32 i;

  for (i = 0; i < OMERTA_OWN_ADDRESSES && i < settings.own_count; i++)
    if (same_ip(settings.own[i].ip, ip)) return true;
  return false;
}

/* The address to send to a leg's next hop from; false when that is not known. A route may say which. */
static __always_inline bool source_for(const struct omerta_leg* leg, bool route, __u8 source[16]) {
  const bool v4 = is_v4(leg->next_ip);
  struct remote key = {.port = leg->next_port};
  const struct omerta_own_address* known;

  if (route && (leg->key[0] | leg->key[1])) {
    copy_ip(source, leg->key);
    return is_own(source);
  }
  if (v4 ? settings.several4 : settings.several6) {
    copy_ip(key.ip, leg->next_ip);
    known = bpf_map_lookup_elem(&remotes, &key);
    if (!known) return false;
    copy_ip(source, known->ip);
    return is_own(source);
  }
  copy_ip(source, v4 ? settings.only4.ip : settings.only6.ip);
  return omerta_load64(source) | omerta_load64(source + 8);
}

/* The counter of a datagram that passes because of what bpf_fib_lookup said. */
static __always_inline enum omerta_xdp_counter pass_reason(long result) {
  switch (result) {
    case BPF_FIB_LKUP_RET_FWD_DISABLED:
      return OMERTA_XDP_PASSED_FORWARDING_OFF;
    case BPF_FIB_LKUP_RET_NO_NEIGH:
      return OMERTA_XDP_PASSED_NO_NEIGHBOUR;
    default:
      return OMERTA_XDP_PASSED_NO_ROUTE;
  }
}

/* Asks the kernel for the way to `hop->to` from `hop->from` and fills the rest in; 0, or why not. */
static __noinline int resolve(struct xdp_md* ctx, struct omerta_next_hop* hop, __u64 now) {
  struct bpf_fib_lookup fib;
  long result;

  __builtin_memset(&fib, 0, sizeof(fib));
  hop->valid_until = 0;
  fib.l4_protocol = IPPROTO_UDP;
  fib.ifindex = LOOPBACK_INTERFACE;
  if (is_v4(hop->to)) {
    fib.family = AF_INET;
    fib.ipv4_dst = omerta_load32(hop->to + 12);
    fib.ipv4_src = omerta_load32(hop->from + 12);
  } else {
    fib.family = AF_INET6;
    copy_ip((__u8*)fib.ipv6_dst, hop->to);
    copy_ip((__u8*)fib.ipv6_src, hop->from);
  }
  result = bpf_fib_lookup(ctx, &fib, sizeof(fib), 0);
  if (result != BPF_FIB_LKUP_RET_SUCCESS) return pass_reason(result);
  __builtin_memcpy(hop->destination_mac, fib.dmac, 6);
  __builtin_memcpy(hop->source_mac, fib.smac, 6);
  hop->interface = fib.ifindex;
  hop->mtu = fib.mtu_result;
  hop->redirects = bpf_map_lookup_elem(&devices, &fib.ifindex) != NULL;
  hop->valid_until = now + NEXT_HOP_TTL;
  return 0;
}

/* Whether a slot holds the way to a leg's next address as it is on a machine of one address. */
static __always_inline bool is_way(const struct omerta_next_hop* hop, const struct omerta_leg* leg,
                                   __u32 ingress, __u64 now) {
  const bool v4 = is_v4(leg->next_ip);

  return hop->valid_until >= now && same_ip(hop->to, leg->next_ip) &&
         !(v4 ? settings.several4 : settings.several6) &&
         same_ip(hop->from, v4 ? settings.only4.ip : settings.only6.ip) &&
         (hop->interface == ingress || hop->redirects);
}

/*
 * Looks the way to a leg's next address up in its slot, or asks for it; 0, or the counter of what goes by
 * the socket.
 */
static __noinline int find_way(struct xdp_md* ctx, const struct omerta_leg* leg, bool route, __u64 now) {
  __u8 from[16] __attribute__((aligned(8)));
  __u32 slot = omerta_next_hop_slot(leg->next_ip);
  struct omerta_next_hop* hop = bpf_map_lookup_elem(&next_hops, &slot);
  int why = 0;

  if (!hop || !source_for(leg, route, from)) return OMERTA_XDP_PASSED_NO_SOURCE;
  if (hop->valid_until < now || !same_ip(hop->to, leg->next_ip) || !same_ip(hop->from, from)) {
    copy_ip(hop->to, leg->next_ip);
    copy_ip(hop->from, from);
    why = resolve(ctx, hop, now);
  }
  if (why) return why;
  if ((hop->interface != ctx->ingress_ifindex && !hop->redirects) ||
      (route && leg->next_leg_id && leg->next_leg_id != hop->interface))
    why = OMERTA_XDP_PASSED_OTHER_INTERFACE;
  return why;
}

#endif
