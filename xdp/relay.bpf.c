// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Forwards Omerta frames in the driver, before the kernel has made a socket buffer of them, and turns
 * strangers' floods away there.
 *
 *   a datagram for the relay's port at an address of this machine (datagram.h), else PASS
 *   └ classify                     what no engine would take            DROP
 *     ├ WireGuard                  a relayed session's transport        as a leg that goes on (routes.h)
 *     │                            receiver index nobody has            DROP
 *     │                            an initiation for nobody here        DROP   (mac1.h)
 *     │                            initiations beyond the budget        DROP   (strangers.h)
 *     │                            else                                 PASS
 *     ├ STUN                       beyond the budget                    DROP
 *     └ Omerta frame: its leg      unknown; wrong source, tag, …        DROP
 *       ├ ends here                contact leg beyond the budget        DROP
 *       │                          else                                 PASS
 *       └ goes on                  no way to its next hop is known      PASS   (next_hop.h)
 *                                  its message came by before           DROP   (legs.h)
 *                                  beyond the leg's limits              DROP
 *                                  rewritten (readdress.h)              TX, or REDIRECT
 *
 * What passes goes up untouched and is judged again by the socket engine, which has the whole table:
 * verdicts are counted there. The verdict is decided before the first byte of a packet is changed.
 *
 * Preconditions of attaching this program: `legs` holds legs of every action, and whoever writes it keeps
 * to omerta/leg_slots.h.
 */
#include "vmlinux.h"

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <omerta/tag_pair.h>
#include <omerta/wire.h>
#include <omerta/xdp_maps.h>

#include "datagram.h"
#include "limits.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Set by the loader before loading. */
const volatile __u16 relay_port = 0; /* big-endian; 0 claims nothing */
const volatile bool use_test_clock = false;

/* ns of CLOCK_BOOTTIME as golden packets have it; read only with use_test_clock. */
__u64 test_clock = 0;

struct omerta_xdp_settings settings __attribute__((aligned(64)));

#include "legs.h"
#include "next_hop.h"
#include "readdress.h"
#include "routes.h"
#include "strangers.h"

#include "mac1.h" /* after them: it reads `door` */

struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct omerta_xdp_counters);
} counters SEC(".maps");

/* The route a message goes by: BPF's stack of 512 bytes has no room for it beside charge()'s. */
struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct omerta_leg);
} judged_routes SEC(".maps");

/* For the daemons: the program does not read it. */
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct omerta_xdp_state);
} state SEC(".maps");

/* This CPU's row; a program runs on one without preemption. */
static __always_inline struct omerta_xdp_counters* row(void) {
  __u32 zero = 0;

  return bpf_map_lookup_elem(&counters, &zero);
}

static __always_inline int pass(int why) {
  struct omerta_xdp_counters* mine = row();

  if (mine && (__u32)why < OMERTA_XDP_COUNTER_ROOM) mine->others[why] += 1;
  return XDP_PASS;
}

static __always_inline int drop(__u32 reason) {
  struct omerta_xdp_counters* mine = row();

  if (mine && reason < OMERTA_XDP_COUNTER_ROOM) mine->drops[reason] += 1;
  return XDP_DROP;
}

static __always_inline int drop_otherwise(enum omerta_xdp_counter why) {
  struct omerta_xdp_counters* mine = row();

  if (mine) mine->others[why] += 1;
  return XDP_DROP;
}

/* What the clock said last, on each CPU. */
struct reading {
  __u64 jiffies;
  __u64 now;
  __u64 uses;
};

struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct reading);
} readings SEC(".maps");

#ifndef READING_USES /* another build of the program, for tests, has another */
#define READING_USES 16
#endif

/*
 * The time, as old as fifteen datagrams of this CPU at most, and never older than a jiffy: reading the
 * clock costs as much as a tag does.
 */
static __always_inline __u64 clock(void) {
  struct reading* last;
  __u64 jiffies;
  __u32 zero = 0;

  if (use_test_clock) return test_clock;
  last = bpf_map_lookup_elem(&readings, &zero);
  if (!last) return bpf_ktime_get_boot_ns(); /* never */
  jiffies = bpf_jiffies64();
  if (last->jiffies != jiffies || last->uses >= READING_USES) {
    last->jiffies = jiffies;
    last->uses = 0;
    last->now = bpf_ktime_get_boot_ns();
  }
  last->uses++;
  return last->now;
}

/* A leg's verdict on a frame, unless the leg was being written. */
static __always_inline int drop_by(const struct omerta_leg* leg, __u64 word, __u32 reason) {
  return is_unchanged(leg, word) ? drop(reason) : pass(OMERTA_XDP_PASSED_LEG_CHANGED);
}

#define RELAYED_SESSION (-1)

/* What becomes of a message by its receiver index alone, or RELAYED_SESSION. */
static __always_inline int judge_index(__u32 index) {
  if (!settings.indices_known || is_own_index(index)) return pass(OMERTA_XDP_PASSED_OWN);
  return is_expected_index(index) ? RELAYED_SESSION : drop_otherwise(OMERTA_XDP_DROP_UNKNOWN_INDEX);
}

/* An initiation: for this node, or for a server whose stock clients are relayed. */
static __always_inline int judge_initiation(const struct datagram* d, const void* end) {
  const enum mac1_verdict whose = judge_mac1(d, end);

  if (whose == MAC1_NOBODYS) return drop_otherwise(OMERTA_XDP_DROP_BAD_MAC1);
  if (!within_budget(whose == MAC1_OURS ? OMERTA_STRANGER_HANDSHAKE : OMERTA_STRANGER_WIREGUARD, &d->from,
                     clock()))
    return drop_otherwise(OMERTA_XDP_DROP_HANDSHAKE_RATE);
  return pass(whose == MAC1_OURS ? OMERTA_XDP_PASSED_OWN : OMERTA_XDP_PASSED_WIREGUARD_RELAY);
}

/* A handshake message or cookie reply: for this node, or for a session that is about to be relayed. */
static __always_inline int judge_wireguard(const struct datagram* d, const __u8* head, const void* end) {
  __u32 index;
  int verdict;

  if (head[0] == 1) return judge_initiation(d, end);
  index = omerta_load32(head + 4);
  if (head[0] == 2) { /* the sender's index comes first */
    if ((void*)(d->payload + 12) > end) return pass(OMERTA_XDP_PASSED_OWN);
    index = omerta_load32(d->payload + 8);
  }
  verdict = judge_index(index);
  return verdict == RELAYED_SESSION ? pass(OMERTA_XDP_PASSED_WIREGUARD_RELAY) : verdict;
}

#define POLICY_WORDS (__builtin_offsetof(struct omerta_leg, theoretical_arrival) / sizeof(__u64))

/*
 * A route that user space deletes may be given to another one at once. Judging a copy, and finding the
 * entry as it was copied in the end, sees a route whole or passes the message on.
 */
static __always_inline void copy_policy(struct omerta_leg* to, const struct omerta_leg* from) {
  __u32 i;

  for (i = 0; i < POLICY_WORDS; i++) ((__u64*)to)[i] = ((const volatile __u64*)from)[i];
}

static __always_inline bool same_policy(const struct omerta_leg* copy, const struct omerta_leg* entry) {
  __u64 difference = 0;
  __u32 i;

  for (i = 0; i < POLICY_WORDS; i++)
    difference |= ((const __u64*)copy)[i] ^ ((const volatile __u64*)entry)[i];
  return !difference;
}

/* The difference that replacing a 64-bit word makes. */
static __always_inline __u64 checksum_replace64(__u64 from, __u64 to) {
  return checksum_replace32((__u32)from, (__u32)to) + checksum_replace32(from >> 32, to >> 32);
}

/* Writes the next header and tag of a frame; what that changes in the sum of it. */
static __always_inline __u64 rewrite(__u8* frame, __u64 header, __u64 tag) {
  const __u64 difference =
      checksum_replace64(omerta_load64(frame), header) + checksum_replace64(omerta_load64(frame + 8), tag);

  omerta_store64(frame, header);
  omerta_store64(frame + 8, tag);
  return difference;
}

/* Whether what was read of a leg, or copied of a route, is still what the entry holds. */
static __always_inline bool still_holds(const struct omerta_leg* entry, const struct omerta_leg* leg,
                                        __u64 word, bool relayed) {
  return relayed ? same_policy(leg, entry) : is_unchanged(leg, word);
}

/*
 * A frame on a leg that goes on and that it was judged to be in order for, `header` and `tag` being the next
 * hop's; or, `relayed`, a WireGuard message on its route. `leg` is the entry itself, or a route's copy.
 */
static __always_inline int forward(struct xdp_md* ctx, const struct datagram* d, struct omerta_leg* entry,
                                   const struct omerta_leg* leg, __u64 word, __u32 legs_slot, bool relayed,
                                   __u64 header, __u64 tag, __u64 now) {
  const bool next_v4 = is_v4(leg->next_ip);
  const __u64 accounts = accounts_of(leg);
  const __u16 next_port = leg->next_port;
  const __u32 ip_size = next_v4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);
  const __u8 ecn = ecn_of(d);
  struct omerta_xdp_counters* mine = row();
  struct omerta_leg_window* window;
  struct omerta_next_hop* hop;
  struct ethhdr* ethernet;
  struct udphdr* udp;
  __u64 difference;
  __u8* frame;
  __u32 slot;
  int reason, why;

  if (!mine) return XDP_PASS; /* never */
  if (!next_v4 && d->v4 && !d->udp->check) return pass(OMERTA_XDP_PASSED_NO_CHECKSUM);
  slot = omerta_next_hop_slot(leg->next_ip);
  hop = bpf_map_lookup_elem(&next_hops, &slot);
  if (!hop) return XDP_PASS; /* never */
  /* A route may say where to send from. */
  if (relayed || !is_way(hop, leg, ctx->ingress_ifindex, now)) {
    why = find_way(ctx, leg, relayed, now);
    if (why) return pass(why);
  }
  if (ip_size + sizeof(struct udphdr) + d->size > hop->mtu) return pass(OMERTA_XDP_PASSED_TOO_BIG);
  /* From here on the leg is not read any more: where it leads to is hop->to. */
  if (!still_holds(entry, leg, word, relayed)) return pass(OMERTA_XDP_PASSED_LEG_CHANGED);
  if (!relayed) {
    window = bpf_map_lookup_elem(&windows, &legs_slot);
    if (!window) return XDP_PASS; /* never */
    if (!is_new(window, omerta_load64(d->payload + 16), omerta_load64(d->payload + 24),
                omerta_load64(d->payload + 8)))
      return drop(OMERTA_DROP_REPEATED);
  }
  reason = charge(entry, accounts, &d->from, d->size, now);
  if (reason == CHARGE_NO_BOOKS) return pass(OMERTA_XDP_PASSED_NO_ACCOUNT);
  if (reason != OMERTA_DROP_NONE) return drop(reason);

  /* It goes on: from here its bytes change. */
  if (next_v4 != d->v4) {
    const int grows = sizeof(struct ipv6hdr) - sizeof(struct iphdr);

    if (bpf_xdp_adjust_head(ctx, d->v4 ? -grows : grows)) return drop_otherwise(OMERTA_XDP_DROP_NO_HEADROOM);
  }
  ethernet = (void*)(long)ctx->data;
  udp = (void*)(ethernet + 1) + ip_size;
  frame = (void*)(udp + 1);
  if ((void*)(frame + OMERTA_FRAME_MIN_SIZE) > (void*)(long)ctx->data_end) return XDP_ABORTED; /* never */
  difference = relayed ? 0 : rewrite(frame, header, tag);
  if (next_v4 != d->v4)
    difference += next_v4 ? to_v4(ethernet, udp, ecn, d, hop) : to_v6(ethernet, udp, ecn, d, hop);
  else
    difference += next_v4 ? within_v4(ethernet, ecn, hop) : within_v6(ethernet, ecn, hop);
  write_ethernet(ethernet, hop, next_v4 ? ETH_P_IP : ETH_P_IPV6);
  write_udp(udp, next_port, difference);

  mine->others[relayed ? OMERTA_XDP_WIREGUARD_RELAYED_PACKETS : OMERTA_XDP_FORWARDED_PACKETS] += 1;
  mine->others[relayed ? OMERTA_XDP_WIREGUARD_RELAYED_BYTES : OMERTA_XDP_FORWARDED_BYTES] += d->size;
  if (hop->interface == ctx->ingress_ifindex) return XDP_TX;
  mine->others[OMERTA_XDP_REDIRECTED_PACKETS] += 1;
  return bpf_redirect_map(&devices, hop->interface, XDP_DROP);
}

/*
 * A transport message: goes on by its route, if there is one. Apart from the way of frames, which pay
 * nothing for it.
 */
static __always_inline int relay_wireguard(struct xdp_md* ctx, const struct datagram* d, __u32 index) {
  struct omerta_leg* entry;
  struct omerta_leg* route;
  const int verdict = judge_index(index); /* before the look-up: routes' indices are all expected */
  __u32 zero = 0;
  __u64 now;

  if (verdict != RELAYED_SESSION) return verdict;
  entry = route_of(index, &d->from);
  if (!entry) return pass(OMERTA_XDP_PASSED_WIREGUARD_RELAY);
  now = clock();
  route = bpf_map_lookup_elem(&judged_routes, &zero);
  if (!route) return XDP_PASS; /* never */
  copy_policy(route, entry);
  if (!omerta_wireguard_route_takes(route, index, &d->from, now))
    return pass(OMERTA_XDP_PASSED_WIREGUARD_RELAY);
  if (d->v4 ? settings.several4 : settings.several6) learn_remote(&d->from, d->to);
  return forward(ctx, d, entry, route, 0, 0, true, 0, 0, now);
}

SEC("xdp")
int omerta_relay(struct xdp_md* ctx) {
  void* end = (void*)(long)ctx->data_end;
  struct omerta_classification class;
  struct omerta_tag_pair tags;
  struct omerta_leg* leg;
  struct datagram d;
  __u8 head[8] = {}; /* what classifying looks at */
  __u64 now, header, word;
  bool any_source;
  __u32 id, slot;
  __u8 reason;

  if (!parse(ctx, relay_port, &d) || !is_own(d.to)) return XDP_PASS;
  if (d.size >= sizeof(head)) {
    if ((void*)(d.payload + sizeof(head)) > end)
      return XDP_PASS; /* never: parse() has seen all of it, the verifier has not */
    omerta_store64(head, omerta_load64(d.payload));
  } else if (d.size) {
    if ((void*)(d.payload + 1) > end) return XDP_PASS;
    head[0] = d.payload[0]; /* of one that short nothing else matters */
  }
  class = omerta_classify(head, d.size);
  if (class.verdict == OMERTA_DROP) return drop(class.reason);
  if (class.verdict == OMERTA_WIREGUARD) {
    if (head[0] != 4) return judge_wireguard(&d, head, end);
    return relay_wireguard(ctx, &d, omerta_load32(head + 4));
  }
  if (class.verdict == OMERTA_STUN)
    return within_budget(OMERTA_STRANGER_STUN, &d.from, clock()) ? pass(OMERTA_XDP_PASSED_OWN)
                                                                 : drop_otherwise(OMERTA_XDP_DROP_STUN_RATE);

  if ((void*)(d.payload + OMERTA_FRAME_MIN_SIZE) > end) return XDP_PASS; /* never, as above */
  id = omerta_load32(head + 4);
  leg = find_leg(id, &word, &slot);
  if (!leg) {
    if (settings.complete) return drop(OMERTA_DROP_UNKNOWN_LEG);
    return within_budget(OMERTA_STRANGER_LEG, &d.from, clock())
               ? pass(OMERTA_XDP_PASSED_UNKNOWN_LEG)
               : drop_otherwise(OMERTA_XDP_DROP_CONTROL_RATE);
  }
  reason = omerta_leg_judge_sender(leg, d.payload, &d.from);
  if (reason != OMERTA_DROP_NONE) return drop_by(leg, word, reason);
  expect_charge(leg->identity);
  tags = omerta_tag_pair_of(leg, d.payload, d.size);
  header = omerta_next_header(leg, omerta_load64(d.payload));
  now = clock();
  reason = omerta_leg_judge_tag(leg, d.payload, tags.in, now);
  if (reason != OMERTA_DROP_NONE) return drop_by(leg, word, reason);
  any_source = leg->flags & OMERTA_LEG_ANY_SOURCE;
  if ((d.v4 ? settings.several4 : settings.several6) && !any_source && is_unchanged(leg, word))
    learn_remote(&d.from, d.to);
  if (omerta_leg_action(leg) == OMERTA_LEG_FORWARD)
    return forward(ctx, &d, leg, leg, word, slot, false, header, tags.out, now);
  if (!is_unchanged(leg, word)) return pass(OMERTA_XDP_PASSED_LEG_CHANGED);
  if (any_source && !within_budget(OMERTA_STRANGER_CONTROL, &d.from, now))
    return drop_otherwise(OMERTA_XDP_DROP_CONTROL_RATE);
  return pass(OMERTA_XDP_PASSED_OWN);
}
