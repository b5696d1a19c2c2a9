// SPDX-License-Identifier: Apache-2.0
// The two leg tags of a forwarded frame at once: the one it came with and the one it goes on with.
// SipHash is one long chain of dependent instructions; two chains side by side take little longer than
// one, because neither has to wait for the other.
#pragma once

#include <omerta/wire.h>

#include <cstdint>

namespace omerta {

struct TagPair {
  __u64 in;
  __u64 out;
};

/// The first eight bytes of a frame as omerta_leg_rewrite() leaves them.
inline __u64 next_header(const omerta_leg& leg, __u64 header) {
  return (header & 0xffff) | ((header - 0x10000) & 0xff0000) | __u64{leg.next_key_epoch} << 24 |
         __u64{leg.next_leg_id} << 32;
}

/// The tag `frame` should have on `leg`, and the one it gets for the next leg. Same as two calls of
/// omerta_frame_tag(), the second after omerta_leg_rewrite() has written the header.
inline __attribute__((always_inline)) TagPair tag_pair(const omerta_leg& leg, const uint8_t* frame,
                                                       uint32_t size) {
  const __u64 header = omerta_load64(frame);
  const __u64 words[2][4] = {
      {header, size - OMERTA_FRAME_HEADER_SIZE, omerta_load64(frame + 16), omerta_load64(frame + 24)},
      {next_header(leg, header), size - OMERTA_FRAME_HEADER_SIZE, omerta_load64(frame + 16),
       omerta_load64(frame + 24)}};
  __u64 a0 = 0x736f6d6570736575ULL ^ leg.key[0], b0 = 0x736f6d6570736575ULL ^ leg.next_key[0];
  __u64 a1 = 0x646f72616e646f6dULL ^ leg.key[1], b1 = 0x646f72616e646f6dULL ^ leg.next_key[1];
  __u64 a2 = 0x6c7967656e657261ULL ^ leg.key[0], b2 = 0x6c7967656e657261ULL ^ leg.next_key[0];
  __u64 a3 = 0x7465646279746573ULL ^ leg.key[1], b3 = 0x7465646279746573ULL ^ leg.next_key[1];
  const auto rounds = [&]() __attribute__((always_inline)) {
    OMERTA_SIPROUND(a0, a1, a2, a3);
    OMERTA_SIPROUND(b0, b1, b2, b3);
    OMERTA_SIPROUND(a0, a1, a2, a3);
    OMERTA_SIPROUND(b0, b1, b2, b3);
  };
  const auto absorb = [&](__u64 a, __u64 b) __attribute__((always_inline)) {
    a3 ^= a, b3 ^= b;
    rounds();
    a0 ^= a, b0 ^= b;
  };
  for (int i = 0; i < 4; i++) absorb(words[0][i], words[1][i]);
  absorb(32ULL << 56, 32ULL << 56);
  a2 ^= 0xff, b2 ^= 0xff;
  rounds();
  rounds();
  return {a0 ^ a1 ^ a2 ^ a3, b0 ^ b1 ^ b2 ^ b3};
}

}  // namespace omerta
