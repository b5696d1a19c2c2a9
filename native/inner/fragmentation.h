// SPDX-License-Identifier: Apache-2.0
// Fragments packets that are too long for their way: IPv4 ones that may be (RFC 791 3.2), as a router does,
// and IPv6 ones that every link has to carry (RFC 8200 5). What is to carry those in pieces is a layer below
// IPv6; that here the pieces are fragments of IPv6 (RFC 8200 4.5) leaves it to the receiving host, which does
// it anyway, to put them together, and the tunnel without a table of pieces.
#pragma once

#include <vector>

#include "inner/ip.h"

namespace omerta::inner {

/// Fragments of at most `mtu` bytes, the first one first; none when `mtu` has no room for the header and 8
/// bytes. `packet` may be a fragment itself: none where it reaches beyond the end that any packet has.
std::vector<std::vector<uint8_t>> fragment4(const IpView& ip, const uint8_t* packet, size_t mtu);

/// The same of an IPv6 packet, which stays as it is when it is not too long; none too when its headers do not
/// lie within it. `identification`: not used lately between its two addresses; that of a packet which is a
/// fragment itself stays.
std::vector<std::vector<uint8_t>> fragment6(const IpView& ip, const uint8_t* packet, size_t mtu,
                                            uint32_t identification);

}  // namespace omerta::inner
