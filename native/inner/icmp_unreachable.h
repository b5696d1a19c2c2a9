// SPDX-License-Identifier: Apache-2.0
// "Destination unreachable" for a packet that no peer takes (WIREGUARD checklist 10): the program that
// sent it learns at once instead of waiting for a timeout.
#pragma once

#include <vector>

#include "inner/ip.h"

namespace omerta::inner {

/// The ICMP (RFC 792, host unreachable) or ICMPv6 (RFC 4443, address unreachable) packet that answers
/// `packet`; empty where none may be sent (RFC 1122 3.2.2, RFC 4443 2.4: answers to errors, to
/// multicast, to what has no unicast source, to later fragments). It comes from the address that could
/// not be reached.
std::vector<uint8_t> icmp_unreachable(const IpView& ip, const uint8_t* packet);

}  // namespace omerta::inner
