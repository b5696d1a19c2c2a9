// SPDX-License-Identifier: Apache-2.0
// Packets for one peer that wait for their turn on a link: first in, first out, bounded in bytes and in time.
#pragma once

#include <deque>
#include <optional>
#include <utility>
#include <vector>

#include "common/ecn.h"
#include "ratelimit/codel.h"

namespace omerta {

/// An IP packet in a queue.
struct Waiting {
  std::vector<uint8_t> packet;
  size_t cost = 0;  ///< bytes it takes on the link
  Nanoseconds since = 0;
};

/// What became of packets in queues.
struct QueueCounts {
  uint64_t queued = 0;
  uint64_t sent = 0;    ///< of those queued
  uint64_t marked = 0;  ///< sent, and told of congestion (RFC 3168) instead of being lost
  uint64_t dropped_full = 0;
  uint64_t dropped_late = 0;  ///< by CoDel, or because they had waited for kMaxAge
};

/// What all queues of an engine hold together.
struct QueueRoom {
  static constexpr size_t kMaxBytes = size_t{64} << 20;
  size_t bytes = 0;
};

class FlowQueue {
 public:
  static constexpr size_t kMaxBytes = size_t{4} << 20;
  static constexpr Nanoseconds kMaxAge = kSecond;

  /// `room` has to outlive it.
  explicit FlowQueue(QueueRoom& room) : room_(room) {}
  ~FlowQueue() { room_.bytes -= bytes_; }
  FlowQueue(const FlowQueue&) = delete;
  FlowQueue& operator=(const FlowQueue&) = delete;

  bool empty() const { return waiting_.empty(); }
  size_t bytes() const { return bytes_; }
  const QueueCounts& counts() const { return counts_; }

  /// false: there is no room.
  bool push(Waiting packet) {
    if (bytes_ + packet.cost > kMaxBytes || room_.bytes + packet.cost > QueueRoom::kMaxBytes) {
      counts_.dropped_full++;
      return false;
    }
    bytes_ += packet.cost;
    room_.bytes += packet.cost;
    counts_.queued++;
    waiting_.push_back(std::move(packet));
    return true;
  }

  /// The next packet that is to be sent; nullopt: none is left.
  /// @param target as CoDel::drops
  /// @param all counts of several queues, what happens here is added to them
  std::optional<Waiting> pop(Nanoseconds target, Nanoseconds now, QueueCounts& all) {
    while (!waiting_.empty()) {
      Waiting next = std::move(waiting_.front());
      waiting_.pop_front();
      bytes_ -= next.cost;
      room_.bytes -= next.cost;
      const Nanoseconds waited = now > next.since ? now - next.since : 0;
      const bool congested = codel_.drops(waited, bytes_ <= kFewBytes, target, now);
      if (waited > kMaxAge || (congested && !decapsulate_ecn(next.packet.data(), kCongestionExperienced))) {
        counts_.dropped_late++;
        all.dropped_late++;
        continue;
      }
      counts_.marked += congested ? 1 : 0;
      all.marked += congested ? 1 : 0;
      counts_.sent++;
      all.sent++;
      return next;
    }
    return std::nullopt;
  }

 private:
  /// A packet of usual length: a queue that holds no more does not stand (RFC 8289 5.3).
  static constexpr size_t kFewBytes = 1536;

  QueueRoom& room_;
  std::deque<Waiting> waiting_;
  size_t bytes_ = 0;
  CoDel codel_;
  QueueCounts counts_;
};

}  // namespace omerta
