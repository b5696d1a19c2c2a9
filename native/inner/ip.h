// SPDX-License-Identifier: Apache-2.0
// The few facts of an inner IP packet that routing, segmentation and coalescing need.
#pragma once

#include <arpa/inet.h>

#include "common/bytes.h"
#include "inner/checksum.h"

namespace omerta::inner {

inline constexpr uint8_t kTcp = 6;
inline constexpr uint8_t kUdp = 17;
inline constexpr uint16_t kMailPort = 25;

struct IpView {
  uint8_t family;        ///< 4 or 6
  uint8_t address_size;  ///< 4 or 16
  uint8_t* source;
  uint8_t* destination;
  size_t length;  ///< by the header; never more than the buffer held
};

/// nullopt-like: family 0 when it is no IP packet, or its header does not fit its length.
inline IpView parse_ip(uint8_t* packet, size_t size) {
  if (size >= 20 && packet[0] >> 4 == 4) {
    const size_t length = ntohs(load<uint16_t>(packet + 2));
    const size_t header = static_cast<size_t>(packet[0] & 15) * 4;
    if (header >= 20 && length >= header && length <= size) return {4, 4, packet + 12, packet + 16, length};
  } else if (size >= 40 && packet[0] >> 4 == 6) {
    const size_t length = 40 + ntohs(load<uint16_t>(packet + 4));
    if (length <= size) return {6, 16, packet + 8, packet + 24, length};
  }
  return {0, 0, nullptr, nullptr, 0};
}

/// Whether an IPv4 packet must not be fragmented; IPv6 ones never may be.
inline bool dont_fragment(const IpView& ip, const uint8_t* packet) {
  return ip.family != 4 || (packet[6] & 0x40) != 0;
}

/// Whether a packet is of a TCP connection to port 25, by which an exit is made a sender of spam. Behind
/// extension headers, or in a later fragment, it is not found.
inline bool is_mail(const uint8_t* packet, const IpView& ip) {
  const size_t header = ip.family == 4 ? static_cast<size_t>(packet[0] & 15) * 4 : 40;
  if (packet[ip.family == 4 ? 9 : 6] != kTcp || ip.length < header + 4) return false;
  if (ip.family == 4 && (ntohs(load<uint16_t>(packet + 6)) & 0x1fff) != 0) return false;
  return load<uint16_t>(packet + header + 2) == htons(kMailPort);
}

/// The sum over the pseudo header of RFC 9293 3.1 / RFC 8200 8.1. In either header the destination follows
/// the source.
inline uint64_t pseudo_header_sum(const IpView& ip, uint8_t protocol, size_t transport_size) {
  const uint64_t addresses = ip.family == 4 ? checksum_add(ip.source, 8) : checksum_add(ip.source, 32);
  return addresses + htons(protocol) + htons(static_cast<uint16_t>(transport_size));
}

}  // namespace omerta::inner
