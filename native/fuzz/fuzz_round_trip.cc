// SPDX-License-Identifier: Apache-2.0
// What is joined and split again equals the input: packets of a few flows, and super-packets as a guest or
// the kernel hands them over, are segmented, coalesced, read back as the port gets them, segmented again,
// and compared flow by flow. Checksums are held against the plain sum of RFC 1071.
//
// input: records of 8 bytes: shape u8 · TCP flags u8 · payload u16 · segment size u16 · identification u8 ·
// class and lifetime u8. Everything else of a packet follows from those, so that whole packets come out.
#include <array>
#include <map>

#include "fuzz/fuzz_input.h"
#include "fuzz/plain_checksum.h"
#include "inner/coalescing.h"
#include "inner/segmentation.h"
#include "test/memory_port.h"

using namespace omerta;
using namespace omerta::inner;
using omerta::fuzz::require;

namespace {

using Packet = std::vector<uint8_t>;

enum Shape : uint8_t {
  kSix = 1,
  kUdpPacket = 2,
  kBadChecksum = 4,
  kFragmentable = 8,
  kOtherFlow = 16,
  kOptions = 32,
  kSuper = 64,
  kGap = 128
};

void put16(uint8_t* at, size_t value) {
  at[0] = static_cast<uint8_t>(value >> 8);
  at[1] = static_cast<uint8_t>(value);
}
void put32(uint8_t* at, uint32_t value) {
  put16(at, value >> 16);
  put16(at + 2, value & 0xffff);
}

struct Layout {
  bool v6;
  bool udp;
  size_t ip;        ///< size of the IP header
  size_t headers;   ///< and of both
  size_t checksum;  ///< offset of the transport's
};

Layout layout_of(const Packet& packet) {
  Layout l{};
  l.v6 = packet[0] >> 4 == 6;
  l.ip = l.v6 ? 40 : static_cast<size_t>(packet[0] & 15) * 4;
  l.udp = packet[l.v6 ? 6 : 9] == kUdp;
  l.headers = l.ip + (l.udp ? 8 : static_cast<size_t>(packet[l.ip + 12] >> 4) * 4);
  l.checksum = l.ip + (l.udp ? 6 : 16);
  return l;
}

/// What the transport's sum comes to with nothing in its checksum.
uint32_t sum_without_checksum(Packet packet) {
  const Layout l = layout_of(packet);
  put16(&packet[l.checksum], 0);
  return fuzz::plain_transport_sum(packet.data(), l.ip, packet.size(), l.udp ? kUdp : kTcp);
}

/// By the plain sum alone.
void set_checksums(Packet& packet) {
  const Layout l = layout_of(packet);
  if (!l.v6) {
    put16(&packet[10], 0);
    put16(&packet[10], ~fuzz::plain_sum(packet.data(), l.ip) & 0xffff);
  }
  uint32_t sum = ~sum_without_checksum(packet) & 0xffff;
  if (l.udp && sum == 0) sum = 0xffff;
  put16(&packet[l.checksum], sum);
}

bool checksums_right(const Packet& packet) {
  const Layout l = layout_of(packet);
  if (!l.v6 && fuzz::plain_sum(packet.data(), l.ip) != 0xffff) return false;
  return fuzz::plain_transport_sum(packet.data(), l.ip, packet.size(), l.udp ? kUdp : kTcp) == 0xffff;
}

/// Bits of the class and lifetime.
enum Service : uint8_t { kShorter = 4, kZeroSum = 8 };

struct Record {
  uint8_t shape;
  uint8_t flags;
  size_t payload;
  size_t segment;
  uint8_t identification;
  uint8_t service;
};

Packet build(const Record& record, uint32_t sequence) {
  const bool v6 = (record.shape & kSix) != 0, udp = (record.shape & kUdpPacket) != 0;
  const size_t ip = v6 ? 40 : 20;
  const size_t options = !udp && (record.shape & kOptions) ? 12 : 0;
  const size_t headers = ip + (udp ? 8 : 20 + options);
  Packet packet(headers + record.payload);
  uint8_t* p = packet.data();
  if (v6) {
    p[0] = 0x60;
    p[1] = record.service & 0xf0;
    put16(p + 4, packet.size() - 40);
    p[6] = udp ? kUdp : kTcp;
    p[7] = static_cast<uint8_t>(1 + (record.service & 3));
    p[8] = p[24] = 0xfd;
    p[23] = 1;
    p[39] = 2;
  } else {
    p[0] = 0x45;
    p[1] = record.service & 0xf0;
    put16(p + 2, packet.size());
    put16(p + 4, record.identification);
    p[6] = record.shape & kFragmentable ? 0 : 0x40;
    p[8] = static_cast<uint8_t>(1 + (record.service & 3));
    p[9] = udp ? kUdp : kTcp;
    p[12] = p[16] = 10;
    p[15] = 1;
    p[19] = 2;
  }
  uint8_t* transport = p + ip;
  put16(transport, record.shape & kOtherFlow ? 2000 : 1000);
  put16(transport + 2, 443);
  if (udp) {
    put16(transport + 4, packet.size() - ip);
  } else {
    put32(transport + 4, sequence);
    put32(transport + 8, 77);
    transport[12] = static_cast<uint8_t>((20 + options) / 4 << 4);
    transport[13] = record.flags;
    put16(transport + 14, 512);
    for (size_t i = 0; i < options; i++) transport[20 + i] = static_cast<uint8_t>(i < 2 ? 1 : i);
  }
  for (size_t i = 0; i < record.payload; i++) p[headers + i] = static_cast<uint8_t>(sequence + i * 7);
  if (udp && (record.service & kZeroSum) && record.payload >= 2) {
    // Its checksum is 0, which UDP does not have.
    put16(p + headers, 0);
    put16(p + headers, ~sum_without_checksum(packet) & 0xffff);
  }
  set_checksums(packet);
  return packet;
}

/// Of a packet that segmentation is asked to split, or to complete.
VirtioNetHeader header_of(const Packet& packet, size_t segment) {
  const Layout l = layout_of(packet);
  VirtioNetHeader header{};
  header.flags = kNeedsChecksum;
  header.gso_type = l.udp ? kGsoUdp : l.v6 ? kGsoTcp6 : kGsoTcp4;
  header.gso_size = static_cast<uint16_t>(segment);
  header.header_length = static_cast<uint16_t>(l.headers);
  header.checksum_start = static_cast<uint16_t>(l.ip);
  header.checksum_offset = static_cast<uint16_t>(l.checksum - l.ip);
  return header;
}

/// `largest`: no segment of TCP may be longer; nothing else can be split anew.
std::vector<Packet> split(const VirtioNetHeader& header, Packet& packet, size_t largest = SIZE_MAX) {
  const Layout l = layout_of(packet);
  require(Segmentation::super_packet_protocol(header) == (l.udp ? kUdp : kTcp));
  Segmentation segmentation(header, packet.data(), packet.size());
  require(segmentation.valid());
  const size_t first = segmentation.size(0), count = segmentation.count();
  const bool fits = first <= largest || (!l.udp && largest > l.headers);
  require(segmentation.limit(largest) == fits);
  require(segmentation.size(0) == (fits ? std::min(first, largest) : first));
  if (first <= largest || !fits) require(segmentation.count() == count);
  std::vector<Packet> segments;
  for (size_t i = 0; i < segmentation.count(); i++) {
    Packet segment(segmentation.size(i));
    segmentation.write(i, segment.data());
    segments.push_back(std::move(segment));
  }
  return segments;
}

/// A packet whose checksum is left to whoever splits it: the field holds the sum of the pseudo header.
void complete(const Packet& whole) {
  const Layout l = layout_of(whole);
  Packet packet = whole;
  const uint8_t* addresses = &packet[l.v6 ? 8 : 12];
  const size_t length = packet.size() - l.ip;
  const uint8_t rest[4] = {0, l.udp ? kUdp : kTcp, static_cast<uint8_t>(length >> 8),
                           static_cast<uint8_t>(length)};
  put16(&packet[l.checksum], fuzz::plain_sum(rest, 4, fuzz::plain_sum(addresses, l.v6 ? 32 : 8)));
  VirtioNetHeader header = header_of(packet, 0);
  header.gso_type = kGsoNone;
  require(Segmentation::super_packet_protocol(header) == 0);
  Segmentation segmentation(header, packet.data(), packet.size());
  require(segmentation.count() == 1 && segmentation.size(0) == packet.size());
  require(!segmentation.limit(packet.size() - 1) && segmentation.limit(packet.size()));
  Packet completed(packet.size());
  segmentation.write(0, completed.data());
  require(completed == whole);
}

/// Headers that do not agree with their packet are refused, whatever else they say.
void refused(const Packet& whole, size_t segment) {
  const auto valid = [&](const auto& change) {
    Packet packet = whole;
    VirtioNetHeader header = header_of(packet, segment);
    change(packet, header);
    return Segmentation(header, packet.data(), packet.size()).valid();
  };
  const Layout l = layout_of(whole);
  require(!valid([](Packet&, VirtioNetHeader& header) { header.gso_size = 0; }));
  require(!valid([](Packet&, VirtioNetHeader& header) { header.gso_type = 2; }));
  require(!valid([&](Packet&, VirtioNetHeader& header) {
    if (l.udp)
      header.checksum_start = static_cast<uint16_t>(l.ip - 1);
    else
      header.gso_type = l.v6 ? kGsoTcp4 : kGsoTcp6;
  }));
  require(!valid([&](Packet&, VirtioNetHeader& header) {
    header.checksum_start = static_cast<uint16_t>(whole.size() - 1);
  }));
  require(!valid([](Packet& packet, VirtioNetHeader&) { packet[0] = 0; }));
  require(!valid([&](Packet&, VirtioNetHeader& header) {
    header.gso_type = kGsoNone;
    header.checksum_start = static_cast<uint16_t>(whole.size());
  }));
  if (!l.udp) require(!valid([&](Packet& packet, VirtioNetHeader&) { packet[l.ip + 12] = 0x40; }));
}

/// Segments carry the super-packet's payload whole and in order, each with lengths, sequence and checksums of
/// its own; FIN and PSH on the last alone, CWR on the first alone.
void check_segments(const Packet& whole, const std::vector<Packet>& segments) {
  const Layout l = layout_of(whole);
  Packet joined;
  for (size_t i = 0; i < segments.size(); i++) {
    Packet segment = segments[i];
    const IpView ip = parse_ip(segment.data(), segment.size());
    require(ip.length == segment.size() && checksums_right(segment));
    require(layout_of(segment).headers == l.headers);
    if (!l.udp) {
      const uint8_t flags = segment[l.ip + 13], before = whole[l.ip + 13];
      uint8_t expected = before;
      if (i + 1 != segments.size()) expected &= static_cast<uint8_t>(~0x09);
      if (i != 0) expected &= static_cast<uint8_t>(~0x80);
      require(flags == expected);
      const uint32_t sequence = ntohl(load<uint32_t>(&segment[l.ip + 4]));
      require(sequence == ntohl(load<uint32_t>(&whole[l.ip + 4])) + joined.size());
    }
    joined.insert(joined.end(), segment.begin() + static_cast<std::ptrdiff_t>(l.headers), segment.end());
  }
  require(joined.size() == whole.size() - l.headers);
  require(joined.empty() || std::memcmp(joined.data(), &whole[l.headers], joined.size()) == 0);
}

/// What came inside, split as whoever receives it splits it.
std::vector<Packet> received_by(test::MemoryPort& port) {
  std::vector<Packet> packets;
  for (const Packet& sent : port.sent) {
    require(sent.size() > sizeof(VirtioNetHeader));
    const auto header = load<VirtioNetHeader>(sent.data());
    Packet packet(sent.begin() + sizeof header, sent.end());
    if (header.gso_type == kGsoNone) {
      packets.push_back(std::move(packet));
      continue;
    }
    const Packet before = packet;
    const std::vector<Packet> segments = split(header, packet);
    require(segments.size() > 1);
    check_segments(before, segments);
    packets.insert(packets.end(), segments.begin(), segments.end());
  }
  port.sent.clear();
  return packets;
}

/// Family, protocol and ports.
std::array<uint8_t, 4> flow_of(const Packet& packet) {
  const Layout l = layout_of(packet);
  return {packet[0], l.udp, packet[l.ip], packet[l.ip + 1]};
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static CounterRow counters;
  fuzz::Input input(data, size);
  std::vector<Packet> sent;
  std::map<std::array<uint8_t, 4>, uint32_t> next;
  while (!input.empty() && sent.size() < 200) {
    Record record{};
    record.shape = input.byte();
    // ACK is what data carries; the others come by as they like.
    record.flags = static_cast<uint8_t>(input.byte() ^ 0x10);
    record.payload = input.word() % 3000;
    record.segment = 1 + input.word() % 1500;
    record.identification = input.byte();
    record.service = input.byte();
    if (record.payload / record.segment > 64) record.segment = record.payload / 64 + 1;
    const Packet probe = build(record, 0);
    uint32_t& sequence = next[flow_of(probe)];
    if (record.shape & kGap) sequence += 11;
    Packet packet = build(record, sequence);
    sequence += static_cast<uint32_t>(record.payload);
    if ((record.shape & kSuper) && record.payload > 0) {
      const size_t headers = layout_of(packet).headers;
      size_t largest = record.service & kShorter ? 1 + record.segment / 2 : SIZE_MAX;
      if (largest > headers) largest = std::max(largest, headers + record.payload / 64 + 1);
      refused(packet, record.segment);
      const std::vector<Packet> segments = split(header_of(packet, record.segment), packet, largest);
      check_segments(packet, segments);
      sent.insert(sent.end(), segments.begin(), segments.end());
      continue;
    }
    complete(packet);
    if (record.shape & kBadChecksum) packet.back() ^= 1;
    sent.push_back(std::move(packet));
  }

  test::MemoryPort port;
  Coalescing coalescing(port, true, true);
  std::vector<Packet> received;
  std::vector<Packet> held = sent;  // its memory lives until flush()
  size_t added = 0;
  for (Packet& packet : held) {
    const IpView ip = parse_ip(packet.data(), packet.size());
    require(ip.length == packet.size());
    coalescing.add(packet.data(), ip, counters);
    if (++added % 32 != 0) continue;
    coalescing.flush(counters);
    for (Packet& out : received_by(port)) received.push_back(std::move(out));
  }
  coalescing.flush(counters);
  for (Packet& out : received_by(port)) received.push_back(std::move(out));

  require(held == sent);
  require(received.size() == sent.size());
  std::map<std::array<uint8_t, 4>, std::vector<Packet>> before, after;
  for (const Packet& packet : sent) before[flow_of(packet)].push_back(packet);
  for (const Packet& packet : received) after[flow_of(packet)].push_back(packet);
  require(before == after);

  // A port that refuses what is joined, then everything: each packet is counted, none twice.
  test::MemoryPort refusing;
  refusing.refuses_super_packets = true;
  refusing.room = 0;
  const uint64_t lost = counters.get(Counter::drop_tun_write);
  Coalescing refused(refusing, true, true);
  for (Packet& packet : held) refused.add(packet.data(), parse_ip(packet.data(), packet.size()), counters);
  refused.flush(counters);
  require(counters.get(Counter::drop_tun_write) == lost + held.size());
  return 0;
}
