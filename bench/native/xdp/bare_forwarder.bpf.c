// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
// What the relay is measured against: parse, one look-up, rewrite. Forwarders of the least that forwards,
// with entries of the same size; they check nobody, charge nothing, count nothing, and know their way from
// the entry. One finds it in a hash, as anybody would who does not choose the ids; the other where its id
// says, in an array, as the relay does.
#include "vmlinux.h"

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <omerta/leg_slots.h>

#include "../legs.h"
#include "checksum.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct way {
  __u32 id;
  __u32 destination; /* big-endian */
  __u16 port;
  __u8 destination_mac[6];
  __u8 source_mac[6];
  __u8 unused[106]; /* as large as a leg */
};
_Static_assert(sizeof(struct way) == sizeof(struct omerta_leg), "as large as a leg");

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 65536);
  __type(key, __u32);
  __type(value, struct way);
} ways SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 65536);
  __type(key, __u32);
  __type(value, struct way);
} ways_at_home SEC(".maps");

const volatile __u32 slots = 65536; /* of ways_at_home; set before it is loaded */

static __always_inline int bare(struct xdp_md* ctx, bool at_home) {
  struct ethhdr* ethernet = (void*)(long)ctx->data;
  struct iphdr* ip = (void*)(ethernet + 1);
  struct udphdr* udp = (void*)(ip + 1);
  __u8* frame = (void*)(udp + 1);
  const struct way* way;
  __u64 addresses;
  __u32 id, own;

  if ((void*)(frame + OMERTA_FRAME_MIN_SIZE) > (void*)(long)ctx->data_end) return XDP_PASS;
  if (ethernet->h_proto != bpf_htons(0x0800) || ip->protocol != IPPROTO_UDP) return XDP_PASS;
  id = omerta_load32(frame + 4);
  if (at_home) {
    __u32 home = omerta_leg_home(id, slots);

    way = bpf_map_lookup_elem(&ways_at_home, &home);
  } else {
    way = bpf_map_lookup_elem(&ways, &id);
  }
  if (!way || (at_home && way->id != id)) return XDP_DROP;
  own = ip->daddr;
  addresses = checksum_replace32(ip->saddr, own) + checksum_replace32(own, way->destination);
  ip->check = checksum_update(ip->check, addresses);
  ip->saddr = own;
  ip->daddr = way->destination;
  udp->check = checksum_update(udp->check, addresses + checksum_replace16(udp->source, way->port));
  udp->source = udp->dest;
  udp->dest = way->port;
  __builtin_memcpy(ethernet->h_dest, way->destination_mac, 6);
  __builtin_memcpy(ethernet->h_source, way->source_mac, 6);
  return XDP_TX;
}

SEC("xdp")
int bare_forwarder(struct xdp_md* ctx) { return bare(ctx, false); }

SEC("xdp")
int bare_array_forwarder(struct xdp_md* ctx) { return bare(ctx, true); }
