/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The legs of the relay benchmarks, for C++ and BPF; bench/relay-legs.ts derives the very same numbers.
 * Leg i of M has a scattered id, and everything else follows from that id or from i.
 */
#ifndef OMERTA_BENCH_LEGS_H
#define OMERTA_BENCH_LEGS_H

#include <omerta/wire.h>

#define BENCH_FIRST_CLIENT_PORT 40000
#define BENCH_FIRST_SERVER_PORT 50000
#define BENCH_EPOCH 1
#define BENCH_NEXT_EPOCH 2
/* The run's number is in the place of a WireGuard receiver index, the sequence number in that of the
 * counter: the tag covers both. */
#define BENCH_RUN_AT 20
#define BENCH_SEQUENCE_AT 24
#define BENCH_TIME_AT 32
#define BENCH_MINIMUM_SIZE 40

/* The finalizer of MurmurHash3: a bijection, so legs 0, 1, 2 … get different ids all over the table. */
static inline __attribute__((always_inline)) __u32 bench_leg_id(__u32 i) {
  __u32 h = i + 1;

  h ^= h >> 16;
  h *= 0x85ebca6bU;
  h ^= h >> 13;
  h *= 0xc2b2ae35U;
  return h ^ (h >> 16);
}

/* Its own inverse. */
static inline __attribute__((always_inline)) __u32 bench_next_leg_id(__u32 id) { return id ^ 0x5a5a5a5aU; }

static inline __attribute__((always_inline)) void bench_leg_key(__u32 id, __u64 key[2]) {
  key[0] = id | (__u64)(id ^ 0x9e3779b9U) << 32;
  key[1] = (id ^ 0x85ebca6bU) | (__u64)(id ^ 0xc2b2ae35U) << 32;
}

/* Which of the server's `destinations` (a power of two) ports a leg leads to. */
static inline __attribute__((always_inline)) __u16 bench_server_port(__u32 id, __u32 destinations) {
  return (__u16)(BENCH_FIRST_SERVER_PORT + (id & (destinations - 1)));
}

/* What the BPF programs of bench/native/xdp write; set before they are loaded. Counts are powers of two,
 * but for legs. */
struct bench_traffic {
  __u32 legs;
  __u32 clients; /* addresses that send: client + 0, 1, 2 … */
  __u32 flows;   /* ports of each */
  __u32 client;  /* host byte order */
  __u32 relay;
  __u16 relay_port;   /* host byte order */
  __u16 client_port;  /* the first */
  __u8 sender_mac[8]; /* 6 of them */
  __u8 receiver_mac[8];
  __u8 client6[16]; /* the last four bytes are counted up */
  __u8 relay6[16];
  __u32 run;
  __u32 destinations; /* channels */
};

#endif
