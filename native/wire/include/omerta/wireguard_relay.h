/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * WireGuard sessions of stock peers relayed as they are: no encapsulation, no software on the client.
 * The layouts user space and BPF share; docs/protocol.md, "Stock WireGuard clients".
 *
 *   client C ── wire of C's session ── relay ── the same bytes ── server S
 *
 * Terms
 *   binding   a server whose handshakes are taken on the relay's port, found by MAC1
 *   session   one handshake's pair of receiver indices: each side chose the one it is addressed by
 *   route     one direction of a session: (receiver index, source address) -> where it goes
 *
 * A route is a struct omerta_leg without a tag, so that what it carries is charged and limited by
 * omerta_admit() like any leg:
 *
 *   leg_id                the receiver index on the wire
 *   action                OMERTA_LEG_FORWARD
 *   flags                 OMERTA_ROUTE_TO_CLIENT in that direction
 *   key_epoch             number of its binding, or OMERTA_WIREGUARD_UNBOUND
 *   source_*, next_*      as in a leg; nothing of the datagram is rewritten
 *   next_leg_id, key      interface and address to send from (0 = the kernel chooses)
 *   next_key              struct omerta_wireguard_session_mark
 *
 * Routes are kept in the kernel too, where they outlive the daemon: the mark tells the next one which
 * two belong together, and to which server's binding.
 */
#ifndef OMERTA_WIREGUARD_RELAY_H
#define OMERTA_WIREGUARD_RELAY_H

#include <omerta/wire.h>

#ifdef __cplusplus
extern "C" {
#endif

#define OMERTA_WIREGUARD_BINDINGS 64u
#define OMERTA_WIREGUARD_UNBOUND 255u /* of a daemon that is gone: no server has claimed the session yet */
#define OMERTA_ROUTE_TO_CLIENT 0x02   /* flags */

struct omerta_wireguard_session_mark {
  __u8 server[12];   /* the first bytes of its public key */
  __u32 other_index; /* receiver index of the other direction */
};

/* What a route is found by in the kernel. */
struct omerta_wireguard_route_key {
  __u32 receiver_index;
  __u16 source_port;
  __u16 zero;
  __u8 source_ip[16];
};

/*
 * Receiver indices user space may have a use for, own sessions apart: of routes, and of handshakes under
 * way. Slot index % OMERTA_EXPECTED_INDICES counts them; 0: nobody waits for such an index.
 */
#define OMERTA_EXPECTED_INDICES 65536u

/* A server that is relayed; 136 bytes. Address and accounts are the control plane's. */
struct omerta_wireguard_binding {
  __u8 public_key[32]; /* X25519 */
  __u8 mac1_key[32];   /* BLAKE2s("mac1----" ‖ public key) */
  __u8 cookie_key[32]; /* BLAKE2s("cookie--" ‖ public key) */
  struct omerta_address server;
  __u16 network; /* accounts and class of limits, as in struct omerta_leg */
  __u32 identity;
  __u16 limits;
  __u16 used; /* 0: this number is free */
  __u64 reserved;
};

static inline __attribute__((always_inline)) int omerta_same_address(const __u8* ip, __u16 port,
                                                                     const struct omerta_address* other) {
  return !((omerta_load64(ip) ^ omerta_load64(other->ip)) |
           (omerta_load64(ip + 8) ^ omerta_load64(other->ip + 8)) | (__u64)(port ^ other->port));
}

/* Where a route is kept: keyed by a secret, because clients choose the indices they are addressed by. */
static inline __attribute__((always_inline)) __u64 omerta_wireguard_route_hash(
    const __u64 secret[2], __u32 receiver_index, const struct omerta_address* source) {
  return omerta_tag(secret, receiver_index, source->port, omerta_load64(source->ip),
                    omerta_load64(source->ip + 8));
}

/* Whether a transport message with this index, from this address, goes by the route. */
static inline __attribute__((always_inline)) int omerta_wireguard_route_takes(
    const struct omerta_leg* route, __u32 receiver_index, const struct omerta_address* source, __u64 now) {
  return route->leg_id == receiver_index &&
         omerta_same_address(route->source_ip, route->source_port, source) && now < route->expires_at;
}

#ifdef __cplusplus
}
#define OMERTA_SIZE_IS(type, size) static_assert(sizeof(type) == (size), #type)
#else
#define OMERTA_SIZE_IS(type, size) _Static_assert(sizeof(type) == (size), #type)
#endif
OMERTA_SIZE_IS(struct omerta_wireguard_binding, 136);
OMERTA_SIZE_IS(struct omerta_wireguard_session_mark, 16);
OMERTA_SIZE_IS(struct omerta_wireguard_route_key, 24);
#undef OMERTA_SIZE_IS
#endif
