// SPDX-License-Identifier: Apache-2.0
// What a segment changes (RFC 9293 3.10.7).
#include "common/ecn.h"
#include "stack/connection.h"

namespace omerta::stack {
namespace {

/// A timestamp this old says nothing about which is later (RFC 7323 5.5).
constexpr Nanoseconds kTimestampLife = Nanoseconds{24} * 24 * 3600 * kSecond;
constexpr uint32_t kMostAhead = 1U << 30;

}  // namespace

void Connection::segment(const Segment& segment) {
  if (gone()) return;
  if (state_ == State::syn_sent) return in_syn_sent(segment);
  if (state_ == State::asked) {
    // The SYN again is answered when the user has answered. Only a reset that fits the SYN counts.
    if (segment.has(kRst) && segment.sequence == receive_.next()) end(Ended::reset);
    return;
  }
  if (!passes_paws(segment) || !acceptable(segment)) return not_acceptable(segment);
  if (segment.has(kRst)) {
    // Both have had everything, and who has closed for good answers so what comes late (RFC 1337 3): what the
    // user has not taken yet stays.
    if (state_ == State::time_wait) return;
    // RFC 5961 3.2: only at the very number that is expected.
    if (segment.sequence == receive_.next())
      end(Ended::reset);
    else
      challenge();
    return around_.changed(*this);
  }
  if (segment.has(kSyn)) {  // RFC 5961 4.2
    challenge();
    return around_.changed(*this);
  }
  if (!segment.has(kAck)) return;
  // What was made before the connection does not count; neither does what was made up (RFC 5961 5.2).
  if (state_ == State::syn_received) {
    if (segment.acknowledgment != iss_ + 1) {
      Segment reset;
      reset.flow = flow_;
      reset.flags = kRst;
      reset.sequence = segment.acknowledgment;
      return around_.send_alone(reset);
    }
    establish(segment);
    if (gone()) return;
  }
  heard_ = around_.now();
  keepalives_ = 0;
  // RFC 7323 4.3: of segments that go on from what was acknowledged last.
  if (timestamps_ && segment.timestamps.has_value() &&
      at_or_before(segment.sequence, receive_.last_acknowledged())) {
    recent_ = segment.timestamps->value;
    recent_at_ = around_.now();
  }
  if (!acknowledgment(segment)) {
    challenge();
    return around_.changed(*this);
  }
  if (gone()) return;
  if (!receive_.ended()) text(segment);
  if (gone()) return;
  note_progress();
  around_.changed(*this);
}

/// RFC 9293 3.10.7.3.
void Connection::in_syn_sent(const Segment& segment) {
  const bool fits = segment.has(kAck) && segment.acknowledgment == iss_ + 1;
  if (segment.has(kAck) && !fits) {
    if (segment.has(kRst)) return;
    Segment reset;
    reset.flow = flow_;
    reset.flags = kRst;
    reset.sequence = segment.acknowledgment;
    return around_.send_alone(reset);
  }
  if (segment.has(kRst)) {
    if (fits) end(Ended::refused);
    return;
  }
  if (!segment.has(kSyn)) return;
  take_options(segment);
  heard_ = around_.now();
  if (fits) {
    ecn_ = around_.settings().ecn && syn_tries_ == 1 && segment.has(kEce) && !segment.has(kCwr);
    receive_.acknowledge_now();
    establish(segment);
  } else {  // both sides began (RFC 9293 3.5, figure 7)
    state_ = State::syn_received;
    ecn_ = false;
    syn_due_ = true;
  }
  // A text that came with it is sent again.
  around_.changed(*this);
}

/// The four cases of RFC 9293 3.10.7.4.
bool Connection::acceptable(const Segment& segment) const {
  const Sequence next = receive_.next();
  const uint32_t window = receive_.window(), length = segment.length();
  const auto within = [&](Sequence number) { return number - next < window; };
  if (length == 0)
    return window == 0 ? segment.sequence == next : within(segment.sequence) || segment.sequence == next;
  if (window == 0) return false;
  return within(segment.sequence) || within(segment.end() - 1);
}

/// RFC 7323 5.3. A segment without a timestamp, where they were agreed on, is made up or broken (3.2).
bool Connection::passes_paws(const Segment& segment) const {
  if (!timestamps_ || segment.has(kRst)) return true;
  if (!segment.timestamps.has_value()) return false;
  return !before(segment.timestamps->value, recent_) || around_.now() - recent_at_ > kTimestampLife;
}

void Connection::not_acceptable(const Segment& segment) {
  if (segment.has(kRst)) return;
  if (timestamps_ && !segment.timestamps.has_value()) return;
  if (state_ == State::syn_received && segment.has(kSyn) && segment.sequence + 1 == receive_.next()) {
    if (segment.has(kAck) && segment.acknowledgment == iss_ + 1) {  // both sides began, and know it now
      receive_.acknowledge_now();
      establish(segment);
    } else {
      syn_due_ = true;  // the SYN again: our answer was lost
    }
    return around_.changed(*this);
  }
  // At a closed window there still is an acknowledgment in it (RFC 9293 3.10.7.4).
  if (receive_.window() == 0 && segment.sequence == receive_.next() && segment.has(kAck) &&
      !segment.has(kSyn) && passes_paws(segment) && state_ != State::syn_received) {
    heard_ = around_.now();
    acknowledgment(segment);
    if (gone()) return;
  }
  // The FIN again in TIME-WAIT: our acknowledgment was lost.
  if (state_ == State::time_wait && segment.has(kFin))
    linger_at_ = around_.now() + around_.settings().time_wait;
  // An answer to what takes no sequence numbers is limited: two sides that disagree would answer each other
  // for ever.
  if (segment.length() == 0)
    challenge();
  else
    receive_.repeated(segment.sequence, segment.end() - (segment.has(kFin) ? 1 : 0));
  around_.changed(*this);
}

/// RFC 9293 3.10.7.4, fifth. false: it is of what was never sent, or too old to be the peer's.
bool Connection::acknowledgment(const Segment& segment) {
  const Sequence number = segment.acknowledgment;
  if (before(send_.next_sequence(), number) || before(number, send_.una() - send_.largest_window()))
    return false;
  std::optional<uint32_t> echo;
  if (timestamps_ && segment.timestamps.has_value()) {
    // Who echoes what we have not said yet makes acknowledgments up before anything can have arrived. After
    // weeks of silence an echo is so old that it looks like one to come.
    const uint32_t ahead = segment.timestamps->echo - timestamp();
    if (ahead != 0 && ahead < kMostAhead) return false;
    echo = segment.timestamps->echo - timestamp_offset_;
  }
  if (before(number, send_.una())) return true;  // an old one, which tells nothing
  const size_t queued = send_.queued();
  const uint32_t window = uint32_t{segment.window} << peer_shift_.value_or(0);
  const bool same_window = send_.una() + window == window_edge_;
  const bool duplicate =
      number == send_.una() && segment.length() == 0 && same_window && !send_.sent().empty();
  send_.acknowledged(
      {.number = number,
       .sacks = sack_ ? std::span(segment.sacks, segment.sack_count) : std::span<const SackBlock>{},
       .duplicate = duplicate,
       .congestion = ecn_ && segment.has(kEce),
       .echo = echo},
      around_.now());
  update_window(segment);
  after_fin();
  if (gone()) return true;
  if (queued != send_.queued() && !send_.finished()) around_.handler().writable(*this);
  return true;
}

void Connection::update_window(const Segment& segment) {
  const bool newer =
      before(window_sequence_, segment.sequence) ||
      (window_sequence_ == segment.sequence && at_or_before(window_acknowledgment_, segment.acknowledgment));
  if (!newer) return;
  const uint32_t window = uint32_t{segment.window} << peer_shift_.value_or(0);
  send_.set_window(window);
  window_edge_ = send_.una() + window;
  window_sequence_ = segment.sequence;
  window_acknowledgment_ = segment.acknowledgment;
}

/// What it means that our FIN is acknowledged.
void Connection::after_fin() {
  if (!send_.end_acknowledged()) return;
  const Nanoseconds now = around_.now();
  switch (state_) {
    case State::fin_wait_1:
      state_ = State::fin_wait_2;
      break;
    case State::closing:
      state_ = State::time_wait;
      linger_at_ = now + around_.settings().time_wait;
      break;
    case State::last_ack:
      state_ = State::time_wait;  // as soon as the user has taken everything, it is closed
      linger_at_ = now;
      break;
    default:
      break;
  }
}

void Connection::text(const Segment& segment) {
  congestion_marks(segment);
  Sequence begin = segment.sequence;
  Scattered bytes = segment.payload;
  bool fin = segment.has(kFin);
  const Sequence edge = receive_.edge();
  if (before(edge, begin + static_cast<Sequence>(bytes.size()))) {
    bytes.keep(edge - begin);
    fin = false;
  }
  if (fin && before(edge, segment.end())) fin = false;
  bool whole = true;
  if (!bytes.empty()) whole = receive_.text(begin, bytes, segment.segment_size, *this, around_.now());
  if (gone()) return;
  if (fin && whole) receive_.fin(begin + static_cast<Sequence>(bytes.size()));
  if (!receive_.ended()) return;
  switch (state_) {
    case State::established:
      state_ = State::close_wait;
      break;
    case State::fin_wait_1:
      state_ = State::closing;
      break;
    case State::fin_wait_2:
      state_ = State::time_wait;
      linger_at_ = around_.now() + around_.settings().time_wait;
      break;
    default:
      break;
  }
}

/// RFC 3168 6.1.3: of what takes sequence numbers.
void Connection::congestion_marks(const Segment& segment) {
  if (!ecn_ || segment.payload.empty()) return;
  if (segment.has(kCwr)) tell_congestion_ = false;
  if (segment.ecn == kCongestionExperienced) tell_congestion_ = true;
}

}  // namespace omerta::stack
