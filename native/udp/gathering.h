// SPDX-License-Identifier: Apache-2.0
// Interrupt moderation for a socket: a worker that is busy with many messages, a few at a time, pauses
// before it looks for more instead of being woken for the next. It then pays for one wake-up instead of
// many, and what goes to one destination leaves together. A queue that never runs dry needs no pause.
//
// The pause is latency, up to kPause, where a packet would hardly be alone and the core is half used up.
// Anything less and nothing is held back.
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/clock.h"

namespace omerta::udp {

class Gathering {
 public:
  static constexpr Nanoseconds kPause = 50 * kMillisecond / 1000;

  /// What came of a wait: messages received, and time spent with them.
  void count(size_t messages) { messages_ += messages; }
  void worked(Nanoseconds time) { worked_ += time; }

  /// Before each wait: whether to pause, by what the last window was like.
  bool worth(Nanoseconds now) {
    const Nanoseconds window = now - since_;
    if (window < kWindow) return worth_;
    // A pause makes the worker less busy, so it goes on until less is done.
    const bool busy = worked_ >= (worth_ ? window * 3 / 8 : window / 2);
    worth_ = busy && messages_ * kPause >= kFewest * window;
    messages_ = worked_ = 0;
    since_ = now;
    return worth_;
  }

 private:
  /// Messages a pause ought to find.
  static constexpr uint64_t kFewest = 5;
  static constexpr Nanoseconds kWindow = kMillisecond;

  uint64_t messages_ = 0;
  Nanoseconds worked_ = 0;
  Nanoseconds since_ = 0;
  bool worth_ = false;
};

}  // namespace omerta::udp
