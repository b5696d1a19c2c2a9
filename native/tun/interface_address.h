// SPDX-License-Identifier: Apache-2.0
// Addresses of an interface and their routes, set through rtnetlink(7): one request for either family,
// several addresses of one family side by side, and no socket of a family the kernel may not have.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "tun/network.h"

namespace omerta::tun {

/// Gives the interface an address (`100.64.1.2/10`), or leaves it where it is. @returns false when the
/// interface cannot have one of this family: IPv6 is switched off, not in the kernel, or needs a larger MTU.
/// @throws std::system_error; EPERM means CAP_NET_ADMIN
bool put_address(const Network& network, const std::string& interface, const std::string& address);

/// Gives the interface the route that comes with such an address, and that somebody took away. @returns false
/// when the kernel has none of it: the interface is down, or another route is in its place.
/// @throws std::system_error for what is no address
bool put_route(const Network& network, const std::string& interface, const std::string& address);

/// 16 bytes, IPv4 mapped.
using Neighbour = std::array<uint8_t, 16>;
/// Another address that such a route leads to the interface; the address itself where there is none.
Neighbour neighbour_of(const std::string& address);

}  // namespace omerta::tun
