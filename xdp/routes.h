/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Stock WireGuard sessions that are relayed as they are (omerta/wireguard_relay.h): transport messages
 * go on by receiver index and source address. Handshakes are user space's, which writes a route once
 * both ends of a session have proven their addresses.
 */
#ifndef OMERTA_XDP_ROUTES_H
#define OMERTA_XDP_ROUTES_H

/* Sized by the loader: two for each session. */
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 1);
  __type(key, struct omerta_wireguard_route_key);
  __type(value, struct omerta_leg);
} routes SEC(".maps");

/* See OMERTA_EXPECTED_INDICES; written by the socket engine through shared memory. */
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(map_flags, BPF_F_MMAPABLE);
  __uint(max_entries, OMERTA_EXPECTED_INDICES);
  __type(key, __u32);
  __type(value, __u64);
} expected SEC(".maps");

/*
 * Receiver indices of this node's WireGuard sessions, written by the session engine through shared
 * memory: index i is ours when slot i & index_mask holds i. A slot may keep one that has expired.
 */
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(map_flags, BPF_F_MMAPABLE);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, __u64);
} indices SEC(".maps");

static __always_inline bool is_own_index(__u32 index) {
  __u32 slot = index & settings.index_mask;
  __u64* known = bpf_map_lookup_elem(&indices, &slot);

  return known && index && *known == index;
}

static __always_inline bool is_expected_index(__u32 index) {
  __u32 slot = index % OMERTA_EXPECTED_INDICES;
  __u64* count = bpf_map_lookup_elem(&expected, &slot);

  return count && *count;
}

/* The route a transport message may go by. */
static __always_inline struct omerta_leg* route_of(__u32 index, const struct omerta_address* from) {
  struct omerta_wireguard_route_key key = {.receiver_index = index, .source_port = from->port};

  copy_ip(key.source_ip, from->ip);
  return bpf_map_lookup_elem(&routes, &key);
}

#endif
