// SPDX-License-Identifier: Apache-2.0
// Sees a veth that takes frames and does not deliver them. Without an XDP program on its other end nobody
// wakes that end for a frame an XDP program sends back; where GRO is on there, the frame is taken all the
// same, counted as sent, and lies in the ring until something else passes by.
//
// A veth counts as sent what its other end took out of the ring. So what it took of XDP's until one look must
// have left by the next one, whatever else left meanwhile.
#pragma once

#include <cstdint>

#include "common/clock.h"

namespace omerta::xdp {

class DeliveryWatch {
 public:
  /// Looks nearer to each other than this say nothing: a ring is emptied within microseconds, but by a
  /// processor that may be busy.
  static constexpr Nanoseconds kInterval = 500'000'000;

  /// Begins anew.
  void reset() { looks_ = 0; }
  /// A look. `delivered`: packets that left (counted modulo 2^32, read first); `taken`: frames of XDP
  /// programs.
  /// @returns how many frames that were taken before the last look are still not delivered, at least.
  uint64_t look(uint32_t delivered, uint64_t taken, Nanoseconds now) {
    // Queues that are taken away (ethtool -L) take along what they had counted.
    if (looks_ > 0 && taken < last_.taken) reset();
    if (looks_ > 0 && now - at_ < kInterval) return 0;
    at_ = now;
    const Counts latest{delivered, taken};
    uint64_t lying = 0;
    if (looks_ == 2) {
      const uint64_t due = last_.taken - before_.taken;
      const uint32_t left = latest.delivered - before_.delivered;
      lying = due > left ? due - left : 0;
    }
    before_ = looks_ == 0 ? latest : last_;
    last_ = latest;
    if (looks_ < 2) looks_++;
    return lying;
  }

 private:
  struct Counts {
    uint32_t delivered = 0;
    uint64_t taken = 0;
  };
  Counts before_, last_;
  Nanoseconds at_ = 0;
  int looks_ = 0;
};

}  // namespace omerta::xdp
