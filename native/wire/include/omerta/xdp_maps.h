/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What the XDP relay and the process that loads it share: settings, counters, and the layout of
 * pinned maps, which a daemon of another build may find and adopt.
 */
#ifndef OMERTA_XDP_MAPS_H
#define OMERTA_XDP_MAPS_H

#include <omerta/wireguard_relay.h>

/*
 * The layout of the pinned maps (`legs`, `routes`, `counters`, `state`, `remotes`). A map of another layout
 * is never adopted. The assertions at the end fail when something moves: raise the number with them.
 */
#ifndef OMERTA_XDP_LAYOUTS_AHEAD /* a build of a layout to come, for tests, has one */
#define OMERTA_XDP_LAYOUTS_AHEAD 0
#endif
#define OMERTA_XDP_LAYOUT (2 + OMERTA_XDP_LAYOUTS_AHEAD)

/* Next hops remembered on each CPU; a power of two. Two that share a slot take turns. */
#define OMERTA_NEXT_HOPS 4096u
/* How far from its home a leg may lie in `legs` (omerta/leg_slots.h); one with no place there is the
 * socket's. */
#define OMERTA_XDP_REACH 16u
/* Addresses of this machine. Datagrams for those beyond it pass to the socket. */
#define OMERTA_OWN_ADDRESSES 64u
/* Room for reasons and counters to come: appending one does not change the layout. */
#define OMERTA_XDP_COUNTER_ROOM 64u

/*
 * What the program counts beside drop reasons. `drop_*` and `forwarded_*` mean what the engine's
 * counters of that name mean. `passed_*` went up to the socket untouched, and why.
 */
#define OMERTA_XDP_COUNTERS(X)                                                                 \
  X(FORWARDED_PACKETS, forwarded_packets)                                                      \
  X(FORWARDED_BYTES, forwarded_bytes)                                                          \
  X(REDIRECTED_PACKETS, redirected_packets)   /* of these, by another interface */             \
  X(DROP_UNKNOWN_INDEX, drop_unknown_index)   /* WireGuard for no session of ours */           \
  X(DROP_HANDSHAKE_RATE, drop_handshake_rate) /* strangers beyond their budgets */             \
  X(DROP_CONTROL_RATE, drop_control_rate)                                                      \
  X(DROP_STUN_RATE, drop_stun_rate)                                                            \
  X(DROP_NO_HEADROOM, drop_no_headroom)     /* no room for IPv6's longer header */             \
  X(PASSED_OWN, passed_own)                 /* for this node itself */                         \
  X(PASSED_UNKNOWN_LEG, passed_unknown_leg) /* the map does not hold every leg */              \
  X(PASSED_FORWARDING_OFF, passed_forwarding_off)                                              \
  X(PASSED_NO_ROUTE, passed_no_route)                                                          \
  X(PASSED_NO_NEIGHBOUR, passed_no_neighbour) /* the kernel asks for it when we send */        \
  X(PASSED_NO_SOURCE, passed_no_source)       /* which of ours it talks to is not known */     \
  X(PASSED_OTHER_INTERFACE, passed_other_interface)                                            \
  X(PASSED_TOO_BIG, passed_too_big)                       /* for the interface it leaves by */ \
  X(PASSED_NO_CHECKSUM, passed_no_checksum)               /* IPv4 without one, on to IPv6 */   \
  X(PASSED_NO_ACCOUNT, passed_no_account)                 /* the leg's is not in the maps */   \
  X(PASSED_LEG_CHANGED, passed_leg_changed)               /* while it was being judged */      \
  X(WIREGUARD_RELAYED_PACKETS, wireguard_relayed_packets) /* of stock clients */               \
  X(WIREGUARD_RELAYED_BYTES, wireguard_relayed_bytes)                                          \
  X(PASSED_WIREGUARD_RELAY, passed_wireguard_relay) /* a relayed session's, perhaps */         \
  X(DROP_BAD_MAC1, drop_bad_mac1)                   /* an initiation for nobody here */

enum omerta_xdp_counter {
#define OMERTA_X(upper, lower) OMERTA_XDP_##upper,
  OMERTA_XDP_COUNTERS(OMERTA_X)
#undef OMERTA_X
      OMERTA_XDP_COUNTER_COUNT
};

/* One for each CPU: map `counters`. */
struct omerta_xdp_counters {
  __u64 drops[OMERTA_XDP_COUNTER_ROOM]; /* by enum omerta_drop_reason */
  __u64 others[OMERTA_XDP_COUNTER_ROOM];
};

#define OMERTA_XDP_SET_FORWARDING_4 0x01 /* we switched forwarding of `lo` on, and have to switch it off */
#define OMERTA_XDP_SET_FORWARDING_6 0x02

/* Map `state`: what a later daemon has to know of the one that made the maps. */
struct omerta_xdp_state {
  __u32 layout; /* OMERTA_XDP_LAYOUT; first in every layout */
  __u32 flags;
};

/* What strangers send, by what it costs to answer it and to make it; each kind has budgets of its own. */
enum omerta_stranger_kind {
  OMERTA_STRANGER_HANDSHAKE, /* WireGuard initiations that know this node's key */
  OMERTA_STRANGER_WIREGUARD, /* those that do not, while stock clients are relayed to other keys */
  OMERTA_STRANGER_CONTROL,   /* frames on the contact leg */
  OMERTA_STRANGER_LEG,       /* frames on legs the kernel path does not know, while it does not know all */
  OMERTA_STRANGER_STUN,
  OMERTA_STRANGER_KINDS
};

/* GCRA (ITU-T I.371) over datagrams: one costs `interval`, `burst` may be ahead of now. ns. */
struct omerta_budget {
  __u64 interval;
  __u64 burst;
};

/* Written by the daemon while the program runs; it belongs to one instance and is not pinned. */
struct omerta_own_address {
  __u8 ip[16]; /* canonical */
};

struct omerta_xdp_settings { /* every packet needs the first 64 bytes: a cache line */
  __u32 complete;            /* `legs` holds every leg: a frame on another one may be dropped */
  __u32 index_mask;          /* slots of `indices` - 1 */
  __u32 indices_known;       /* `indices` and `expected` hold every receiver index there is a use for */
  __u32 own_count;
  __u32 reach;    /* of `legs`, at most OMERTA_XDP_REACH */
  __u32 several4; /* this machine has several IPv4 addresses: which to send from is learned (`remotes`) */
  __u32 several6;
  __u32 reserved;
  struct omerta_own_address only4; /* else the only one, or zero */
  struct omerta_own_address only6;
  __u64 secret[2]; /* chooses the bucket of a prefix: nobody can aim at another's */
  struct omerta_budget prefix[OMERTA_STRANGER_KINDS]; /* each IPv4 /24 or IPv6 /48 */
  struct omerta_budget total[OMERTA_STRANGER_KINDS];  /* all prefixes, those of known addresses left out */
  struct omerta_budget known[OMERTA_STRANGER_KINDS];  /* each known address (omerta/door.h) */
  /* Link-local ones are among them, but are nobody's source. */
  struct omerta_own_address own[OMERTA_OWN_ADDRESSES];
};

/* How a destination is reached, as the kernel said not long ago: an entry of `next_hops`. */
struct omerta_next_hop {
  __u8 to[16];
  __u8 from[16];
  __u8 destination_mac[6];
  __u8 source_mac[6];
  __u32 interface;
  __u32 mtu;
  __u32 redirects;   /* `interface` is in `devices` */
  __u64 valid_until; /* ns of CLOCK_BOOTTIME */
};

/* The slot of `next_hops` for a destination. */
static inline __attribute__((always_inline)) __u32 omerta_next_hop_slot(const __u8 to[16]) {
  const __u64 mixed =
      (omerta_load64(to) ^ (omerta_load64(to + 8) * 0xC2B2AE3D27D4EB4FULL)) * 0x9E3779B97F4A7C15ULL;

  return (__u32)(mixed >> 52) & (OMERTA_NEXT_HOPS - 1);
}

#ifdef __cplusplus
#define OMERTA_ASSERT(what) static_assert(what, #what)
#else
#define OMERTA_ASSERT(what) _Static_assert(what, #what)
#endif
#define OMERTA_AT(type, field, offset) OMERTA_ASSERT(__builtin_offsetof(struct type, field) == (offset))
/* Both compilers check both sides of every pinned map here: layout 2. */
OMERTA_AT(omerta_leg, leg_id, 0);
OMERTA_AT(omerta_leg, action, 4);
OMERTA_AT(omerta_leg, flags, 5);
OMERTA_AT(omerta_leg, key_epoch, 6);
OMERTA_AT(omerta_leg, next_key_epoch, 7);
OMERTA_AT(omerta_leg, source_ip, 8);
OMERTA_AT(omerta_leg, next_ip, 24);
OMERTA_AT(omerta_leg, source_port, 40);
OMERTA_AT(omerta_leg, next_port, 42);
OMERTA_AT(omerta_leg, next_leg_id, 44);
OMERTA_AT(omerta_leg, key, 48);
OMERTA_AT(omerta_leg, next_key, 64);
OMERTA_AT(omerta_leg, expires_at, 80);
OMERTA_AT(omerta_leg, identity, 88);
OMERTA_AT(omerta_leg, network, 92);
OMERTA_AT(omerta_leg, limits, 94);
/* Of every layout so far: a leg's counters are read from here when a map is not adopted, and so are routes
 * and `counters` whole. */
OMERTA_AT(omerta_leg, theoretical_arrival, 96);
OMERTA_AT(omerta_leg, packets, 104);
OMERTA_AT(omerta_leg, bytes, 112);
OMERTA_AT(omerta_leg, last_used, 120);
OMERTA_AT(omerta_xdp_counters, drops, 0);
OMERTA_AT(omerta_xdp_counters, others, 512);
OMERTA_AT(omerta_xdp_state, layout, 0);
OMERTA_AT(omerta_xdp_state, flags, 4);
OMERTA_AT(omerta_wireguard_route_key, receiver_index, 0);
OMERTA_AT(omerta_wireguard_route_key, source_port, 4);
OMERTA_AT(omerta_wireguard_route_key, source_ip, 8);
OMERTA_AT(omerta_wireguard_session_mark, server, 0);
OMERTA_AT(omerta_wireguard_session_mark, other_index, 12);
OMERTA_ASSERT(sizeof(struct omerta_leg) == 128 && sizeof(struct omerta_xdp_counters) == 1024);
OMERTA_ASSERT(sizeof(struct omerta_xdp_state) == 8);
OMERTA_ASSERT(OMERTA_DROP_REASON_COUNT <= OMERTA_XDP_COUNTER_ROOM);
OMERTA_ASSERT(OMERTA_XDP_COUNTER_COUNT <= OMERTA_XDP_COUNTER_ROOM);
#undef OMERTA_AT

#endif
