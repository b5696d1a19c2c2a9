// SPDX-License-Identifier: Apache-2.0
// Pings of this node (RFC 792, RFC 4443 4.2).
#pragma once

#include <vector>

#include "stack/packet_view.h"

namespace omerta::exit {

/// The answer to an echo request, of the same size; empty: it is none.
std::vector<uint8_t> echo_reply(const stack::PacketView& packet);

}  // namespace omerta::exit
