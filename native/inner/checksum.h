// SPDX-License-Identifier: Apache-2.0
// The Internet checksum (RFC 1071): ones' complement sums in memory order, wide words with the carry
// added back. Payloads are summed by the widest instructions the CPU has, while they are copied if
// they have to be.
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/bytes.h"

namespace omerta::inner {

/// Folds a sum to the 16 bits that are stored, not complemented.
inline uint16_t checksum_fold(uint64_t sum) {
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(sum);
}

inline uint16_t checksum_finish(uint64_t sum) { return static_cast<uint16_t>(~checksum_fold(sum)); }

/// Adds a word, and the carry back.
inline uint64_t checksum_add_word(uint64_t sum, uint64_t word) {
  sum += word;
  return sum + (sum < word ? 1 : 0);
}

/// Ones' complement sum of `size` bytes in memory order, added to `sum`; for headers.
inline uint64_t checksum_add(const uint8_t* data, size_t size, uint64_t sum = 0) {
  uint64_t words = 0;
  for (; size >= 8; data += 8, size -= 8) words = checksum_add_word(words, load<uint64_t>(data));
  // What is left, zero-padded, as RFC 1071 asks of an odd byte. By its bits: a copy of so few bytes would be
  // a call.
  uint64_t tail = 0;
  size_t bits = 0;
  if ((size & 4) != 0) {
    tail = load<uint32_t>(data);
    data += 4;
    bits = 32;
  }
  if ((size & 2) != 0) {
    tail |= static_cast<uint64_t>(load<uint16_t>(data)) << bits;
    data += 2;
    bits += 16;
  }
  if ((size & 1) != 0) tail |= static_cast<uint64_t>(*data) << bits;
  words = checksum_add_word(words, tail);
  return sum + (words & 0xffffffff) + (words >> 32);
}

/// The same for payloads.
uint64_t checksum_payload(const uint8_t* data, size_t size, uint64_t sum = 0);

/// Copies `size` bytes and returns their sum, added to `sum`, in one pass. The two must not overlap.
uint64_t checksum_copy(uint8_t* to, const uint8_t* from, size_t size, uint64_t sum = 0);

}  // namespace omerta::inner
