// SPDX-License-Identifier: Apache-2.0
// Packets of a guest as an exit without a TUN interface reads them: joined where they can be, as on the way
// to any inside, then taken for segments, datagrams, pings and what routers say. Each is read a second time,
// byte by byte, as it came.
//
// input: packets, each shape u8 · size u8 · bytes
//   shape bit 0: IPv6 instead of IPv4
//   shape bit 1: lengths agree with the packet
//   shape bit 2: checksums are right
//   shape bit 3: it goes on where the one before ended: its headers are that one's
//   shape bits 4 and 5: TCP, UDP, ICMP, or whatever it says
#include <map>
#include <optional>
#include <span>

#include "exit/echo.h"
#include "fuzz/fuzz_input.h"
#include "fuzz/plain_checksum.h"
#include "inner/coalescing.h"
#include "stack/datagram.h"
#include "stack/segment.h"
#include "stack/too_big.h"

using namespace omerta;
using namespace omerta::stack;
using omerta::fuzz::Input;
using omerta::fuzz::require;

namespace {

constexpr int kMostPackets = 24;
using Packet = std::vector<uint8_t>;

size_t word(const uint8_t* at) { return static_cast<size_t>(at[0]) << 8 | at[1]; }
void set_word(uint8_t* at, size_t value) {
  at[0] = static_cast<uint8_t>(value >> 8);
  at[1] = static_cast<uint8_t>(value);
}

/// A packet read plainly: what is in front of the transport, and what that is. nullopt: an exit has no use
/// for it.
struct Plain {
  size_t header;
  uint8_t protocol;
  Address from, to;
};
std::optional<Plain> read(const Packet& packet) {
  const bool v4 = packet[0] >> 4 == 4;
  const size_t header = v4 ? size_t{4} * (packet[0] & 15) : 40;
  Plain out{header, packet[v4 ? 9 : 6], address_of(&packet[v4 ? 12 : 8], v4 ? 4 : 16),
            address_of(&packet[v4 ? 16 : 24], v4 ? 4 : 16)};
  const bool pseudo = !v4 || out.protocol != kIcmp;
  const bool summed = out.protocol == inner::kTcp || out.protocol == inner::kUdp || out.protocol == kIcmp ||
                      out.protocol == kIcmpv6;
  const size_t size = packet.size() - header;
  if (v4 && ((word(&packet[6]) & 0x3fff) != 0 || fuzz::plain_sum(packet.data(), header) != 0xffff))
    return std::nullopt;
  if (!v4 && (is_ipv4(out.from) || is_ipv4(out.to) || !summed)) return std::nullopt;
  if (v4 && out.protocol == inner::kUdp && size >= 8 && word(&packet[header + 6]) == 0) return out;
  if (summed && (pseudo ? fuzz::plain_transport_sum(packet.data(), header, packet.size(), out.protocol)
                        : fuzz::plain_sum(&packet[header], size)) != 0xffff)
    return std::nullopt;
  return out;
}

/// Whether the options of a segment lie within its header, as far as there are any (RFC 9293 3.1).
bool options_fit(const uint8_t* at, const uint8_t* end) {
  while (at < end && *at != 0) {
    const ptrdiff_t size = *at == 1 ? 1 : end - at < 2 ? 0 : at[1];
    if (size == 0 || (size == 1 && *at != 1) || size > end - at) return false;
    at += size;
  }
  return true;
}

using FlowKey = std::tuple<Address, uint16_t, Address, uint16_t>;
FlowKey key_of(const Flow& flow) { return {flow.remote, flow.remote_port, flow.local, flow.local_port}; }

/// What the exit is to read, in the order of each flow.
struct Expected {
  std::map<FlowKey, std::vector<Packet>> datagrams;
  std::map<FlowKey, Packet> text;  ///< of segments, one after the other
  size_t pings = 0;

  void add(const Packet& packet) {
    const std::optional<Plain> plain = read(packet);
    if (!plain.has_value()) return;
    const uint8_t* transport = packet.data() + plain->header;
    const size_t size = packet.size() - plain->header;
    const FlowKey flow{plain->from, size < 4 ? 0 : static_cast<uint16_t>(word(transport)), plain->to,
                       size < 4 ? 0 : static_cast<uint16_t>(word(transport + 2))};
    if (plain->protocol == inner::kUdp && size >= 8) {
      const size_t length = word(transport + 4);
      if (length >= 8 && length <= size && std::get<1>(flow) != 0 && std::get<3>(flow) != 0)
        datagrams[flow].emplace_back(transport + 8, transport + length);
    } else if (plain->protocol == inner::kTcp && size >= 20) {
      const size_t header = size_t{4} * (transport[12] >> 4);
      if (header >= 20 && header <= size && options_fit(transport + 20, transport + header))
        text[flow].insert(text[flow].end(), transport + header, transport + size);
    } else if (size >= 8 && transport[1] == 0 &&
               ((is_ipv4(plain->to) && plain->protocol == kIcmp && transport[0] == 8) ||
                (!is_ipv4(plain->to) && plain->protocol == kIcmpv6 && transport[0] == 128))) {
      pings++;
    }
  }
};

/// An exit's inside, which reads what it is given and keeps it.
class Exit final : public inner::Port {
 public:
  explicit Exit(Expected& expected) : expected_(expected) {}

  int descriptor() const override { return -1; }
  std::span<const inner::Received> receive() override { return {}; }
  void set_offloads(const inner::Offloads&) override {}
  Taken send(std::span<const inner::Gathered> packets) override {
    for (const inner::Gathered& packet : packets) {
      PacketView view;
      if (parse_packet(packet, view) == PacketError::none) take(view);
    }
    return {packets.size(), Stop::none};
  }
  void check() {
    require(datagrams_ == expected_.datagrams && text_ == expected_.text && pings_ == expected_.pings);
  }

 private:
  void take(const PacketView& view) {
    require(view.transport + view.body.size() == view.ip.length);
    Packet body(view.body.size());
    view.body.copy_to(body.data());
    gathered(view.body, body);
    Datagrams datagrams;
    Segment segment;
    if (view.protocol == inner::kUdp && parse_datagrams(view, datagrams)) {
      Packet payload(datagrams.payload.size());
      datagrams.payload.copy_to(payload.data());
      auto& all = datagrams_[key_of(datagrams.flow)];
      auto at = payload.begin();
      do {
        const auto end = at + std::min(static_cast<ptrdiff_t>(datagrams.each), payload.end() - at);
        all.emplace_back(at, end);
        answer(datagrams.flow, all.back());
        at = end;
      } while (at != payload.end());
    } else if (view.protocol == inner::kTcp && parse_segment(view, segment)) {
      Packet& text = text_[key_of(segment.flow)];
      const size_t header = size_t{4} * (body[12] >> 4);
      text.insert(text.end(), body.begin() + static_cast<ptrdiff_t>(header), body.end());
    }
    ping(view, body);
    if (const std::optional<TooBig> big = parse_too_big(view); big.has_value()) {
      const bool v4 = view.ip.family == 4;
      const uint8_t* quoted = &body[8];
      const size_t header = v4 ? size_t{4} * (quoted[0] & 15) : 40;
      require(body[0] == (v4 ? 3 : 2) && quoted[v4 ? 9 : 6] == inner::kTcp && body.size() >= 8 + header + 8);
      require(big->flow.local_port == word(quoted + header) &&
              big->flow.remote_port == word(quoted + header + 2));
      require(big->flow.local == address_of(quoted + (v4 ? 12 : 8), v4 ? 4 : 16));
      require(big->mtu == (v4 ? word(&body[6]) : word(&body[4]) << 16 | word(&body[6])));
    }
  }

  /// The first pieces, as a socket is given them, begin as all do.
  static void gathered(const Scattered& scattered, const Packet& body) {
    iovec parts[3];
    auto at = body.begin();
    for (const iovec& part : std::span(parts, scattered.gather(parts))) {
      const auto* piece = static_cast<const uint8_t*>(part.iov_base);
      require(part.iov_len != 0 && part.iov_len <= static_cast<size_t>(body.end() - at));
      require(std::equal(piece, piece + part.iov_len, at));
      at += static_cast<ptrdiff_t>(part.iov_len);
    }
  }

  /// What is sent back for a datagram is a packet of the other direction that holds as much.
  static void answer(const Flow& flow, const Packet& payload) {
    const Flow back{flow.local, flow.remote, flow.local_port, flow.remote_port};
    const Packet packet = write_datagram(back, payload);
    const std::optional<Plain> plain = read(packet);
    require(plain.has_value() && plain->protocol == inner::kUdp && word(&packet[plain->header + 6]) != 0);
    require(plain->from == flow.local && plain->to == flow.remote);
    require(word(&packet[plain->header]) == flow.local_port &&
            word(&packet[plain->header + 2]) == flow.remote_port);
    require(std::equal(payload.begin(), payload.end(),
                       packet.begin() + static_cast<ptrdiff_t>(plain->header + 8), packet.end()));
  }

  /// An answer is what was asked, from the address that was, with another type.
  void ping(const PacketView& view, Packet& body) {
    const Packet reply = exit::echo_reply(view);
    if (reply.empty()) return;
    pings_++;
    echoed(view, reply);
    const std::optional<Plain> plain = read(reply);
    require(plain.has_value() && plain->protocol == view.protocol);
    require(plain->from == address_of(view.ip.destination, view.ip.address_size));
    require(plain->to == address_of(view.ip.source, view.ip.address_size));
    body[0] = view.ip.family == 4 ? 0 : 129;
    body[2] = reply[plain->header + 2];
    body[3] = reply[plain->header + 3];
    require(std::equal(body.begin(), body.end(), reply.begin() + static_cast<ptrdiff_t>(plain->header),
                       reply.end()));
  }

  /// Pings that go on come back as if this node had answered, whatever the socket called them; of those that
  /// do not, who sent them is told.
  static void echoed(const PacketView& view, const Packet& reply) {
    const std::optional<exit::Echo> echo = exit::parse_echo(view);
    require(echo.has_value());
    Packet other(reply.begin() + (view.ip.family == 4 ? 20 : 40), reply.end());
    other[4] ^= 0x5a;
    require(exit::echo_of(echo->flow, other) == reply);
    require(exit::echo_of(echo->flow, Bytes(other).first(7)).empty());
    other[0] ^= 1;
    require(exit::echo_of(echo->flow, other).empty());
    const Packet error = exit::unreachable_echo(*echo, inner::Unreachable::host);
    if (error.empty()) return;  // to what is no unicast address
    const std::optional<Plain> plain = read(error);
    require(plain.has_value() && plain->protocol == view.protocol);
    require(plain->from == echo->flow.local && plain->to == echo->flow.remote);
  }

  Expected& expected_;
  std::map<FlowKey, std::vector<Packet>> datagrams_;
  std::map<FlowKey, Packet> text_;
  size_t pings_ = 0;
};

/// The same flow, and in its order where that has numbers.
void go_on(Packet& packet, const Packet& before) {
  const size_t headers = before[0] >> 4 == 4 ? 28 : 48;
  const bool tcp = before[before[0] >> 4 == 4 ? 9 : 6] == inner::kTcp;
  const size_t copied = std::min({packet.size(), before.size(), tcp ? headers + 12 : headers});
  std::copy_n(before.begin(), copied, packet.begin());
  if (before[0] >> 4 == 4) set_word(&packet[4], word(&before[4]) + 1);
  const size_t number = headers - 8 + 4;
  if (!tcp || packet.size() < headers + 12 || before.size() < headers + 12) return;
  const uint32_t next =
      ntohl(load<uint32_t>(&before[number])) + static_cast<uint32_t>(before.size() - headers - 12);
  store(&packet[number], htonl(next));
}

void repair(Packet& packet, uint8_t shape) {
  const bool v6 = (shape & 1) != 0;
  packet[0] = static_cast<uint8_t>(v6                 ? 0x60 | (packet[0] & 15)
                                   : (shape & 2) != 0 ? 0x45
                                                      : 0x40 | (packet[0] & 15));
  if ((shape & 2) == 0) return;
  static constexpr uint8_t kProtocols[] = {inner::kTcp, inner::kUdp, kIcmp};
  const size_t header = v6 ? 40 : 20, size = packet.size() - header;
  set_word(&packet[v6 ? 4 : 2], v6 ? size : packet.size());
  if (const size_t which = shape >> 4 & 3; which < 3)
    packet[v6 ? 6 : 9] = which == 2 && v6 ? kIcmpv6 : kProtocols[which];
  if (!v6) set_word(&packet[6], word(&packet[6]) & 0x4000);
  const uint8_t protocol = packet[v6 ? 6 : 9];
  if (protocol == inner::kUdp && size >= 8) set_word(&packet[header + 4], size);
  if (protocol == inner::kTcp && size >= 20 && packet[header + 12] >> 4 < 5) packet[header + 12] = 0x50;
}

void sum(Packet& packet) {
  const bool v4 = packet[0] >> 4 == 4;
  const size_t header = v4 ? size_t{4} * (packet[0] & 15) : 40;
  if (header < 20 || packet.size() < header) return;
  const uint8_t protocol = packet[v4 ? 9 : 6];
  const size_t field = header + (protocol == inner::kTcp ? 16 : protocol == inner::kUdp ? 6 : 2);
  if (v4) {
    set_word(&packet[10], 0);
    set_word(&packet[10], 0xffff - fuzz::plain_sum(packet.data(), header));
  }
  if (packet.size() < field + 2) return;
  set_word(&packet[field], 0);
  const uint32_t plain = v4 && protocol == kIcmp
                             ? fuzz::plain_sum(&packet[header], packet.size() - header)
                             : fuzz::plain_transport_sum(packet.data(), header, packet.size(), protocol);
  const size_t made = 0xffff - plain;
  set_word(&packet[field], protocol == inner::kUdp && made == 0 ? 0xffff : made);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input(data, size);
  Expected expected;
  Exit exit(expected);
  inner::Coalescing coalescing(exit, true, true);
  CounterRow counters;
  std::vector<Packet> packets;
  for (int i = 0; i < kMostPackets && !input.empty(); i++) {
    const uint8_t shape = input.byte();
    Packet packet = input.bytes(input.byte());
    packet.resize(std::max<size_t>(packet.size(), (shape & 1) != 0 ? 40 : 20));
    if ((shape & 8) != 0 && !packets.empty() && packets.back()[0] >> 4 == ((shape & 1) != 0 ? 6 : 4))
      go_on(packet, packets.back());
    repair(packet, shape);
    if ((shape & 4) != 0) sum(packet);
    const inner::IpView ip = inner::parse_ip(packet.data(), packet.size());
    if (ip.family == 0) continue;
    packet.resize(ip.length);  // what is behind it was padding
    packets.push_back(std::move(packet));
  }
  for (Packet& packet : packets) {
    expected.add(packet);
    coalescing.add(packet.data(), inner::parse_ip(packet.data(), packet.size()), counters);
  }
  coalescing.flush(counters);
  exit.check();
  return 0;
}
