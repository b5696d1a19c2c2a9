// SPDX-License-Identifier: Apache-2.0
// What is kept about a peer, and who may touch it.
//
//   packet path   any worker, no lock: atomics, the endpoint's sequence lock, the replay window
//   slow path     handshakes, timers, configuration: only under the session table's mutex
#pragma once

#include <algorithm>
#include <atomic>
#include <deque>
#include <optional>
#include <vector>

#include "common/clock.h"
#include "common/seqlock.h"
#include "session/allowed_ips.h"
#include "session/burst_watch.h"
#include "session/constants.h"
#include "session/cookie.h"
#include "session/endpoint.h"
#include "session/noise.h"
#include "session/replay_window.h"

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

class Peer;

struct CounterRange {
  uint64_t first = 0;
  size_t count = 0;
};

/// The keys of one session in both directions. Immutable but for the counter and the window.
class Keypair {
 public:
  Keypair(uint64_t id, Peer& peer, const HandshakeState& state, bool initiator, Nanoseconds now);
  ~Keypair();
  Keypair(const Keypair&) = delete;
  Keypair& operator=(const Keypair&) = delete;

  const uint64_t id;  ///< unique in the process, never reused
  Peer& peer;
  const TransportKeys keys;
  const uint32_t local_index;
  const uint32_t remote_index;
  const Nanoseconds created;
  const bool initiator;

  bool expired(Nanoseconds now) const { return now - created >= kRejectAfterTime; }
  /// Counters to send with, each handed out once; fewer than asked for, down to none, when the key may
  /// not be used any more.
  CounterRange take_counters(size_t wanted, Nanoseconds now) {
    if (expired(now)) return {};
    uint64_t first = send_counter_.load(std::memory_order_relaxed);
    size_t count = 0;
    do {
      count = static_cast<size_t>(std::min<uint64_t>(wanted, kRejectAfterMessages - first));
    } while (!send_counter_.compare_exchange_weak(first, first + count, std::memory_order_relaxed));
    return {first, count};
  }
  uint64_t sent() const { return send_counter_.load(std::memory_order_relaxed); }
  /// Tests the replay window; call only after the AEAD opened.
  bool accept(uint64_t counter) { return window_.accept(counter, kRejectAfterMessages); }

 private:
  std::atomic<uint64_t> send_counter_{0};
  ReplayWindow window_;
};

class Peer {
 public:
  Peer(const LocalIdentity& local, const Key32& public_key) : remote(local, public_key) {}

  // --- packet path -----------------------------------------------------------------------------
  std::atomic<Keypair*> current{nullptr};
  std::atomic<Keypair*> previous{nullptr};
  std::atomic<Keypair*> next{nullptr};  ///< responder: not sent with before something came in on it

  std::atomic<Nanoseconds> last_received{0};  ///< any authenticated packet
  std::atomic<Nanoseconds> last_sent{0};
  std::atomic<Nanoseconds> unanswered_since{0};      ///< data sent and nothing authenticated since
  std::atomic<Nanoseconds> keepalive_owed_since{0};  ///< data received and nothing sent since
  std::atomic<Nanoseconds> last_handshake{0};
  std::atomic<Nanoseconds> last_initiation{0};
  std::atomic<uint64_t> rx_bytes{0};
  std::atomic<uint64_t> tx_bytes{0};
  BurstWatch bursts;

  Endpoint endpoint() const { return endpoint_.read(); }
  /// Returns whether the peer is now reached another way.
  bool set_endpoint(const Endpoint& endpoint);

  // --- slow path -------------------------------------------------------------------------------
  RemoteIdentity remote;
  HandshakeState handshake;
  bool initiation_pending = false;  ///< `handshake` waits for a response
  bool retry_armed = false;         ///< no session came of the last initiation yet
  bool handshake_wanted = false;    ///< waits for an endpoint
  Nanoseconds attempts_since = 0;
  Nanoseconds jitter = 0;
  Nanoseconds last_path_needed = 0;
  Timestamp greatest_timestamp{};
  Nanoseconds last_initiation_consumed = 0;
  bool has_cookie = false;
  Cookie cookie{};
  Nanoseconds cookie_born = 0;
  bool has_last_mac1 = false;
  Mac16 last_mac1{};
  std::deque<std::vector<uint8_t>> staged;
  Nanoseconds persistent_keepalive = 0;
  std::vector<Prefix> allowed_ips;
  bool removed = false;

 private:
  SeqLock<Endpoint> endpoint_;
  SpinLock endpoint_lock_;
};

}  // namespace omerta::session
