// SPDX-License-Identifier: Apache-2.0
// The Internet checksum (RFC 1071), summed eight bytes at a time with the carry added back.
#pragma once

#include <cstdint>
#include <cstring>

namespace omerta::tun {

/// Ones' complement sum of `size` bytes in memory order, added to `sum`.
inline uint64_t checksum_add(const uint8_t* data, size_t size, uint64_t sum = 0) {
  // Two accumulators of 32-bit words cannot overflow 64 bits below 16 GiB, and they vectorise.
  uint64_t a = 0, b = 0;
  while (size >= 8) {
    uint32_t low, high;
    std::memcpy(&low, data, 4);
    std::memcpy(&high, data + 4, 4);
    a += low;
    b += high;
    data += 8;
    size -= 8;
  }
  uint64_t tail = 0;
  std::memcpy(&tail, data, size);  // zero-padded, as RFC 1071 asks of an odd byte
  a += (tail & 0xffffffff) + (tail >> 32);
  a += b;
  sum += (a & 0xffffffff) + (a >> 32);
  return sum;
}

/// Folds a sum to the 16 bits that are stored, not complemented.
inline uint16_t checksum_fold(uint64_t sum) {
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(sum);
}

inline uint16_t checksum_finish(uint64_t sum) { return static_cast<uint16_t>(~checksum_fold(sum)); }

}  // namespace omerta::tun
