// SPDX-License-Identifier: Apache-2.0
#include "engine/handshake_receiver.h"

namespace omerta::engine {

void HandshakeReceiver::receive(uint8_t* data, size_t size, const session::Endpoint& from, uint8_t ecn,
                                Nanoseconds now) {
  session::SessionTable& sessions = *out_.shared().sessions;
  CounterRow& counters = out_.counters();
  session::Outcome outcome = session::Outcome::accepted;
  if (data[0] == session::kInitiationType) {
    counters.add(Counter::handshake_initiations_received);
    outcome = sessions.handle_initiation(load<session::Initiation>(data), from, now, out_);
    if (outcome == session::Outcome::accepted) counters.add(Counter::handshake_responses_sent);
  } else if (data[0] == session::kResponseType) {
    counters.add(Counter::handshake_responses_received);
    outcome = sessions.handle_response(load<session::Response>(data), from, now, out_);
  } else {
    counters.add(Counter::cookie_replies_received);
    outcome = sessions.handle_cookie_reply(load<session::CookieReply>(data), now);
  }
  // Not ours: somebody's whose clients are relayed?
  if ((outcome == session::Outcome::bad_mac1 || outcome == session::Outcome::unknown_index) &&
      relay_.handshake(data, size, from, ecn, now))
    return;
  switch (outcome) {
    case session::Outcome::accepted:
      return;
    case session::Outcome::crossed:
      return counters.add(Counter::handshakes_crossed);
    case session::Outcome::bad_mac1:
      return counters.add(Counter::drop_bad_mac1);
    case session::Outcome::cookie_sent:
      return counters.add(Counter::cookie_replies_sent);
    case session::Outcome::over_rate:
      return counters.add(Counter::drop_handshake_rate);
    case session::Outcome::unknown_peer:
      return counters.add(Counter::drop_unknown_peer);
    case session::Outcome::unknown_index:
      return counters.add(Counter::drop_unknown_index);
    case session::Outcome::bad_handshake:
      return counters.add(Counter::drop_bad_handshake);
    case session::Outcome::replayed_initiation:
      return counters.add(Counter::drop_replayed_initiation);
  }
}

}  // namespace omerta::engine
