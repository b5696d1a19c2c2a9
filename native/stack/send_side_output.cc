// SPDX-License-Identifier: Apache-2.0
// What the sending half sends next.
#include <utility>

#include "stack/send_side.h"

namespace omerta::stack {

std::optional<SendSide::Piece> SendSide::next(uint32_t mss, size_t most, Nanoseconds now) {
  if (sent_.lost() != 0) {
    const auto again = retransmit(mss, most, now);
    // New data waits for its turn, but in the place of what the window has no room for.
    if (again.has_value() || !probe_due_) return again;
  }
  forced_ = false;
  if (probe_due_) {
    probe_due_ = false;
    if (const auto probe = probe_tail(mss, now); probe.has_value()) return probe;
  }
  if (const auto fresh = send_new(mss, most, now); fresh.has_value()) return fresh;
  return probe_window(now);
}

SendSide::Piece SendSide::piece(Sequence begin, uint32_t length, bool retransmission) const {
  const bool fin = before(end_, begin + length);
  return {.begin = begin,
          .size = length - (fin ? 1 : 0),
          .fin = fin,
          .retransmission = retransmission,
          .push = !before(begin + length, end_)};
}

std::optional<SendSide::Piece> SendSide::retransmit(uint32_t mss, size_t most, Nanoseconds now) {
  const size_t index = sent_.first_lost();
  const Sent record = sent_.records()[index];
  const uint32_t length = record.end - record.begin;
  const uint32_t flight = in_flight(), window = cubic_.window();
  const uint32_t room = window > flight ? window - flight : 0;
  const uint32_t least = std::min(length, mss);
  limited_ = true;
  if (room < least && !forced_) return std::nullopt;
  const size_t whole = std::max<size_t>(std::min<size_t>(room, most) / mss * mss, mss);
  const auto size = static_cast<uint32_t>(std::min<size_t>(length, forced_ ? mss : whole));
  forced_ = false;
  sent_.retransmitted(index, size, now);
  recovery_out_ += size;
  if (recovery_ == Recovery::timeout && retransmitted_ms_ == 0) retransmitted_ms_ = clock_of(now);
  sent_at_ = now;
  timeout_at_ = std::min(timeout_at_, now + rtt_.timeout());
  return piece(record.begin, size, true);
}

/// RFC 8985 7.3.
std::optional<SendSide::Piece> SendSide::probe_tail(uint32_t mss, Nanoseconds now) {
  const uint32_t fits = std::min(std::min(last() - next_, usable()), mss);
  std::optional<Piece> probe;
  if (fits != 0) {
    probe = fresh(fits, now);
    probe_repeats_ = false;
  } else if (!sent_.empty() && sent_.records().back().state == Sent::State::flight) {
    const uint32_t size = sent_.tail_retransmitted(mss, now);
    probe = piece(next_ - size, size, true);
    probe_repeats_ = true;
  }
  if (!probe.has_value()) return std::nullopt;
  probing_ = true;
  probe_end_ = next_;
  probe_at_ = kNever;
  sent_at_ = now;
  timeout_at_ = now + rtt_.timeout();
  return probe;
}

std::optional<SendSide::Piece> SendSide::send_new(uint32_t mss, size_t most, Nanoseconds now) {
  const uint32_t waiting = last() - next_;
  limited_ = false;
  if (waiting == 0) return std::nullopt;
  if (sent_.empty() && now - sent_at_ > rtt_.timeout()) cubic_.restart();
  const uint32_t flight = in_flight(), window = cubic_.window();
  const uint32_t room = window > flight ? window - flight : 0;
  const uint32_t allowed = std::min(waiting, usable());
  limited_ = room < allowed;
  auto size = static_cast<uint32_t>(std::min<size_t>(std::min(allowed, room), most));
  if (size < waiting) {
    if (size >= mss) {
      size -= size % mss;
    } else {
      // A segment that is not full is sent when the window will not become larger (RFC 9293 3.8.6.2.1), or
      // does not for long.
      const bool half = size != 0 && size == usable() && size >= largest_window_ / 2;
      const bool overdue = persist_due_ && size != 0;
      if (!half && !overdue) return std::nullopt;
      persist_due_ = false;
    }
  }
  return fresh(size, now);
}

SendSide::Piece SendSide::fresh(uint32_t length, Nanoseconds now) {
  Piece out = piece(next_, length, false);
  out.reduced = std::exchange(tell_reduced_, false);
  sent_.sent(next_, next_ + length, now);
  next_ += length;
  sent_at_ = now;
  persist_at_ = kNever;
  if (timeout_at_ == kNever) timeout_at_ = now + rtt_.timeout();
  if (recovery_ == Recovery::fast) recovery_out_ += length;
  arm(now);
  return out;
}

/// RFC 9293 3.8.6.1. What is sent is nothing of the stream, but a sequence number before the window, which
/// has to be answered: so it never matters whether the receiver took it.
std::optional<SendSide::Piece> SendSide::probe_window(Nanoseconds now) {
  if (last() == next_ || !sent_.empty() || usable() >= std::min(last() - next_, mss_)) return std::nullopt;
  if (persist_at_ == kNever) {
    persist_at_ = now + persist_interval();
    return std::nullopt;
  }
  if (!persist_due_) return std::nullopt;
  persist_due_ = false;
  if (unanswered_since_ == kNever) unanswered_since_ = now;
  return Piece{.begin = una_ - 1, .window_probe = true};
}

}  // namespace omerta::stack
