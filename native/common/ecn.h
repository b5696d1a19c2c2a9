// SPDX-License-Identifier: Apache-2.0
// The ECN field of an IP header (RFC 3168 section 5) through a tunnel: RFC 6040, normal mode.
#pragma once

#include "common/bytes.h"

namespace omerta {

inline constexpr uint8_t kEcnMask = 3;
inline constexpr uint8_t kNotEct = 0, kEct1 = 1, kEct0 = 2, kCongestionExperienced = 3;

/// The field of an IPv4 or IPv6 packet; 0 (not ECN-capable) for anything else.
inline uint8_t ecn_of(const uint8_t* packet) {
  const uint8_t version = packet[0] >> 4;
  if (version == 4) return packet[1] & kEcnMask;
  return version == 6 ? packet[1] >> 4 & kEcnMask : kNotEct;
}

/// Replaces the field of an IP packet; an IPv4 header checksum is updated as RFC 1624 says, so that one
/// that was wrong stays wrong.
inline void set_ecn(uint8_t* packet, uint8_t ecn) {
  if (packet[0] >> 4 == 6) {
    packet[1] = static_cast<uint8_t>((packet[1] & ~(kEcnMask << 4)) | ecn << 4);
    return;
  }
  const uint16_t before = load<uint16_t>(packet);
  packet[1] = static_cast<uint8_t>((packet[1] & ~kEcnMask) | ecn);
  uint32_t sum = static_cast<uint16_t>(~load<uint16_t>(packet + 10));
  sum += static_cast<uint16_t>(~before);
  sum += load<uint16_t>(packet);
  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  store(packet + 10, static_cast<uint16_t>(~sum));
}

/// Decapsulation (RFC 6040 section 4.2, figure 4): brings what the outer header met on the way into the
/// inner one. false: the packet has to be dropped, because routers signalled congestion on a flow that
/// cannot be told.
inline bool decapsulate_ecn(uint8_t* packet, uint8_t outer) {
  if (outer == kNotEct || outer == kEct0) return true;
  const uint8_t inner = ecn_of(packet);
  if (inner == kNotEct) return outer != kCongestionExperienced;
  if (inner != kCongestionExperienced) set_ecn(packet, outer);
  return true;
}

}  // namespace omerta
