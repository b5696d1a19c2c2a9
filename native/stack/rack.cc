// SPDX-License-Identifier: Apache-2.0
#include "stack/rack.h"

namespace omerta::stack {
namespace {

/// RACK_sent_after: of what was sent at once, what is further on in the stream was later.
bool sent_after(Nanoseconds a, Sequence a_end, Nanoseconds b, Sequence b_end) {
  return a > b || (a == b && before(b_end, a_end));
}

}  // namespace

void Rack::delivered(const Sent& record, Nanoseconds now, bool doubtful) {
  if (any_ && before(record.end, highest_)) {
    if (!record.retransmitted) reordering_ = true;
  } else {
    highest_ = record.end;
  }
  if (doubtful) return;
  rtt_ = now - record.at;
  if (!any_ || sent_after(record.at, record.end, at_, end_)) {
    at_ = record.at;
    end_ = record.end;
  }
  any_ = true;
}

void Rack::duplicate(Sequence una, Sequence next) {
  if (in_round_ && before(una, round_)) return;
  in_round_ = true;
  round_ = next;
  if (multiplier_ < UINT8_MAX) multiplier_++;
  persist_ = kPersist;
}

Nanoseconds Rack::window(const Scoreboard& sent, const RoundTripTime& rtt, const Condition& condition) {
  if (condition.ended && persist_ > 0 && --persist_ == 0) multiplier_ = 1;
  if (!reordering_ && (condition.recovering || sent.sacked() >= kDuplicates * condition.mss)) return 0;
  return std::min(multiplier_ * rtt.least() / 4, rtt.smoothed());
}

Nanoseconds Rack::detect(Scoreboard& sent, const RoundTripTime& rtt, const Condition& condition,
                         Nanoseconds now) {
  if (in_round_ && !before(condition.una, round_)) in_round_ = false;
  if (!any_ || !rtt.known()) return kNever;
  const Nanoseconds patience = rtt_ + window(sent, rtt, condition);
  Nanoseconds again = kNever;
  if (sent.in_flight() == 0) return again;
  const std::deque<Sent>& records = sent.records();
  for (size_t i = 0; i < records.size(); i++) {
    const Sent& record = records[i];
    if (record.state != Sent::State::flight || !sent_after(at_, end_, record.at, record.end)) continue;
    if (record.at + patience <= now)
      sent.set_lost(i);
    else
      again = std::min(again, record.at + patience);
  }
  return again;
}

void Rack::timeout(Scoreboard& sent, const RoundTripTime& rtt, uint32_t mss, Nanoseconds now) {
  const Nanoseconds patience = rtt.known() ? rtt_ + rtt.smoothed() / 4 : 0;
  const std::deque<Sent>& records = sent.records();
  for (size_t i = 0; i < records.size(); i++)
    if (records[i].state == Sent::State::flight && records[i].at + patience <= now) sent.set_lost(i);
  sent.set_front_lost(mss);
}

}  // namespace omerta::stack
