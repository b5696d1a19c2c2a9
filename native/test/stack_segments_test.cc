// SPDX-License-Identifier: Apache-2.0
// What RFCs say of single segments, each case named by its section. The peer's segments are written by hand.
#include "check.h"
#include "common/ecn.h"
#include "inner/icmp_error.h"
#include "stack/too_big.h"
#include "stack_bench.h"

namespace {

using namespace omerta;
using namespace omerta::check;
using namespace omerta::test;
using Hand = StackBench::Hand;
using Got = StackBench::Got;

const std::string kFull(1000, 'a');

// --- RFC 9293 ---------------------------------------------------------------------------------------------

void rfc9293_3_5_three_way_handshake() {
  StackBench b;
  b.accepts = false;
  b.send({.flags = kSyn, .seq = 0, .mss = 1000});
  CHECK(b.asks == 1 && b.silent());  // nothing is said before the user agrees
  b.send({.flags = kSyn, .seq = 0, .mss = 1000});
  CHECK(b.asks == 1 && b.silent() && b.stack.half_open() == 1);
  b.connection->accept();
  const Got syn_ack = b.take();
  CHECK(syn_ack.is(kSyn | kAck) && syn_ack.ack == 1 && syn_ack.segment.mss == 1360);
  CHECK(b.opens == 0);
  b.send({});
  CHECK(b.opens == 1 && b.connection->state() == State::established && b.stack.half_open() == 0);
}

void rfc9293_3_5_simultaneous_open() {
  StackBench b;
  Connection* c = b.stack.connect(b.flow, b.now);
  CHECK(b.take().is(kSyn | kEce | kCwr));
  b.send({.flags = kSyn, .seq = 0});
  const Got answer = b.take();
  CHECK(answer.is(kSyn | kAck) && answer.seq == 0 && answer.ack == 1);
  CHECK(c->state() == State::syn_received);
  b.send({.flags = kSyn | kAck, .seq = 0});
  CHECK(c->state() == State::established && b.opens == 1);
  CHECK(b.last().is(kAck));
}

void rfc9293_3_5_active_open_and_the_first_bytes() {
  StackBench b;
  Connection* c = b.stack.connect(b.flow, b.now);
  const Got syn = b.take();
  CHECK(syn.segment.timestamps.has_value() && syn.segment.sack_permitted &&
        syn.segment.window_shift.has_value());
  b.send({.flags = kSyn | kAck, .seq = 0, .mss = 700});
  CHECK(b.take().is(kAck) && c->state() == State::established);
  b.write(*c, 1500);
  const Got data = b.take();
  CHECK(data.seq == 1 && data.size == 1500 && data.mss == 700);
}

void rfc9293_3_10_7_1_segments_of_no_connection() {
  StackBench b;
  b.send({.flags = kAck, .ack = 77});
  const Got reset = b.take();
  CHECK(reset.is(kRst) && reset.segment.sequence == 77);
  b.send({.flags = kFin, .seq = 10, .text = "abc"});
  const Got other = b.take();
  CHECK(other.is(kRst | kAck) && other.segment.sequence == 0 && other.ack == 14);
  b.send({.flags = kRst});
  b.send({.flags = kRst | kAck});
  CHECK(b.silent());
}

void rfc9293_3_10_7_3_answers_to_a_syn() {
  StackBench b;
  b.stack.connect(b.flow, b.now);
  CHECK(b.take().segment.has(kSyn));
  b.send({.flags = kSyn | kAck, .seq = 0, .ack = 5});
  const Got reset = b.take();
  CHECK(reset.is(kRst) && reset.seq == 5);
  b.send({.flags = kRst | kAck, .seq = 0, .ack = 9});  // of another one
  CHECK(!b.over.has_value());
  b.send({.flags = kRst | kAck, .seq = 0, .ack = 1});
  CHECK(b.over == Ended::refused && b.stack.connections() == 0);
}

void rfc9293_3_10_7_4_only_what_lies_in_the_window_is_taken() {
  Settings settings;
  settings.receive_window = 5000;
  StackBench b(settings);
  b.open();
  for (const Sequence seq : {Sequence{1 + 5000}, Sequence{0} - 100, Sequence{1u << 30}}) {
    b.send({.seq = seq, .text = "no"});
    CHECK(b.text.empty());
    const Got answer = b.last();
    CHECK(answer.is(kAck) && answer.ack == 1);
  }
  b.send({.seq = 0 - 5u, .text = "before1234"});  // the half before the window was received
  CHECK(b.text == "1234");
  b.send({.seq = 5, .text = std::string(6000, 'b')});  // and what lies behind it is not kept
  CHECK(b.text.size() == 5000);
}

void rfc9293_3_10_7_4_text_and_end() {
  StackBench b;
  Connection& c = b.open();
  b.send({.seq = 1, .text = "hello"});
  CHECK(b.text == "hello" && b.last().ack == 6);
  b.send({.flags = kAck | kFin, .seq = 6, .text = "!"});
  CHECK(b.text == "hello!" && b.ends == 1 && c.state() == State::close_wait);
  CHECK(b.last().ack == 8);
  b.send({.seq = 8, .text = "more"});  // nothing comes after the end
  CHECK(b.text == "hello!");
  iovec parts[2];
  CHECK(c.space(3, parts) == 1 && parts[0].iov_len == 3);
  std::memcpy(parts[0].iov_base, "end", 3);
  c.wrote(3);
  b.finish(c);
  const Got fin = b.take();
  CHECK(fin.is(kAck | kFin | kPsh) && fin.size == 3);
  b.send({.seq = 8, .ack = 5});
  CHECK(b.over == Ended::finished && b.stack.connections() + b.stack.lingering() == 0);
}

void rfc9293_3_6_close_and_time_wait() {
  StackBench b;
  Connection& c = b.open();
  b.finish(c);
  CHECK(b.take().is(kAck | kFin) && c.state() == State::fin_wait_1);
  b.send({.ack = 2});
  CHECK(c.state() == State::fin_wait_2);
  b.send({.flags = kAck | kFin, .seq = 1, .ack = 2, .text = "bye"});
  CHECK(b.text == "bye" && b.over == Ended::finished);
  CHECK(b.last().ack == 5 && b.stack.connections() == 0 && b.stack.lingering() == 1);
  b.pass(50 * kSecond);
  b.send({.flags = kAck | kFin, .seq = 1, .ack = 2, .text = "bye"});  // the FIN again begins the time anew
  CHECK(b.last().ack == 5);
  b.pass(50 * kSecond);
  CHECK(b.stack.lingering() == 1);
  b.pass(11 * kSecond);
  CHECK(b.stack.lingering() == 0);
}

/// The peer has closed for good: it answers what comes after with a reset.
void rfc1337_3_a_reset_in_time_wait_takes_nothing_of_what_was_received() {
  Settings settings;
  settings.receive_window = 60'000;
  StackBench b(settings);
  Connection& c = b.open();
  b.reads = false;
  b.finish(c);
  b.send({.flags = kAck | kFin, .seq = 1, .ack = 2, .text = std::string(50'000, 'x')});
  CHECK(c.state() == State::time_wait && c.waiting() == 50'000 && !b.over.has_value());
  b.sent.clear();
  b.send({.flags = kRst, .seq = 50'002, .ack = 2});
  CHECK(c.waiting() == 50'000 && !b.over.has_value());
  b.reads = true;
  c.resume();
  CHECK(b.text.size() == 50'000 && b.ends == 1 && b.over == Ended::finished);
  // A window that opens means nothing to it.
  CHECK(b.silent());
}

void rfc9293_3_6_both_close_at_once() {
  StackBench b;
  Connection& c = b.open();
  b.finish(c);
  b.take();
  b.send({.flags = kAck | kFin, .seq = 1, .ack = 1});
  CHECK(c.state() == State::closing && b.last().ack == 2);
  b.send({.seq = 2, .ack = 2});
  CHECK(c.state() == State::time_wait && b.over == Ended::finished);
}

void rfc9293_3_6_1_a_syn_in_time_wait() {
  StackBench b;
  Connection& c = b.open();
  b.finish(c);
  b.send({.flags = kAck | kFin, .seq = 1, .ack = 2});
  CHECK(b.stack.lingering() == 1);
  b.sent.clear();
  b.send({.flags = kSyn, .seq = 1});  // an old one
  CHECK(b.asks == 1 && b.last().is(kAck));
  b.send({.flags = kSyn, .seq = 1000});
  CHECK(b.asks == 2 && b.take().is(kSyn | kAck) && b.stack.lingering() == 0);
}

void rfc9293_3_7_1_largest_segments() {
  StackBench b;
  StackBench::Hand syn{.flags = kSyn, .seq = 0};
  b.send(syn);
  b.take();
  b.send({});
  b.write(*b.connection, 2000);
  CHECK(b.take().mss == 536);  // what counts where nothing was said
  StackBench c;
  c.open({.mss = 9000});
  c.write(*c.connection, 5000);
  CHECK(c.take().mss == 1360);  // and never more than fits here
}

void rfc9293_3_8_3_who_does_not_answer_is_given_up() {
  StackBench b;
  Connection& c = b.open();
  b.write(c, 10);
  b.pass(300 * kSecond);
  CHECK(b.over == Ended::timed_out && b.last().segment.has(kRst) && b.stack.memory() == 0);
}

void rfc9293_3_8_4_keepalives() {
  Settings settings;
  settings.keepalive_after = 100 * kSecond;
  settings.keepalive_every = 10 * kSecond;
  settings.keepalive_tries = 3;
  StackBench b(settings);
  b.open();
  b.pass(101 * kSecond);
  const Got probe = b.take();
  CHECK(probe.is(kAck) && probe.seq == 0 && probe.size == 0);
  b.send({});
  b.pass(99 * kSecond);
  CHECK(b.silent());
  b.pass(100 * kSecond);
  CHECK(b.over == Ended::timed_out);
}

void rfc9293_3_8_6_1_a_closed_window_is_probed() {
  StackBench b;
  Connection& c = b.open();
  b.write(c, 5000);
  b.sent.clear();
  b.send({.ack = 5001, .window = 0});
  b.write(c, 10);
  CHECK(b.silent());
  b.pass(5 * kSecond);
  const Got probe = b.take();
  CHECK(probe.is(kAck) && probe.seq == 5000 && probe.size == 0);
  CHECK(b.sent.size() < 6);  // further and further apart
  b.sent.clear();
  b.send({.ack = 5001, .window = 1000});
  const Got data = b.take();
  CHECK(data.seq == 5001 && data.size == 10);
}

void rfc9293_3_8_6_1_a_window_closed_for_long_keeps_a_connection_while_it_is_answered() {
  StackBench b;
  Connection& c = b.open();
  b.send({.window = 0});
  b.write(c, 10);
  for (int i = 0; i < 100; i++) {
    b.pass(60 * kSecond);
    b.sent.clear();
    b.send({.window = 0});
  }
  CHECK(!b.over.has_value());
  b.pass(600 * kSecond);
  CHECK(b.over == Ended::timed_out);
}

void rfc9293_3_8_6_2_1_no_silly_segments_are_sent() {
  StackBench b;
  Connection& c = b.open();
  b.write(c, 3000);
  b.sent.clear();
  b.send({.ack = 3001, .window = 100});
  b.write(c, 5000);
  CHECK(b.silent());  // a window of a tenth of a segment
  b.pass(2 * kSecond);
  CHECK(b.take().size == 100);  // that does not become larger
}

void rfc9293_3_8_6_2_2_no_silly_window_is_offered() {
  Settings settings;
  settings.receive_window = 8000;
  StackBench b(settings);
  b.open();
  b.reads = false;
  Sequence seq = 1;
  for (int i = 0; i < 8; i++, seq += 1000) b.send({.seq = seq, .text = kFull});
  CHECK(b.last().segment.window == 0 && b.connection->waiting() == 8000);
  b.reads = true;
  b.connection->resume();
  CHECK(b.text.size() == 8000 && b.last().segment.window == 8000);
}

void rfc9293_3_8_6_2_2_the_right_edge_never_goes_back() {
  Settings settings;
  settings.receive_window = 8000;
  StackBench b(settings);
  b.open();
  b.reads = false;
  Sequence edge = b.syn_ack.ack + b.syn_ack.segment.window;
  for (Sequence seq = 1; seq < 8000; seq += 100) {
    b.send({.seq = seq, .text = std::string(100, 'c')});
    b.pass(50 * kMillisecond);
    const Got got = b.last();
    CHECK(!before(got.ack + got.segment.window, edge));
    edge = got.ack + got.segment.window;
  }
}

void rfc9293_3_8_6_3_delayed_acknowledgments() {
  StackBench b;
  b.open();
  Sequence seq = 1;
  for (int i = 0; i < 20; i++, seq += 1000) b.send({.seq = seq, .text = kFull});
  b.pass(kSecond);
  b.sent.clear();
  b.send({.seq = seq, .text = kFull});
  CHECK(b.silent());
  b.send({.seq = seq + 1000, .text = kFull});
  CHECK(b.last().ack == seq + 2000);  // each second full segment
  b.send({.seq = seq + 2000, .text = "x"});
  CHECK(b.silent());
  b.pass(500 * kMillisecond);
  CHECK(b.last().ack == seq + 2001);
}

// --- RFC 5961 ---------------------------------------------------------------------------------------------

void rfc5961_3_2_blind_resets() {
  StackBench b;
  b.open();
  b.send({.flags = kRst, .seq = 100});
  CHECK(!b.over.has_value());
  const Got challenge = b.last();
  CHECK(challenge.is(kAck) && challenge.ack == 1 && challenge.seq == 1);
  b.send({.flags = kRst, .seq = 1u << 30});
  CHECK(!b.over.has_value() && b.silent());
  b.send({.flags = kRst, .seq = 1});
  CHECK(b.over == Ended::reset && b.stack.connections() == 0);
}

void rfc5961_4_2_a_syn_in_a_connection() {
  StackBench b;
  b.open();
  for (const Sequence seq : {Sequence{0}, Sequence{1}, Sequence{500}, Sequence{1u << 30}}) {
    b.send({.flags = kSyn, .seq = seq});
    CHECK(!b.over.has_value() && b.last().is(kAck));
  }
}

void rfc5961_5_2_injected_data() {
  StackBench b;
  Connection& c = b.open();
  b.write(c, 100);
  b.sent.clear();
  b.send({.seq = 1, .ack = 102, .text = "beyond"});
  CHECK(b.text.empty() && b.last().is(kAck));
  b.send({.seq = 1, .ack = 0u - 70'000, .text = "too old"});
  CHECK(b.text.empty());
  b.send({.seq = 1, .ack = 1, .text = "right"});
  CHECK(b.text == "right");
}

void rfc5961_7_challenges_are_limited() {
  StackBench b;
  b.open();
  b.sent.clear();
  size_t answers = 0;
  for (int i = 0; i < 1000; i++) {
    b.send({.flags = kRst, .seq = static_cast<Sequence>(100 + i)});
    if (b.last().is(kAck)) answers++;
  }
  CHECK(answers > 0 && answers <= 10);
}

// --- RFC 7323 ---------------------------------------------------------------------------------------------

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

// --- RFC 2018, RFC 2883 -----------------------------------------------------------------------------------

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

// --- RFC 5681, 6298, 6582, 6928, 8985, 9438 ---------------------------------------------------------------

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

// --- RFC 3168 ---------------------------------------------------------------------------------------------

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

// --- Peers that misbehave ---------------------------------------------------------------------------------

void rfc4987_3_a_flood_of_syns_takes_nothing_from_others() {
  Settings settings;
  settings.owner_half_open = 8;
  settings.half_open = 20;
  StackBench b(settings);
  b.accepts = false;
  for (uint16_t port = 1000; port < 2000; port++) {
    Flow flow = b.flow;
    flow.remote = StackBench::address(9);
    flow.remote_port = port;
    b.send_from(flow, {.flags = kSyn, .seq = 0});
  }
  CHECK(b.stack.half_open() == 8 && b.stack.counts().at_bound == 992 && b.stack.memory() == 0);
  b.sent.clear();
  b.accepts = true;
  b.open();
  CHECK(b.opens == 1);
}

void rfc7323_3_2_who_echoes_what_was_not_said_yet_acknowledges_nothing() {
  StackBench b;
  Connection& c = b.open({.timestamps = true});
  b.write(c, 5000);
  flight(b);
  b.send({.ack = 5001, .echo = b.last_timestamp + 1000});
  CHECK(c.queued() == 5000);
  b.send({.ack = 5001});
  CHECK(c.queued() == 0);
}

void rfc2018_3_blocks_that_split_everything_are_bounded() {
  StackBench b;
  Connection& c = b.open({.sack = true, .shift = 8, .window = 65535});
  b.send({.window = 65535});
  Sequence acked = 1;
  for (int i = 0; i < 12; i++) {
    b.write(c, 1'000'000);
    const Sequence size = static_cast<Sequence>(flight(b));
    b.pass(kMillisecond);
    if (i < 11) b.send({.ack = acked += size, .window = 65535});
  }
  for (Sequence at = acked + 1; at < acked + 30'000; at += 6)
    b.send({.ack = acked, .window = 65535, .sacks = {{at, at + 1}, {at + 2, at + 3}, {at + 4, at + 5}}});
  CHECK(c.send_side().sent().records().size() <= Scoreboard::kMaxRecords + 4096);
}

void rfc9293_3_4_holes_of_a_sender_are_bounded() {
  StackBench b;
  b.open({.sack = true});
  b.sent.clear();
  for (Sequence at = 2; at < 20'000; at += 2) b.send({.seq = at, .text = "x"});
  b.send({.seq = 1, .text = "y"});
  CHECK(b.text.size() == 2 && b.stack.memory() <= 64 * 1024);
}

void rfc9293_3_8_6_memory_of_an_owner_is_bounded() {
  Settings settings;
  settings.owner_memory = 256 * 1024;
  StackBench b(settings);
  b.reads = false;
  for (uint16_t port = 1000; port < 1100; port++) {
    Flow flow = b.flow;
    flow.remote_port = port;
    b.send_from(flow, {.flags = kSyn, .seq = 0, .mss = 1000});
    const Got answer = b.last();
    b.send_from(flow, {});
    for (Sequence at = 1; at < 20'000; at += 1000) b.send_from(flow, {.seq = at, .text = kFull});
    CHECK(answer.is(kSyn | kAck));
  }
  CHECK(b.stack.memory() <= 256 * 1024);
  b.sent.clear();
  Flow other = b.flow;
  other.remote = StackBench::address(77);
  b.reads = true;
  b.send_from(other, {.flags = kSyn, .seq = 0, .mss = 1000});
  b.last();
  b.send_from(other, {});
  b.send_from(other, {.seq = 1, .text = "hello"});
  CHECK(b.text == "hello");
}

void rfc5927_7_a_path_mtu_counts_only_of_what_is_under_way() {
  StackBench b;
  Connection& c = b.open({.mss = 1360});
  b.write(c, 5000);
  flight(b);
  b.stack.too_big(b.flow, b.first + 100'000, 1000);
  b.stack.too_big(b.flow, b.first + 1, 100);
  b.send({.ack = 5001});
  b.write(c, 5000);
  CHECK(b.take().mss == 576 - 40);
}

void rfc1191_4_what_a_router_says_of_a_segment() {
  for (const bool v6 : {false, true}) {
    StackBench b;
    if (v6) {
      const uint8_t own[16] = {0xfd, 1}, other[16] = {0xfd, 2};
      b.flow.local = address_of(own, 16);
      b.flow.remote = address_of(other, 16);
    }
    Connection& c = b.open({.mss = 1320});
    b.write(c, 1300);
    Segment sent = b.take().segment;
    std::vector<uint8_t> packet(kMaxSegmentHeaders + 1300);
    std::swap(sent.flow.local, sent.flow.remote);  // read it was from the peer's side
    std::swap(sent.flow.local_port, sent.flow.remote_port);
    sent.payload = {};
    inner::VirtioNetHeader header;
    packet.resize(write_segment(packet.data(), sent, 1300, 1300, header) + 1300);
    const inner::IpView ip = inner::parse_ip(packet.data(), packet.size());
    std::vector<uint8_t> said = inner::icmp_too_big(ip, packet.data(), 1290);
    inner::VirtioNetHeader plain{};
    const iovec parts[2] = {{&plain, sizeof plain}, {said.data(), said.size()}};
    PacketView view;
    CHECK(parse_packet(parts, view) == PacketError::none);
    const auto big = parse_too_big(view);
    CHECK(big.has_value() && big->flow == b.flow && big->sequence == b.first + 1 && big->mtu == 1290);
    if (!big.has_value()) continue;
    b.stack.too_big(big->flow, big->sequence, big->mtu);
    b.send({.ack = 1301});
    b.write(c, 5000);
    CHECK(b.take().mss == 1290 - (v6 ? 60 : 40));
    said[20 + (v6 ? 20 : 0)] = 5;  // another message, whose checksum is wrong too
    CHECK(parse_packet(parts, view) == PacketError::checksum);
  }
}

}  // namespace

int main() {
  RUN(rfc9293_3_5_three_way_handshake);
  RUN(rfc9293_3_5_simultaneous_open);
  RUN(rfc9293_3_5_active_open_and_the_first_bytes);
  RUN(rfc9293_3_10_7_1_segments_of_no_connection);
  RUN(rfc9293_3_10_7_3_answers_to_a_syn);
  RUN(rfc9293_3_10_7_4_only_what_lies_in_the_window_is_taken);
  RUN(rfc9293_3_10_7_4_text_and_end);
  RUN(rfc9293_3_6_close_and_time_wait);
  RUN(rfc9293_3_6_both_close_at_once);
  RUN(rfc1337_3_a_reset_in_time_wait_takes_nothing_of_what_was_received);
  RUN(rfc9293_3_6_1_a_syn_in_time_wait);
  RUN(rfc9293_3_7_1_largest_segments);
  RUN(rfc9293_3_8_3_who_does_not_answer_is_given_up);
  RUN(rfc9293_3_8_4_keepalives);
  RUN(rfc9293_3_8_6_1_a_closed_window_is_probed);
  RUN(rfc9293_3_8_6_1_a_window_closed_for_long_keeps_a_connection_while_it_is_answered);
  RUN(rfc9293_3_8_6_2_1_no_silly_segments_are_sent);
  RUN(rfc9293_3_8_6_2_2_no_silly_window_is_offered);
  RUN(rfc9293_3_8_6_2_2_the_right_edge_never_goes_back);
  RUN(rfc9293_3_8_6_3_delayed_acknowledgments);
  RUN(rfc5961_3_2_blind_resets);
  RUN(rfc5961_4_2_a_syn_in_a_connection);
  RUN(rfc5961_5_2_injected_data);
  RUN(rfc5961_7_challenges_are_limited);
  RUN(rfc7323_2_2_windows_are_scaled_when_both_say_so);
  RUN(rfc7323_2_3_a_shift_beyond_14_is_14);
  RUN(rfc7323_3_2_timestamps);
  RUN(rfc7323_4_3_which_timestamp_is_echoed);
  RUN(rfc7323_5_3_segments_of_the_past);
  RUN(rfc7323_5_5_a_timestamp_older_than_24_days_says_nothing);
  RUN(rfc2018_4_blocks_of_what_lies_further_on);
  RUN(rfc2018_8_a_receiver_may_drop_what_it_said_it_had);
  RUN(rfc2883_4_what_came_twice_is_told);
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
  RUN(rfc4987_3_a_flood_of_syns_takes_nothing_from_others);
  RUN(rfc7323_3_2_who_echoes_what_was_not_said_yet_acknowledges_nothing);
  RUN(rfc2018_3_blocks_that_split_everything_are_bounded);
  RUN(rfc9293_3_4_holes_of_a_sender_are_bounded);
  RUN(rfc9293_3_8_6_memory_of_an_owner_is_bounded);
  RUN(rfc1191_4_what_a_router_says_of_a_segment);
  RUN(rfc5927_7_a_path_mtu_counts_only_of_what_is_under_way);
  return finish();
}
