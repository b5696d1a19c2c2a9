// SPDX-License-Identifier: Apache-2.0
// One stack and, at the other end, a peer whose segments are written by hand. Sequence numbers are counted
// from each side's SYN: the first byte is 1.
#pragma once

#include <deque>
#include <optional>
#include <string>

#include "stack/stack.h"

namespace omerta::test {

using namespace omerta::stack;

class StackBench final : public Handler {
 public:
  explicit StackBench(const Settings& settings = {}) : stack(settings, *this, Key32{7}), settings_(settings) {
    flow.local = address(1);
    flow.remote = address(2);
    flow.local_port = 80;
    flow.remote_port = 5000;
    stack.at(now);
  }
  static Address address(uint8_t last) {
    const uint8_t bytes[4] = {10, 0, 0, last};
    return address_of(bytes, 4);
  }

  /// What the peer sends; fill in what matters.
  struct Hand {
    uint8_t flags = kAck;
    Sequence seq = 1;
    Sequence ack = 1;
    uint16_t window = 65535;
    std::string text{};
    std::vector<SackBlock> sacks{};  ///< of what the stack sent
    std::optional<uint32_t> echo{};  ///< default: the stack's last timestamp
    bool without_timestamps = false;
    std::optional<uint32_t> timestamp{};  ///< default: the clock
    uint8_t ecn = 0;
    std::optional<uint16_t> mss{};
    std::optional<uint8_t> shift{};
    bool sack_permitted = false;
    bool with_timestamps = false;  ///< of a SYN
  };

  void send(const Hand& hand) { send_from(flow, hand); }
  void send_from(const Flow& from, const Hand& hand) {
    Segment segment;
    segment.flow.local = from.remote;
    segment.flow.remote = from.local;
    segment.flow.local_port = from.remote_port;
    segment.flow.remote_port = from.local_port;
    segment.flags = hand.flags;
    segment.sequence = kPeerFirst + hand.seq;
    segment.acknowledgment = (hand.flags & kAck) != 0 ? first + hand.ack : 0;
    segment.window = hand.window;
    segment.ecn = hand.ecn;
    segment.mss = hand.mss;
    segment.window_shift = hand.shift;
    segment.sack_permitted = hand.sack_permitted;
    for (const SackBlock& block : hand.sacks)
      segment.sacks[segment.sack_count++] = {first + block.begin, first + block.end};
    if (hand.with_timestamps || (timestamps && !hand.without_timestamps))
      segment.timestamps = Timestamps{hand.timestamp.value_or(clock()), hand.echo.value_or(last_timestamp)};
    uint8_t headers[kMaxSegmentHeaders];
    inner::VirtioNetHeader header;
    const size_t size = write_segment(headers, segment, hand.text.size(), 65535, header);
    const iovec parts[3] = {
        {&header, sizeof header}, {headers, size}, {const_cast<char*>(hand.text.data()), hand.text.size()}};
    PacketView packet;
    if (parse_packet(parts, packet) != PacketError::none) std::abort();
    stack.receive(packet, now);
    drain();
  }
  uint32_t clock() const { return static_cast<uint32_t>(now / kMillisecond) + 5; }

  /// Time passes, and what is due happens in its time.
  void pass(Nanoseconds time) {
    const Nanoseconds until = now + time;
    drain();
    while (stack.deadline() <= until) {
      now = std::max(now, stack.deadline());
      stack.advance(now);
      drain();
    }
    now = until;
    stack.at(now);
  }

  /// What the stack sent, in the order it did, with numbers counted from the SYNs.
  struct Got {
    Segment segment;
    Sequence seq = 0, ack = 0;
    size_t size = 0;
    size_t mss = 0;
    std::string text{};
    bool is(uint8_t flags) const { return segment.flags == flags; }
  };
  bool silent() {
    drain();
    return sent.empty();
  }
  Got take() {
    drain();
    if (sent.empty()) return {};
    Got got = sent.front();
    sent.pop_front();
    return got;
  }
  /// The last of all.
  Got last() {
    drain();
    Got got = sent.empty() ? Got{} : sent.back();
    sent.clear();
    return got;
  }

  /// The peer asks, the stack answers, the peer confirms: numbers 1 and 1 are next.
  struct Options {
    uint16_t mss = 1000;
    bool timestamps = false;
    bool sack = false;
    std::optional<uint8_t> shift{};
    uint16_t window = 65535;
    bool ecn = false;
  };
  Connection& open() { return open(Options{}); }
  Connection& open(const Options& options) {
    Hand syn{.flags = kSyn, .seq = 0, .window = options.window};
    if (options.ecn) syn.flags |= kEce | kCwr;
    syn.mss = options.mss;
    syn.sack_permitted = options.sack;
    syn.shift = options.shift;
    syn.with_timestamps = options.timestamps;
    send(syn);
    syn_ack = take();
    timestamps = syn_ack.segment.timestamps.has_value();
    pass(10 * kMillisecond);
    send({.window = static_cast<uint16_t>(options.window >> std::min<int>(options.shift.value_or(0), 14))});
    return *connection;
  }
  /// Sends without end of stream.
  size_t write(Connection& to, size_t size) {
    size_t done = 0;
    while (done < size) {
      iovec parts[2];
      const size_t count = to.space(size - done, parts);
      size_t here = 0;
      for (size_t i = 0; i < count; i++) {
        std::memset(parts[i].iov_base, 'x', parts[i].iov_len);
        here += parts[i].iov_len;
      }
      if (here == 0) break;
      to.wrote(here);
      done += here;
    }
    drain();
    return done;
  }
  void finish(Connection& to) {
    to.finish();
    drain();
  }

  // Handler
  void asked(Connection& c) override {
    asks++;
    connection = &c;
    if (accepts) c.accept();
  }
  void opened(Connection& c) override {
    connection = &c;
    opens++;
  }
  size_t data(Connection&, const Scattered& bytes) override {
    if (!reads) return 0;
    bytes.for_each(
        [&](const uint8_t* data, size_t size) { text.append(reinterpret_cast<const char*>(data), size); });
    return bytes.size();
  }
  void ended(Connection&) override { ends++; }
  void writable(Connection&) override {}
  void closed(Connection&, Ended why) override { over = why; }

  static constexpr Sequence kPeerFirst = 0xfffffff0;  ///< numbers go round soon
  Nanoseconds now = 1000 * kSecond;
  Stack stack;
  Flow flow;
  Connection* connection = nullptr;
  Sequence first = 0;  ///< of the stack
  bool timestamps = false;
  uint32_t last_timestamp = 0;
  bool accepts = true, reads = true;
  int asks = 0, opens = 0, ends = 0;
  std::optional<Ended> over;
  std::string text;
  std::deque<Got> sent;
  Got syn_ack;

 private:
  void drain() {
    while (const inner::Received* packet = stack.transmit(now)) {
      const iovec parts[2] = {
          {const_cast<inner::VirtioNetHeader*>(packet->header), sizeof(inner::VirtioNetHeader)},
          {packet->data, packet->size}};
      PacketView view;
      Got got;
      if (parse_packet(parts, view) != PacketError::none || !parse_segment(view, got.segment)) std::abort();
      if (got.segment.has(kSyn)) first = got.segment.sequence;
      got.seq = got.segment.sequence - first;
      got.ack = got.segment.acknowledgment - kPeerFirst;
      got.size = got.segment.payload.size();
      got.mss = packet->header->gso_size == 0 ? got.size : packet->header->gso_size;
      got.segment.payload.for_each([&](const uint8_t* data, size_t size) {
        got.text.append(reinterpret_cast<const char*>(data), size);
      });
      if (got.segment.timestamps.has_value()) last_timestamp = got.segment.timestamps->value;
      sent.push_back(std::move(got));
    }
  }
  const Settings settings_;
};

}  // namespace omerta::test
