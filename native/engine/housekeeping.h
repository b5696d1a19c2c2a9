// SPDX-License-Identifier: Apache-2.0
// What one worker does for all, ten times a second: timers of sessions, shares of the host's rate, relayed
// sessions that ended, segmented messages under suspicion, addresses of this host.
#pragma once

#include "engine/accelerator_watch.h"
#include "engine/sender.h"

namespace omerta::engine {

class Housekeeping {
 public:
  static constexpr Nanoseconds kInterval = 100 * kMillisecond;

  Housekeeping(Sender& out, AcceleratorWatch& watch) : out_(out), watch_(watch) {}

  /// After each turn, at least every kInterval.
  void tick(Nanoseconds now) {
    if (now >= next_) work(now);
  }

 private:
  void work(Nanoseconds now);

  Sender& out_;
  AcceleratorWatch& watch_;
  Nanoseconds next_ = 0;
  Nanoseconds next_address_check_ = 0;
};

}  // namespace omerta::engine
