// SPDX-License-Identifier: Apache-2.0
// What RFCs say of windows, acknowledgments and what is sent when, each case named by its section. The peer's
// segments are written by hand.
#include "check.h"
#include "stack_bench.h"

namespace {

using namespace omerta;
using namespace omerta::check;
using namespace omerta::test;
using Hand = StackBench::Hand;
using Got = StackBench::Got;

const std::string kFull(1000, 'a');

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

}  // namespace

int main() {
  RUN(rfc9293_3_7_1_largest_segments);
  RUN(rfc9293_3_8_3_who_does_not_answer_is_given_up);
  RUN(rfc9293_3_8_4_keepalives);
  RUN(rfc9293_3_8_6_1_a_closed_window_is_probed);
  RUN(rfc9293_3_8_6_1_a_window_closed_for_long_keeps_a_connection_while_it_is_answered);
  RUN(rfc9293_3_8_6_2_1_no_silly_segments_are_sent);
  RUN(rfc9293_3_8_6_2_2_no_silly_window_is_offered);
  RUN(rfc9293_3_8_6_2_2_the_right_edge_never_goes_back);
  RUN(rfc9293_3_8_6_3_delayed_acknowledgments);
  return finish();
}
