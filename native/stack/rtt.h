// SPDX-License-Identifier: Apache-2.0
// The round trip time and what follows from it: the retransmission timeout (RFC 6298), and the least of late,
// which RACK takes for the network's own (RFC 8985 6.2, step 1).
#pragma once

#include <algorithm>

#include "common/clock.h"

namespace omerta::stack {

class RoundTripTime {
 public:
  static constexpr Nanoseconds kNone = UINT64_MAX;
  /// RFC 6298 (2.4) asks for a second; like Linux we take less: tail loss probes find what a short timeout
  /// would be for, and a receiver delays an acknowledgment by less.
  static constexpr Nanoseconds kLeastTimeout = 200 * kMillisecond;
  static constexpr Nanoseconds kMostTimeout = 60 * kSecond;  ///< RFC 6298 (2.5)

  bool known() const { return known_; }
  Nanoseconds smoothed() const { return smoothed_; }
  Nanoseconds least() const { return std::min(least_[0], least_[1]); }
  /// The timeout with its backoff (RFC 6298 5.5).
  Nanoseconds timeout() const { return std::min(timeout_ << backoff_, kMostTimeout); }
  unsigned backoff() const { return backoff_; }

  void sample(Nanoseconds rtt, Nanoseconds now) {
    rtt = std::max<Nanoseconds>(rtt, 1);
    if (now - window_ > kWindow) {
      least_[1] = least_[0];
      least_[0] = kNone;
      window_ = now;
    }
    least_[0] = std::min(least_[0], rtt);
    if (!known_) {  // RFC 6298 (2.2)
      known_ = true;
      smoothed_ = rtt;
      variation_ = rtt / 2;
    } else {  // (2.3)
      const Nanoseconds difference = smoothed_ > rtt ? smoothed_ - rtt : rtt - smoothed_;
      variation_ = (3 * variation_ + difference) / 4;
      smoothed_ = (7 * smoothed_ + rtt) / 8;
    }
    timeout_ = std::clamp(smoothed_ + std::max(kGranularity, 4 * variation_), kLeastTimeout, kMostTimeout);
  }
  void back_off() { backoff_ = std::min(backoff_ + 1, 12U); }
  /// What was sent is acknowledged: the network carries again.
  void end_backoff() { backoff_ = 0; }
  /// The SYN was retransmitted, so it told no time (RFC 6298 5.7).
  void without_handshake() { timeout_ = 3 * kSecond; }

 private:
  static constexpr Nanoseconds kGranularity = kMillisecond;
  static constexpr Nanoseconds kWindow = 30 * kSecond;  ///< the least is of the last one or two of these

  bool known_ = false;
  Nanoseconds smoothed_ = 0;
  Nanoseconds variation_ = 0;
  Nanoseconds timeout_ = kSecond;  // RFC 6298 (2.1)
  unsigned backoff_ = 0;
  Nanoseconds window_ = 0;
  Nanoseconds least_[2] = {kNone, kNone};
};

}  // namespace omerta::stack
