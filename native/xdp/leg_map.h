// SPDX-License-Identifier: Apache-2.0
// The legs in the kernel (xdp/legs.h), in memory shared with the program: writes them, keeps the counters
// of those it replaces, and finds those nobody knows any more. One control thread.
#pragma once

#include <omerta/leg_slots.h>
#include <omerta/leg_window.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "common/shared_mapping.h"
#include "xdp/relay_program.h"

namespace omerta::xdp {

/// Legs an earlier daemon left in a map this one cannot adopt: of another layout, or too small.
class FormerLegs {
 public:
  /// @param fd map `legs` of any layout; it stays the caller's.
  explicit FormerLegs(int fd);
  /// Whether a map's legs can be read.
  static bool readable(int fd);
  bool find(uint32_t id, omerta_leg& out) const;

 private:
  int fd_;
  uint32_t slots_ = 0;  ///< of an array; 0: it is a hash, as in layout 1
  std::optional<SharedMapping> memory_;
};

class LegMap {
 public:
  /// Told what a leg has counted when it ends or goes to other accounts; `sign` -1 takes it back.
  using Settle = std::function<void(const omerta_leg& leg, int sign)>;

  /// The map of a program, which has to outlive this. Tells it how far its legs lie from their homes.
  /// @throws XdpError
  explicit LegMap(RelayProgram& program);
  /// From now on every change is settled.
  void on_settle(Settle settle) { settle_ = std::move(settle); }
  /// From now on new legs continue what those of the same id have counted.
  void continue_from(const FormerLegs* former) { former_ = former; }
  /// The former legs' program has ended: adds what they counted since. From now on new legs start at zero.
  void catch_up();

  /// Adds legs or replaces those with their ids, which keep their counters (those in `legs` are not
  /// read). @returns the ids there was no room for near their homes, in the order of `legs`.
  std::vector<uint32_t> install(std::span<const omerta_leg> legs);
  void remove(std::span<const uint32_t> ids);
  /// Removes every leg whose id is not in `ids`, which is sorted. @returns how many.
  size_t keep_only(const std::vector<uint32_t>& ids);
  /// Copies the leg with this id; false when there is none.
  bool find(uint32_t id, omerta_leg& out) const;
  /// Calls `visit` with a copy of every leg.
  void for_each(const std::function<void(const omerta_leg&)>& visit) const;

 private:
  bool install(const omerta_leg& leg);
  void remove_at(uint32_t slot);
  void free_windows() const;
  void settle_moved(const omerta_leg& from, const omerta_leg& to) const;

  SharedMapping memory_;
  omerta_leg* entries_;
  SharedMapping window_memory_;
  omerta_leg_window* windows_;  ///< of each entry's leg
  uint32_t slots_;
  __u32& reach_;  ///< the program's
  const FormerLegs* former_ = nullptr;
  struct Counted {
    __u64 packets, bytes;
  };
  std::unordered_map<uint32_t, Counted> continued_;  ///< as former legs had counted when they were continued
  Settle settle_;
};

}  // namespace omerta::xdp
