/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * BLAKE2s (RFC 7693), as far as the kernel path needs it: keyed, with a MAC of 16 bytes, as WireGuard's MAC1
 * is. Shared by C++ and BPF like omerta/wire.h; the engine itself takes its hashes from a library.
 */
#ifndef OMERTA_BLAKE2S_H
#define OMERTA_BLAKE2S_H

#include <omerta/wire.h>

#ifdef __cplusplus
extern "C" {
#endif

#define OMERTA_BLAKE2S_BLOCK 64u
#define OMERTA_MAC1_SIZE 16u
/* What MAC1 is made of: an initiation up to it. */
#define OMERTA_MAC1_COVERS (OMERTA_WIREGUARD_INITIATION_SIZE - 2 * OMERTA_MAC1_SIZE)

#define OMERTA_ROTR32(x, n) (((x) >> (n)) | ((x) << (32 - (n))))
#define OMERTA_BLAKE2S_G(a, b, c, d, x, y) \
  do {                                     \
    a += b + (x);                          \
    d = OMERTA_ROTR32(d ^ a, 16);          \
    c += d;                                \
    b = OMERTA_ROTR32(b ^ c, 12);          \
    a += b + (y);                          \
    d = OMERTA_ROTR32(d ^ a, 8);           \
    c += d;                                \
    b = OMERTA_ROTR32(b ^ c, 7);           \
  } while (0)
/* BPF has no registers for a message: words of it that are kept from round to round would fill the stack. */
#ifdef __bpf__
#define OMERTA_BLAKE2S_READ_AGAIN() asm volatile("" ::: "memory")
#else
#define OMERTA_BLAKE2S_READ_AGAIN() (void)0
#endif
/* A round, by its row of SIGMA. */
#define OMERTA_BLAKE2S_ROUND(s0, s1, s2, s3, s4, s5, s6, s7, s8, s9, sa, sb, sc, sd, se, sf) \
  do {                                                                                       \
    OMERTA_BLAKE2S_G(v0, v4, v8, vc, m[s0], m[s1]);                                          \
    OMERTA_BLAKE2S_G(v1, v5, v9, vd, m[s2], m[s3]);                                          \
    OMERTA_BLAKE2S_G(v2, v6, va, ve, m[s4], m[s5]);                                          \
    OMERTA_BLAKE2S_G(v3, v7, vb, vf, m[s6], m[s7]);                                          \
    OMERTA_BLAKE2S_G(v0, v5, va, vf, m[s8], m[s9]);                                          \
    OMERTA_BLAKE2S_G(v1, v6, vb, vc, m[sa], m[sb]);                                          \
    OMERTA_BLAKE2S_G(v2, v7, v8, vd, m[sc], m[sd]);                                          \
    OMERTA_BLAKE2S_G(v3, v4, v9, ve, m[se], m[sf]);                                          \
    OMERTA_BLAKE2S_READ_AGAIN();                                                             \
  } while (0)

/* F: takes the block `m` into the state; `count` bytes are taken by then, and `last` is ~0 for the last one.
 */
static inline __attribute__((always_inline)) void omerta_blake2s_take(__u32 h[8], const __u32* m, __u32 count,
                                                                      __u32 last) {
  __u32 v0 = h[0], v1 = h[1], v2 = h[2], v3 = h[3], v4 = h[4], v5 = h[5], v6 = h[6], v7 = h[7];
  __u32 v8 = 0x6a09e667, v9 = 0xbb67ae85, va = 0x3c6ef372, vb = 0xa54ff53a;
  __u32 vc = 0x510e527f ^ count, vd = 0x9b05688c, ve = 0x1f83d9ab ^ last, vf = 0x5be0cd19;

  OMERTA_BLAKE2S_ROUND(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  OMERTA_BLAKE2S_ROUND(14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3);
  OMERTA_BLAKE2S_ROUND(11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4);
  OMERTA_BLAKE2S_ROUND(7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8);
  OMERTA_BLAKE2S_ROUND(9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13);
  OMERTA_BLAKE2S_ROUND(2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9);
  OMERTA_BLAKE2S_ROUND(12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11);
  OMERTA_BLAKE2S_ROUND(13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10);
  OMERTA_BLAKE2S_ROUND(6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5);
  OMERTA_BLAKE2S_ROUND(10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0);
  h[0] ^= v0 ^ v8;
  h[1] ^= v1 ^ v9;
  h[2] ^= v2 ^ va;
  h[3] ^= v3 ^ vb;
  h[4] ^= v4 ^ vc;
  h[5] ^= v5 ^ vd;
  h[6] ^= v6 ^ ve;
  h[7] ^= v7 ^ vf;
}

/* The state of a MAC under this key before any message: it has taken the block that is the key. */
static inline void omerta_mac1_begin(__u32 h[8], const __u8 key[32]) {
  const __u32 iv[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                       0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  __u32 block[16] = {0};
  int i;

  for (i = 0; i < 8; i++) {
    h[i] = iv[i];
    block[i] = omerta_load32(key + 4 * i);
  }
  /* Parameter block: digest and key length, fanout and depth 1. */
  h[0] ^= 0x01010000 ^ 32u << 8 ^ OMERTA_MAC1_SIZE;
  omerta_blake2s_take(h, block, OMERTA_BLAKE2S_BLOCK, 0);
}

/*
 * MAC1 of an initiation, in h[0] to h[3], from the state omerta_mac1_begin() made. `covered`: the bytes MAC1
 * covers, and zeros up to the end of the second block.
 */
static inline __attribute__((always_inline)) void omerta_mac1_finish(__u32 h[8], const __u32 covered[32]) {
  omerta_blake2s_take(h, covered, 2 * OMERTA_BLAKE2S_BLOCK, 0);
  omerta_blake2s_take(h, covered + 16, OMERTA_BLAKE2S_BLOCK + OMERTA_MAC1_COVERS, ~(__u32)0);
}

#undef OMERTA_BLAKE2S_ROUND
#undef OMERTA_BLAKE2S_READ_AGAIN
#undef OMERTA_BLAKE2S_G

#ifdef __cplusplus
}
#endif
#endif
