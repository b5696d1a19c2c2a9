/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Finds the UDP datagram in a packet. What is not exactly this passes to the kernel untouched:
 *
 *   Ethernet (one address, no VLAN tag) | IPv4 without options or fragments, or IPv6 without
 *   extension headers | UDP whose length is IP's, with a checksum over IPv6, all of it in the packet
 */
#ifndef OMERTA_DATAGRAM_H
#define OMERTA_DATAGRAM_H

#define ETH_P_IP 0x0800
#define ETH_P_IPV6 0x86DD
#define IP_FRAGMENT_MASK 0x3FFF /* more fragments, and the offset; "don't fragment" is no fragment */

struct datagram {
  struct ethhdr* ethernet; /* the IP header follows at once */
  struct udphdr* udp;
  __u8* payload;
  __u32 size; /* of the payload; all of it lies before data_end */
  __u32 v4;
  /* Aligned: words on BPF's stack have to be. */
  struct omerta_address from __attribute__((aligned(8)));
  __u8 to[16] __attribute__((aligned(8))); /* canonical */
};

static __always_inline int is_v4(const __u8 ip[16]) {
  return omerta_load64(ip) == 0 && omerta_load32(ip + 8) == bpf_htonl(0xffff);
}

static __always_inline void store_v4(__u8 ip[16], __u32 address) {
  omerta_store64(ip, 0);
  omerta_store32(ip + 8, bpf_htonl(0xffff));
  omerta_store32(ip + 12, address);
}

static __always_inline void copy_ip(__u8 to[16], const void* from) {
  omerta_store64(to, omerta_load64(from));
  omerta_store64(to + 8, omerta_load64((const __u8*)from + 8));
}

static __always_inline int same_ip(const __u8 a[16], const __u8 b[16]) {
  return !((omerta_load64(a) ^ omerta_load64(b)) | (omerta_load64(a + 8) ^ omerta_load64(b + 8)));
}

/* False when the packet is no such datagram for `port` (big-endian). */
static __always_inline bool parse(struct xdp_md* ctx, __u16 port, struct datagram* d) {
  void* data = (void*)(long)ctx->data;
  void* end = (void*)(long)ctx->data_end;
  __u32 ip_payload;

  d->ethernet = data;
  if ((void*)(d->ethernet + 1) > end || (d->ethernet->h_dest[0] & 1)) return false;
  if (d->ethernet->h_proto == bpf_htons(ETH_P_IP)) {
    struct iphdr* ip = (void*)(d->ethernet + 1);

    if ((void*)(ip + 1) > end || ip->version != 4 || ip->ihl != 5 || ip->protocol != IPPROTO_UDP ||
        (ip->frag_off & bpf_htons(IP_FRAGMENT_MASK)))
      return false;
    ip_payload = bpf_ntohs(ip->tot_len) - sizeof(*ip);
    d->v4 = true;
    d->udp = (void*)(ip + 1);
    store_v4(d->from.ip, ip->saddr);
    store_v4(d->to, ip->daddr);
  } else if (d->ethernet->h_proto == bpf_htons(ETH_P_IPV6)) {
    struct ipv6hdr* ip = (void*)(d->ethernet + 1);

    if ((void*)(ip + 1) > end || ip->version != 6 || ip->nexthdr != IPPROTO_UDP) return false;
    ip_payload = bpf_ntohs(ip->payload_len);
    d->v4 = false;
    d->udp = (void*)(ip + 1);
    copy_ip(d->from.ip, &ip->saddr);
    copy_ip(d->to, &ip->daddr);
  } else {
    return false;
  }
  if ((void*)(d->udp + 1) > end || !port || d->udp->dest != port) return false;
  /* RFC 6935 allows IPv6 without a checksum to tunnels only: not ours to repair. */
  if (!d->v4 && !d->udp->check) return false;
  d->from.port = d->udp->source;
  d->payload = (void*)(d->udp + 1);
  d->size = bpf_ntohs(d->udp->len) - sizeof(*d->udp);
  /* A length that contradicts IP's, and a datagram that is not here as a whole, are not ours. */
  if (bpf_ntohs(d->udp->len) < sizeof(*d->udp) || bpf_ntohs(d->udp->len) != ip_payload) return false;
  return (__u64)(end - (void*)d->payload) >= d->size;
}

#endif
