// SPDX-License-Identifier: Apache-2.0
// What a worker measures of itself beside its counters: how long forwarded frames were in the box, and
// how full its receive queue was. One row of 64-bit words per worker in memory TypeScript reads; the
// worker is its only writer.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace omerta::engine {

class alignas(64) Instruments {
 public:
  /// Bucket i counts latencies of at most 2^(kFirstBucketBits + i) ns and above the one before; the last
  /// one everything longer.
  static constexpr size_t kBuckets = 22;
  static constexpr unsigned kFirstBucketBits = 10;
  /// Words before the buckets.
  enum Word : size_t { kReceiveQueuePeak, kLatencySum, kLatencyBuckets };
  static constexpr size_t kWords = kLatencyBuckets + kBuckets;

  void latency(uint64_t ns) {
    const auto bits = static_cast<unsigned>(std::bit_width(ns - (ns != 0 ? 1 : 0)));
    const size_t bucket =
        bits <= kFirstBucketBits ? 0 : std::min<size_t>(bits - kFirstBucketBits, kBuckets - 1);
    add(kLatencySum, ns);
    add(kLatencyBuckets + bucket, 1);
  }
  /// Bytes of memory the datagrams in the receive queue take.
  void receive_queue(uint64_t bytes) {
    if (bytes > get(kReceiveQueuePeak)) words_[kReceiveQueuePeak].store(bytes, std::memory_order_relaxed);
  }
  uint64_t get(size_t word) const { return words_[word].load(std::memory_order_relaxed); }

 private:
  // One writer: a relaxed load and store compile to a plain add.
  void add(size_t word, uint64_t n) { words_[word].store(get(word) + n, std::memory_order_relaxed); }
  std::array<std::atomic<uint64_t>, kWords> words_{};
};

}  // namespace omerta::engine
