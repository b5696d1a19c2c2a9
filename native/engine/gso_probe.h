// SPDX-License-Identifier: Apache-2.0
// Finds out whether segmented messages (UDP GSO) get through where bursts go unanswered. The only thing
// any WireGuard peer acknowledges is a handshake, so an initiation rides as one more datagram of a burst
// to that peer:
//
//   idle ── suspicious peer ──► waiting ── next burst ──► riding ── answered ──► idle, for longer each time
//                                  ▲                        │ 1 s without an answer: one sent alone
//                                  │                        ▼
//                                  └── answered: lost ── alone ── unanswered: the path ──► idle
//
// Twice lost that way is proof: the same message on the same path, alone, is answered. It is proof for
// this peer, which gets datagrams alone for a pause; when three say so at one time, it holds for everybody.
#pragma once

#include <array>
#include <atomic>
#include <mutex>

#include "session/session_table.h"

namespace omerta::engine {

class GsoProbe {
 public:
  /// Bursts to `peer` go unanswered: whether an initiation is to ride with one now. Any worker.
  bool take(const Key32& peer, Nanoseconds now) {
    if (now < not_before_.load(std::memory_order_relaxed)) return false;
    const std::lock_guard lock(mutex_);
    if (state_ == State::idle) {
      peer_ = peer;
      lost_ = 0;
      since_ = now;
      state_ = State::waiting;
    }
    return state_ == State::waiting && peer == peer_;
  }
  /// After take: the initiation was put into a burst.
  void rode(Nanoseconds now) {
    const std::lock_guard lock(mutex_);
    become(State::riding, now);
  }
  /// lost_to_peer, lost_to_all: segmented messages are lost on the way to one, to three peers. restore: the
  /// pause for all is over.
  enum class Finding : uint8_t { none, lost_to_peer, lost_to_all, restore };
  static constexpr size_t kWitnesses = 3;
  /// Every 100 ms or so by one worker. Sends the initiation that goes alone, as a message of its own when
  /// `out` has nothing else to send.
  Finding tick(session::SessionTable& sessions, Nanoseconds now, session::SessionOutput& out);
  /// Peers that get datagrams alone, up to the three that are enough. The thread of tick.
  size_t peers_without(Nanoseconds now) const;

 private:
  enum class State : uint8_t { idle, waiting, riding, alone, resting };
  static constexpr Nanoseconds kAnswerTime = kSecond;
  static constexpr Nanoseconds kBurstTime = 10 * kSecond;
  static constexpr int kProof = 2;
  static constexpr Nanoseconds kFirstPause = 60 * kSecond;
  static constexpr Nanoseconds kLongestPause = 3600 * kSecond;

  Finding proven(session::SessionTable& sessions, Nanoseconds now);
  void become(State state, Nanoseconds now) {
    state_ = state;
    since_ = now;
    not_before_.store(state == State::waiting ? 0 : UINT64_MAX, std::memory_order_relaxed);
  }
  /// Nothing was proven: a next look costs a handshake too.
  void rest(Nanoseconds now) {
    become(State::idle, now);
    not_before_.store(now + pause_, std::memory_order_relaxed);
    pause_ = std::min(2 * pause_, kLongestPause);
  }

  std::mutex mutex_;
  std::atomic<Nanoseconds> not_before_{0};
  State state_ = State::idle;
  Key32 peer_{};
  Nanoseconds since_ = 0;  ///< when the state began
  int lost_ = 0;
  Nanoseconds pause_ = kFirstPause;
  /// Those it was proven for; the place of one whose time is over is free.
  std::array<session::SessionTable::LostBursts, kWitnesses> lost_to_{};
  Nanoseconds resting_until_ = 0;  ///< as long as it is given up for everybody
  RetryPause given_up_pause_;
};

}  // namespace omerta::engine
