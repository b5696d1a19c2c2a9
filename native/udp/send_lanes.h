// SPDX-License-Identifier: Apache-2.0
// Sends while the send buffer of a socket is full. What was sent stays in it until its device has sent it:
// one way out that is slow and holds megabytes (tc-tbf(8), a modem) fills the buffer, and all who are reached
// by other ways would wait for it. So each destination then sends by a lane, a further socket on the same
// port with a buffer of its own. A lane that is full loses what is sent by it, and nobody waits.
//
// Lanes receive nothing: the sockets of a port are one group (socket(7), SO_REUSEPORT), and a filter chooses
// among those that were there before. Until it is attached, a moment after the first lane of a socket that
// had its port alone, a datagram may be lost to that lane.
#pragma once

#include <netinet/in.h>
#include <omerta/wire.h>
#include <sys/socket.h>

#include <array>
#include <atomic>
#include <mutex>

#include "common/clock.h"

namespace omerta::udp {

class SendLanes {
 public:
  /// Each IP address has its own, however full others' are. When all are taken, one whose destination was
  /// sent nothing for kIdle gets another; only where there are more destinations than lanes at once are they
  /// shared.
  static constexpr size_t kLanes = 64;
  static constexpr Nanoseconds kIdle = kSecond;
  /// What a lane holds.
  static constexpr int kBytes = 1 << 20;
  /// After the buffer was found full, lanes are used for so long; then the socket is tried again.
  static constexpr Nanoseconds kTime = 100 * kMillisecond;

  /// receivers: how many sockets receive at the port; `steered`: a filter
  /// chooses among them (udp/steering.h). Several that are not steered have no lanes.
  /// `kept`: how long lanes are open after they were used last.
  SendLanes(size_t receivers, bool steered, Nanoseconds kept = 10 * kSecond)
      : receivers_(receivers), steered_(steered), kept_(kept) {}
  ~SendLanes();
  SendLanes(const SendLanes&) = delete;
  SendLanes& operator=(const SendLanes&) = delete;

  /// Whether they are to be used. Any thread.
  bool in_use() const {
    const Nanoseconds until = until_.load(std::memory_order_relaxed);
    return until != 0 && still_in_use(until);
  }
  /// The socket's buffer is full.
  void use() { until_.store(boot_clock() + kTime, std::memory_order_relaxed); }
  /// Sends one message by the lane of its destination. fd: the socket whose port it is. Never waits. 0, or
  /// the errno: EAGAIN when the lane is full, or there can be none. Any thread.
  int send(int fd, uint32_t fwmark, const msghdr& header, const omerta_address& to);
  /// To be called now and then: closes those that were not used for a while.
  void close_unused();

 private:
  struct Lane {
    int fd = -1;
    omerta_address to{};
    Nanoseconds used = 0;
  };
  Lane& lane_to(const omerta_address& to);
  bool still_in_use(Nanoseconds until) const;
  int open(int fd, uint32_t fwmark);
  void close_all();

  const size_t receivers_;
  const bool steered_;
  const Nanoseconds kept_;
  mutable std::atomic<Nanoseconds> until_{0};
  std::mutex mutex_;
  std::array<Lane, kLanes> lanes_;
  std::atomic<bool> open_{false};
  int beside_ = -1;  ///< the socket whose port lanes have
  uint32_t fwmark_ = 0;
  bool refused_ = false;
  Nanoseconds last_used_ = 0;
};

}  // namespace omerta::udp
