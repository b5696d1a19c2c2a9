// SPDX-License-Identifier: Apache-2.0
// Notices that what is sent to a peer in bursts (several datagrams in one message, UDP GSO) is never
// followed by anything from it. That alone proves nothing: the peer may have nothing to say. It is where
// a closer look is worth a handshake (engine/gso_probe.h).
#pragma once

#include <atomic>

#include "common/clock.h"
#include "common/retry_pause.h"

namespace omerta::session {

class BurstWatch {
 public:
  /// Less than the first retransmission of TCP (200 ms, Linux TCP_RTO_MIN): that one travels alone, and
  /// its answer must not count for the burst.
  static constexpr Nanoseconds kAnswerTime = 150 * kMillisecond;
  static constexpr uint32_t kSuspicious = 4;

  /// After a burst was sent. Any worker.
  void sent(Nanoseconds now) {
    const Nanoseconds since = since_.load(std::memory_order_relaxed);
    if (since != 0 && now - since < kAnswerTime) return;
    if (since != 0) unanswered_.fetch_add(1, std::memory_order_relaxed);
    since_.store(now, std::memory_order_relaxed);
  }
  /// After an authenticated packet. Any worker.
  void received(Nanoseconds now) {
    const Nanoseconds since = since_.load(std::memory_order_relaxed);
    if (since == 0 || (now > since && now - since >= kAnswerTime)) return;
    since_.store(0, std::memory_order_relaxed);
    unanswered_.store(0, std::memory_order_relaxed);
  }
  /// Segmented messages are lost on the way to this peer: it gets datagrams alone until a pause has passed,
  /// longer each time. Returns its end. One thread at a time.
  Nanoseconds give_up(Nanoseconds now) {
    since_.store(0, std::memory_order_relaxed);
    unanswered_.store(0, std::memory_order_relaxed);
    const Nanoseconds end = now + pause_.next();
    alone_until_.store(end, std::memory_order_relaxed);
    return end;
  }
  bool alone(Nanoseconds now) const { return now < alone_until_.load(std::memory_order_relaxed); }
  bool suspicious() const { return unanswered_.load(std::memory_order_relaxed) >= kSuspicious; }

 private:
  std::atomic<Nanoseconds> since_{0};  ///< the burst that nothing has followed yet
  std::atomic<uint32_t> unanswered_{0};
  std::atomic<Nanoseconds> alone_until_{0};
  RetryPause pause_;
};

}  // namespace omerta::session
