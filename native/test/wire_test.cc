// SPDX-License-Identifier: Apache-2.0
// The shared header against independent references: libsodium's SipHash and the protocol's tables.
#include <omerta/wire.h>
#include <sodium.h>

#include <cstring>
#include <vector>

#include "test/check.h"

namespace {

void tag_is_siphash() {
  TEST("the leg tag is SipHash-2-4 as libsodium computes it, on random keys and frames");
  static_assert(crypto_shorthash_siphash24_KEYBYTES == 16 && crypto_shorthash_siphash24_BYTES == 8);
  for (int i = 0; i < 20000; i++) {
    uint8_t key_bytes[16];
    std::vector<uint8_t> frame(OMERTA_FRAME_MIN_SIZE + randombytes_uniform(200));
    randombytes_buf(key_bytes, sizeof key_bytes);
    randombytes_buf(frame.data(), frame.size());

    uint8_t message[32];
    const uint64_t payload_length = frame.size() - OMERTA_FRAME_HEADER_SIZE;
    std::memcpy(message, frame.data(), 8);
    std::memcpy(message + 8, &payload_length, 8);
    std::memcpy(message + 16, frame.data() + 16, 16);
    uint64_t expected;
    crypto_shorthash_siphash24(reinterpret_cast<uint8_t*>(&expected), message, sizeof message, key_bytes);

    __u64 key[2];
    std::memcpy(key, key_bytes, sizeof key);
    CHECK(omerta_frame_tag(key, frame.data(), static_cast<__u32>(frame.size())) == expected);
  }
}

void layout() {
  TEST("the leg's layout has no padding and the counters come last");
  CHECK(offsetof(omerta_leg, key) == 48);
  CHECK(offsetof(omerta_leg, next_key) == 64);
  CHECK(offsetof(omerta_leg, expires_at) == 80);
  CHECK(offsetof(omerta_leg, theoretical_arrival) == 96);
  CHECK(offsetof(omerta_leg, last_used) == 120);
}

void kinds() {
  TEST("exactly the nine kinds of the protocol's table are known");
  const uint8_t known[] = {0x01, 0x02, 0x03, 0x10, 0x11, 0x12, 0x13, 0x20, 0x30};
  for (unsigned kind = 0; kind < 256; kind++) {
    const bool expected = std::memchr(known, static_cast<int>(kind), sizeof known) != nullptr;
    CHECK((omerta_kind_known(static_cast<__u8>(kind)) != 0) == expected);
  }
}

void classification_sizes() {
  TEST("WireGuard and STUN messages are recognised by type, magic and size");
  struct Case {
    uint8_t first;
    uint32_t size;
    int verdict;
  };
  const Case cases[] = {
      {1, 147, OMERTA_DROP}, {1, 148, OMERTA_WIREGUARD}, {1, 149, OMERTA_DROP},
      {2, 91, OMERTA_DROP},  {2, 92, OMERTA_WIREGUARD},  {2, 93, OMERTA_DROP},
      {3, 63, OMERTA_DROP},  {3, 64, OMERTA_WIREGUARD},  {3, 65, OMERTA_DROP},
      {4, 31, OMERTA_DROP},  {4, 32, OMERTA_WIREGUARD},  {4, 65507, OMERTA_WIREGUARD},
  };
  for (const Case& c : cases) {
    std::vector<uint8_t> data(c.size);
    data[0] = c.first;
    const omerta_classification got = omerta_classify(data.data(), c.size);
    CHECK(got.verdict == c.verdict);
    CHECK(got.reason == (c.verdict == OMERTA_DROP ? OMERTA_DROP_MALFORMED_WIREGUARD : OMERTA_DROP_NONE));
    for (int reserved = 1; reserved <= 3; reserved++) {
      std::vector<uint8_t> bad = data;
      bad[static_cast<size_t>(reserved)] = 1;
      CHECK(omerta_classify(bad.data(), c.size).reason == OMERTA_DROP_MALFORMED_WIREGUARD);
    }
  }
  uint8_t stun[20] = {0x00, 0x01, 0, 0, 0x21, 0x12, 0xA4, 0x42};
  CHECK(omerta_classify(stun, 20).verdict == OMERTA_STUN);
  CHECK(omerta_classify(stun, 19).reason == OMERTA_DROP_MALFORMED_STUN);
  for (const size_t at : {size_t{1}, size_t{4}, size_t{5}, size_t{6}, size_t{7}}) {
    uint8_t bad[20];
    std::memcpy(bad, stun, sizeof bad);
    bad[at] ^= 0x80;
    CHECK(omerta_classify(bad, 20).reason == OMERTA_DROP_MALFORMED_STUN);
  }
  CHECK(omerta_classify(stun, 0).reason == OMERTA_DROP_EMPTY);
}

void rate_limit() {
  TEST("GCRA: a burst up to the limit conforms, one byte's worth more does not, and waiting earns it back");
  omerta_leg leg{};
  leg.rate_interval = 65536;  // 1 ns a byte
  leg.rate_burst = 1000;
  __u64 arrival = 0;
  CHECK(omerta_leg_conforms(&leg, &arrival, 5000, 600) && arrival == 5600);
  CHECK(!omerta_leg_conforms(&leg, &arrival, 5000, 401) && arrival == 5600);
  CHECK(omerta_leg_conforms(&leg, &arrival, 5000, 400) && arrival == 6000);
  CHECK(!omerta_leg_conforms(&leg, &arrival, 5031, 32) && arrival == 6000);
  CHECK(omerta_leg_conforms(&leg, &arrival, 5032, 32) && arrival == 6032);
}

}  // namespace

int main() {
  if (sodium_init() < 0) return 1;
  tag_is_siphash();
  layout();
  kinds();
  classification_sizes();
  rate_limit();
  return omerta::check::finish();
}
