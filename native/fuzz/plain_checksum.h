// SPDX-License-Identifier: Apache-2.0
// The Internet checksum as RFC 1071 describes it, word by word, to hold the fast one against.
#pragma once

#include <cstddef>
#include <cstdint>

namespace omerta::fuzz {

/// Adds 16-bit words in network order; an odd byte is the high half of one.
inline uint32_t plain_sum(const uint8_t* data, size_t size, uint32_t sum = 0) {
  for (size_t i = 0; i < size; i++) sum += i % 2 == 0 ? uint32_t{data[i]} << 8 : data[i];
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return sum;
}

/// The transport's sum with its pseudo header (RFC 9293 3.1, RFC 8200 8.1); 0xffff when the checksum is
/// right.
inline uint32_t plain_transport_sum(const uint8_t* packet, size_t header, size_t size, uint8_t protocol) {
  const bool v4 = packet[0] >> 4 == 4;
  const uint32_t addresses = v4 ? plain_sum(packet + 12, 8) : plain_sum(packet + 8, 32);
  const size_t length = size - header;
  const uint8_t rest[4] = {0, protocol, static_cast<uint8_t>(length >> 8), static_cast<uint8_t>(length)};
  return plain_sum(packet + header, length, plain_sum(rest, 4, addresses));
}

}  // namespace omerta::fuzz
