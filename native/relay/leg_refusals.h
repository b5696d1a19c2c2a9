// SPDX-License-Identifier: Apache-2.0
// How many frames of each leg were dropped after their leg was found. Few legs lose anything at a time
// and a leg's entry has no room left, so the counts are kept here, bounded:
//
//   word   leg id (high 32 bits) and count (low 32 bits, which stays at its largest); 0: free
//
// A leg sits in one of the kProbes words from its home on. Where those are all taken, its drops are in
// the counters by reason alone.
#pragma once

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>

namespace omerta::relay {

class LegRefusals {
 public:
  explicit LegRefusals(size_t legs)
      : mask_(std::bit_ceil(std::clamp(legs, kFewest, kMost)) - 1), words_(new Word[mask_ + 1]()) {}

  /// Any thread.
  void add(uint32_t leg) {
    for (size_t probe = 0; probe < kProbes; probe++) {
      Word& word = at(leg, probe);
      uint64_t present = word.load(std::memory_order_relaxed);
      while (leg_of(present) == 0 || leg_of(present) == leg) {
        if (leg_of(present) == leg && (present & kCount) == kCount) return;
        const uint64_t next = leg_of(present) == leg ? present + 1 : uint64_t{leg} << 32 | 1;
        if (word.compare_exchange_weak(present, next, std::memory_order_relaxed)) return;
      }
    }
  }
  uint32_t of(uint32_t leg) const {
    for (size_t probe = 0; probe < kProbes; probe++) {
      const uint64_t present = at(leg, probe).load(std::memory_order_relaxed);
      if (leg_of(present) == leg) return static_cast<uint32_t>(present & kCount);
    }
    return 0;
  }
  /// The leg is gone.
  void forget(uint32_t leg) {
    for (size_t probe = 0; probe < kProbes; probe++) {
      Word& word = at(leg, probe);
      uint64_t present = word.load(std::memory_order_relaxed);
      while (leg_of(present) == leg && !word.compare_exchange_weak(present, 0, std::memory_order_relaxed)) {
      }
    }
  }

 private:
  using Word = std::atomic<uint64_t>;
  static constexpr size_t kFewest = 64, kMost = 65536, kProbes = 8;
  static constexpr uint64_t kCount = UINT32_MAX;

  static uint32_t leg_of(uint64_t word) { return static_cast<uint32_t>(word >> 32); }
  Word& at(uint32_t leg, size_t probe) const {
    return words_[((leg * 0x9E3779B97F4A7C15u >> 32) + probe) & mask_];
  }

  size_t mask_;
  std::unique_ptr<Word[]> words_;
};

}  // namespace omerta::relay
