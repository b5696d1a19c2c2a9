// SPDX-License-Identifier: Apache-2.0
// Token bucket in its virtual-scheduling form (GCRA, ITU-T I.371): one number of state, so that
// several workers share a bucket with a compare-and-swap and no lock. The legs' rate limit in
// omerta/wire.h is the same algorithm over bytes.
#pragma once

#include <algorithm>
#include <atomic>

#include "common/clock.h"

namespace omerta {

class TokenBucket {
 public:
  /// Lets `per_second` units a second through, and up to `burst` at once. per_second 0: nothing.
  TokenBucket(uint64_t per_second, uint64_t burst)
      : interval_(per_second == 0 ? 0 : std::max<Nanoseconds>(1, kSecond / per_second)),
        tolerance_(interval_ * burst) {}

  /// Takes `units`; false when they are not there.
  bool take(Nanoseconds now, uint64_t units = 1) {
    if (interval_ == 0) return false;
    Nanoseconds arrival = arrival_.load(std::memory_order_relaxed);
    for (;;) {
      const Nanoseconds next = std::max(arrival, now) + units * interval_;
      if (next - now > tolerance_) return false;
      if (arrival_.compare_exchange_weak(arrival, next, std::memory_order_relaxed)) return true;
    }
  }

 private:
  Nanoseconds interval_;
  Nanoseconds tolerance_;
  std::atomic<Nanoseconds> arrival_{0};
};

}  // namespace omerta
