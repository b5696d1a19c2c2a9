// SPDX-License-Identifier: Apache-2.0
#include "stack/send_side.h"

namespace omerta::stack {
namespace {

constexpr uint32_t kDuplicateThreshold = 3;
/// A receiver may keep an acknowledgment for so long (RFC 8985 7.2, TLP.max_ack_delay).
constexpr Nanoseconds kMostAckDelay = 200 * kMillisecond;
constexpr Nanoseconds kMostPersist = 60 * kSecond;

}  // namespace

void SendSide::begin(const Agreed& agreed, Nanoseconds now) {
  una_ = next_ = end_ = recovery_point_ = agreed.first;
  sack_ = agreed.sack;
  mss_ = agreed.mss;
  cubic_.set_mss(mss_);
  sent_at_ = now;
  set_window(agreed.window);
}

void SendSide::set_mss(uint32_t mss) {
  mss_ = mss;
  cubic_.set_mss(mss);
}

size_t SendSide::space(size_t most, iovec out[2]) {
  if (!has_room()) return 0;
  const size_t used = queued();
  size_t size = std::min(most, limit() - used);
  if (!ring_.reserve(used + size)) size = ring_.capacity() - used;
  return ring_.parts(used, size, out);
}

void SendSide::wrote(size_t size) {
  ring_.written(queued() + size);
  end_ += static_cast<Sequence>(size);
}

void SendSide::set_window(uint32_t window) {
  edge_ = una_ + window;
  largest_window_ = std::max(largest_window_, window);
  if (usable() >= mss_) persist_at_ = kNever;
}

/// Without SACK each duplicate says that something has arrived (RFC 5681 3.2).
uint32_t SendSide::in_flight() const {
  const uint32_t flight = sent_.in_flight();
  return flight - std::min(flight, duplicates_ * mss_);
}

void SendSide::acknowledged(const Acknowledgment& what, Nanoseconds now) {
  const bool progress = before(una_, what.number);
  const Sequence before_una = una_;
  const uint32_t flight = in_flight();
  uint32_t arrived = 0;
  Nanoseconds sampled = 0;
  if (progress) {
    sent_.acknowledge(what.number, [&](const Sent& record) {
      arrived += record.end - record.begin;
      delivered(record, what, sampled, now);
    });
    ring_.drop(earlier(what.number, end_) - earlier(una_, end_));
    una_ = what.number;
    if (before(edge_, una_)) edge_ = una_;
    rtt_.end_backoff();
    timeout_at_ = sent_.empty() ? kNever : now + rtt_.timeout();
    persisted_ = 0;
  }
  if (progress || sent_.empty()) unanswered_since_ = kNever;
  const bool duplicate_told = sack_ && take_sacks(what, arrived, sampled, now);
  if (sampled != 0) rtt_.sample(now - sampled, now);
  if (progress) undo_timeout(what);
  end_probe(what, duplicate_told);

  bool ended = false;
  if (recovery_ != Recovery::none && !before(una_, recovery_point_)) {
    if (recovery_ == Recovery::fast) cubic_.end_recovery();
    recovery_ = Recovery::none;
    ended = true;
  }
  if (reduced_ && !before(una_, reduced_point_)) reduced_ = false;
  if (what.congestion && !reduced_ && recovery_ == Recovery::none && before(before_una, next_)) {
    cubic_.congestion(flight);
    reduced_ = tell_reduced_ = true;
    reduced_point_ = next_;
  }
  if (!sack_) without_sack(progress, what.duplicate);
  if (recovery_ == Recovery::fast)
    reduce_rate(arrived);
  else if (arrived != 0 && limited_ && !what.congestion && !reduced_)
    cubic_.acknowledged(arrived, now, rtt_.smoothed());
  detect(ended, now);
  if (recovery_ == Recovery::fast && recovery_delivered_ == 0) reduce_rate(arrived);
  if (progress || arrived != 0) arm(now);
}

void SendSide::delivered(const Sent& record, const Acknowledgment& what, Nanoseconds& sampled,
                         Nanoseconds now) {
  // Of what was sent twice it is not known which of the two arrived, unless the echo tells (RFC 6298 3).
  const bool doubtful =
      record.retransmitted &&
      (what.echo.has_value() ? before(*what.echo, clock_of(record.at)) : now - record.at < rtt_.least());
  rack_.delivered(record, now, doubtful);
  if (!record.retransmitted || (!doubtful && what.echo.has_value())) sampled = std::max(sampled, record.at);
}

/// @returns whether it tells that something arrived twice (RFC 2883 4).
bool SendSide::take_sacks(const Acknowledgment& what, uint32_t& arrived, Nanoseconds& sampled,
                          Nanoseconds now) {
  bool duplicate = false;
  for (size_t i = 0; i < what.sacks.size(); i++) {
    const SackBlock& block = what.sacks[i];
    if (!before(block.begin, block.end)) continue;
    if (i == 0 && (at_or_before(block.end, una_) ||
                   (what.sacks.size() > 1 && at_or_before(what.sacks[1].begin, block.begin) &&
                    at_or_before(block.end, what.sacks[1].end)))) {
      duplicate = true;
      continue;
    }
    if (before(block.begin, una_) || before(next_, block.end)) continue;
    sent_.sack(block, [&](const Sent& record) {
      arrived += record.end - record.begin;
      delivered(record, what, sampled, now);
    });
  }
  if (duplicate) rack_.duplicate(una_, next_);
  return duplicate;
}

void SendSide::without_sack(bool progress, bool duplicate) {
  if (progress) {
    duplicates_ = 0;
    if (recovery_ == Recovery::fast) sent_.set_front_lost(mss_);  // RFC 6582 3.2, step 3
    return;
  }
  // More than were under way there cannot be: who makes duplicates up gains nothing.
  const uint32_t most = recovery_ == Recovery::fast ? recovery_point_ - una_ : sent_.in_flight();
  if (duplicate && duplicates_ * mss_ < most) {
    duplicates_++;
    if (duplicates_ == kDuplicateThreshold && recovery_ == Recovery::none) sent_.set_front_lost(mss_);
  }
}

/// RFC 8985 7.4.2.
void SendSide::end_probe(const Acknowledgment& what, bool duplicate_told) {
  if (!probing_ || before(what.number, probe_end_)) return;
  const bool repaired = probe_repeats_ && !duplicate_told && before(probe_end_, what.number);
  if (!probe_repeats_ || duplicate_told || repaired || (what.duplicate && what.sacks.empty()))
    probing_ = false;
  if (repaired && recovery_ == Recovery::none) cubic_.congestion(in_flight());
}

void SendSide::detect(bool ended, Nanoseconds now) {
  if (sack_) reorder_at_ = rack_.detect(sent_, rtt_, {recovery_ != Recovery::none, ended, una_, mss_}, now);
  if (sent_.lost() != 0 && recovery_ == Recovery::none) recover();
}

void SendSide::recover() {
  recovery_ = Recovery::fast;
  recovery_point_ = next_;
  recovery_flight_ = std::max(next_ - una_, 1U);
  recovery_delivered_ = recovery_out_ = 0;
  probe_at_ = kNever;
  probe_due_ = probing_ = false;
  before_timeout_.reset();
  const uint32_t window = cubic_.window();
  if (!reduced_) cubic_.congestion(next_ - una_);
  cubic_.set_window(window);  // it comes down step by step
  forced_ = true;
}

/// RFC 6937 3, with the slow start reduction bound.
void SendSide::reduce_rate(uint32_t arrived) {
  recovery_delivered_ += arrived;
  const uint64_t flight = in_flight(), threshold = cubic_.threshold();
  uint64_t count = 0;
  if (flight > threshold) {
    const uint64_t due = (recovery_delivered_ * threshold + recovery_flight_ - 1) / recovery_flight_;
    count = due - std::min(due, recovery_out_);
  } else {
    const uint64_t behind = recovery_delivered_ - std::min(recovery_delivered_, recovery_out_);
    count = std::min(threshold - flight, std::max<uint64_t>(behind, arrived) + mss_);
  }
  cubic_.set_window(static_cast<uint32_t>(flight + count));
}

/// What was acknowledged first after a timeout answers what was sent before it: nothing was lost (RFC
/// 3522 3.2).
void SendSide::undo_timeout(const Acknowledgment& what) {
  if (recovery_ == Recovery::timeout && before_timeout_.has_value() && what.echo.has_value() &&
      retransmitted_ms_ != 0 && before(*what.echo, retransmitted_ms_)) {
    cubic_.restore(*before_timeout_);
    recovery_ = Recovery::none;
    sent_.restore_lost();
  }
  before_timeout_.reset();
}

/// When a tail loss probe goes (RFC 8985 7.2).
void SendSide::arm(Nanoseconds now) {
  probe_at_ = kNever;
  if (!sack_ || sent_.empty() || recovery_ != Recovery::none || probing_ || sent_.sacked() != 0) return;
  Nanoseconds patience = rtt_.known() ? 2 * rtt_.smoothed() : kSecond;
  if (rtt_.known() && next_ - una_ <= mss_) patience += kMostAckDelay;
  probe_at_ = std::min(now + std::max(patience, 2 * kMillisecond), timeout_at_);
}

Nanoseconds SendSide::persist_interval() const {
  return std::min(rtt_.timeout() << std::min(persisted_, 10U), kMostPersist);
}

void SendSide::expired(Nanoseconds now) {
  if (reorder_at_ <= now) detect(false, now);
  if (probe_at_ <= now) {
    probe_at_ = kNever;
    probe_due_ = recovery_ == Recovery::none && !sent_.empty();
    if (probe_due_) timeout_at_ = std::max(timeout_at_, now + 1);
  }
  if (timeout_at_ <= now) timed_out(now);
  if (persist_at_ <= now) {
    persist_due_ = true;
    persisted_++;
    persist_at_ = now + persist_interval();
  }
}

/// RFC 6298 5.4 to 5.7, RFC 8985 6.3.
void SendSide::timed_out(Nanoseconds now) {
  timeout_at_ = kNever;
  if (sent_.empty()) return;
  if (unanswered_since_ == kNever) unanswered_since_ = now;
  rtt_.back_off();
  timeout_at_ = now + rtt_.timeout();
  if (recovery_ != Recovery::timeout) {
    before_timeout_ = recovery_ == Recovery::none ? std::optional(cubic_.remember()) : std::nullopt;
    cubic_.timeout(next_ - una_);
    retransmitted_ms_ = 0;
  } else {
    cubic_.set_window(mss_);
  }
  recovery_ = Recovery::timeout;
  recovery_point_ = next_;
  duplicates_ = 0;
  forced_ = true;
  reorder_at_ = probe_at_ = kNever;
  probe_due_ = probing_ = false;
  // Who has the first of what is not acknowledged would have said so: it was dropped again.
  if (sent_.records().front().state == Sent::State::sacked) sent_.forget_sacked();
  if (sack_)
    rack_.timeout(sent_, rtt_, mss_, now);
  else
    sent_.set_all_lost();
}

}  // namespace omerta::stack
