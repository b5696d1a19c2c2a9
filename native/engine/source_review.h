// SPDX-License-Identifier: Apache-2.0
// Which peers are sent to from an address that routing would choose no more.
#pragma once

#include "session/session_table.h"
#include "udp/route_watch.h"

namespace omerta::engine {

/// What leaves by another interface than before leaves from another address, too (udp/route_watch.h): the
/// sessions concerned forget theirs.
void forget_moved_sources(session::SessionTable& sessions, const udp::RouteWatch::Moved& moved);

}  // namespace omerta::engine
