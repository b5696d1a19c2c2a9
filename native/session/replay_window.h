// SPDX-License-Identifier: Apache-2.0
// Anti-replay window over 64-bit counters (RFC 6479), for any number of threads and without a lock.
//
//   slots   ring of words, one for each block of 32 counters:
//           63            32 31             0
//           +---------------+---------------+   tag: low 32 bits of the block number,
//           |      tag      |    bitmap     |   block = counter / 32, slot = block % slots
//           +---------------+---------------+
//   greatest  position (counter + 1) of the greatest counter, 0 = none yet
//
// `greatest` moves before a slot is touched. So whoever reads a slot and then finds its own counter
// still inside the window knows that the slot holds its block or an older one: a newer block there
// would have moved `greatest` a whole ring ahead. Testing and marking is one compare-and-swap, hence
// of two threads with one counter exactly one is told that it is new.
//
// Two blocks 2^32 apart carry one tag. A counter that jumps by a multiple of 2^37 onto what an earlier
// block left behind may therefore be refused, never accepted twice; a key that lives 180 s would have
// to send 760 million packets a second to get there.
#pragma once

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>

namespace omerta::session {

class ReplayWindow {
 public:
  /// As in the Linux implementation: a ring of 8192 bits less one 64-bit word.
  static constexpr uint64_t kDefaultSize = 8128;

  /// @param size how many counters behind the greatest are still told apart; 8 bytes of memory for 32
  explicit ReplayWindow(uint64_t size = kDefaultSize)
      : size_(size),
        // One block more than the window can touch, so that the oldest is never the one replaced.
        mask_(std::bit_ceil((size + kBlock - 1) / kBlock + 1) - 1),
        slots_(new std::atomic<uint64_t>[mask_ + 1]()) {}

  uint64_t size() const { return size_; }

  /// Accepts each counter once; false for one seen before, too old, or not below `limit`.
  bool accept(uint64_t counter, uint64_t limit) {
    if (counter >= limit) return false;
    const uint64_t position = counter + 1;
    uint64_t greatest = greatest_.load(std::memory_order_acquire);
    while (position > greatest &&
           !greatest_.compare_exchange_weak(greatest, position, std::memory_order_acq_rel)) {
    }
    const uint64_t block = counter / kBlock;
    const uint64_t tag = block << 32;  // cuts the block number to its low 32 bits
    const uint64_t bit = uint64_t{1} << (counter % kBlock);
    std::atomic<uint64_t>& slot = slots_[block & mask_];
    uint64_t seen = slot.load(std::memory_order_acquire);
    for (;;) {
      if (greatest_.load(std::memory_order_acquire) - position >= size_) return false;
      const bool same = (seen ^ tag) >> 32 == 0;
      if (same && (seen & bit) != 0) return false;
      if (slot.compare_exchange_weak(seen, same ? seen | bit : tag | bit, std::memory_order_acq_rel,
                                     std::memory_order_acquire))
        return true;
    }
  }

 private:
  static constexpr uint64_t kBlock = 32;
  const uint64_t size_;
  const uint64_t mask_;
  std::atomic<uint64_t> greatest_{0};
  std::unique_ptr<std::atomic<uint64_t>[]> slots_;
};

}  // namespace omerta::session
