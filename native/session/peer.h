// SPDX-License-Identifier: Apache-2.0
// What is kept about a peer, and who may touch it.
//
//   packet path   any worker, no lock: atomics, the endpoint's sequence lock, the replay window
//   slow path     handshakes, timers, configuration: only under the session table's mutex
#pragma once

#include <atomic>
#include <list>
#include <optional>
#include <vector>

#include "common/clock.h"
#include "common/seqlock.h"
#include "ratelimit/token_bucket.h"
#include "session/allowed_ips.h"
#include "session/burst_watch.h"
#include "session/constants.h"
#include "session/cookie.h"
#include "session/endpoint.h"
#include "session/exit_rules.h"
#include "session/keypair.h"
#include "session/noise.h"
#include "session/path_set.h"
#include "session/shaping.h"
#include "session/timer_heap.h"

namespace omerta::session {

/// Held for a few instructions only.
class SpinLock {
 public:
  void lock() {
    while (flag_.test_and_set(std::memory_order_acquire))
      while (flag_.test(std::memory_order_relaxed)) {
      }
  }
  void unlock() { flag_.clear(std::memory_order_release); }

 private:
  std::atomic_flag flag_{};
};

class Peer {
 public:
  Peer(const LocalIdentity& local, const Key32& public_key,
       uint64_t control_frames_per_second = kControlFramesPerSecond)
      : control_budget(control_frames_per_second, 2 * control_frames_per_second), remote(local, public_key) {}
  ~Peer() {
    delete paths.load(std::memory_order_relaxed);
    delete shaping.load(std::memory_order_relaxed);
  }

  // --- packet path -----------------------------------------------------------------------------
  std::atomic<Keypair*> current{nullptr};
  std::atomic<Keypair*> previous{nullptr};
  /// As the responder: the pair of the last handshake answered, which is not sent with before a packet
  /// arrived on it. Older than `current` when a handshake of this node's was complete meanwhile.
  std::atomic<Keypair*> next{nullptr};

  std::atomic<Nanoseconds> last_received{0};  ///< any authenticated packet
  std::atomic<Nanoseconds> last_sent{0};
  std::atomic<Nanoseconds> unanswered_since{0};      ///< first data sent after which nothing authentic came
  std::atomic<Nanoseconds> keepalive_owed_since{0};  ///< first data received after which nothing was sent
  std::atomic<Nanoseconds> last_handshake{0};
  std::atomic<Nanoseconds> last_initiation{0};
  std::atomic<uint64_t> rx_bytes{0};
  std::atomic<uint64_t> tx_bytes{0};
  BurstWatch bursts;
  TokenBucket control_budget;  ///< of control frames that arrive
  /// Where the peer is was told at this moment, and it has moved since: that is told when kEndpointInterval
  /// has passed.
  std::atomic<Nanoseconds> endpoint_told{0};
  std::atomic<bool> endpoint_untold{false};

  /// What its packets may be for.
  std::atomic<Transit> transit{Transit::any};

  /// The ways to it; nullptr: it agreed on none, and its path frames are dropped.
  std::atomic<PathSet*> paths{nullptr};

  /// How what is sent to it is shaped; nullptr: it goes as it is, at once.
  std::atomic<const Shaping*> shaping{nullptr};

  /// What to send with; nullptr: there is no session.
  Keypair* sending() const {
    Keypair* keypair = current.load(std::memory_order_acquire);
    return keypair == nullptr ? nullptr : &keypair->sending();
  }

  /// Whether there are keys that packets can come under.
  bool has_session(Nanoseconds now) const {
    const auto usable = [now](const Keypair* keypair) {
      return keypair != nullptr && !keypair->expired(now);
    };
    return usable(current.load(std::memory_order_acquire)) || usable(next.load(std::memory_order_acquire));
  }

  Endpoint endpoint() const { return endpoint_.read(); }
  /// Returns whether the peer is now reached another way; one with paths never is.
  bool set_endpoint(const Endpoint& endpoint);
  /// From now on it is reached here and nowhere else, until it is let go.
  void pin(const Endpoint& endpoint);
  void let_go(const Endpoint& endpoint);
  bool pinned() const { return pinned_.load(std::memory_order_relaxed); }
  /// The kernel chooses what is sent from, if that is still the address it was.
  void forget_source(const Endpoint& endpoint);

  // --- slow path -------------------------------------------------------------------------------
  RemoteIdentity remote;
  HandshakeState handshake;
  bool initiation_pending = false;  ///< `handshake` waits for a response
  bool retry_armed = false;         ///< the last initiation did not lead to a session yet
  bool handshake_wanted = false;    ///< a handshake waits for an endpoint
  /// Given while a session ran: handshakes go there, in turns with the session's own, until one completes.
  std::optional<Endpoint> given_endpoint;
  bool given_endpoint_tried = false;  ///< the last initiation went there
  Endpoint endpoint_without_paths;    ///< where it is reached once it has no paths any more
  Nanoseconds attempts_since = 0;     ///< of the first of these initiations
  Nanoseconds jitter = 0;             ///< random addition to the next repetition
  Nanoseconds last_path_needed = 0;
  Timestamp greatest_timestamp{};
  Timestamp sent_timestamp{};  ///< of the last initiation to it
  Nanoseconds last_initiation_consumed = 0;
  bool has_cookie = false;
  Cookie cookie{};
  Nanoseconds cookie_born = 0;
  bool has_last_mac1 = false;
  Mac16 last_mac1{};
  std::list<std::vector<uint8_t>> staged;
  Nanoseconds persistent_keepalive = 0;
  AllowedIps::List allowed_ips{*this};
  bool removed = false;
  /// Order in which peers were added, and the clock on the wall when the last session was confirmed
  /// (nanoseconds since 1970, 0 = never): for those who show them.
  uint64_t sequence = 0;
  Nanoseconds last_handshake_wall = 0;
  Timer timer;
  Timer path_timer;

 private:
  void reach(const Endpoint& endpoint, bool pinned);

  std::atomic<bool> pinned_{false};
  SeqLock<Endpoint> endpoint_;
  SpinLock endpoint_lock_;
};

}  // namespace omerta::session
