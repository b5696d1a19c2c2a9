// SPDX-License-Identifier: Apache-2.0
// Anti-replay window over 64-bit counters (RFC 6479): a ring of bits in whole words, so that moving
// the window clears words and never shifts.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>

namespace omerta::session {

/// WireGuard's: how far behind the greatest a counter may be. A ring of 8192 bits.
inline constexpr size_t kStandardWindow = 8192 - 64;
/// Between our nodes: 74 ms of path skew at 10 Gbit/s in packets of 1,420 bytes. A ring of 65,536 bits.
inline constexpr size_t kWideWindow = 65536 - 64;

class ReplayWindow {
 public:
  /// One word of the ring is always being refilled: a multiple of 64 bits less 64 wastes nothing.
  explicit ReplayWindow(size_t packets)
      : packets_(packets),
        mask_(std::bit_ceil((packets + 64 + 63) / 64) - 1),
        words_(new uint64_t[mask_ + 1]()) {}

  size_t packets() const { return packets_; }

  /// Accepts each counter once; false for one seen before, too old, or beyond `limit`.
  bool accept(uint64_t counter, uint64_t limit) {
    if (counter >= limit) return false;
    // Bit positions start at counter + 1, so that "nothing received yet" is a greatest of 0.
    const uint64_t position = counter + 1;
    if (position + packets_ <= greatest_) return false;
    const uint64_t word = position / 64;
    if (position > greatest_) {
      const uint64_t current = greatest_ / 64;
      const uint64_t fresh = std::min(word - current, mask_ + 1);
      for (uint64_t i = 1; i <= fresh; i++) words_[(current + i) & mask_] = 0;
      greatest_ = position;
    }
    uint64_t& bits = words_[word & mask_];
    const uint64_t bit = uint64_t{1} << (position % 64);
    if ((bits & bit) != 0) return false;
    bits |= bit;
    return true;
  }

 private:
  const uint64_t packets_;
  const uint64_t mask_;
  uint64_t greatest_ = 0;
  std::unique_ptr<uint64_t[]> words_;
};

}  // namespace omerta::session
