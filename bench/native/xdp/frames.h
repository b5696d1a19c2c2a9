/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Packets written by BPF: a frame of 64 bytes on leg i, tagged, with every checksum right, in
 *
 *   Ethernet | IPv4 or IPv6 | UDP | [TURN ChannelData header] | frame
 *
 * No table of packets is read for it: what is written follows from i and the sequence number, so the
 * caches are the forwarder's.
 */
#ifndef OMERTA_BENCH_FRAMES_H
#define OMERTA_BENCH_FRAMES_H

#include "../legs.h"

#define FRAME_SIZE 64
#define IPV4 0x0800
#define IPV6 0x86DD
#define FIRST_CHANNEL 0x4000 /* RFC 8656 section 12: channel numbers start here */

const volatile struct bench_traffic traffic = {};

/* As volatile as it is declared: the compiler would take what is not set yet for a constant. */
#define SET32(field) (*(const volatile __u32*)(field))
#define SET16(field) (*(const volatile __u16*)(field))

#define ADDRESS_OF(i) (traffic.client + ((i) & (traffic.clients - 1)))
#define PORT_OF(i) ((__u16)(traffic.client_port + ((i) & (traffic.flows - 1))))

static __always_inline __u16 fold(__u64 sum) {
  sum = (sum & 0xffffffff) + (sum >> 32);
  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  return (__u16)sum;
}

/* xorshift64* (Vigna 2016). */
static __always_inline __u32 random_below(__u64* state, __u32 limit) {
  __u64 x = *state;

  x ^= x >> 12;
  x ^= x << 25;
  x ^= x >> 27;
  *state = x;
  return (__u32)((((x * 0x2545F4914F6CDD1DULL) >> 32) * limit) >> 32);
}

static __always_inline void write_ethernet_header(struct ethhdr* ethernet, __u16 protocol) {
  omerta_store32(ethernet->h_dest, SET32(traffic.receiver_mac));
  *(__u16*)(ethernet->h_dest + 4) = SET16(traffic.receiver_mac + 4);
  omerta_store32(ethernet->h_source, SET32(traffic.sender_mac));
  *(__u16*)(ethernet->h_source + 4) = SET16(traffic.sender_mac + 4);
  ethernet->h_proto = bpf_htons(protocol);
}

/* The frame, sent at `time`; returns the sum of what it wrote. */
static __always_inline __u64 write_frame(__u8* frame, __u32 i, __u64 sequence, __u64 time) {
  const __u32 id = bench_leg_id(i);
  const __u64 header = OMERTA_FRAME_MAGIC | OMERTA_KIND_FORWARD << 8 | OMERTA_HOP_LIMIT_DEFAULT << 16 |
                       (__u64)BENCH_EPOCH << 24 | (__u64)id << 32;
  const __u64 message = 4 | (__u64)traffic.run << 32; /* WireGuard data, and its receiver index */
  __u64 key[2], tag;
  int at;

  bench_leg_key(id, key);
  tag = omerta_tag(key, header, FRAME_SIZE - OMERTA_FRAME_HEADER_SIZE, message, sequence);
  omerta_store64(frame, header);
  omerta_store64(frame + 8, tag);
  omerta_store64(frame + 16, message);
  omerta_store64(frame + BENCH_SEQUENCE_AT, sequence);
  omerta_store64(frame + BENCH_TIME_AT, time);
  for (at = BENCH_TIME_AT + 8; at < FRAME_SIZE; at += 8) omerta_store64(frame + at, 0);
  return (time & 0xffffffff) + (time >> 32) + (header & 0xffffffff) + (header >> 32) + (tag & 0xffffffff) +
         (tag >> 32) + (message & 0xffffffff) + (message >> 32) + (sequence & 0xffffffff) + (sequence >> 32);
}

static __always_inline void write_udp_header(struct udphdr* udp, __u32 i, __u32 size, __u64 sum) {
  udp->source = bpf_htons(PORT_OF(i));
  udp->dest = bpf_htons(traffic.relay_port);
  udp->len = bpf_htons(sizeof(*udp) + size);
  sum += (__u64)udp->source + udp->dest + udp->len + udp->len + bpf_htons(IPPROTO_UDP);
  udp->check = (__u16)~fold(sum);
  if (!udp->check) udp->check = 0xffff;
}

/* `size` bytes of UDP payload follow; returns the sum of the addresses. */
static __always_inline __u64 write_ipv4_header(struct iphdr* ip, __u32 i, __u32 size) {
  const __u32 source = bpf_htonl(ADDRESS_OF(i)), relay = bpf_htonl(traffic.relay);
  const __u32 first = bpf_htonl(0x45000000 | (sizeof(*ip) + sizeof(struct udphdr) + size));
  const __u32 second = bpf_htonl(0x4000); /* not to be fragmented */
  const __u32 third = bpf_htonl(64 << 24 | IPPROTO_UDP << 16);

  omerta_store32(ip, first);
  omerta_store32((__u8*)ip + 4, second);
  omerta_store32((__u8*)ip + 8, third);
  ip->saddr = source;
  ip->daddr = relay;
  ip->check = (__u16)~fold((__u64)first + second + third + source + relay);
  return (__u64)source + relay;
}

static __always_inline __u64 sum128(const __u8* at) {
  return (__u64)omerta_load32(at) + omerta_load32(at + 4) + omerta_load32(at + 8) + omerta_load32(at + 12);
}

static __always_inline __u64 write_ipv6_header(struct ipv6hdr* ip, __u32 i, __u32 size) {
  __u8* source = (__u8*)&ip->saddr;
  __u8* relay = (__u8*)&ip->daddr;
  int at;

  omerta_store32(ip, bpf_htonl(0x60000000));
  ip->payload_len = bpf_htons(sizeof(struct udphdr) + size);
  ip->nexthdr = IPPROTO_UDP;
  ip->hop_limit = 64;
  for (at = 0; at < 16; at += 4) {
    omerta_store32(source + at, SET32(traffic.client6 + at));
    omerta_store32(relay + at, SET32(traffic.relay6 + at));
  }
  omerta_store32(source + 12, bpf_htonl(ADDRESS_OF(i)));
  return sum128(source) + sum128(relay);
}

/* A whole packet; false when there is not exactly room for one. */
static __always_inline bool write_packet4(struct xdp_md* ctx, __u32 i, __u64 sequence, __u64 time) {
  struct ethhdr* ethernet = (void*)(long)ctx->data;
  struct iphdr* ip = (void*)(ethernet + 1);
  struct udphdr* udp = (void*)(ip + 1);
  __u8* frame = (void*)(udp + 1);

  if ((void*)(frame + FRAME_SIZE) > (void*)(long)ctx->data_end) return false;
  write_ethernet_header(ethernet, IPV4);
  write_udp_header(udp, i, FRAME_SIZE,
                   write_ipv4_header(ip, i, FRAME_SIZE) + write_frame(frame, i, sequence, time));
  return true;
}

static __always_inline bool write_packet6(struct xdp_md* ctx, __u32 i, __u64 sequence) {
  struct ethhdr* ethernet = (void*)(long)ctx->data;
  struct ipv6hdr* ip = (void*)(ethernet + 1);
  struct udphdr* udp = (void*)(ip + 1);
  __u8* frame = (void*)(udp + 1);

  if ((void*)(frame + FRAME_SIZE) > (void*)(long)ctx->data_end) return false;
  write_ethernet_header(ethernet, IPV6);
  write_udp_header(udp, i, FRAME_SIZE,
                   write_ipv6_header(ip, i, FRAME_SIZE) + write_frame(frame, i, sequence, 0));
  return true;
}

/* For coturn: the frame as the data of a channel that was bound before. */
static __always_inline bool write_packet_turn(struct xdp_md* ctx, __u32 i, __u64 sequence, __u64 time) {
  const __u32 channel =
      bpf_htonl((FIRST_CHANNEL + (bench_leg_id(i) & (traffic.destinations - 1))) << 16 | FRAME_SIZE);
  struct ethhdr* ethernet = (void*)(long)ctx->data;
  struct iphdr* ip = (void*)(ethernet + 1);
  struct udphdr* udp = (void*)(ip + 1);
  __u8* data = (void*)(udp + 1);
  __u64 sum;

  if ((void*)(data + 4 + FRAME_SIZE) > (void*)(long)ctx->data_end) return false;
  write_ethernet_header(ethernet, IPV4);
  omerta_store32(data, channel);
  sum = channel + write_ipv4_header(ip, i, 4 + FRAME_SIZE) + write_frame(data + 4, i, sequence, time);
  write_udp_header(udp, i, 4 + FRAME_SIZE, sum);
  return true;
}

/* The kinds of garbage, one after the other. */
enum {
  NO_PROTOCOL,   /* no protocol of ours */
  UNKNOWN_LEG,   /* a frame on a leg nobody has */
  WRONG_SOURCE,  /* on a leg of ours, from elsewhere */
  BAD_TAG,       /* on a leg of ours, from its client's address and port */
  UNKNOWN_INDEX, /* WireGuard data for no session */
  COOKIE,        /* and a cookie reply */
  HANDSHAKE,     /* a WireGuard initiation without a MAC */
  STUN,          /* a binding request, which asks for an answer */
  KINDS
};

#define INITIATION_SIZE 148

/* A packet of 64 bytes of payload becomes the n-th of them; false when there is no room for it. */
static __always_inline bool write_garbage(struct xdp_md* ctx, __u64 n, __u64* random_state) {
  const __u32 kind = n % KINDS;
  const __u32 i = random_below(random_state, traffic.legs);
  const __u64 noise = *random_state;
  __u32 size = FRAME_SIZE;
  struct ethhdr* ethernet;
  struct iphdr* ip;
  struct udphdr* udp;
  __u8* payload;

  if (kind == HANDSHAKE) {
    size = INITIATION_SIZE;
    if (bpf_xdp_adjust_tail(ctx, INITIATION_SIZE - FRAME_SIZE)) return false;
  }
  ethernet = (void*)(long)ctx->data;
  ip = (void*)(ethernet + 1);
  udp = (void*)(ip + 1);
  payload = (void*)(udp + 1);
  if ((void*)(payload + FRAME_SIZE) > (void*)(long)ctx->data_end) return false;
  write_ethernet_header(ethernet, IPV4);
  write_ipv4_header(ip, i, size);
  udp->source = bpf_htons(PORT_OF(i));
  udp->dest = bpf_htons(traffic.relay_port);
  udp->len = bpf_htons(sizeof(*udp) + size);
  udp->check = 0; /* none: it reaches the socket whatever is in it */
  write_frame(payload, i, noise, 0);
  if (kind != BAD_TAG) { /* from 11.0.0.0/8 */
    const __u32 spoofed = bpf_htonl(0x0b000000 | (noise >> 40));
    const __u64 sum = (__u64)(__u16)~ip->check + (__u32)~ip->saddr + spoofed;

    ip->check = (__u16)~fold(sum);
    ip->saddr = spoofed;
  }
  switch (kind) {
    case NO_PROTOCOL:
      omerta_store64(payload, noise | 0x80);
      break;
    case UNKNOWN_LEG:
      omerta_store32(payload + 4, noise);
      break;
    case BAD_TAG:
      omerta_store64(payload + 8, noise);
      break;
    case UNKNOWN_INDEX:
      omerta_store64(payload, 4 | noise << 32);
      break;
    case COOKIE:
      omerta_store64(payload, 3 | noise << 32);
      break;
    case HANDSHAKE:
      omerta_store64(payload, 1 | noise << 32);
      break;
    case STUN:
      omerta_store64(payload, 0x2C000100 | (__u64)0x42A41221 << 32);
      break;
  }
  return true;
}

#endif
