// SPDX-License-Identifier: Apache-2.0
// What is kept about a peer, and who may touch it.
//
//   packet path   any worker, no lock: atomics, the endpoint's sequence lock, the replay window
//   slow path     handshakes, timers, configuration: only under the session table's mutex
#pragma once

#include <algorithm>
#include <atomic>
#include <list>
#include <memory>
#include <optional>
#include <vector>

#include "common/clock.h"
#include "common/seqlock.h"
#include "crypto/aead_key.h"
#include "session/allowed_ips.h"
#include "session/burst_watch.h"
#include "session/constants.h"
#include "session/cookie.h"
#include "session/endpoint.h"
#include "session/noise.h"
#include "session/replay_window.h"
#include "session/suite_offer.h"
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

class Peer;

class Keypair;

struct CounterRange {
  uint64_t first = 0;
  size_t count = 0;
};

/// Where a session is on its way to other keys; slow path.
struct SuiteNegotiation {
  SuiteOffer offer;                  ///< ours; local_index 0 before it was made
  SuiteOffer peers_offer;            ///< what `keypair` was made of
  std::unique_ptr<Keypair> keypair;  ///< the second pair, once the peer's offer is here
  int offers_sent = 0;
  int repeats = 0;
  Nanoseconds last_sent = 0;
  bool opened = false;   ///< something of the peer's opened under the new keys
  bool settled = false;  ///< and the peer said that of ours: they are sent with
  bool given_up = false;
};

/// The keys of one session in both directions. Immutable but for the counter, the window and what the
/// session is upgraded to. The first keys of a session come of a handshake and are WireGuard's; they may
/// be joined by one second pair that both sides agreed on, which lives as long as the first.
class Keypair {
 public:
  struct Origin {
    uint64_t id;
    uint32_t local_index;
    uint32_t remote_index;
    Nanoseconds created;  ///< of the handshake, for the second pair too: they expire together
    bool initiator;
    size_t window;
  };
  /// `first`: what this is the second pair of; nullptr: nothing, it is a first one.
  Keypair(Peer& peer, crypto::Suite suite, const TransportKeys& keys, const Origin& origin,
          Keypair* first = nullptr);
  ~Keypair();
  Keypair(const Keypair&) = delete;
  Keypair& operator=(const Keypair&) = delete;

  const uint64_t id;  ///< unique in the process, never reused
  Peer& peer;
  const crypto::AeadKey send_key;
  const crypto::AeadKey receive_key;
  const uint32_t local_index;
  const uint32_t remote_index;
  const Nanoseconds created;
  const bool initiator;
  Keypair& first_pair;  ///< the session's first pair; often this one

  crypto::Suite suite() const { return send_key.suite; }
  /// What to send with in this session: the second pair once it is settled.
  Keypair& sending() {
    Keypair* upgrade = upgrade_.load(std::memory_order_acquire);
    return upgrade != nullptr ? *upgrade : *this;
  }
  /// nullptr: back to this pair.
  void upgrade(Keypair* keypair) { upgrade_.store(keypair, std::memory_order_release); }

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
  /// Counts what was sealed (bytes of messages: more than was encrypted); whether a new handshake is due
  /// for it. At the limit of AES-256-GCM the session goes back to its first pair.
  bool worn_by(size_t bytes);
  /// Tests the replay window; call only after the AEAD opened.
  bool accept(uint64_t counter) { return window_.accept(counter, kRejectAfterMessages); }
  size_t window() const { return window_.size(); }

  /// Not before this an offer may follow a packet; kNever: not (any more).
  static constexpr Nanoseconds kNever = UINT64_MAX;
  std::atomic<Nanoseconds> next_offer{kNever};
  std::atomic<uint32_t> suite_frames_received{0};
  // --- slow path ---
  SuiteNegotiation negotiation;
  Key32 suite_secret{};  ///< gone once it was used

 private:
  std::atomic<uint64_t> send_counter_{0};
  std::atomic<uint64_t> sealed_bytes_{0};  ///< AES-256-GCM only
  std::atomic<Keypair*> upgrade_{nullptr};
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

  /// What to send with; nullptr: there is no session.
  Keypair* sending() const {
    Keypair* keypair = current.load(std::memory_order_acquire);
    return keypair == nullptr ? nullptr : &keypair->sending();
  }

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
  Timestamp sent_timestamp{};  ///< of the last initiation to it
  Nanoseconds last_initiation_consumed = 0;
  bool has_cookie = false;
  Cookie cookie{};
  Nanoseconds cookie_born = 0;
  bool has_last_mac1 = false;
  Mac16 last_mac1{};
  std::list<std::vector<uint8_t>> staged;
  Nanoseconds persistent_keepalive = 0;
  AllowedIps::List allowed_ips;
  bool removed = false;
  /// Order in which peers were added, and the clock on the wall when the last session was confirmed
  /// (nanoseconds since 1970, 0 = never): for those who show them.
  uint64_t sequence = 0;
  Nanoseconds last_handshake_wall = 0;
  Timer timer;

 private:
  SeqLock<Endpoint> endpoint_;
  SpinLock endpoint_lock_;
};

}  // namespace omerta::session
