// SPDX-License-Identifier: Apache-2.0
// How long something that was given up stays so until it is tried again: twice as long each time.
#pragma once

#include <algorithm>

#include "common/clock.h"

namespace omerta {

class RetryPause {
 public:
  static constexpr Nanoseconds kFirst = 600 * kSecond;
  static constexpr Nanoseconds kLongest = 86400 * kSecond;

  /// The pause that begins now.
  Nanoseconds next() {
    const Nanoseconds pause = pause_;
    pause_ = std::min(2 * pause_, kLongest);
    return pause;
  }

 private:
  Nanoseconds pause_ = kFirst;
};

}  // namespace omerta
