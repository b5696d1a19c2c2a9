// SPDX-License-Identifier: Apache-2.0
// Fragments an IPv4 packet that is too long for its way and may be (RFC 791 3.2): what a router does. IPv6
// knows it at the source alone.
#pragma once

#include <vector>

#include "inner/ip.h"

namespace omerta::inner {

/// Fragments of at most `mtu` bytes, the first one first; none when `mtu` has no room for the header and 8
/// bytes. `packet` may be a fragment itself.
std::vector<std::vector<uint8_t>> fragment4(const IpView& ip, const uint8_t* packet, size_t mtu);

}  // namespace omerta::inner
