// SPDX-License-Identifier: Apache-2.0
// What RFCs say of options: windows that are scaled, timestamps, blocks of what lies further on, each case
// named by its section. The peer's segments are written by hand.
#include "check.h"
#include "stack_bench.h"

namespace {

using namespace omerta;
using namespace omerta::check;
using namespace omerta::test;
using Got = StackBench::Got;

void rfc7323_2_2_windows_are_scaled_when_both_say_so() {
  StackBench b;
  Connection& c = b.open({.shift = 3, .window = 1000});
  CHECK(b.syn_ack.segment.window_shift.has_value());
  b.send({.window = 1000});
  b.write(c, 20'000);
  CHECK(b.take().size == 8000);
  StackBench d;
  d.open();
  CHECK(!d.syn_ack.segment.window_shift.has_value());
  Connection& e = *d.connection;
  d.send({.window = 3000});
  d.write(e, 20'000);
  CHECK(d.take().size == 3000);
}

void rfc7323_2_3_a_shift_beyond_14_is_14() {
  StackBench b;
  Connection& c = b.open({.shift = 200, .window = 0});
  b.send({.window = 1});
  b.write(c, 60'000);
  size_t size = 0;
  while (!b.silent()) size += b.take().size;
  CHECK(size == 10'000);  // the initial window (RFC 6928), within 2^14
}

void rfc7323_3_2_timestamps() {
  StackBench b;
  b.open({.timestamps = true});
  CHECK(b.timestamps && b.syn_ack.segment.timestamps->echo == b.clock() - 10);
  b.send({.seq = 1, .text = "x", .timestamp = b.clock() + 7});
  CHECK(b.last().segment.timestamps->echo == b.clock() + 7);
  b.send({.seq = 2, .text = "y", .without_timestamps = true});
  CHECK(b.text == "x" && b.silent());
  StackBench c;
  c.open();
  CHECK(!c.timestamps);
}

void rfc7323_4_3_which_timestamp_is_echoed() {
  StackBench b;
  b.open({.timestamps = true, .sack = true});
  const uint32_t t = b.clock();
  b.send({.seq = 101, .text = "later", .timestamp = t + 2});
  CHECK(b.last().segment.timestamps->echo == t);  // that of what was in order last
  b.send({.seq = 1, .text = std::string(100, 'x'), .timestamp = t + 3});
  CHECK(b.last().segment.timestamps->echo == t + 3 && b.text.size() == 105);
}

void rfc7323_5_3_segments_of_the_past() {
  StackBench b;
  b.open({.timestamps = true});
  const uint32_t t = b.clock();
  b.send({.seq = 1, .text = "old", .timestamp = t - 1});
  CHECK(b.text.empty() && b.last().is(kAck));
  b.send({.flags = kRst, .seq = 1, .timestamp = t - 1});  // a reset is not held against it
  CHECK(b.over == Ended::reset);
}

void rfc7323_5_5_a_timestamp_older_than_24_days_says_nothing() {
  Settings settings;
  settings.keepalive_after = Nanoseconds{30} * 24 * 3600 * kSecond;
  StackBench b(settings);
  b.open({.timestamps = true});
  const uint32_t t = b.clock();
  b.pass(Nanoseconds{25} * 24 * 3600 * kSecond);
  b.send({.seq = 1, .text = "anew", .timestamp = t - 1});
  CHECK(b.text == "anew");
}

void rfc2018_4_blocks_of_what_lies_further_on() {
  StackBench b;
  b.open({.sack = true});
  CHECK(b.syn_ack.segment.sack_permitted);
  b.send({.seq = 101, .text = "b"});
  b.send({.seq = 201, .text = "c"});
  b.send({.seq = 301, .text = "d"});
  b.send({.seq = 102, .text = "b"});
  const Segment got = b.last().segment;
  const Sequence zero = StackBench::kPeerFirst;
  CHECK(got.sack_count == 3 && got.acknowledgment == zero + 1);
  CHECK((got.sacks[0] == SackBlock{zero + 101, zero + 103}));  // the one that came last is first
  CHECK((got.sacks[1] == SackBlock{zero + 301, zero + 302}));
  CHECK((got.sacks[2] == SackBlock{zero + 201, zero + 202}));
  b.send({.seq = 1, .text = std::string(300, 'a')});
  const Segment whole = b.last().segment;
  CHECK(whole.sack_count <= 1 && whole.acknowledgment == zero + 302 && b.text.size() == 301);
  StackBench c;
  c.open();
  c.send({.seq = 101, .text = "b"});
  CHECK(c.last().segment.sack_count == 0);  // not agreed on
}

void rfc2018_8_a_receiver_may_drop_what_it_said_it_had() {
  StackBench b;
  Connection& c = b.open({.sack = true});
  b.write(c, 3000);
  b.sent.clear();
  b.send({.sacks = {{1001, 3001}}});
  b.send({.ack = 1001});  // and nothing is said any more of the rest
  b.pass(10 * kSecond);
  size_t size = 0;
  Sequence lowest = 5000;
  while (!b.silent()) {
    const Got got = b.take();
    if (got.size != 0) lowest = earlier(lowest, got.seq);
    size += got.size;
  }
  CHECK(size > 0 && lowest <= 1001);
  for (Sequence at = 1001; at < 3001; at += 1000) {
    b.send({.ack = at + 1000});
    b.pass(kSecond);
  }
  CHECK(c.queued() == 0);
}

void rfc2883_4_what_came_twice_is_told() {
  StackBench b;
  b.open({.sack = true});
  b.send({.seq = 1, .text = "abc"});
  b.sent.clear();
  b.send({.seq = 1, .text = "abc"});
  const Segment got = b.last().segment;
  const Sequence zero = StackBench::kPeerFirst;
  CHECK(got.sack_count == 1 && (got.sacks[0] == SackBlock{zero + 1, zero + 4}) && b.text == "abc");
}

}  // namespace

int main() {
  RUN(rfc7323_2_2_windows_are_scaled_when_both_say_so);
  RUN(rfc7323_2_3_a_shift_beyond_14_is_14);
  RUN(rfc7323_3_2_timestamps);
  RUN(rfc7323_4_3_which_timestamp_is_echoed);
  RUN(rfc7323_5_3_segments_of_the_past);
  RUN(rfc7323_5_5_a_timestamp_older_than_24_days_says_nothing);
  RUN(rfc2018_4_blocks_of_what_lies_further_on);
  RUN(rfc2018_8_a_receiver_may_drop_what_it_said_it_had);
  RUN(rfc2883_4_what_came_twice_is_told);
  return finish();
}
