// SPDX-License-Identifier: Apache-2.0
// The Internet checksum (RFC 1071), summed in three ways.
#include <sodium.h>

#include <vector>

#include "check.h"
#include "inner/checksum.h"

namespace {

using namespace omerta;
using namespace omerta::inner;

void the_checksum_agrees_with_rfc_1071_summing_for_every_length_and_alignment() {
  uint8_t data[400];
  uint8_t copy[400];
  randombytes_buf(data, sizeof data);
  for (size_t offset = 0; offset < 40; offset++)
    for (size_t size = 0; size + offset < sizeof data; size++) {
      uint32_t sum = 0;
      for (size_t i = 0; i < size; i++)
        sum += i % 2 == 0 ? data[offset + i] : static_cast<uint32_t>(data[offset + i]) << 8;
      while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
      CHECK(checksum_fold(checksum_add(data + offset, size)) == sum);
      CHECK(checksum_fold(checksum_payload(data + offset, size)) == sum);
      std::memset(copy, 0xa5, sizeof copy);
      CHECK(checksum_fold(checksum_copy(copy, data + offset, size)) == sum);
      CHECK(std::memcmp(copy, data + offset, size) == 0 && copy[size] == 0xa5);
    }
}

void a_sum_of_the_largest_words_does_not_lose_a_carry() {
  std::vector<uint8_t> data(65536, 0xff), copy(65536);
  for (const size_t size : {size_t{65536}, size_t{65535}, size_t{1420}, size_t{8}}) {
    // 0xffff is ones' complement for zero: the sum of any number of them.
    const uint16_t expected = size % 2 == 0 ? 0xffff : 0x00ff;
    CHECK(checksum_fold(checksum_add(data.data(), size)) == expected);
    CHECK(checksum_fold(checksum_payload(data.data(), size)) == expected);
    CHECK(checksum_fold(checksum_copy(copy.data(), data.data(), size)) == expected);
  }
}

}  // namespace

int main() {
  if (sodium_init() < 0) return 1;
  RUN(the_checksum_agrees_with_rfc_1071_summing_for_every_length_and_alignment);
  RUN(a_sum_of_the_largest_words_does_not_lose_a_carry);
  return omerta::check::finish();
}
