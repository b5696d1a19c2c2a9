// SPDX-License-Identifier: Apache-2.0
// What RFCs say of how connections begin and end, and of segments of none, each case named by its section.
// The peer's segments are written by hand.
#include "check.h"
#include "stack_bench.h"

namespace {

using namespace omerta;
using namespace omerta::check;
using namespace omerta::test;
using Got = StackBench::Got;

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
  return finish();
}
