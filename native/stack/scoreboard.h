// SPDX-License-Identifier: Apache-2.0
// What was sent and is not acknowledged yet, in the order of its sequence numbers: when it was sent last, and
// whether the receiver has it (RFC 2018), or it is taken for lost (RFC 8985). One record for what was sent at
// once, a super-packet; records are split where acknowledgments end within one.
#pragma once

#include <cstddef>
#include <deque>

#include "common/clock.h"
#include "stack/segment.h"

namespace omerta::stack {

struct Sent {
  enum class State : uint8_t { flight, sacked, lost };
  Sequence begin;
  Sequence end;
  Nanoseconds at;
  State state = State::flight;
  bool retransmitted = false;
};

class Scoreboard {
 public:
  /// Beyond it blocks that would split records further are passed over: a receiver that acknowledges every
  /// other byte takes no more memory than this.
  static constexpr size_t kMaxRecords = 8192;

  bool empty() const { return records_.empty(); }
  const std::deque<Sent>& records() const { return records_; }
  /// Bytes that are under way, of the others how many are with the receiver, and how many are lost.
  uint32_t in_flight() const { return in_flight_; }
  uint32_t sacked() const { return sacked_; }
  uint32_t lost() const { return lost_; }

  /// New data, which begins where the last ended.
  void sent(Sequence begin, Sequence end, Nanoseconds now) {
    records_.push_back({begin, end, now});
    in_flight_ += end - begin;
  }
  /// Everything before `una` is acknowledged. delivered(record) for each part that was not sacked before.
  template <class Delivered>
  void acknowledge(Sequence una, Delivered delivered) {
    while (!records_.empty() && before(records_.front().begin, una)) {
      if (before(una, records_.front().end)) split(0, una);  // the first of the two goes at once
      const Sent& record = records_.front();
      if (record.state != Sent::State::sacked) delivered(record);
      count(record.state) -= record.end - record.begin;
      records_.pop_front();
    }
  }
  /// The receiver has a block. delivered(record) for each part it was not known to have.
  template <class Delivered>
  void sack(const SackBlock& block, Delivered delivered) {
    for (size_t i = first_after(block.begin); i < records_.size() && before(records_[i].begin, block.end);
         i++) {
      if (records_[i].state == Sent::State::sacked) continue;
      const bool within = before(records_[i].begin, block.begin), beyond = before(block.end, records_[i].end);
      if ((within || beyond) && records_.size() >= kMaxRecords) return;
      if (within) {
        split(i, block.begin);
        continue;
      }
      if (beyond) split(i, block.end);
      delivered(records_[i]);
      set(records_[i], Sent::State::sacked);
    }
    join_sacked(block);
  }
  /// The first `size` bytes of a record are sent again; `size` is at most all of it.
  void retransmitted(size_t index, uint32_t size, Nanoseconds now);
  /// The last bytes of all are sent again, `size` at most. @returns how many
  uint32_t tail_retransmitted(uint32_t size, Nanoseconds now);
  void set_lost(size_t index) { set(records_[index], Sent::State::lost); }
  /// Of a record under way, only the first bytes are lost.
  void set_front_lost(uint32_t size);
  void set_all_lost();
  /// What was taken for lost is under way: there was only a delay.
  void restore_lost();
  /// The receiver dropped what it said it had (RFC 2018 8).
  void forget_sacked();
  /// Index of the first that is lost; the count of records: none is.
  size_t first_lost() const;

 private:
  uint32_t& count(Sent::State state) {
    return state == Sent::State::flight ? in_flight_ : state == Sent::State::sacked ? sacked_ : lost_;
  }
  void set(Sent& record, Sent::State state) {
    count(record.state) -= record.end - record.begin;
    record.state = state;
    count(state) += record.end - record.begin;
  }
  /// Index of the first record that ends behind `sequence`.
  size_t first_after(Sequence sequence) const;
  void split(size_t index, Sequence at);
  void join_sacked(const SackBlock& block);

  std::deque<Sent> records_;
  uint32_t in_flight_ = 0;
  uint32_t sacked_ = 0;
  uint32_t lost_ = 0;
};

}  // namespace omerta::stack
