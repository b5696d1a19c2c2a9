// SPDX-License-Identifier: Apache-2.0
#include "engine/latency_window.h"

#include <time.h>

namespace omerta::engine {
namespace {

/// Timestamps are on for 30 ms of each second in which something is received, and looked at for 10: what
/// waited before carries the time of its reading.
constexpr Nanoseconds kInterval = kSecond;
constexpr Nanoseconds kOpen = 30 * kMillisecond;
constexpr Nanoseconds kLeadIn = 20 * kMillisecond;

}  // namespace

void LatencyWindow::turn_over(Nanoseconds now) {
  open_ = !open_;
  socket_.set_timestamps(open_);
  if (!open_) return;
  opens_ = now + kInterval;
  counts_ = now + kLeadIn;
  closes_ = now + kOpen;
}

void LatencyWindow::record() {
  timespec t{};
  clock_gettime(CLOCK_REALTIME, &t);
  const uint64_t sent_at = static_cast<uint64_t>(t.tv_sec) * kSecond + static_cast<uint64_t>(t.tv_nsec);
  for (size_t i = 0; i < count_; i++)
    if (sent_at >= received_at_[i])
      instruments_.latency(sent_at - received_at_[i]);  // else the clock was set
  count_ = 0;
}

}  // namespace omerta::engine
