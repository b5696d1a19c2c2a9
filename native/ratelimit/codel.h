// SPDX-License-Identifier: Apache-2.0
// When a queue that never drains loses a packet: CoDel (RFC 8289). What waits longer than `target` for a
// whole interval is a standing queue, which only delays; packets are then lost ever more often until it is
// gone.
#pragma once

#include <cmath>

#include "common/clock.h"

namespace omerta {

class CoDel {
 public:
  static constexpr Nanoseconds kTarget = 5 * kMillisecond;
  static constexpr Nanoseconds kInterval = 100 * kMillisecond;

  /// Of each packet that is to leave the queue, in order: whether it is to be lost instead.
  /// @param waited how long it was in the queue
  /// @param last nothing, or next to nothing, waits behind it
  /// @param target at least kTarget, and what two packets take on the link
  bool drops(Nanoseconds waited, bool last, Nanoseconds target, Nanoseconds now) {
    const bool stands = standing(waited, last, target, now);
    if (dropping_) {
      if (!stands) dropping_ = false;
      if (!stands || now < next_) return false;
      count_++;
      next_ = after(next_);
      return true;
    }
    if (!stands) return false;
    dropping_ = true;
    // Soon after the last time it goes on at about the rate that was enough then.
    const uint32_t lately = count_ - first_count_;
    count_ = lately > 1 && now < next_ + 16 * kInterval ? lately : 1;
    first_count_ = count_;
    next_ = after(now);
    return true;
  }

 private:
  bool standing(Nanoseconds waited, bool last, Nanoseconds target, Nanoseconds now) {
    if (waited < target || last) {
      since_ = 0;
      return false;
    }
    if (since_ == 0) since_ = now + kInterval;
    return now >= since_;
  }
  Nanoseconds after(Nanoseconds moment) const {
    return moment + static_cast<Nanoseconds>(static_cast<double>(kInterval) / std::sqrt(count_));
  }

  Nanoseconds since_ = 0;  ///< when it will have stood for an interval; 0: it does not
  Nanoseconds next_ = 0;
  uint32_t count_ = 0;  ///< lost since dropping_
  uint32_t first_count_ = 0;
  bool dropping_ = false;
};

}  // namespace omerta
