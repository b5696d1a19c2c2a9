// SPDX-License-Identifier: Apache-2.0
// What RFCs say of peers that misbehave, and of what strangers and routers send, each case named by its
// section. The peer's segments are written by hand.
#include "check.h"
#include "inner/icmp_error.h"
#include "stack/too_big.h"
#include "stack_bench.h"

namespace {

using namespace omerta;
using namespace omerta::check;
using namespace omerta::test;
using Got = StackBench::Got;

const std::string kFull(1000, 'a');

size_t flight(StackBench& b) {
  size_t size = 0;
  while (!b.silent()) size += b.take().size;
  return size;
}

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

}  // namespace

int main() {
  RUN(rfc5961_3_2_blind_resets);
  RUN(rfc5961_4_2_a_syn_in_a_connection);
  RUN(rfc5961_5_2_injected_data);
  RUN(rfc5961_7_challenges_are_limited);
  RUN(rfc4987_3_a_flood_of_syns_takes_nothing_from_others);
  RUN(rfc7323_3_2_who_echoes_what_was_not_said_yet_acknowledges_nothing);
  RUN(rfc2018_3_blocks_that_split_everything_are_bounded);
  RUN(rfc9293_3_4_holes_of_a_sender_are_bounded);
  RUN(rfc9293_3_8_6_memory_of_an_owner_is_bounded);
  RUN(rfc1191_4_what_a_router_says_of_a_segment);
  RUN(rfc5927_7_a_path_mtu_counts_only_of_what_is_under_way);
  return finish();
}
