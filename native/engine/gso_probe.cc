// SPDX-License-Identifier: Apache-2.0
#include "engine/gso_probe.h"

namespace omerta::engine {

bool GsoProbe::tick(session::SessionTable& sessions, Nanoseconds now, session::SessionOutput& out) {
  const std::lock_guard lock(mutex_);
  if (state_ == State::idle || state_ == State::proven) return false;
  const std::optional<Nanoseconds> handshake = sessions.last_handshake(peer_);
  if (!handshake.has_value()) {  // the peer was removed
    rest(now);
    return false;
  }
  const bool answered = *handshake > since_;
  const bool late = now - since_ >= (state_ == State::waiting ? kBurstTime : kAnswerTime);
  if (state_ == State::riding && !answered && late) {
    become(State::alone, now);
    sessions.start_handshake(peer_, now, out);
  } else if (state_ == State::alone && answered) {
    become(++lost_ == kProof ? State::proven : State::waiting, now);
  } else if (late || (state_ == State::riding && answered)) {
    rest(now);
  }
  return state_ == State::proven;
}

}  // namespace omerta::engine
