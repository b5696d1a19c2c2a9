// SPDX-License-Identifier: Apache-2.0
// The congestion window: slow start (RFC 5681 3.1, counting bytes as RFC 3465 does, so that an acknowledgment
// divided into many gains nothing), and CUBIC (RFC 9438). When it is reduced is not decided here.
#pragma once

#include <cstdint>

#include "common/clock.h"

namespace omerta::stack {

class Cubic {
 public:
  /// mss: payload bytes of a full segment.
  explicit Cubic(uint32_t mss = 536) { set_mss(mss); }
  /// Before anything is sent, or where the path takes less than it was thought to.
  void set_mss(uint32_t mss);

  uint32_t window() const { return window_; }
  uint32_t threshold() const { return threshold_; }
  bool slow_start() const { return window_ < threshold_; }
  /// `bytes` were acknowledged while the window was what held the sender back.
  void acknowledged(uint32_t bytes, Nanoseconds now, Nanoseconds rtt);
  /// Something was lost, or marked (RFC 3168 6.1.2), of `flight` bytes (RFC 9438 4.6). The window becomes the
  /// threshold, unless the caller reduces it step by step.
  void congestion(uint32_t flight);
  /// Nothing came back for a timeout (RFC 9438 4.8).
  void timeout(uint32_t flight);
  /// The window while what was lost is sent again (RFC 6937).
  void set_window(uint32_t window) { window_ = window; }
  void end_recovery() { window_ = threshold_; }
  /// Nothing was sent for a timeout: the window tells nothing any more (RFC 5681 4.1).
  void restart();

  struct Memory {
    uint32_t window, threshold;
    double maximum;
  };
  /// What a reduction changes, for the case that there was no reason for it (RFC 4015).
  Memory remember() const { return {window_, threshold_, maximum_}; }
  void restore(const Memory& memory);

 private:
  static constexpr uint32_t kMost = 1U << 30;

  void begin_epoch(Nanoseconds now);
  void reduce(uint32_t flight);
  uint32_t initial() const;

  uint32_t mss_ = 0;
  uint32_t window_ = 0;
  uint32_t threshold_ = kMost;
  double growth_ = 0;   ///< fraction of a byte not added yet
  double maximum_ = 0;  ///< W_max, segments
  // Since the window was reduced:
  bool in_epoch_ = false;
  Nanoseconds epoch_ = 0;
  Nanoseconds last_ = 0;
  double origin_ = 0;    ///< W_max of this epoch, segments
  double time_ = 0;      ///< K, seconds
  double estimate_ = 0;  ///< W_est, segments
  double prior_ = 0;     ///< cwnd_prior, segments
};

}  // namespace omerta::stack
