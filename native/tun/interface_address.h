// SPDX-License-Identifier: Apache-2.0
// Addresses of an interface, set through rtnetlink(7): one request for either family, several addresses of
// one family side by side, and no socket of a family the kernel may not have.
#pragma once

#include <string>

#include "tun/network.h"

namespace omerta::tun {

/// Gives the interface an address (`100.64.1.2/10`), or leaves it where it is. @returns false when the
/// interface cannot have one of this family: IPv6 is switched off, not in the kernel, or needs a larger MTU.
/// @throws std::system_error; EPERM means CAP_NET_ADMIN
bool put_address(const Network& network, const std::string& interface, const std::string& address);

}  // namespace omerta::tun
