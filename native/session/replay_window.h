// SPDX-License-Identifier: Apache-2.0
// Anti-replay window over 64-bit counters (RFC 6479): a ring of bits in whole words, so that moving
// the window clears words and never shifts.
#pragma once

#include <array>
#include <cstdint>

namespace omerta::session {

class ReplayWindow {
 public:
  static constexpr uint64_t kBits = 8192;
  /// Usable size: one word of the ring is always being refilled.
  static constexpr uint64_t kSize = kBits - 64;

  /// Accepts each counter once; false for one seen before, too old, or beyond `limit`.
  bool accept(uint64_t counter, uint64_t limit) {
    if (counter >= limit) return false;
    // Bit positions start at counter + 1, so that "nothing received yet" is a greatest of 0.
    const uint64_t position = counter + 1;
    if (position + kSize <= greatest_) return false;
    const uint64_t word = position / 64;
    if (position > greatest_) {
      const uint64_t current = greatest_ / 64;
      const uint64_t fresh = word - current < kWords ? word - current : kWords;
      for (uint64_t i = 1; i <= fresh; i++) words_[(current + i) % kWords] = 0;
      greatest_ = position;
    }
    uint64_t& bits = words_[word % kWords];
    const uint64_t bit = uint64_t{1} << (position % 64);
    if ((bits & bit) != 0) return false;
    bits |= bit;
    return true;
  }

 private:
  static constexpr uint64_t kWords = kBits / 64;
  uint64_t greatest_ = 0;
  std::array<uint64_t, kWords> words_{};
};

}  // namespace omerta::session
