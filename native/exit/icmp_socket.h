// SPDX-License-Identifier: Apache-2.0
// ICMP of a gateway's private network by a raw socket there that takes what is for any address (raw(7)):
// guests' echo requests come in by it, and what they are told goes out, as from the address they sent to.
#pragma once

#include <optional>

#include "exit/echo.h"

namespace omerta::exit {

/// From now on the socket gives echo requests alone. false and errno: it is none of the family's ICMP.
bool take_echo_requests(int fd, int family);

/// The echo request that a raw socket has given: of IPv4 with the header before it. nullopt: it is none.
std::optional<Echo> received_echo(const stack::Address& from, const stack::Address& to, Bytes received);

/// Sends an ICMP packet as echo_of(), unreachable_echo() and unreachable_datagram() make it. false and errno.
bool send_icmp(int fd, std::vector<uint8_t> packet);

}  // namespace omerta::exit
