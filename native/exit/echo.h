// SPDX-License-Identifier: Apache-2.0
// Pings (RFC 792, RFC 4443 4).
#pragma once

#include <optional>
#include <vector>

#include "common/bytes.h"
#include "inner/icmp_error.h"
#include "stack/packet_view.h"

namespace omerta::exit {

/// An echo request of a guest's.
struct Echo {
  stack::Flow flow;              ///< as the exit has it; the guest's port is the identifier, the other 0
  std::vector<uint8_t> message;  ///< of ICMP, as it came
};

/// nullopt: it is something else.
std::optional<Echo> parse_echo(const stack::PacketView& packet);
/// The same of a message of ICMP alone, of `from` to `to`.
std::optional<Echo> echo_request(const stack::Address& from, const stack::Address& to,
                                 std::vector<uint8_t> message);
/// The answer to an echo request, of the same size; empty: it is none.
std::vector<uint8_t> echo_reply(const stack::PacketView& packet);
/// A packet for a guest of the echo reply that a ping socket has given, with the guest's identifier; empty:
/// it is none.
std::vector<uint8_t> echo_of(const stack::Flow& flow, Bytes reply);
/// That an echo request goes no further.
std::vector<uint8_t> unreachable_echo(const Echo& echo, inner::Unreachable why);

/// The protocol of a flow's family.
inline uint8_t icmp_of(const stack::Flow& flow) {
  return stack::is_ipv4(flow.remote) ? stack::kIcmp : stack::kIcmpv6;
}

}  // namespace omerta::exit
