// SPDX-License-Identifier: Apache-2.0
// A UDP datagram as a whole packet, its checksums computed from scratch (RFC 1071): what the XDP
// program's incremental updates are compared with.
#pragma once

#include <omerta/wire.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace omerta::xdp {

using Packet = std::vector<uint8_t>;
using Mac = std::array<uint8_t, 6>;

inline constexpr size_t kEthernetSize = 14, kIpv4Size = 20, kIpv6Size = 40, kUdpSize = 8;

enum class UdpChecksum { computed, absent };  ///< absent: over IPv4 only

/// Headers in front of a datagram. IPv4 or IPv6 is chosen by `from`.
struct Headers {
  Mac source_mac{};
  Mac destination_mac{};
  omerta_address from{};
  omerta_address to{};
  uint8_t ttl = 64;
  uint8_t service = 0;  ///< TOS or traffic class
  uint16_t id = 0;      ///< of IPv4
  bool dont_fragment = true;
  UdpChecksum checksum = UdpChecksum::computed;
};

bool is_v4(const uint8_t ip[16]);
/// Where the UDP header of a packet from `from` starts.
inline size_t udp_offset(const omerta_address& from) {
  return kEthernetSize + (is_v4(from.ip) ? kIpv4Size : kIpv6Size);
}
Packet packet_of(const Headers& headers, const std::vector<uint8_t>& datagram);

}  // namespace omerta::xdp
