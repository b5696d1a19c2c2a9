// SPDX-License-Identifier: Apache-2.0
// Max-min fair sharing of the host's rate between identities (Bertsekas & Gallager, Data Networks,
// 6.5.2): who asks for less than an equal share gets all of it, what they leave is shared equally by
// the others. Works on what identities asked for, so no clock, no table and no packet is in here.
//
// Terms
//   host time   ns the host's bucket is charged for a datagram; in t ns it can be charged t ns
//   demand      host time an identity asked for, whether it got it or not
//   level       host time no identity gets more of than that
//
// The level is always in force, also while the host has room to spare: then it is the largest demand
// and all that is spare, so one identity that suddenly asks for ten times the host takes what nobody
// used and nothing of what others do, from its first datagram on.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace omerta {

class FairShare {
 public:
  explicit FairShare(std::size_t identities);

  /// To be called about ten times a second.
  /// @param totals  demand of each identity so far, ns, modulo 2^64
  /// @param now     ns on a monotonic clock
  /// @param arrival the theoretical arrival time of the host's bucket
  /// @returns omerta_policy.fair_factor for the time until the next call; on the first one half of the
  ///   host for each, because nothing is known yet.
  uint32_t update(std::span<const uint64_t> totals, uint64_t now, uint64_t arrival);
  /// There is no host limit any more: the next update() is a first one.
  void reset() { last_update_ = 0; }

  /// The level that shares `capacity` max-min fairly; when there is enough for all, the largest demand
  /// and what is spare.
  static uint64_t level(std::vector<uint64_t>& demands, uint64_t capacity);

 private:
  std::vector<uint64_t> before_;
  std::vector<uint64_t> demands_;
  uint64_t last_update_ = 0;
};

}  // namespace omerta
