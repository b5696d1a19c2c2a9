// SPDX-License-Identifier: Apache-2.0
// The keys of one session, and what is known of their use. Any worker touches them without a lock, but for
// the negotiation of a second pair, which belongs to the slow path (session/peer.h).
#pragma once

#include <algorithm>
#include <atomic>
#include <memory>

#include "common/clock.h"
#include "crypto/aead_key.h"
#include "session/constants.h"
#include "session/noise.h"
#include "session/replay_window.h"
#include "session/suite_offer.h"

namespace omerta::session {

class Keypair;
class Peer;

struct CounterRange {
  uint64_t first = 0;
  size_t count = 0;
};

/// How far a session is on its way to its second pair; slow path.
struct SuiteNegotiation {
  SuiteOffer offer;                  ///< ours; local_index 0 before it was made
  SuiteOffer peers_offer;            ///< the one `keypair` was made of
  std::unique_ptr<Keypair> keypair;  ///< the second pair; made when the peer's offer arrives
  int offers_sent = 0;
  int repeats = 0;
  Nanoseconds last_sent = 0;
  bool opened = false;   ///< a packet of the peer's opened under the new keys
  bool settled = false;  ///< and the peer said that one of ours did: the new keys are sent with
  bool given_up = false;
};

/// The keys of one session in both directions. Immutable but for the counter, the replay window and the
/// upgrade. The first pair of a session comes of a handshake and is WireGuard's. Both sides may agree on one
/// second pair, of another cipher; it lives as long as the first.
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
  /// Counts the bytes of messages that were sealed (a little more than was encrypted) and tells whether so
  /// much was sent that a new handshake is due. At the limit of AES-256-GCM the session goes back to its
  /// first pair.
  bool worn_by(size_t bytes);
  /// Tests the replay window; call only after the AEAD opened.
  bool accept(uint64_t counter) { return window_.accept(counter, kRejectAfterMessages); }
  size_t window() const { return window_.size(); }

  /// When a packet may be followed by an offer of suites again; kNever: not, or not any more.
  std::atomic<Nanoseconds> next_offer{kNever};
  std::atomic<uint32_t> suite_frames_received{0};
  // --- slow path ---
  SuiteNegotiation negotiation;
  Key32 suite_secret{};  ///< the second pair is made of it; zero from then on

 private:
  std::atomic<uint64_t> send_counter_{0};
  std::atomic<uint64_t> sealed_bytes_{0};  ///< AES-256-GCM only
  std::atomic<Keypair*> upgrade_{nullptr};
  ReplayWindow window_;
};

}  // namespace omerta::session
