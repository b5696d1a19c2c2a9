// SPDX-License-Identifier: Apache-2.0
// What an ICMP error says of a TCP segment that was too long for its way: fragmentation needed (RFC 1191 4),
// packet too big (RFC 4443 3.2). Whether it can be believed is the connection's to say.
#pragma once

#include <optional>

#include "stack/packet_view.h"
#include "stack/sequence.h"

namespace omerta::stack {

struct TooBig {
  Flow flow;  ///< as the stack has it, which sent the segment
  Sequence sequence = 0;
  size_t mtu = 0;
};

/// nullopt: it is another ICMP message, of another protocol, or has too little of the segment in it.
std::optional<TooBig> parse_too_big(const PacketView& packet);

}  // namespace omerta::stack
