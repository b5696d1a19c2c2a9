// SPDX-License-Identifier: Apache-2.0
// What RFCs say of loss and congestion, each case named by its section. The peer's segments are written by
// hand.
#include "check.h"
#include "common/ecn.h"
#include "stack_bench.h"

namespace {

using namespace omerta;
using namespace omerta::check;
using namespace omerta::test;
using Got = StackBench::Got;

size_t flight(StackBench& b) {
  size_t size = 0;
  while (!b.silent()) size += b.take().size;
  return size;
}

void rfc6928_2_the_initial_window() {
  StackBench b;
  Connection& c = b.open();
  b.write(c, 100'000);
  CHECK(flight(b) == 10'000);
}

void rfc5681_3_1_slow_start_counts_bytes_not_acknowledgments() {
  StackBench b;
  Connection& c = b.open();
  b.write(c, 200'000);
  CHECK(flight(b) == 10'000);
  b.send({.ack = 10'001});
  CHECK(flight(b) == 20'000);
  StackBench d;
  Connection& e = d.open();
  d.write(e, 200'000);
  flight(d);
  for (Sequence at = 1; at <= 10'000; at += 100) d.send({.ack = at + 100});  // divided into a hundred
  CHECK(flight(d) <= 20'000);
}

void rfc5681_3_2_three_duplicates() {
  StackBench b;
  Connection& c = b.open();
  b.write(c, 10'000);
  flight(b);
  b.send({});
  b.send({});
  CHECK(b.silent());
  b.send({});
  const Got again = b.take();
  CHECK(again.seq == 1 && again.size == 1000);
  CHECK(c.send_side().congestion_window() < 10'000);
}

void rfc5681_3_2_duplicates_beyond_what_is_under_way_gain_nothing() {
  StackBench b;
  Connection& c = b.open();
  b.write(c, 1'000'000);
  const size_t first = flight(b);
  for (int i = 0; i < 1000; i++) b.send({});
  CHECK(flight(b) <= first + 2000);
}

void rfc6582_3_2_partial_acknowledgments() {
  StackBench b;
  Connection& c = b.open();
  b.write(c, 10'000);
  flight(b);
  for (int i = 0; i < 3; i++) b.send({});
  CHECK(b.last().seq == 1);
  b.send({.ack = 4001});
  bool found = false;
  while (!b.silent()) found |= b.take().seq == 4001;
  CHECK(found);
}

void rfc6298_5_5_timeouts_back_off() {
  StackBench b;
  Connection& c = b.open();
  b.write(c, 500);
  b.take();
  const Nanoseconds begin = b.now;
  Nanoseconds before = 0, last = begin;
  for (int i = 0; i < 6; i++) {
    while (b.silent()) b.pass(10 * kMillisecond);
    CHECK(b.take().seq == 1);
    const Nanoseconds gap = b.now - last;
    CHECK(i == 0 || (gap > before * 3 / 2 && gap < before * 5 / 2));
    before = gap;
    last = b.now;
  }
  CHECK(c.send_side().congestion_window() == 1000);
}

void rfc6298_3_what_was_sent_twice_is_no_measure() {
  StackBench b;
  Connection& c = b.open();
  const Nanoseconds measured = c.send_side().rtt().smoothed();
  CHECK(measured >= 10 * kMillisecond && measured < 11 * kMillisecond);
  b.write(c, 500);
  b.pass(5 * kSecond);
  b.send({.ack = 501});
  CHECK(c.send_side().rtt().smoothed() == measured && c.queued() == 0);
}

void rfc8985_6_2_what_was_sent_before_something_that_arrived_is_lost() {
  StackBench b;
  Connection& c = b.open({.sack = true});
  b.write(c, 10'000);
  flight(b);
  b.pass(10 * kMillisecond);
  b.send({.sacks = {{2001, 5001}}});  // three segments: no reordering window
  const Got again = b.take();
  CHECK(again.seq == 1 && again.size >= 1000 && again.size <= 2000);
  const uint32_t window = c.send_side().congestion_window();
  b.pass(10 * kMillisecond);
  b.send({.ack = 10'001});
  CHECK(c.send_side().congestion_window() == 7000 && window <= 10'000);  // RFC 9438 4.6
}

void rfc8985_6_2_reordering_is_waited_for() {
  StackBench b;
  Connection& c = b.open({.sack = true});
  b.write(c, 3000);
  flight(b);
  b.pass(10 * kMillisecond);
  b.send({.sacks = {{1001, 2001}}});
  CHECK(b.silent());
  b.pass(kMillisecond);
  b.send({.ack = 2001});
  b.pass(kMillisecond);
  CHECK(b.silent() && c.send_side().congestion_window() >= 10'000);
}

void rfc8985_7_3_a_lost_tail_is_probed() {
  StackBench b;
  Connection& c = b.open({.sack = true});
  b.write(c, 5000);
  flight(b);
  b.pass(10 * kMillisecond);
  b.send({.ack = 2001});
  b.pass(60 * kMillisecond);  // before any timeout
  const Got probe = b.take();
  CHECK(probe.seq == 4001 && probe.size == 1000 && b.silent());
  b.pass(10 * kMillisecond);
  b.send({.ack = 2001, .sacks = {{4001, 5001}}});
  b.pass(10 * kMillisecond);
  const Got rest = b.take();
  CHECK(rest.seq == 2001 && rest.size >= 1000);
}

void rfc9438_4_6_a_window_is_reduced_to_seven_tenths() {
  StackBench b;
  Connection& c = b.open({.sack = true});
  b.write(c, 10'000);
  flight(b);
  b.pass(10 * kMillisecond);
  b.send({.sacks = {{3001, 10'001}}});
  b.pass(20 * kMillisecond);
  b.send({.ack = 10'001});
  CHECK(c.send_side().congestion_window() == 7000);
}

void rfc3522_3_2_a_timeout_without_a_loss_is_undone() {
  StackBench b;
  Connection& c = b.open({.timestamps = true, .sack = true});
  b.write(c, 9880);
  flight(b);
  const uint32_t sent = b.last_timestamp;
  b.pass(1500 * kMillisecond);
  CHECK(c.send_side().congestion_window() < 1000);
  flight(b);
  b.send({.ack = 9881, .echo = sent});
  CHECK(c.send_side().congestion_window() >= 9880 && c.queued() == 0);
}

void rfc3168_6_1_1_both_sides_agree_on_ecn() {
  StackBench b;
  Connection& c = b.open({.ecn = true});
  CHECK(b.syn_ack.is(kSyn | kAck | kEce));
  b.write(c, 100);
  CHECK(b.take().segment.ecn == kEct0);
  StackBench d;
  Connection& e = d.open();
  CHECK(d.syn_ack.is(kSyn | kAck));
  d.write(e, 100);
  CHECK(d.take().segment.ecn == kNotEct);
}

void rfc3168_6_1_2_the_sender_reduces_once_a_window() {
  StackBench b;
  Connection& c = b.open({.ecn = true});
  b.write(c, 100'000);
  flight(b);
  b.send({.flags = kAck | kEce, .ack = 1001});
  const uint32_t reduced = c.send_side().congestion_window();
  CHECK(reduced == 7000);
  b.send({.flags = kAck | kEce, .ack = 2001});
  CHECK(c.send_side().congestion_window() == reduced);
  b.sent.clear();
  b.send({.ack = 9001});
  CHECK(b.take().segment.has(kCwr));
}

void rfc3168_6_1_3_the_receiver_tells_until_it_is_heard() {
  StackBench b;
  b.open({.ecn = true});
  b.send({.seq = 1, .text = "a", .ecn = kCongestionExperienced});
  CHECK(b.last().segment.has(kEce));
  b.send({.seq = 2, .text = "b", .ecn = kEct0});
  CHECK(b.last().segment.has(kEce));
  b.send({.flags = kAck | kCwr, .seq = 3, .text = "c", .ecn = kEct0});
  CHECK(!b.last().segment.has(kEce));
}

void rfc3168_6_1_5_what_is_sent_again_is_not_marked() {
  StackBench b;
  Connection& c = b.open({.ecn = true});
  b.write(c, 100);
  CHECK(b.take().segment.ecn == kEct0);
  b.pass(3 * kSecond);
  CHECK(b.take().segment.ecn == kNotEct);
}

}  // namespace

int main() {
  RUN(rfc6928_2_the_initial_window);
  RUN(rfc5681_3_1_slow_start_counts_bytes_not_acknowledgments);
  RUN(rfc5681_3_2_three_duplicates);
  RUN(rfc5681_3_2_duplicates_beyond_what_is_under_way_gain_nothing);
  RUN(rfc6582_3_2_partial_acknowledgments);
  RUN(rfc6298_5_5_timeouts_back_off);
  RUN(rfc6298_3_what_was_sent_twice_is_no_measure);
  RUN(rfc8985_6_2_what_was_sent_before_something_that_arrived_is_lost);
  RUN(rfc8985_6_2_reordering_is_waited_for);
  RUN(rfc8985_7_3_a_lost_tail_is_probed);
  RUN(rfc9438_4_6_a_window_is_reduced_to_seven_tenths);
  RUN(rfc3522_3_2_a_timeout_without_a_loss_is_undone);
  RUN(rfc3168_6_1_1_both_sides_agree_on_ecn);
  RUN(rfc3168_6_1_2_the_sender_reduces_once_a_window);
  RUN(rfc3168_6_1_3_the_receiver_tells_until_it_is_heard);
  RUN(rfc3168_6_1_5_what_is_sent_again_is_not_marked);
  return finish();
}
