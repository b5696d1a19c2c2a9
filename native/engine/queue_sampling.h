// SPDX-License-Identifier: Apache-2.0
// How full a worker finds its receive queue, and what was lost of it. The kernel is asked now and then, not
// for every message.
#pragma once

#include "common/clock.h"
#include "engine/instruments.h"
#include "udp/udp_socket.h"

namespace omerta::engine {

class QueueSampling {
 public:
  QueueSampling(udp::UdpSocket& socket, Instruments& instruments)
      : socket_(socket), instruments_(instruments) {}

  void received() { receives_++; }
  /// Whether something was received since the last sample.
  bool due() const { return receives_ != 0; }
  void sample(Nanoseconds now, CounterRow& counters) {
    if (receives_ < kReceives && now - sampled_ < kInterval) return;
    instruments_.receive_queue(socket_.sample_queues(counters).receive);
    sampled_ = now;
    receives_ = 0;
  }

 private:
  /// After so many receives, or this long.
  static constexpr unsigned kReceives = 64;
  static constexpr Nanoseconds kInterval = 100 * kMillisecond;

  udp::UdpSocket& socket_;
  Instruments& instruments_;
  unsigned receives_ = 0;
  Nanoseconds sampled_ = 0;
};

}  // namespace omerta::engine
