// SPDX-License-Identifier: Apache-2.0
// Which way of receiving and sending is used: the one asked for, or the one that a short measurement
// on loopback finds cheaper on this machine.
#pragma once

#include <optional>

#include "common/reason.h"
#include "udp/socket_io.h"

namespace omerta::udp {

enum class IoWanted : uint8_t { automatic, mmsg, io_uring };
enum class IoKind : uint8_t { mmsg, io_uring };

/// CPU ns per datagram received and sent on, waiting included.
struct IoFigures {
  double single = 0;  ///< one at a time
  double burst = 0;   ///< 16 at a time, not coalesced
  double bulk = 0;    ///< 48 of 1,300 bytes at a time, coalesced
};

struct IoChoice {
  IoKind kind = IoKind::mmsg;
  bool refused = false;  ///< io_uring was wanted and cannot be had
  Reason reason = {};
  std::optional<IoFigures> mmsg;
  std::optional<IoFigures> io_uring;
};

/// Takes about 40 ms when it measures; `automatic` measures once in a process.
IoChoice choose_io(IoWanted wanted);

/// The engine for a socket; falls back to mmsg when the ring cannot be made now.
std::unique_ptr<SocketIo> make_io(IoKind kind, UdpSocket& socket);

}  // namespace omerta::udp
