// SPDX-License-Identifier: Apache-2.0
// What Coalescing joins, segmentation takes apart again to the same bytes: bursts in which one packet
// differs in one bit of its headers, for every bit of IPv4, IPv6, their options and extension headers, TCP
// with options and UDP; with the checksums right for what it says, and as they were.
#include <algorithm>
#include <vector>

#include "check.h"
#include "inner/coalescing.h"
#include "inner/segmentation.h"
#include "memory_port.h"

namespace {

using namespace omerta;
using namespace omerta::inner;

using Packet = std::vector<uint8_t>;
using Packets = std::vector<Packet>;

constexpr size_t kPayload = 96;
constexpr size_t kBurst = 6;

/// Headers in front of the transport header; `transport` bytes long.
struct Shape {
  const char* name;
  uint8_t family;
  uint8_t protocol;
  size_t transport;
  bool joined;  ///< whether packets of this shape are joined at all
};

constexpr Shape kShapes[] = {
    {"TCP over IPv4", 4, kTcp, 20, true},
    {"UDP over IPv4", 4, kUdp, 20, true},
    {"TCP over IPv6", 6, kTcp, 40, true},
    {"UDP over IPv6", 6, kUdp, 40, true},
    {"TCP over IPv4 with options", 4, kTcp, 28, false},
    {"UDP over IPv4 with options", 4, kUdp, 28, false},
    {"TCP over IPv6 with destination options", 6, kTcp, 48, false},
    {"UDP over IPv6 with destination options", 6, kUdp, 48, false},
};

size_t transport_header(const Shape& shape) { return shape.protocol == kTcp ? 32 : 8; }

void repair(const Shape& shape, Packet& packet) {
  uint8_t* b = packet.data();
  if (shape.family == 4) {
    store<uint16_t>(b + 10, 0);
    store(b + 10, checksum_finish(checksum_add(b, shape.transport)));
  }
  const IpView ip{shape.family, static_cast<uint8_t>(shape.family == 4 ? 4 : 16),
                  b + (shape.family == 4 ? 12 : 8), b + (shape.family == 4 ? 16 : 24), packet.size()};
  const size_t size = packet.size() - shape.transport;
  uint8_t* field = b + shape.transport + (shape.protocol == kTcp ? 16 : 6);
  store<uint16_t>(field, 0);
  uint16_t sum =
      checksum_finish(checksum_add(b + shape.transport, size, pseudo_header_sum(ip, shape.protocol, size)));
  if (shape.protocol == kUdp && sum == 0) sum = 0xffff;
  store(field, sum);
}

/// The packet `index` of a burst; `last` is a little shorter and pushes.
Packet make(const Shape& shape, size_t index, bool last) {
  Packet packet(shape.transport + transport_header(shape) + (last ? kPayload - 10 : kPayload));
  uint8_t* b = packet.data();
  if (shape.family == 4) {
    b[0] = static_cast<uint8_t>(0x40 | shape.transport / 4);
    b[1] = 0x28 | 2;  // a class, ECT(0)
    store(b + 2, htons(static_cast<uint16_t>(packet.size())));
    store(b + 4, htons(static_cast<uint16_t>(65533 + index)));
    b[6] = 0x40;
    b[8] = 64;
    b[9] = shape.protocol;
    b[12] = 10, b[15] = 1, b[16] = 10, b[19] = 2;
    for (size_t at = 20; at < shape.transport; at++) b[at] = 1;  // no operation
  } else {
    b[0] = 0x62, b[1] = 0xa3, b[2] = 0x45, b[3] = 0x67;
    store(b + 4, htons(static_cast<uint16_t>(packet.size() - 40)));
    b[6] = shape.protocol;
    b[7] = 64;
    b[8] = b[24] = 0xfd;
    b[23] = 1, b[39] = 2;
    if (shape.transport > 40) {
      b[6] = 60;
      b[40] = shape.protocol;
      b[42] = 1, b[43] = 4;  // PadN
    }
  }
  uint8_t* t = b + shape.transport;
  store(t, htons(uint16_t{1000}));
  store(t + 2, htons(uint16_t{2000}));
  if (shape.protocol == kTcp) {
    store(t + 4, htonl(static_cast<uint32_t>(0xffffff80u + index * kPayload)));
    store(t + 8, htonl(77u));
    t[12] = 0x80;
    t[13] = last ? 0x18 : 0x10;
    store(t + 14, htons(uint16_t{500}));
    t[20] = t[21] = 1, t[22] = 8, t[23] = 10, t[27] = 5, t[31] = 6;  // timestamps (RFC 7323)
  } else {
    store(t + 4, htons(static_cast<uint16_t>(packet.size() - shape.transport)));
  }
  for (size_t at = shape.transport + transport_header(shape); at < packet.size(); at++)
    b[at] = static_cast<uint8_t>(index * 7 + at);
  repair(shape, packet);
  return packet;
}

Packets burst(const Shape& shape) {
  Packets packets;
  for (size_t i = 0; i < kBurst; i++) packets.push_back(make(shape, i, i + 1 == kBurst));
  return packets;
}

struct Written {
  size_t writes = 0;
  Packets packets;  ///< as the kernel makes them of what was written
};

/// Hands packets to Coalescing and takes apart what it wrote.
Written through(Packets packets) {
  test::MemoryPort port;
  CounterRow counters;
  Coalescing coalescing(port, true, true);
  for (Packet& packet : packets)
    coalescing.add(packet.data(), parse_ip(packet.data(), packet.size()), counters);
  coalescing.flush(counters);
  Written written;
  written.writes = port.sent.size();
  for (Packet& whole : port.sent) {
    const Segmentation segments(load<VirtioNetHeader>(whole.data()), whole.data() + sizeof(VirtioNetHeader),
                                whole.size() - sizeof(VirtioNetHeader));
    CHECK(segments.valid());
    for (size_t i = 0; i < segments.count(); i++) {
      written.packets.emplace_back(segments.size(i));
      segments.write(i, written.packets.back().data());
    }
  }
  return written;
}

/// Whether every packet comes out once and as it was, those of one flow in their order.
bool same_bytes(const Packets& sent, size_t other, const Packets& got) {
  if (got.size() != sent.size()) return false;
  Packets rest = got;
  const auto found = std::find(rest.begin(), rest.end(), sent[other]);
  if (found == rest.end()) return false;
  rest.erase(found);
  Packets expected = sent;
  expected.erase(expected.begin() + static_cast<long>(other));
  return rest == expected;
}

void a_burst_that_differs_in_nothing_is_one_write() {
  for (const Shape& shape : kShapes) {
    const Packets sent = burst(shape);
    const Written written = through(sent);
    CHECK(written.packets == sent);
    CHECK(written.writes == (shape.joined ? 1 : kBurst));
  }
}

void no_bit_of_a_header_is_lost_by_joining() {
  for (const Shape& shape : kShapes)
    for (const size_t changed : {size_t{0}, size_t{1}, size_t{3}, kBurst - 1})
      for (size_t bit = 0; bit < (shape.transport + transport_header(shape)) * 8; bit++)
        for (const bool checksums_follow : {true, false}) {
          Packets sent = burst(shape);
          Packet& packet = sent[changed];
          packet[bit / 8] ^= static_cast<uint8_t>(1 << bit % 8);
          if (checksums_follow) repair(shape, packet);
          // The engine hands on only what is an IP packet of its length.
          const IpView ip = parse_ip(packet.data(), packet.size());
          if (ip.family == 0 || ip.length != packet.size()) continue;
          const bool same = same_bytes(sent, changed, through(sent).packets);
          if (!same)
            std::fprintf(stderr, "%s: packet %zu, byte %zu, bit %zu, checksums %s\n", shape.name, changed,
                         bit / 8, bit % 8, checksums_follow ? "right" : "as before");
          CHECK(same);
        }
}

/// Adds the checksum at `field` to the word at `word`: made again, it is zero.
void move_into(uint8_t* word, const uint8_t* field) {
  store(word, checksum_fold(uint64_t{load<uint16_t>(word)} + load<uint16_t>(field)));
}

void both_forms_of_a_checksum_of_zero_survive() {
  for (const Shape& shape : kShapes)
    for (const size_t changed : {size_t{0}, size_t{2}})
      for (const bool of_ip : {true, false}) {
        if (of_ip && shape.family == 6) continue;
        Packets sent = burst(shape);
        Packet& packet = sent[changed];
        const size_t payload = shape.transport + transport_header(shape);
        const size_t field = of_ip ? 10 : shape.transport + (shape.protocol == kTcp ? 16 : 6);
        const Packet before = packet;
        for (Packet& each : sent) {
          // The source is of the whole flow, the payload of this packet.
          if (of_ip)
            move_into(each.data() + 14, before.data() + field);
          else if (&each == &packet)
            move_into(each.data() + payload, before.data() + field);
          repair(shape, each);
        }
        const bool udp = !of_ip && shape.protocol == kUdp;
        CHECK(load<uint16_t>(packet.data() + field) == (udp ? 0xffff : 0));
        CHECK(same_bytes(sent, changed, through(sent).packets));
        store<uint16_t>(packet.data() + field, udp ? 0 : 0xffff);
        CHECK(same_bytes(sent, changed, through(sent).packets));
      }
}

void a_fixed_identification_stays_fixed() {
  for (const Shape& shape : kShapes) {
    if (shape.family == 6) continue;
    for (const uint16_t identification : {uint16_t{0}, uint16_t{1}, uint16_t{0xffff}}) {
      Packets sent = burst(shape);
      for (Packet& packet : sent) {
        store(packet.data() + 4, htons(identification));
        repair(shape, packet);
      }
      CHECK(through(sent).packets == sent);
    }
  }
}

}  // namespace

int main() {
  RUN(a_burst_that_differs_in_nothing_is_one_write);
  RUN(no_bit_of_a_header_is_lost_by_joining);
  RUN(both_forms_of_a_checksum_of_zero_survive);
  RUN(a_fixed_identification_stays_fixed);
  return omerta::check::finish();
}
