// SPDX-License-Identifier: Apache-2.0
// Tells whether coalescing on receipt (UDP GRO) spoils datagrams: when most of those that arrived
// coalesced are bad, it is turned off for a trial. If what then arrives is good, GRO was to blame; if it
// is as bad as before, somebody sends garbage, and GRO is turned on again.
#pragma once

#include <cstdint>

#include "common/clock.h"

namespace omerta::udp {

class GroWatch {
 public:
  enum class Action : uint8_t { none, turn_off, turn_on, give_up };

  /// What became of a datagram, or of several: good is one that was authentic.
  void count(bool coalesced, bool good, uint64_t datagrams = 1) {
    Counts& counts = coalesced ? together_ : alone_;
    (good ? counts.good : counts.bad) += datagrams;
  }

  /// After each receive; says what to do with GRO now. give_up: leave it off, for good.
  Action tick(Nanoseconds now) {
    switch (state_) {
      case State::watching:
        if (together_.bad < kEvidence && together_.good < kPlenty) return Action::none;
        if (together_.bad < kEvidence || together_.bad <= together_.good || now < not_before_) {
          together_ = {};
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
          return Action::give_up;
        }
        if (alone_.bad < kEvidence && now - since_ < kTrial) return Action::none;
        become(State::watching, now);
        not_before_ = now + pause_;
        pause_ = pause_ < kLongestPause / 2 ? 2 * pause_ : kLongestPause;
        return Action::turn_on;
      case State::given_up:
        return Action::none;
    }
    return Action::none;
  }

 private:
  enum class State : uint8_t { watching, settling, trying, given_up };
  struct Counts {
    uint64_t good = 0;
    uint64_t bad = 0;
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
    together_ = alone_ = {};
  }

  Counts together_;
  Counts alone_;
  State state_ = State::watching;
  Nanoseconds since_ = 0;  ///< when the state began
  Nanoseconds not_before_ = 0;
  Nanoseconds pause_ = 60 * kSecond;
};

}  // namespace omerta::udp
