// SPDX-License-Identifier: Apache-2.0
// What this node sent on the way back of each of its `deliver` legs: its own side of the account a
// relay gives of a circuit. What came in is counted in the leg itself.
//
// A table of fixed size, probed as far as any leg ever sat from its home (as in forwarding_table.h),
// so nothing moves under a worker that counts.
#pragma once

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

namespace omerta::relay {

class SentCounters {
 public:
  struct Sent {
    uint64_t packets;
    uint64_t bytes;
  };

  /// Room for `capacity` legs; what is sent on more than that is not counted.
  explicit SentCounters(size_t capacity)
      : capacity_(capacity), mask_(std::bit_ceil(capacity * 2) - 1), slots_(new Slot[mask_ + 1]) {}

  // Control thread.

  /// Counts for this leg from now on; one that is counted already goes on.
  void open(uint32_t leg) {
    if (find(leg) != nullptr || size_ == capacity_) return;
    size_t distance = 0;
    while (slots_[(home(leg) + distance) & mask_].leg.load(std::memory_order_relaxed) != 0) distance++;
    Slot& slot = slots_[(home(leg) + distance) & mask_];
    slot.packets.store(0, std::memory_order_relaxed);
    slot.bytes.store(0, std::memory_order_relaxed);
    if (distance > reach_.load(std::memory_order_relaxed)) reach_.store(distance, std::memory_order_relaxed);
    slot.leg.store(leg, std::memory_order_release);
    size_++;
  }
  void close(uint32_t leg) {
    Slot* slot = find(leg);
    if (slot == nullptr) return;
    slot->leg.store(0, std::memory_order_relaxed);
    size_--;
  }

  // Any thread.

  /// Counts whole frames, header included.
  void add(uint32_t leg, uint64_t packets, uint64_t bytes) {
    Slot* slot = find(leg);
    if (slot == nullptr) return;
    slot->packets.fetch_add(packets, std::memory_order_relaxed);
    slot->bytes.fetch_add(bytes, std::memory_order_relaxed);
  }
  std::optional<Sent> read(uint32_t leg) const {
    const Slot* slot = find(leg);
    if (slot == nullptr) return std::nullopt;
    return Sent{slot->packets.load(std::memory_order_relaxed), slot->bytes.load(std::memory_order_relaxed)};
  }

 private:
  struct Slot {
    std::atomic<uint32_t> leg{0};  ///< 0: vacant
    std::atomic<uint64_t> packets{0};
    std::atomic<uint64_t> bytes{0};
  };

  size_t home(uint32_t leg) const { return static_cast<size_t>((leg * 0x9E3779B97F4A7C15ULL) >> 32) & mask_; }
  Slot* find(uint32_t leg) const {
    if (leg == 0) return nullptr;
    const size_t reach = reach_.load(std::memory_order_relaxed);
    for (size_t distance = 0; distance <= reach; distance++) {
      Slot& slot = slots_[(home(leg) + distance) & mask_];
      if (slot.leg.load(std::memory_order_acquire) == leg) return &slot;
    }
    return nullptr;
  }

  size_t capacity_;
  size_t mask_;
  std::unique_ptr<Slot[]> slots_;
  std::atomic<size_t> reach_{0};
  size_t size_ = 0;
};

}  // namespace omerta::relay
