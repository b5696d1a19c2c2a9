// SPDX-License-Identifier: Apache-2.0
// The shared header against independent references: libsodium's SipHash and the protocol's tables.
#include <omerta/limits.h>
#include <omerta/tag_pair.h>
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
  const omerta_rate rate = {65536, 0, 1000};  // 1 ns a byte
  __u64 arrival = 0;
  const auto takes = [&](__u64 now, __u32 size) {
    const omerta_charge charge = omerta_charge_of(&rate, size);
    return omerta_conforms(&charge, &arrival, now) && omerta_take(&charge, &arrival, now, 0);
  };
  CHECK(takes(5000, 600) && arrival == 5600);
  CHECK(!takes(5000, 401) && arrival == 5600);
  CHECK(takes(5000, 400) && arrival == 6000);
  CHECK(!takes(5031, 32) && arrival == 6000);
  CHECK(takes(5032, 32) && arrival == 6032);

  TEST("a charge is whichever of bytes and datagram is dearer, and no rate is no charge");
  const omerta_rate both = {65536, 100, 0}, none = {0, 0, 0}, slowest = {0xffffffff, 0xffffffff, 0};
  CHECK(omerta_charge_of(&both, 99).cost == 100);
  CHECK(omerta_charge_of(&both, 101).cost == 101);
  CHECK(!omerta_charge_of(&none, 65507).due);
  CHECK(omerta_charge_of(&slowest, 65507).cost == 0xffffffff);

  TEST("the dearest fair charge does not overflow");
  omerta_policy policy{};
  policy.fair_factor = 0xffffffff;
  const omerta_charge host = omerta_charge_of(&slowest, 65507);
  CHECK(omerta_fair_charge(&policy, &host).cost == (__u64{0xffffffff} * 0xffffffff) >> 16);

  TEST("what is taken is given back");
  const omerta_charge charge = omerta_charge_of(&both, 99);
  __u64 shared = 7000;
  CHECK(!omerta_take(&charge, &shared, 5000, 1) && shared == 7000);
  const omerta_charge patient = {100, 5000, 1};
  CHECK(omerta_take(&patient, &shared, 5000, 1) && shared == 7100);
  omerta_give_back(&patient, &shared);
  CHECK(shared == 7000);
}

void tag_pairs() {
  TEST("both tags of a forwarded frame at once are what one after the other makes them");
  for (int i = 0; i < 5000; i++) {
    omerta_leg leg;
    std::vector<uint8_t> frame(OMERTA_FRAME_MIN_SIZE + randombytes_uniform(200));
    randombytes_buf(&leg, sizeof leg);
    randombytes_buf(frame.data(), frame.size());
    leg.next_key_epoch &= 0x0f;
    frame[2] |= 2;
    const auto size = static_cast<__u32>(frame.size());
    const omerta_tag_pair tags = omerta_tag_pair_of(&leg, frame.data(), size);
    const uint64_t header = omerta_next_header(&leg, omerta_load64(frame.data()));
    CHECK(tags.in == omerta_frame_tag(leg.key, frame.data(), size));
    omerta_leg_rewrite(&leg, frame.data(), size);
    CHECK(header == omerta_load64(frame.data()));
    CHECK(tags.out == omerta_load64(frame.data() + 8));
  }
}

void prefixes() {
  TEST("addresses of one prefix share a bucket, the port plays no part");
  omerta_policy policy{};
  policy.prefix_key = 0x9e3779b97f4a7c15;
  policy.prefix_mask4 = 0x00ffffff;          // /24 as it lies in memory
  policy.prefix_mask6 = 0xffffffffffffffff;  // /64
  omerta_address a{}, b{};
  a.ip[10] = a.ip[11] = b.ip[10] = b.ip[11] = 0xff;
  a.ip[12] = b.ip[12] = 192;
  a.ip[15] = 1;
  b.ip[15] = 200;
  a.port = 1;
  const auto bucket = [&](const omerta_address& address) { return omerta_prefix_bucket(&policy, &address); };
  CHECK(bucket(a) == bucket(b));
  b.ip[14] = 1;
  CHECK(bucket(a) != bucket(b));
  omerta_address c{}, d{};
  c.ip[0] = d.ip[0] = 0x20;
  d.ip[8] = 1;
  CHECK(bucket(c) == bucket(d));
  d.ip[7] = 1;
  CHECK(bucket(c) != bucket(d));
}

}  // namespace

int main() {
  if (sodium_init() < 0) return 1;
  tag_is_siphash();
  layout();
  kinds();
  classification_sizes();
  rate_limit();
  prefixes();
  tag_pairs();
  return omerta::check::finish();
}
