// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
// What the relay is measured against: parse, one look-up, rewrite. A forwarder of the least that
// forwards, of the same map type, with entries of the same size; it checks nobody, charges nothing,
// counts nothing, and knows its way from the entry.
#include "vmlinux.h"

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "../legs.h"
#include "checksum.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct way {
  __u32 destination; /* big-endian */
  __u16 port;
  __u8 destination_mac[6];
  __u8 source_mac[6];
  __u8 unused[110]; /* as large as a leg */
};
_Static_assert(sizeof(struct way) == sizeof(struct omerta_leg), "as large as a leg");

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 65536);
  __type(key, __u32);
  __type(value, struct way);
} ways SEC(".maps");

SEC("xdp")
int bare_forwarder(struct xdp_md* ctx) {
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
  way = bpf_map_lookup_elem(&ways, &id);
  if (!way) return XDP_DROP;
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
