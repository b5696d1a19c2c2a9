// SPDX-License-Identifier: Apache-2.0
#include "relay/tag_lanes.h"

#include <cstring>

namespace omerta::relay {

#if defined(__x86_64__)

namespace {

constexpr size_t kChains = 2 * kTagLanes;
typedef __u64 Lanes __attribute__((vector_size(kChains * sizeof(__u64))));

}  // namespace

bool tag_lanes_available() {
  static const bool available = __builtin_cpu_supports("avx512f") != 0;
  return available;
}

__attribute__((target("avx512f"))) void tag_lanes(const TagWork (&work)[kTagLanes],
                                                  omerta_tag_pair (&tags)[kTagLanes]) {
  // Chain 2i is the tag frame i came with, 2i + 1 the one it goes on with.
  alignas(64) __u64 key0[kChains], key1[kChains], words[4][kChains], out[kChains];
  for (size_t i = 0; i < kTagLanes; i++) {
    const omerta_leg& leg = *work[i].leg;
    const uint8_t* frame = work[i].frame;
    key0[2 * i] = leg.key[0], key0[2 * i + 1] = leg.next_key[0];
    key1[2 * i] = leg.key[1], key1[2 * i + 1] = leg.next_key[1];
    words[0][2 * i] = omerta_load64(frame);
    words[0][2 * i + 1] = omerta_next_header(&leg, omerta_load64(frame));
    words[1][2 * i] = words[1][2 * i + 1] = work[i].size - OMERTA_FRAME_HEADER_SIZE;
    words[2][2 * i] = words[2][2 * i + 1] = omerta_load64(frame + 16);
    words[3][2 * i] = words[3][2 * i + 1] = omerta_load64(frame + 24);
  }
  Lanes v0, v1, message;
  std::memcpy(&v0, key0, sizeof v0);
  std::memcpy(&v1, key1, sizeof v1);
  Lanes v2 = v0 ^ 0x6c7967656e657261ULL, v3 = v1 ^ 0x7465646279746573ULL;
  v0 ^= 0x736f6d6570736575ULL;
  v1 ^= 0x646f72616e646f6dULL;
#define OMERTA_ROTATE(x, b) ((x) << (b) | (x) >> (64 - (b)))
#define OMERTA_LANES_ROUND           \
  do {                               \
    v0 += v1, v2 += v3;              \
    v1 = OMERTA_ROTATE(v1, 13) ^ v0; \
    v3 = OMERTA_ROTATE(v3, 16) ^ v2; \
    v0 = OMERTA_ROTATE(v0, 32);      \
    v2 += v1, v0 += v3;              \
    v1 = OMERTA_ROTATE(v1, 17) ^ v2; \
    v3 = OMERTA_ROTATE(v3, 21) ^ v0; \
    v2 = OMERTA_ROTATE(v2, 32);      \
  } while (0)
  for (const auto& word : words) {
    std::memcpy(&message, word, sizeof message);
    v3 ^= message;
    OMERTA_LANES_ROUND;
    OMERTA_LANES_ROUND;
    v0 ^= message;
  }
  v3 ^= 32ULL << 56;
  OMERTA_LANES_ROUND;
  OMERTA_LANES_ROUND;
  v0 ^= 32ULL << 56;
  v2 ^= 0xff;
  OMERTA_LANES_ROUND;
  OMERTA_LANES_ROUND;
  OMERTA_LANES_ROUND;
  OMERTA_LANES_ROUND;
#undef OMERTA_LANES_ROUND
#undef OMERTA_ROTATE
  const Lanes result = v0 ^ v1 ^ v2 ^ v3;
  std::memcpy(out, &result, sizeof out);
  for (size_t i = 0; i < kTagLanes; i++) tags[i] = {out[2 * i], out[2 * i + 1]};
}

#else

bool tag_lanes_available() { return false; }

void tag_lanes(const TagWork (&work)[kTagLanes], omerta_tag_pair (&tags)[kTagLanes]) {
  for (size_t i = 0; i < kTagLanes; i++)
    tags[i] = omerta_tag_pair_of(work[i].leg, work[i].frame, work[i].size);
}

#endif

}  // namespace omerta::relay
