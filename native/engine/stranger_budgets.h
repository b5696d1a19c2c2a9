// SPDX-License-Identifier: Apache-2.0
// What those who have no leg and no session may cost: control frames on the contact leg, STUN requests. An
// address that has proven itself (omerta/door.h) has a budget of its own before that, as in the kernel path
// (xdp/strangers.h), so that no flood of strangers keeps members and clients out that come again. The wasm
// engine has the same (ts/engine/wasm/stranger-budgets.ts).
#pragma once

#include <omerta/door.h>

#include <atomic>
#include <cstdlib>
#include <memory>

#include "ratelimit/prefix_buckets.h"

namespace omerta::engine {

class StrangerBudgets {
 public:
  /// Control frames of each known address, a second and at once: as the kernel path lets through. Of all of
  /// them together, for one who has a session may be seen at many addresses; a quarter of it of one site.
  static constexpr uint64_t kKnownPerSecond = 50, kKnownBurst = 200, kAllKnownPerSecond = 2000;

  /// @param control_frames_per_second of all strangers; at most a quarter of it of one site (IPv4 /24, IPv6
  ///   /48), an eighth of one address (IPv6 /64)
  /// @param stun_per_second of one site; 0: none
  StrangerBudgets(uint64_t control_frames_per_second, uint64_t stun_per_second);

  /// The address has proven itself: by a session, or as the source of a leg.
  void know(const __u8 (&ip)[16], Nanoseconds now) {
    omerta_know(door_.load(std::memory_order_acquire), ip, now);
  }
  /// Known addresses are kept there from now on, for the kernel path to read.
  void keep_in(omerta_door* door) { door_.store(door, std::memory_order_release); }

  /// Whether a control frame from this address may be taken; it is charged then.
  bool take_control(const omerta_address& from, Nanoseconds now);
  /// The same of a STUN request.
  bool take_stun(const omerta_address& from, Nanoseconds now) { return stun_.take(from, now); }

 private:
  struct Free {
    void operator()(void* memory) const { std::free(memory); }
  };

  bool is_known(const omerta_address& address, Nanoseconds now) const;

  TokenBucket control_;
  PrefixBuckets control_of_address_;
  PrefixBuckets control_of_site_;
  TokenBucket control_of_all_known_;
  PrefixBuckets control_of_known_;
  PrefixBuckets control_of_known_site_;
  PrefixBuckets stun_;
  std::unique_ptr<omerta_door, Free> own_;  ///< while there is no kernel path
  std::atomic<omerta_door*> door_;
};

}  // namespace omerta::engine
