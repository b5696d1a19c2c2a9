// SPDX-License-Identifier: Apache-2.0
#include "stack/connection.h"

#include <utility>

namespace omerta::stack {
namespace {

/// Challenge acknowledgments of a connection (RFC 5961 7).
constexpr unsigned kChallenges = 10;
constexpr Nanoseconds kChallengePeriod = kSecond;

}  // namespace

Connection::Connection(Surroundings& surroundings, const Flow& flow, Budget& budget)
    : around_(surroundings),
      flow_(flow),
      send_(budget, surroundings.settings().send_buffer),
      receive_(budget, surroundings.settings().receive_window),
      path_mtu_(surroundings.settings().mtu),
      heard_(surroundings.now()) {}

void Connection::connect() {
  state_ = State::syn_sent;
  iss_ = around_.initial_sequence(flow_);
  timestamp_offset_ = around_.timestamp_offset(flow_);
  syn_due_ = true;
  around_.changed(*this);
}

void Connection::asked(const Segment& syn) {
  state_ = State::asked;
  timestamp_offset_ = around_.timestamp_offset(flow_);
  take_options(syn);
  ecn_ = around_.settings().ecn && syn.has(kEce) && syn.has(kCwr);
}

void Connection::accept() {
  if (state_ != State::asked) return;
  state_ = State::syn_received;
  iss_ = around_.initial_sequence(flow_);
  syn_due_ = true;
  around_.changed(*this);
}

void Connection::refuse() {
  if (state_ == State::asked) abort();
}

/// What a SYN, or a SYN-ACK, says of whoever sent it.
void Connection::take_options(const Segment& syn) {
  const uint16_t least = flow_.ipv4() ? kDefaultMss4 : kDefaultMss6;
  // One of no use is not taken for what it says: segments of a few bytes cost more than they carry.
  peer_mss_ = std::max<uint16_t>(syn.mss.value_or(least), 64);
  peer_shift_ = syn.window_shift;
  sack_ = syn.sack_permitted;
  timestamps_ = syn.timestamps.has_value();
  if (timestamps_) {
    recent_ = syn.timestamps->value;
    recent_at_ = around_.now();
  }
  peer_window_ = syn.window;
  uint8_t shift = 0;
  while (peer_shift_.has_value() && around_.settings().receive_window >> shift > UINT16_MAX) shift++;
  receive_.begin(syn.sequence + 1, std::min(shift, kMaxWindowShift), kDefaultMss4);
}

uint32_t Connection::base_mss() const {
  const size_t own = path_mtu_ - flow_.ip_header() - 20;
  return static_cast<uint32_t>(std::min<size_t>(own, peer_mss_)) - (timestamps_ ? 12 : 0);
}

/// Our SYN is acknowledged.
void Connection::establish(const Segment& first) {
  const Nanoseconds now = around_.now();
  // The window of a SYN is never scaled (RFC 7323 2.2).
  const uint8_t shift = first.has(kSyn) ? 0 : peer_shift_.value_or(0);
  send_.begin(
      {.first = iss_ + 1, .mss = base_mss(), .window = uint32_t{first.window} << shift, .sack = sack_}, now);
  if (syn_tries_ == 1)
    send_.handshake_rtt(now - syn_sent_at_, now);
  else
    send_.handshake_retransmitted();
  window_sequence_ = first.sequence;
  window_acknowledgment_ = first.acknowledgment;
  window_edge_ = iss_ + 1 + (uint32_t{first.window} << shift);
  syn_at_ = kNever;
  syn_due_ = false;
  state_ = State::established;
  around_.no_longer_half_open(*this);
  around_.handler().opened(*this);
  if (finish_wanted_) finish();
}

size_t Connection::space(size_t most, iovec out[2]) {
  if (state_ != State::established && state_ != State::close_wait) return 0;
  const size_t count = send_.space(most, out);
  if (count == 0 && send_.has_room()) around_.short_of_memory(*this);
  return count;
}

void Connection::wrote(size_t size) {
  if (size == 0 || gone()) return;
  send_.wrote(size);
  around_.changed(*this);
}

void Connection::finish() {
  switch (state_) {
    case State::asked:
    case State::syn_sent:
    case State::syn_received:
      finish_wanted_ = true;
      return;
    case State::established:
      state_ = State::fin_wait_1;
      break;
    case State::close_wait:
      state_ = State::last_ack;
      break;
    default:
      return;
  }
  send_.finish();
  around_.changed(*this);
}

void Connection::resume() {
  if (gone()) return;
  receive_.drain(*this);
  note_progress();
  around_.changed(*this);
}

size_t Connection::take(const Scattered& bytes) {
  if (gone() || told_closed_) return bytes.size();
  return bytes.empty() ? 0 : around_.handler().data(*this, bytes);
}

/// Tells the user of what the peer's half has come to, and both have.
void Connection::note_progress() {
  if (!receive_.ended() || receive_.waiting() != 0 || gone()) return;
  if (!told_end_) {
    told_end_ = true;
    around_.handler().ended(*this);
  }
  if (gone() || state_ != State::time_wait) return;
  if (!told_closed_) {
    told_closed_ = true;
    around_.handler().closed(*this, Ended::finished);
  }
  if (linger_at_ <= around_.now()) end_silently();
}

void Connection::abort() {
  if (gone()) return;
  reset_peer();
  end_silently();
}

void Connection::end(Ended why) {
  if (gone()) return;
  const bool told = std::exchange(told_closed_, true);
  state_ = State::closed;
  if (!told) around_.handler().closed(*this, why);
  around_.changed(*this);
}

void Connection::end_silently() {
  told_closed_ = true;
  state_ = State::closed;
  around_.changed(*this);
}

/// RFC 9293 3.10.5, 3.10.7.4.
void Connection::reset_peer() {
  if (state_ == State::syn_sent || state_ == State::time_wait) return;
  Segment reset;
  reset.flow = flow_;
  reset.flags = kRst | kAck;
  // Of a SYN that was not answered the peer knows only its own number.
  reset.sequence = state_ == State::asked          ? 0
                   : state_ == State::syn_received ? iss_ + 1
                                                   : send_.next_sequence();
  reset.acknowledgment = receive_.next();
  around_.send_alone(reset);
}

/// RFC 5961: who made the segment up learns nothing, and the peer, if it was the peer, says how it is.
void Connection::challenge() {
  const Nanoseconds now = around_.now();
  if (now - challenged_ >= kChallengePeriod) {
    challenged_ = now;
    challenges_ = 0;
  }
  if (challenges_ >= kChallenges) return;
  challenges_++;
  receive_.acknowledge_now();
}

uint32_t Connection::timestamp() const {
  return static_cast<uint32_t>(around_.now() / kMillisecond) + timestamp_offset_;
}

bool Connection::gives_way_to(const Segment& syn) const {
  if (state_ != State::time_wait || !told_closed_) return false;
  if (timestamps_ && syn.timestamps.has_value() && syn.timestamps->value != recent_)
    return before(recent_, syn.timestamps->value);
  return before(receive_.next(), syn.sequence);
}

void Connection::path_mtu(Sequence sequence, size_t mtu) {
  // Only of what is under way (RFC 5927 7), never more than now, and not less than what all have to carry.
  if (half_open() || gone() || before(sequence, send_.una()) || !before(sequence, send_.next_sequence()))
    return;
  const size_t least = flow_.ipv4() ? 576 : 1280;
  if (mtu >= path_mtu_ || path_mtu_ <= least) return;
  path_mtu_ = std::max(mtu, least);
  send_.set_mss(base_mss());
}

Nanoseconds Connection::deadline() const {
  const Settings& settings = around_.settings();
  if (gone()) return kNever;
  if (state_ == State::asked) return kNever;
  if (state_ == State::syn_sent || state_ == State::syn_received) return syn_at_;
  if (state_ == State::time_wait)
    return told_closed_ ? std::min(linger_at_, receive_.deadline()) : receive_.deadline();
  Nanoseconds at = std::min(send_.deadline(), receive_.deadline());
  if (send_.unanswered_since() != kNever)
    at = std::min(at, send_.unanswered_since() + settings.give_up_after);
  return std::min(at, heard_ + settings.keepalive_after + keepalives_ * settings.keepalive_every);
}

void Connection::expired() {
  const Settings& settings = around_.settings();
  const Nanoseconds now = around_.now();
  if (state_ == State::syn_sent || state_ == State::syn_received) {
    if (syn_at_ > now) return;
    if (syn_tries_ >= settings.handshake_tries) return end(Ended::timed_out);
    syn_due_ = true;
    return around_.changed(*this);
  }
  if (state_ == State::time_wait) {
    receive_.expired(now);
    if (told_closed_ && linger_at_ <= now) return end_silently();
    return around_.changed(*this);
  }
  if (gone() || state_ == State::asked) return;
  if (send_.unanswered_since() != kNever && send_.unanswered_since() + settings.give_up_after <= now) {
    reset_peer();
    return end(Ended::timed_out);
  }
  if (heard_ + settings.keepalive_after + keepalives_ * settings.keepalive_every <= now) {
    if (keepalives_ >= settings.keepalive_tries) {
      reset_peer();
      return end(Ended::timed_out);
    }
    keepalives_++;
    keepalive_due_ = send_.sent().empty();  // else it is sent again anyway
  }
  send_.expired(now);
  receive_.expired(now);
  around_.changed(*this);
}

}  // namespace omerta::stack
