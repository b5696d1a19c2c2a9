// SPDX-License-Identifier: Apache-2.0
// A peer that may send any segment at any time to a stack, in every state of a connection. The input is a
// program: an instruction, and what it takes. Numbers of segments are near those the stack expects, or
// anything.
//
// What has to hold after every instruction:
//   - memory, connections and half-open ones are within their bounds, and what is over has none
//   - what the user gets is what the peer said lies there: each byte is a function of its sequence number, so
//   a
//     byte at a wrong place is seen
//   - nothing is sent twice as large as it may be, and every packet sent can be read again
#include <map>

#include "fuzz/fuzz_input.h"
#include "inner/icmp_error.h"
#include "inner/segmentation.h"
#include "stack/stack.h"
#include "stack/too_big.h"

using namespace omerta;
using namespace omerta::stack;
using omerta::fuzz::Input;
using omerta::fuzz::require;

namespace {

constexpr int kMaxInstructions = 400;
constexpr size_t kOwnerMemory = 64 * 1024, kMemory = 100 * 1024;

Settings settings() {
  Settings s;
  s.memory = kMemory;
  s.owner_memory = kOwnerMemory;
  s.connections = 6;
  s.owner_connections = 4;
  s.half_open = 4;
  s.owner_half_open = 3;
  s.receive_window = 100'000;
  s.send_buffer = 40'000;
  s.time_wait = 2 * kSecond;
  s.keepalive_after = 50 * kSecond;
  s.keepalive_every = 5 * kSecond;
  s.give_up_after = 20 * kSecond;
  return s;
}

uint8_t text_at(Sequence sequence) { return static_cast<uint8_t>(sequence ^ sequence >> 8 ^ sequence >> 16); }

/// What the peer knows of a flow.
struct Known {
  Sequence local = 0;   ///< the highest number the stack sent, and one more
  Sequence una = 0;     ///< the lowest it has not heard of
  Sequence remote = 0;  ///< what the stack expects
  uint32_t window = 0;
  uint32_t timestamp = 0;
  uint32_t first_timestamp = 0;  ///< since it acknowledged something last
  bool timestamps = false;
  Sequence read = 0;            ///< of the next byte the user gets
  std::vector<uint8_t> sent{};  ///< the last packet of the stack
};

class World final : public Handler {
 public:
  World() : stack_(settings(), *this, Key32{3}) { stack_.at(now_); }

  void run(Input& input) {
    for (int i = 0; i < kMaxInstructions && !input.empty(); i++) {
      step(input);
      drain();
      check();
    }
    // Everything comes to its end by itself.
    reads_ = true;
    stack_.for_each([this](Connection& c) {
      if (c.state() == State::asked)
        refuse(c);
      else
        c.resume();
    });
    for (int i = 0; i < 400; i++) pass(5 * kSecond);
    drain();
    check();
    require(stack_.connections() == 0 && stack_.lingering() == 0 && stack_.memory() == 0);
    require(connections_.empty());
  }

  // Handler
  void asked(Connection& c) override {
    require(connections_.emplace(key_of(c), &c).second);
    if (mode_ % 4 == 0) return;
    mode_ % 4 == 1 ? refuse(c) : c.accept();
  }
  void opened(Connection&) override {}
  size_t data(Connection& c, const Scattered& bytes) override {
    Known& known = known_[key_of(c)];
    size_t taken = reads_ ? bytes.size() : bytes.size() / 3;
    size_t left = taken;
    bytes.for_each([&](const uint8_t* at, size_t size) {
      for (size_t i = 0; i < size && left > 0; i++, left--) require(at[i] == text_at(known.read++));
    });
    return taken;
  }
  void ended(Connection& c) override {
    if (mode_ % 3 == 0) c.finish();
  }
  void writable(Connection& c) override {
    if (mode_ % 5 == 0) write(c, 3000);
  }
  void closed(Connection& c, Ended) override { require(connections_.erase(key_of(c)) == 1); }

 private:
  using Key = std::pair<uint16_t, uint8_t>;  // port, and last byte of the address
  static Key key_of(const Connection& c) { return {c.flow().remote_port, c.flow().remote[15]}; }

  static Flow flow_of(uint8_t number) {
    Flow flow;
    const bool v6 = (number & 4) != 0;
    uint8_t local[16] = {0xfd}, remote[16] = {0xfd};
    local[12] = remote[12] = 10;  // what is no unicast address gets no ICMP
    local[15] = 1;
    remote[15] = static_cast<uint8_t>(10 + (number & 1) + (v6 ? 2 : 0));
    flow.local = v6 ? address_of(local, 16) : address_of(local + 12, 4);
    flow.remote = v6 ? address_of(remote, 16) : address_of(remote + 12, 4);
    flow.local_port = 80;
    flow.remote_port = static_cast<uint16_t>(1000 + (number >> 3 & 1));
    return flow;
  }
  static Key key_of(const Flow& flow) { return {flow.remote_port, flow.remote[15]}; }

  void refuse(Connection& c) {
    connections_.erase(key_of(c));
    c.refuse();
  }

  static Sequence near(Input& input, Sequence expected, uint32_t window) {
    switch (input.byte() % 8) {
      case 0:
      case 1:
      case 2:
      case 3:
        return expected;
      case 4:
        return expected + input.word();
      case 5:
        return expected - input.byte();
      case 6:
        return expected + window + input.byte() % 5 - 2;
      default:
        return static_cast<Sequence>(input.word()) << 16 | input.word();
    }
  }

  void step(Input& input) {
    const uint8_t instruction = input.byte(), number = input.byte();
    const Flow flow = flow_of(number);
    const auto found = connections_.find(key_of(flow));
    Connection* c = found == connections_.end() ? nullptr : found->second;
    switch (instruction % 16) {
      default:
        return segment(input, flow);
      case 5:
      case 6:
      case 7:
        return honest(input, flow, instruction % 16);
      case 8:
        return pass(Nanoseconds{input.word()} * 3 * kMillisecond);
      case 9:
        mode_ = input.byte();
        reads_ = (mode_ & 0x40) == 0;
        return;
      case 10:
        if (c != nullptr) write(*c, input.word());
        return;
      case 11:
        if (c != nullptr) c->finish();
        return;
      case 12:
        if (c == nullptr) return;
        if (c->state() == State::asked) return c->accept();
        connections_.erase(key_of(flow));
        return c->abort();
      case 13:
        if (c != nullptr) c->resume();
        return;
      case 14:
        if (c == nullptr && (c = stack_.connect(flow, now_)) != nullptr) connections_[key_of(flow)] = c;
        return;
      case 15:
        return too_big(input, flow, number >> 5);
    }
  }

  /// A router has no room for what was sent last, with this number for its first byte; or somebody says so.
  /// `shape`: what is wrong with it, 0 to 3: nothing.
  void too_big(Input& input, const Flow& flow, int shape) {
    const Known& known = known_[key_of(flow)];
    const uint8_t argument = input.byte();
    const size_t mtu = input.word();
    const Sequence sequence = known.una + argument;
    if (known.sent.empty()) return stack_.too_big(flow, sequence, mtu);
    std::vector<uint8_t> quoted = known.sent;
    const size_t header = flow.ip_header();
    store(&quoted[header + 4], htonl(sequence));
    std::vector<uint8_t> said =
        inner::icmp_too_big(inner::parse_ip(quoted.data(), quoted.size()), quoted.data(), mtu);
    uint8_t* const icmp = &said[header];
    uint8_t* const inside = icmp + 8;
    if (shape == 4) {  // too little of it
      said.resize(std::min(said.size(), header + argument));
      store(&said[flow.ipv4() ? 2 : 4], htons(static_cast<uint16_t>(said.size() - (flow.ipv4() ? 0 : 40))));
      if (flow.ipv4()) {
        store(&said[10], uint16_t{0});
        store(&said[10], inner::checksum_finish(inner::checksum_add(said.data(), 20)));
      }
    } else if (shape == 5) {
      inside[0] = argument;  // another version, or a header of another length
    } else if (shape == 6) {
      inside[flow.ipv4() ? 9 : 6] = argument;  // it was no TCP
    } else if (shape == 7) {
      icmp[argument % 2] = argument;
    }
    inner::VirtioNetHeader unsummed{};
    unsummed.flags = inner::kDataValid;
    const size_t together = header + 8 + header + 8;  // as much is in one piece, of the rest nothing is read
    const size_t first = std::min(said.size(), together);
    const iovec parts[3] = {
        {&unsummed, sizeof unsummed}, {said.data(), first}, {said.data() + first, said.size() - first}};
    PacketView packet;
    require(parse_packet(parts, packet) == PacketError::none);
    const std::optional<TooBig> read = parse_too_big(packet);
    if (shape < 4) require(read.has_value());
    if (!read.has_value()) return;
    if (shape != 5) require(read->flow == flow && read->sequence == sequence);
    require(read->mtu == mtu && icmp[0] == (flow.ipv4() ? 3 : 2) && (!flow.ipv4() || icmp[1] == 4));
    require(inside[0] >> 4 == (flow.ipv4() ? 4 : 6) && inside[flow.ipv4() ? 9 : 6] == inner::kTcp);
    stack_.too_big(read->flow, read->sequence, read->mtu);
  }

  void segment(Input& input, const Flow& flow) {
    Known& known = known_[key_of(flow)];
    static constexpr uint8_t kFlags[] = {kAck, kAck,        kAck | kPsh, kAck | kFin,
                                         kSyn, kSyn | kAck, kRst,        kRst | kAck};
    Segment out;
    out.flow.local = flow.remote;
    out.flow.remote = flow.local;
    out.flow.local_port = flow.remote_port;
    out.flow.remote_port = flow.local_port;
    const uint8_t shape = input.byte();
    out.flags = shape < 0xe0 ? kFlags[shape % 8] : input.byte();
    if (shape & 8) out.flags |= kEce;
    if (shape & 16) out.flags |= kCwr;
    out.ecn = shape & 32 ? 3 : 2;
    out.sequence = near(input, known.remote, known.window);
    out.acknowledgment = near(input, known.local, 1000);
    out.window = input.word();
    const uint8_t options = input.byte();
    if (out.has(kSyn)) {
      if (options & 1) out.mss = static_cast<uint16_t>(input.byte() * 20);
      if (options & 2) out.window_shift = options >> 4;
      out.sack_permitted = (options & 4) != 0;
      if (options & 8) out.timestamps = Timestamps{clock(), 0};
    } else {
      if (known.timestamps != ((options & 1) != 0))
        out.timestamps = Timestamps{clock() + (options & 2 ? input.byte() - 128U : 0),
                                    known.timestamp + (options & 4 ? input.byte() - 128U : 0)};
      for (int i = 0; i < (options >> 6); i++)
        out.sacks[out.sack_count++] = {known.una + input.word(), known.una + input.word()};
    }
    std::vector<uint8_t> text(out.has(kSyn) ? 0 : options & 0x20 ? input.byte() * 40U : input.byte() % 8U);
    for (size_t i = 0; i < text.size(); i++) text[i] = text_at(out.sequence + static_cast<Sequence>(i));
    const auto found = connections_.find(key_of(flow));
    if (out.has(kSyn) && (found == connections_.end() || found->second->state() == State::syn_sent))
      known.read = known.remote = out.sequence + 1;
    deliver(out, text, options == 0xff ? &input : nullptr);  // anything in the place of the options
  }

  /// What a peer would send that means well: it asks, takes what came and goes on (5), leaves out a part of
  /// what came (6), or closes (7).
  void honest(Input& input, const Flow& flow, int kind) {
    Known& known = known_[key_of(flow)];
    Segment out;
    out.flow.local = flow.remote;
    out.flow.remote = flow.local;
    out.flow.local_port = flow.remote_port;
    out.flow.remote_port = flow.local_port;
    out.window = 60'000;
    const uint8_t amount = input.byte();
    std::vector<uint8_t> text;
    const auto found = connections_.find(key_of(flow));
    if (found == connections_.end() || found->second->state() == State::syn_sent) {
      out.flags = found == connections_.end() ? kSyn : kSyn | kAck;
      out.sequence = amount * 0x01010101U;
      out.acknowledgment = known.local;
      known.read = known.remote = out.sequence + 1;
      out.mss = 1000;
      if (amount & 1) out.window_shift = 2;
      out.sack_permitted = (amount & 2) != 0;
      if (amount & 4) out.timestamps = Timestamps{clock(), known.timestamp};
      if (amount & 8 && out.flags == kSyn) out.flags |= kEce | kCwr;
    } else {
      out.flags = kAck;
      out.sequence = known.remote;
      out.acknowledgment = kind == 6 ? known.una : known.una = known.local;
      if (known.timestamps) out.timestamps = Timestamps{clock(), known.timestamp};
      // Of the first it was told: what it answers was sent before it was sent again.
      if (amount & 2 && known.timestamps) out.timestamps->echo = known.first_timestamp;
      if (kind == 6) {
        const Sequence begin =
            known.una + 1000U * (amount & 7) + (amount & 0x40 ? 3 : 0) - (amount & 0x80 ? 4000 : 0);
        out.sacks[out.sack_count++] = {begin, begin + 1000U * (1 + (amount >> 3 & 7))};
      } else {
        known.first_timestamp = 0;
        if (amount & 1) out.sequence += 1000U * (amount >> 5);
        text.resize(kind == 5 ? amount * 16U : 0);
        for (size_t i = 0; i < text.size(); i++) text[i] = text_at(out.sequence + static_cast<Sequence>(i));
      }
      if (kind == 7) out.flags |= kFin;
    }
    deliver(out, text, nullptr);
  }

  /// `spoil`: where other bytes for the options come from.
  void deliver(const Segment& segment, std::vector<uint8_t>& text, Input* spoil) {
    uint8_t headers[kMaxSegmentHeaders];
    inner::VirtioNetHeader header;
    const size_t size = write_segment(headers, segment, text.size(), 1000, header);
    std::vector<uint8_t> whole(headers, headers + size);
    if (spoil != nullptr) {
      const size_t tcp = segment.flow.ip_header();
      for (size_t i = tcp + 20; i < whole.size(); i++) whole[i] = spoil->byte();
      whole[tcp + 12] = spoil->byte();
    }
    const iovec parts[3] = {
        {&header, sizeof header}, {whole.data(), whole.size()}, {text.data(), text.size()}};
    PacketView packet;
    if (parse_packet(parts, packet) == PacketError::none) stack_.receive(packet, now_);
  }

  uint32_t clock() const { return static_cast<uint32_t>(now_ / kMillisecond); }

  void write(Connection& c, size_t most) {
    iovec parts[2];
    const size_t count = c.space(most, parts);
    size_t size = 0;
    for (size_t i = 0; i < count; i++) {
      std::memset(parts[i].iov_base, 'x', parts[i].iov_len);
      size += parts[i].iov_len;
    }
    c.wrote(size);
  }

  void pass(Nanoseconds time) {
    const Nanoseconds until = now_ + time;
    drain();
    for (int i = 0; i < 1000 && stack_.deadline() <= until; i++) {
      now_ = std::max(now_, stack_.deadline());
      stack_.advance(now_);
      drain();
    }
    require(stack_.deadline() > now_);
    now_ = until;
    stack_.advance(now_);
  }

  void drain() {
    for (int i = 0;; i++) {
      require(i < 10'000);
      const inner::Received* sent = stack_.transmit(now_);
      if (sent == nullptr) return;
      inner::Segmentation segments(*sent->header, sent->data, sent->size);
      require(segments.valid());
      for (size_t s = 0; s < segments.count(); s++) {
        require(segments.size(s) <= settings().mtu);
        std::vector<uint8_t> packet(segments.size(s));
        segments.write(s, packet.data());
        inner::VirtioNetHeader plain{};
        const iovec parts[2] = {{&plain, sizeof plain}, {packet.data(), packet.size()}};
        PacketView view;
        Segment segment;
        require(parse_packet(parts, view) == PacketError::none && parse_segment(view, segment));
        note(segment, packet);
      }
    }
  }

  void note(const Segment& segment, const std::vector<uint8_t>& packet) {
    Known& known = known_[{segment.flow.local_port, view_address(segment)}];
    known.sent = packet;
    if (segment.has(kRst)) return;
    if (segment.has(kSyn)) known.una = segment.sequence + 1;
    known.local = segment.end();
    if (segment.has(kAck)) known.remote = segment.acknowledgment;
    known.window = segment.window;
    known.timestamps = segment.timestamps.has_value();
    if (!known.timestamps) return;
    known.timestamp = segment.timestamps->value;
    if (known.first_timestamp == 0) known.first_timestamp = known.timestamp;
  }
  /// Read from the peer's side, remote and local are the other way round.
  static uint8_t view_address(const Segment& segment) { return segment.flow.local[15]; }

  void check() {
    require(stack_.memory() <= kMemory);
    require(stack_.connections() <= settings().connections && stack_.half_open() <= settings().half_open);
    size_t count = 0;
    stack_.for_each([&](Connection& c) {
      count++;
      require(c.waiting() <= settings().receive_window && c.queued() <= settings().send_buffer);
    });
    require(count == connections_.size());
  }

  Nanoseconds now_ = 100 * kSecond;
  Stack stack_;
  std::map<Key, Connection*> connections_;
  std::map<Key, Known> known_;
  uint8_t mode_ = 2;
  bool reads_ = true;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input(data, size);
  World().run(input);
  return 0;
}
