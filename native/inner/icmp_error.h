// SPDX-License-Identifier: Apache-2.0
// ICMP errors for packets that cannot be sent on (WIREGUARD checklist 10): the program that sent one learns
// at once instead of waiting for a timeout.
//
// None is sent in answer to an error, to multicast, to what has no unicast source, or to later fragments (RFC
// 1122 3.2.2, RFC 4443 2.4). An answer comes from the address that `packet` was for: an address of this
// host's would be dropped by it as its own coming from outside.
#pragma once

#include <vector>

#include "inner/ip.h"

namespace omerta::inner {

/// Why a packet goes no further.
enum class Unreachable : uint8_t {
  host,        ///< host (RFC 792), address (RFC 4443 3.1) unreachable
  port,        ///< port unreachable
  prohibited,  ///< communication administratively prohibited (RFC 1812 5.2.7.1)
};

/// The packet goes no further. Empty where none may be sent.
std::vector<uint8_t> icmp_unreachable(const IpView& ip, const uint8_t* packet,
                                      Unreachable why = Unreachable::host);

/// The packet is longer than `mtu`: fragmentation needed (RFC 1191 4), packet too big (RFC 4443 3.2). Empty
/// where none may be sent, and for an IPv4 packet that may be fragmented.
std::vector<uint8_t> icmp_too_big(const IpView& ip, const uint8_t* packet, size_t mtu);

}  // namespace omerta::inner
