/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The two leg tags of a forwarded frame at once: the one it came with and the one it goes on with.
 * SipHash is one long chain of dependent instructions; two chains side by side take little longer than
 * one, because neither has to wait for the other. Shared by C++ and BPF like omerta/wire.h.
 */
#ifndef OMERTA_TAG_PAIR_H
#define OMERTA_TAG_PAIR_H

#include <omerta/wire.h>

struct omerta_tag_pair {
  __u64 in;
  __u64 out;
};

/* The first eight bytes of a frame as omerta_leg_rewrite() leaves them. */
static inline __attribute__((always_inline)) __u64 omerta_next_header(const struct omerta_leg* leg,
                                                                      __u64 header) {
  return (header & 0xffff) | ((header - 0x10000) & 0xff0000) |
         (__u64)(leg->next_key_epoch & OMERTA_FRAME_EPOCH_MASK) << 24 | (__u64)leg->next_leg_id << 32;
}

/*
 * The tag `frame` should have on `leg`, and the one it gets for the next leg. Same as two calls of
 * omerta_frame_tag(), the second after omerta_leg_rewrite() has written the header.
 */
static inline __attribute__((always_inline)) struct omerta_tag_pair omerta_tag_pair_of(
    const struct omerta_leg* leg, const __u8* frame, __u32 size) {
  const __u64 header = omerta_load64(frame);
  struct omerta_tag_pair tags;
  __u64 a0 = 0x736f6d6570736575ULL ^ leg->key[0], b0 = 0x736f6d6570736575ULL ^ leg->next_key[0];
  __u64 a1 = 0x646f72616e646f6dULL ^ leg->key[1], b1 = 0x646f72616e646f6dULL ^ leg->next_key[1];
  __u64 a2 = 0x6c7967656e657261ULL ^ leg->key[0], b2 = 0x6c7967656e657261ULL ^ leg->next_key[0];
  __u64 a3 = 0x7465646279746573ULL ^ leg->key[1], b3 = 0x7465646279746573ULL ^ leg->next_key[1];

#define OMERTA_ROUNDS              \
  OMERTA_SIPROUND(a0, a1, a2, a3); \
  OMERTA_SIPROUND(b0, b1, b2, b3); \
  OMERTA_SIPROUND(a0, a1, a2, a3); \
  OMERTA_SIPROUND(b0, b1, b2, b3)
#define OMERTA_ABSORB(a, b) \
  do {                      \
    a3 ^= (a);              \
    b3 ^= (b);              \
    OMERTA_ROUNDS;          \
    a0 ^= (a);              \
    b0 ^= (b);              \
  } while (0)
  OMERTA_ABSORB(header, omerta_next_header(leg, header));
  OMERTA_ABSORB((__u64)(size - OMERTA_FRAME_HEADER_SIZE), (__u64)(size - OMERTA_FRAME_HEADER_SIZE));
  OMERTA_ABSORB(omerta_load64(frame + 16), omerta_load64(frame + 16));
  OMERTA_ABSORB(omerta_load64(frame + 24), omerta_load64(frame + 24));
  OMERTA_ABSORB(32ULL << 56, 32ULL << 56);
  a2 ^= 0xff;
  b2 ^= 0xff;
  OMERTA_ROUNDS;
  OMERTA_ROUNDS;
#undef OMERTA_ABSORB
#undef OMERTA_ROUNDS
  tags.in = a0 ^ a1 ^ a2 ^ a3;
  tags.out = b0 ^ b1 ^ b2 ^ b3;
  return tags;
}

#endif
