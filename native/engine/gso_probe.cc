// SPDX-License-Identifier: Apache-2.0
#include "engine/gso_probe.h"

namespace omerta::engine {

size_t GsoProbe::peers_without(Nanoseconds now) const {
  size_t count = 0;
  for (const auto& one : lost_to_) count += now < one.until ? 1 : 0;
  return count;
}

GsoProbe::Finding GsoProbe::proven(session::SessionTable& sessions, Nanoseconds now) {
  become(State::idle, now);
  not_before_.store(now, std::memory_order_relaxed);
  const auto lost = sessions.give_up_bursts(peer_, now);
  if (!lost.has_value()) return Finding::none;
  decltype(&lost_to_[0]) place = nullptr;
  for (auto& one : lost_to_)
    if (one.witness == lost->witness || (place == nullptr && now >= one.until)) place = &one;
  if (place != nullptr) *place = *lost;
  if (peers_without(now) < kWitnesses) return Finding::lost_to_peer;
  become(State::resting, now);
  resting_until_ = now + given_up_pause_.next();
  return Finding::lost_to_all;
}

GsoProbe::Finding GsoProbe::tick(session::SessionTable& sessions, Nanoseconds now,
                                 session::SessionOutput& out) {
  const std::lock_guard lock(mutex_);
  if (state_ == State::idle) return Finding::none;
  if (state_ == State::resting) {
    if (now < resting_until_) return Finding::none;
    lost_to_ = {};
    become(State::idle, now);
    not_before_.store(now, std::memory_order_relaxed);
    return Finding::restore;
  }
  const std::optional<Nanoseconds> handshake = sessions.last_handshake(peer_);
  if (!handshake.has_value()) {  // the peer was removed
    rest(now);
    return Finding::none;
  }
  const bool answered = *handshake > since_;
  const bool late = now - since_ >= (state_ == State::waiting ? kBurstTime : kAnswerTime);
  if (state_ == State::riding && !answered && late) {
    become(State::alone, now);
    sessions.start_handshake(peer_, now, out);
  } else if (state_ == State::alone && answered) {
    if (++lost_ == kProof) return proven(sessions, now);
    become(State::waiting, now);
  } else if (late || (state_ == State::riding && answered)) {
    rest(now);
  }
  return Finding::none;
}

}  // namespace omerta::engine
