// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Forwards Omerta frames in the driver, before the kernel has made a socket buffer of them.
 *
 * What is claimed: UDP datagrams for the relay's port that are Omerta frames of kind `forward` on a
 * `forward` leg whose next address is of the family they came in. They are judged by the functions
 * of omerta/wire.h and dropped, or rewritten and sent out of the interface they came in by.
 *
 * What passes to the socket untouched: everything else. VLAN tags, IPv4 options, IPv6 extension
 * headers, fragments, other ports, WireGuard, STUN, all other kinds of frame, legs that deliver to
 * this node, a hop from one family to the other, and UDP over IPv6 without a checksum. The socket
 * engine judges those itself, so they are not counted here.
 *
 * The verdict is decided before the first byte of the packet is changed.
 *
 * Preconditions of attaching this program:
 *  - `legs` mirrors the whole forwarding table, legs of every action included: a `forward` frame on
 *    a leg it does not know is dropped as unknown_leg.
 *  - The next hop of every forward leg is reached through the neighbour its frames come from (one
 *    gateway), because the answer's Ethernet header is the question's with its ends exchanged.
 *  - Whoever replaces a leg copies the counters of the entry it replaces.
 */
#include "vmlinux.h"

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <omerta/wire.h>

#include "checksum.h"
#include "limits.h"

#define ETH_P_IP 0x0800
#define ETH_P_IPV6 0x86DD
#define IP_FRAGMENT_MASK 0x3FFF /* more fragments, and the offset; "don't fragment" is no fragment */
#define IP_TTL 64               /* a relay sends a datagram of its own: RFC 1700's default */

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Set by the loader before loading. */
const volatile __u16 relay_port = 0; /* big-endian; 0 claims nothing */
const volatile bool use_test_clock = false;

/* ns of CLOCK_BOOTTIME as golden packets have it; read only with use_test_clock. */
__u64 test_clock = 0;

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 65536);
  __type(key, __u32);
  __type(value, struct omerta_leg);
} legs SEC(".maps");

/* Frames dropped, by enum omerta_drop_reason. Index 0 (no reason) counts those sent on. */
struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, OMERTA_DROP_REASON_COUNT);
  __type(key, __u32);
  __type(value, __u64);
} decisions SEC(".maps");

/* A datagram for the relay's port. */
struct datagram {
  struct ethhdr* ethernet; /* the IP header follows at once: no VLAN tag */
  struct udphdr* udp;
  bool v4;
  __u8* payload;
  __u32 size; /* of the payload; all of it lies before data_end */
  struct omerta_address from;
};

static __always_inline void count(__u32 reason) {
  __u64* counter = bpf_map_lookup_elem(&decisions, &reason);

  if (counter) *counter += 1; /* per CPU, and a program runs on one without preemption */
}

/* Finds the datagram in a packet; false when it is not one this program claims. */
static __always_inline bool parse(struct xdp_md* ctx, struct datagram* d) {
  void* data = (void*)(long)ctx->data;
  void* end = (void*)(long)ctx->data_end;
  __u32 ip_payload;

  d->ethernet = data;
  if ((void*)(d->ethernet + 1) > end) return false;
  __builtin_memset(&d->from, 0, sizeof(d->from));
  if (d->ethernet->h_proto == bpf_htons(ETH_P_IP)) {
    struct iphdr* ip = (void*)(d->ethernet + 1);

    if ((void*)(ip + 1) > end || ip->version != 4 || ip->ihl != 5 || ip->protocol != IPPROTO_UDP ||
        (ip->frag_off & bpf_htons(IP_FRAGMENT_MASK)))
      return false;
    ip_payload = bpf_ntohs(ip->tot_len) - sizeof(*ip);
    d->v4 = true;
    d->udp = (void*)(ip + 1);
    d->from.ip[10] = 0xff;
    d->from.ip[11] = 0xff;
    omerta_store32(d->from.ip + 12, ip->saddr);
  } else if (d->ethernet->h_proto == bpf_htons(ETH_P_IPV6)) {
    struct ipv6hdr* ip = (void*)(d->ethernet + 1);

    if ((void*)(ip + 1) > end || ip->version != 6 || ip->nexthdr != IPPROTO_UDP) return false;
    ip_payload = bpf_ntohs(ip->payload_len);
    d->v4 = false;
    d->udp = (void*)(ip + 1);
    omerta_store64(d->from.ip, omerta_load64(&ip->saddr));
    omerta_store64(d->from.ip + 8, omerta_load64((__u8*)&ip->saddr + 8));
  } else {
    return false;
  }
  if ((void*)(d->udp + 1) > end || !relay_port || d->udp->dest != relay_port) return false;
  /* RFC 6935 allows IPv6 without a checksum to tunnels only: not ours to repair. */
  if (!d->v4 && !d->udp->check) return false;
  d->from.port = d->udp->source;
  d->payload = (void*)(d->udp + 1);
  d->size = bpf_ntohs(d->udp->len) - sizeof(*d->udp);
  /* A length that contradicts IP's, and a datagram that is not here as a whole, are not ours. */
  if (bpf_ntohs(d->udp->len) < sizeof(*d->udp) || bpf_ntohs(d->udp->len) != ip_payload) return false;
  return (__u64)(end - (void*)d->payload) >= d->size;
}

static __always_inline bool is_v4(const __u8 ip[16]) {
  return omerta_load64(ip) == 0 && omerta_load32(ip + 8) == bpf_htonl(0xffff);
}

/*
 * Sends the rewritten datagram to the leg's next address: from the address it was sent to, with
 * fresh TTL, all checksums brought up to date. `frame_difference` is what the frame's header added.
 */
static __always_inline void readdress(struct datagram* d, const struct omerta_leg* leg,
                                      __u64 frame_difference) {
  __u64 difference = frame_difference;
  __u32 mac_high;
  __u16 mac_low;

  /* Swapping addresses leaves their sum as it is: only what is new counts. */
  difference += checksum_replace16(d->udp->source, leg->next_port);
  if (d->v4) {
    struct iphdr* ip = (void*)(d->ethernet + 1);
    __u16* ttl_and_protocol = (__u16*)&ip->ttl;
    __u16 before = *ttl_and_protocol;
    __u32 next = omerta_load32(leg->next_ip + 12);
    __u64 address = checksum_replace32(ip->saddr, next);

    ip->ttl = IP_TTL;
    ip->check = checksum_update(ip->check, address + checksum_replace16(before, *ttl_and_protocol));
    ip->saddr = ip->daddr;
    ip->daddr = next;
    difference += address;
  } else {
    struct ipv6hdr* ip = (void*)(d->ethernet + 1);
    __u32* source = ip->saddr.in6_u.u6_addr32;
    __u32* destination = ip->daddr.in6_u.u6_addr32;
    __u32 i;

    for (i = 0; i < 4; i++) {
      __u32 next = omerta_load32(leg->next_ip + 4 * i);

      difference += checksum_replace32(source[i], next);
      source[i] = destination[i];
      destination[i] = next;
    }
    ip->hop_limit = IP_TTL;
  }
  d->udp->source = d->udp->dest;
  d->udp->dest = leg->next_port;
  /* IPv4 may go without a checksum and then still does; a computed 0 is written as its twin. */
  if (d->udp->check) {
    d->udp->check = checksum_update(d->udp->check, difference);
    if (!d->udp->check) d->udp->check = 0xffff;
  }
  mac_high = omerta_load32(d->ethernet->h_source);
  mac_low = *(__u16*)(d->ethernet->h_source + 4);
  omerta_store32(d->ethernet->h_source, omerta_load32(d->ethernet->h_dest));
  *(__u16*)(d->ethernet->h_source + 4) = *(__u16*)(d->ethernet->h_dest + 4);
  omerta_store32(d->ethernet->h_dest, mac_high);
  *(__u16*)(d->ethernet->h_dest + 4) = mac_low;
}

static __always_inline int drop(__u32 reason) {
  count(reason);
  return XDP_DROP;
}

SEC("xdp")
int omerta_relay(struct xdp_md* ctx) {
  void* end = (void*)(long)ctx->data_end;
  struct omerta_classification class;
  struct datagram d;
  struct omerta_leg* leg;
  struct omerta_books books;
  __u32 before[4];
  __u64 difference = 0, now;
  __u32 id, i;
  __u8 reason;

  if (!parse(ctx, &d)) return XDP_PASS;
  if (d.size < 2 || (void*)(d.payload + 2) > end || d.payload[0] != OMERTA_FRAME_MAGIC ||
      d.payload[1] != OMERTA_KIND_FORWARD)
    return XDP_PASS;
  if (d.size < OMERTA_FRAME_MIN_SIZE) return drop(OMERTA_DROP_FRAME_TOO_SHORT);
  if ((void*)(d.payload + OMERTA_FRAME_MIN_SIZE) > end)
    return XDP_PASS; /* never: parse() has seen all of it, the verifier has not */
  class = omerta_classify(d.payload, d.size);
  if (class.verdict == OMERTA_DROP) return drop(class.reason);

  id = omerta_load32(d.payload + 4);
  leg = bpf_map_lookup_elem(&legs, &id);
  if (!leg) return drop(OMERTA_DROP_UNKNOWN_LEG);
  if (leg->action != OMERTA_LEG_FORWARD) return XDP_PASS;
  now = use_test_clock ? test_clock : bpf_ktime_get_boot_ns();
  reason = omerta_leg_judge(leg, d.payload, d.size, &d.from, now);
  if (reason != OMERTA_DROP_NONE) return drop(reason);
  if (is_v4(leg->next_ip) != d.v4)
    return XDP_PASS; /* before anything is charged: the socket engine judges it again */
  if (!open_books(leg, &d.from, &books)) return XDP_PASS;
  reason = omerta_admit(leg, OMERTA_LEG_FORWARD, &books, d.size, now, 1);
  if (reason != OMERTA_DROP_NONE) return drop(reason);
  count(OMERTA_DROP_NONE);

  for (i = 0; i < 4; i++) before[i] = omerta_load32(d.payload + 4 * i);
  omerta_leg_rewrite(leg, d.payload, d.size);
  for (i = 0; i < 4; i++) difference += checksum_replace32(before[i], omerta_load32(d.payload + 4 * i));
  readdress(&d, leg, difference);
  return XDP_TX;
}
