// SPDX-License-Identifier: Apache-2.0
// The addresses of a virtual machine in the mesh, as DHCP (RFC 2131) and DHCPv6 (RFC 8415) give them: one
// lease for whoever asks, whose address never changes.
#pragma once

#include "guest/ethernet.h"

namespace omerta::guest {

inline constexpr uint16_t kDhcpServer = 67, kDhcpClient = 68, kDhcpv6Server = 547, kDhcpv6Client = 546;

/// What a message is answered with: a frame.
enum class DhcpAnswer : uint8_t {
  written,
  silence,  ///< it is well, and nothing is answered: a release
  refused,  ///< it is malformed, for another server, or asks for what there is not
};

/// message: the payload of UDP. from: its IP source.
DhcpAnswer answer_dhcp(const Link& link, Bytes message, const uint8_t* from, std::vector<uint8_t>& frame);

/// The same of DHCPv6. from: where the answer goes.
DhcpAnswer answer_dhcpv6(const Link& link, Bytes message, const uint8_t* from, std::vector<uint8_t>& frame);

}  // namespace omerta::guest
