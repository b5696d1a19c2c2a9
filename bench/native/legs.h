/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The legs of the relay benchmarks, for C++ and BPF; bench/relay-legs.ts derives the very same numbers.
 * Leg i has an id of its own, and everything else follows from that id or from i. The ids are such as a
 * relay chooses: random, and of the first 2^k legs no two have one home in a table of 2^k slots or more
 * (omerta/leg_slots.h).
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

/*
 * A low-discrepancy sequence with nested scrambling (van der Corput's, scrambled as Owen does; in the
 * manner of Laine & Karras 2011): every step carries bits upwards only, so the lowest k bits of 2^k
 * numbers in a row stay all different; reversed, they are the upper bits, which choose the home.
 */
static inline __attribute__((always_inline)) __u32 bench_leg_id(__u32 i) {
  __u32 h = (i + 1) * 0x9e3779b1U;

  h ^= h * 0x85ebca6aU;
  h *= 0xc2b2ae35U;
  h ^= h * 0x27d4eb2eU;
  h = (h & 0x55555555U) << 1 | (h >> 1 & 0x55555555U);
  h = (h & 0x33333333U) << 2 | (h >> 2 & 0x33333333U);
  h = (h & 0x0f0f0f0fU) << 4 | (h >> 4 & 0x0f0f0f0fU);
  return __builtin_bswap32(h);
}

/* The table that legs up to `legs` have their homes in: a power of two. */
static inline __attribute__((always_inline)) __u32 bench_slots(__u32 legs) {
  __u32 slots = 1;

  while (slots < legs) slots *= 2;
  return slots;
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
