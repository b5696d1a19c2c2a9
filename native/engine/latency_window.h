// SPDX-License-Identifier: Apache-2.0
// How long forwarded frames were in the box, measured a moment each second: the kernel's timestamps of
// received messages are on while the window is open, and looked at once nothing waits any more that was
// received without.
#pragma once

#include "common/clock.h"
#include "engine/instruments.h"
#include "udp/socket_io.h"

namespace omerta::engine {

class LatencyWindow {
 public:
  LatencyWindow(udp::UdpSocket& socket, Instruments& instruments)
      : socket_(socket), instruments_(instruments) {}

  /// After each receive.
  void turn(Nanoseconds now) {
    if (now >= (open_ ? closes_ : opens_)) turn_over(now);
  }
  /// Frames of this message are forwarded; once for each message of a receive.
  void forwarded(const udp::Message& message, Nanoseconds now) {
    if (message.received_at != 0 && now >= counts_) received_at_[count_++] = message.received_at;
  }
  /// They have left.
  void sent() {
    if (count_ != 0) record();
  }
  /// They were lost.
  void clear() { count_ = 0; }

 private:
  void turn_over(Nanoseconds now);
  void record();

  udp::UdpSocket& socket_;
  Instruments& instruments_;
  bool open_ = false;
  Nanoseconds opens_ = 0;
  Nanoseconds counts_ = 0;
  Nanoseconds closes_ = 0;
  size_t count_ = 0;
  uint64_t received_at_[udp::SocketIo::kMessages]{};
};

}  // namespace omerta::engine
