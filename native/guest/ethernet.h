// SPDX-License-Identifier: Apache-2.0
// What a virtual machine and its gateway have between them: Ethernet frames on a link of two.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "common/bytes.h"

namespace omerta::guest {

using Mac = std::array<uint8_t, 6>;
using Ipv4 = std::array<uint8_t, 4>;
using Ipv6 = std::array<uint8_t, 16>;

/// Destination, source, type.
inline constexpr size_t kEthernetHeader = 14;
inline constexpr uint16_t kTypeIpv4 = 0x0800, kTypeArp = 0x0806, kTypeIpv6 = 0x86dd;

/// The gateway, the same in every virtual machine: no member has these addresses, and nothing is routed
/// there.
inline constexpr Mac kGatewayMac{0x02, 0x6f, 0x6d, 0x65, 0x72, 0x74};
inline constexpr Ipv4 kGatewayIpv4{169, 254, 1, 1};
inline constexpr Ipv6 kGatewayIpv6{0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};

/// The virtual machine's end, and what it is told of it.
struct Link {
  Mac guest{};
  std::vector<Ipv4> ipv4;  ///< its addresses in the mesh, all it may send from; DHCP gives the first
  std::vector<Ipv6> ipv6;
  size_t mtu = 1400;         ///< of IP packets, at least 1280
  std::vector<Ipv4> names4;  ///< where it is told to ask for names
  std::vector<Ipv6> names6;
};

template <size_t N>
bool equals(const uint8_t* bytes, const std::array<uint8_t, N>& other) {
  return std::memcmp(bytes, other.data(), N) == 0;
}

template <size_t N>
bool is_one_of(const uint8_t* bytes, const std::vector<std::array<uint8_t, N>>& all) {
  for (const auto& each : all)
    if (equals(bytes, each)) return true;
  return false;
}

/// 16 and 32 bits as the network has them.
inline uint16_t word(const uint8_t* at) { return static_cast<uint16_t>(at[0] << 8 | at[1]); }
inline uint32_t double_word(const uint8_t* at) { return uint32_t{word(at)} << 16 | word(at + 2); }

}  // namespace omerta::guest
