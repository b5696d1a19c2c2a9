// SPDX-License-Identifier: Apache-2.0
// The legs in the kernel: writes them in batches, keeps the counters of those it replaces, and finds
// those nobody knows any more. One control thread.
#pragma once

#include <omerta/wire.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace omerta::xdp {

class LegMap {
 public:
  /// Told what a leg has counted when it ends or goes to other accounts; `sign` -1 takes it back.
  using Settle = std::function<void(const omerta_leg& leg, int sign)>;

  /// @param fd map `legs`; @param previous a map of another layout whose counters new legs continue, or -1.
  explicit LegMap(int fd, int previous = -1) : fd_(fd), previous_(previous) {}
  /// From now on every change is settled.
  void on_settle(Settle settle) { settle_ = std::move(settle); }

  /// Adds legs or replaces those with their ids, which keep their counters (those in `legs` are not
  /// read). @returns the ids there was no room for.
  std::vector<uint32_t> install(std::span<const omerta_leg> legs);
  void remove(std::span<const uint32_t> ids);
  /// Removes every leg whose id is not in `ids`, which is sorted. @returns how many.
  size_t keep_only(const std::vector<uint32_t>& ids);
  /// Copies the leg with this id; false when there is none.
  bool find(uint32_t id, omerta_leg& out) const;
  /// Calls `visit` with a copy of every leg. @throws XdpError
  void for_each(const std::function<void(const omerta_leg&)>& visit) const;
  /// From now on new legs start at zero.
  void forget_previous() { previous_ = -1; }

 private:
  void settle_removed(std::span<const uint32_t> ids) const;
  void settle_moved(const omerta_leg& from, const omerta_leg& to) const;

  int fd_;
  int previous_;
  Settle settle_;
};

/// Whether a map has these sizes; false for what is no map.
bool has_sizes(int fd, uint32_t key_size, uint32_t value_size);
/// Entries a map has room for; 0 for what is no map.
uint32_t capacity_of(int fd);

}  // namespace omerta::xdp
