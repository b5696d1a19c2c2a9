// SPDX-License-Identifier: Apache-2.0
#include "stack/scoreboard.h"

#include <algorithm>

namespace omerta::stack {

size_t Scoreboard::first_after(Sequence sequence) const {
  const auto found = std::partition_point(records_.begin(), records_.end(), [&](const Sent& record) {
    return at_or_before(record.end, sequence);
  });
  return static_cast<size_t>(found - records_.begin());
}

void Scoreboard::split(size_t index, Sequence at) {
  Sent rest = records_[index];
  rest.begin = at;
  records_[index].end = at;
  records_.insert(records_.begin() + static_cast<std::ptrdiff_t>(index) + 1, rest);
}

/// Sacked records side by side become one: with long windows most of them are.
void Scoreboard::join_sacked(const SackBlock& block) {
  size_t from = first_after(block.begin);
  if (from > 0) from--;
  size_t to = from;
  while (to < records_.size() && at_or_before(records_[to].begin, block.end)) to++;
  if (to - from < 2) return;
  size_t last = from;
  for (size_t i = from + 1; i < to; i++) {
    const bool joined =
        records_[last].state == Sent::State::sacked && records_[i].state == Sent::State::sacked;
    if (joined)
      records_[last].end = records_[i].end;
    else
      records_[++last] = records_[i];
  }
  const auto at = [this](size_t i) { return records_.begin() + static_cast<std::ptrdiff_t>(i); };
  if (last + 1 < to) records_.erase(at(last + 1), at(to));
}

void Scoreboard::retransmitted(size_t index, uint32_t size, Nanoseconds now) {
  if (size < records_[index].end - records_[index].begin) split(index, records_[index].begin + size);
  Sent& record = records_[index];
  record.at = now;
  record.retransmitted = true;
  set(record, Sent::State::flight);
}

uint32_t Scoreboard::tail_retransmitted(uint32_t size, Nanoseconds now) {
  const Sent& last = records_.back();
  size = std::min(size, last.end - last.begin);
  if (size < last.end - last.begin) split(records_.size() - 1, last.end - size);
  retransmitted(records_.size() - 1, size, now);
  return size;
}

void Scoreboard::set_front_lost(uint32_t size) {
  if (records_.empty() || records_.front().state != Sent::State::flight) return;
  if (size < records_.front().end - records_.front().begin) split(0, records_.front().begin + size);
  set_lost(0);
}

void Scoreboard::set_all_lost() {
  for (Sent& record : records_)
    if (record.state == Sent::State::flight) set(record, Sent::State::lost);
}

void Scoreboard::restore_lost() {
  for (Sent& record : records_)
    if (record.state == Sent::State::lost) set(record, Sent::State::flight);
}

void Scoreboard::forget_sacked() {
  for (Sent& record : records_)
    if (record.state == Sent::State::sacked) set(record, Sent::State::lost);
}

size_t Scoreboard::first_lost() const {
  if (lost_ == 0) return records_.size();
  size_t i = 0;
  while (records_[i].state != Sent::State::lost) i++;
  return i;
}

}  // namespace omerta::stack
