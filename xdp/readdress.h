/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Gives a rewritten frame the headers of its next hop: addresses, fresh TTL, Ethernet, and the
 * checksums brought up to date.
 */
#ifndef OMERTA_READDRESS_H
#define OMERTA_READDRESS_H

#include "checksum.h"

#define IP_TTL 64 /* a relay sends a datagram of its own: RFC 1700's default */
#define IP_DONT_FRAGMENT 0x4000
#define ECN_MASK 3

static __always_inline void write_ethernet(struct ethhdr* ethernet, const struct omerta_next_hop* hop,
                                           __u16 protocol) {
  omerta_store32(ethernet->h_dest, omerta_load32(hop->destination_mac));
  *(__u16*)(ethernet->h_dest + 4) = *(__u16*)(hop->destination_mac + 4);
  omerta_store32(ethernet->h_source, omerta_load32(hop->source_mac));
  *(__u16*)(ethernet->h_source + 4) = *(__u16*)(hop->source_mac + 4);
  ethernet->h_proto = bpf_htons(protocol);
}

static __always_inline __u64 sum_of_ip(const __u8 ip[16]) {
  return (__u64)omerta_load32(ip) + omerta_load32(ip + 4) + omerta_load32(ip + 8) + omerta_load32(ip + 12);
}

/* What is left of a sum when this is taken out of it. */
static __always_inline __u64 without_ip(const __u8 ip[16]) {
  return (__u64)(__u32)~omerta_load32(ip) + (__u32)~omerta_load32(ip + 4) + (__u32)~omerta_load32(ip + 8) +
         (__u32)~omerta_load32(ip + 12);
}

/* Ports and checksum; IPv4 may go without a checksum and then still does. */
static __always_inline void write_udp(struct udphdr* udp, __u16 next_port, __u64 difference) {
  /* The relay's port moves from destination to source: only the next port is new to the sum. */
  difference += checksum_replace16(udp->source, next_port);
  udp->source = udp->dest;
  udp->dest = next_port;
  if (!udp->check) return;
  udp->check = checksum_update(udp->check, difference);
  if (!udp->check) udp->check = 0xffff; /* a computed 0 is written as its twin */
}

/*
 * What a relay tells on of the traffic class is congestion (RFC 6040), not the priority a stranger
 * asked for, as the socket engine does.
 */
static __always_inline __u8 ecn_of(const struct datagram* d) {
  const __u16* first = (const __u16*)(d->ethernet + 1);

  return (d->v4 ? bpf_ntohs(*first) : bpf_ntohs(*first) >> 4) & ECN_MASK;
}

/* IP headers. Each returns the difference it makes to the sum behind UDP's checksum. */

static __always_inline __u64 within_v4(struct ethhdr* ethernet, __u8 ecn, const struct omerta_next_hop* hop) {
  struct iphdr* ip = (void*)(ethernet + 1);
  __u16* version_and_service = (__u16*)ip;
  __u16* ttl_and_protocol = (__u16*)&ip->ttl;
  const __u16 service = *version_and_service, ttl = *ttl_and_protocol;
  const __u32 source = omerta_load32(hop->from + 12), next = omerta_load32(hop->to + 12);
  const __u64 addresses = checksum_replace32(ip->saddr, source) + checksum_replace32(ip->daddr, next);

  ip->tos = ecn;
  ip->ttl = IP_TTL;
  ip->check = checksum_update(ip->check, addresses + checksum_replace16(service, *version_and_service) +
                                             checksum_replace16(ttl, *ttl_and_protocol));
  ip->saddr = source;
  ip->daddr = next;
  return addresses;
}

static __always_inline __u64 within_v6(struct ethhdr* ethernet, __u8 ecn, const struct omerta_next_hop* hop) {
  struct ipv6hdr* ip = (void*)(ethernet + 1);
  const __u64 before = without_ip((__u8*)&ip->saddr) + without_ip((__u8*)&ip->daddr);

  omerta_store32(ip, bpf_htonl(0x60000000 | (__u32)ecn << 20)); /* the flow label was the sender's */
  ip->hop_limit = IP_TTL;
  copy_ip((__u8*)&ip->saddr, hop->from);
  copy_ip((__u8*)&ip->daddr, hop->to);
  return before + sum_of_ip(hop->from) + sum_of_ip(hop->to);
}

/*
 * From one family to the other: a new header between `ethernet`, where it is after bpf_xdp_adjust_head,
 * and `udp`. The pseudo-headers differ in nothing but addresses: protocol and length are the same
 * numbers in both (RFC 768, RFC 8200 section 8.1).
 */
static __always_inline __u64 to_v6(struct ethhdr* ethernet, const struct udphdr* udp, __u8 ecn,
                                   const struct datagram* d, const struct omerta_next_hop* hop) {
  struct ipv6hdr* ip = (void*)(ethernet + 1);

  omerta_store32(ip, bpf_htonl(0x60000000 | (__u32)ecn << 20));
  ip->payload_len = udp->len;
  ip->nexthdr = IPPROTO_UDP;
  ip->hop_limit = IP_TTL;
  copy_ip((__u8*)&ip->saddr, hop->from);
  copy_ip((__u8*)&ip->daddr, hop->to);
  return (__u64)(__u32)~omerta_load32(d->from.ip + 12) + (__u32)~omerta_load32(d->to + 12) +
         sum_of_ip(hop->from) + sum_of_ip(hop->to);
}

static __always_inline __u64 to_v4(struct ethhdr* ethernet, const struct udphdr* udp, __u8 ecn,
                                   const struct datagram* d, const struct omerta_next_hop* hop) {
  struct iphdr* ip = (void*)(ethernet + 1);
  const __u32 source = omerta_load32(hop->from + 12);
  const __u32 next = omerta_load32(hop->to + 12);
  __u32 words[5];
  __u64 sum = 0;
  __u32 i;

  words[0] = bpf_htonl(0x45000000 | (__u32)ecn << 16 | (bpf_ntohs(udp->len) + sizeof(*ip)));
  words[1] = bpf_htonl(IP_DONT_FRAGMENT); /* not fragmented: its id may be anything (RFC 6864) */
  words[2] = bpf_htonl(IP_TTL << 24 | IPPROTO_UDP << 16);
  words[3] = source;
  words[4] = next;
  for (i = 0; i < 5; i++) {
    omerta_store32((__u8*)ip + 4 * i, words[i]);
    sum += words[i];
  }
  ip->check = (__u16)~checksum_fold(sum);
  return without_ip(d->from.ip) + without_ip(d->to) + source + next;
}

#endif
