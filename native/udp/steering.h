// SPDX-License-Identifier: Apache-2.0
// Which of the sockets that share a port gets a datagram: the one its session or leg belongs to. Without
// it the kernel chooses by the addresses, so that all sessions of one relay end up with one worker, and
// a peer that roams takes its session along to another.
//
//   first bytes                      worker
//   04 00 00 00                      receiver index (bytes 4–7) modulo workers
//   6F 01                            leg id (bytes 4–7) modulo workers
//   anything else, or shorter        by source and destination address, as without steering
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/reason.h"

namespace omerta::udp {

struct Steering {
  bool on = false;
  Reason reason = {};
};

/// Attaches a socket filter that chooses among the sockets of one port (socket(7),
/// SO_ATTACH_REUSEPORT_CBPF; Linux 4.5). Socket i is the one bound i-th.
/// @param fd any of them, after all were bound
Steering steer_shared_port(int fd, size_t sockets);
/// The same among the first `receivers` sockets of a port, where others were bound after them that are to get
/// nothing (udp/send_lanes.h). What is no session's and no leg's goes to any of the receivers.
bool steer_past_lanes(int fd, size_t receivers);

}  // namespace omerta::udp
