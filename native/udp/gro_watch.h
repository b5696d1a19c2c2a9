// SPDX-License-Identifier: Apache-2.0
// Tells whether coalescing on receipt (UDP GRO) spoils datagrams: when most of those that arrived
// coalesced are bad, by the word of several senders, it is turned off for a trial. If what then arrives is
// good, GRO was to blame, and stays off for a pause; if it is as bad as before, somebody sends garbage, and
// GRO is turned on again.
//
// Counted are datagrams of senders that are known, by address, leg and session. Else a burst of garbage from
// anywhere, and silence after it, would have GRO given up. What one of them sends is the word of one witness
// (session/witness.h), however much it is. Shared by the workers: the kernel spreads senders over them.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <mutex>

#include "common/clock.h"
#include "common/retry_pause.h"

namespace omerta::udp {

class GroWatch {
 public:
  /// give_up: leave it off, until `restore` after a pause.
  enum class Action : uint8_t { none, turn_off, turn_on, give_up, restore };
  /// So many have to agree where there are as many senders.
  static constexpr size_t kWitnesses = 3;

  /// Authentic datagrams of known senders. Any worker; best told many at a time.
  void good(bool coalesced, uint64_t datagrams) {
    const std::lock_guard lock(mutex_);
    (coalesced ? together_ : alone_).good += datagrams;
    if (state_ == State::watching && together_.good >= kPlenty) forget();
  }
  /// A datagram of a known sender that was not authentic. Any worker.
  void bad(bool coalesced, uint64_t witness) {
    const std::lock_guard lock(mutex_);
    if (state_ == State::given_up) return;
    Counts& counts = coalesced ? together_ : alone_;
    counts.bad++;
    if (coalesced) testify(witness);
    due_.store(0, std::memory_order_relaxed);
  }
  /// Whether `tick`, and `good` at once, have anything to do.
  bool due(Nanoseconds now) const { return now >= due_.load(std::memory_order_relaxed); }
  /// After each receive; says what to do with GRO now. peers: how many there are that could be witnesses; a
  /// node with one or two of them believes those.
  Action tick(Nanoseconds now, size_t peers) {
    const std::lock_guard lock(mutex_);
    switch (state_) {
      case State::watching:
        if (testimonies() < (peers == 0 ? kWitnesses : std::min(peers, kWitnesses))) return Action::none;
        if (together_.bad <= together_.good || now < not_before_) {
          forget();
          return Action::none;
        }
        become(State::settling, now);
        return Action::turn_off;
      case State::settling:
        // What had been coalesced before comes without its sizes now, and proves nothing.
        if (now - since_ >= kSettle) become(State::trying, now);
        return Action::none;
      case State::trying:
        if (alone_.good >= kEvidence && alone_.bad <= alone_.good / 8) {
          become(State::given_up, now);
          due_.store(now + given_up_pause_.next(), std::memory_order_relaxed);
          return Action::give_up;
        }
        if (alone_.bad >= kEvidence) {
          not_before_ = now + pause_;
          pause_ = pause_ < kLongestPause / 2 ? 2 * pause_ : kLongestPause;
        } else if (now - since_ < kTrial) {
          return Action::none;
        }
        become(State::watching, now);
        return Action::turn_on;
      case State::given_up:
        if (!due(now)) return Action::none;
        become(State::watching, now);
        return Action::restore;
    }
    return Action::none;
  }

 private:
  enum class State : uint8_t { watching, settling, trying, given_up };
  struct Counts {
    uint64_t good = 0;
    uint64_t bad = 0;
  };
  struct Witness {
    uint64_t who = 0;
    uint64_t bad = 0;  ///< 0: free
  };
  static constexpr uint64_t kEvidence = 32;
  /// So many good ones outweigh the bad ones seen meanwhile.
  static constexpr uint64_t kPlenty = 1024;
  static constexpr Nanoseconds kSettle = 50 * kMillisecond;
  /// Long, because a stream that was spoiled starts again slowly.
  static constexpr Nanoseconds kTrial = 30 * kSecond;
  static constexpr Nanoseconds kLongestPause = 3600 * kSecond;

  void become(State state, Nanoseconds now) {
    state_ = state;
    since_ = now;
    forget();
    if (state != State::watching) due_.store(0, std::memory_order_relaxed);
  }
  void forget() {
    together_ = alone_ = {};
    witnesses_ = {};
    due_.store(UINT64_MAX, std::memory_order_relaxed);
  }
  void testify(uint64_t who) {
    for (Witness& witness : witnesses_) {
      if (witness.bad != 0 && witness.who != who) continue;
      witness = {who, witness.bad + 1};
      return;
    }
  }
  size_t testimonies() const {
    size_t count = 0;
    for (const Witness& witness : witnesses_) count += witness.bad >= kEvidence ? 1 : 0;
    return count;
  }

  std::mutex mutex_;
  std::atomic<Nanoseconds> due_{UINT64_MAX};
  Counts together_;
  Counts alone_;
  /// More than have to agree: the first to say something may send a trickle of garbage.
  std::array<Witness, 16> witnesses_{};
  State state_ = State::watching;
  Nanoseconds since_ = 0;  ///< when the state began
  Nanoseconds not_before_ = 0;
  Nanoseconds pause_ = 60 * kSecond;
  RetryPause given_up_pause_;
};

}  // namespace omerta::udp
