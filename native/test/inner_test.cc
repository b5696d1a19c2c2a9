// SPDX-License-Identifier: Apache-2.0
// Segmentation and coalescing are each other's inverse, and every segment's checksums verify.
#include <sodium.h>

#include <algorithm>
#include <vector>

#include "check.h"
#include "inner/coalescing.h"
#include "inner/fragmentation.h"
#include "inner/icmp_error.h"
#include "inner/segmentation.h"
#include "memory_port.h"

namespace {

using namespace omerta;
using namespace omerta::inner;

/// An IP + TCP or UDP super-packet with random payload and a partial checksum, as a TUN gives it.
struct SuperPacket {
  std::vector<uint8_t> bytes;
  VirtioNetHeader header{};
  size_t transport = 0;
  size_t headers = 0;
};

SuperPacket make(uint8_t family, uint8_t protocol, size_t payload, uint16_t segment,
                 size_t tcp_options = 12) {
  SuperPacket p;
  p.transport = family == 4 ? 20 : 40;
  p.headers = p.transport + (protocol == kTcp ? 20 + tcp_options : 8);
  p.bytes.resize(p.headers + payload);
  randombytes_buf(p.bytes.data() + p.headers, payload);
  uint8_t* b = p.bytes.data();
  const auto total = static_cast<uint16_t>(p.bytes.size());
  if (family == 4) {
    b[0] = 0x45;
    store(b + 2, htons(total));
    store(b + 4, htons(uint16_t{65530}));  // wraps while counting up
    b[6] = 0x40;
    b[8] = 64;
    b[9] = protocol;
    b[12] = 10, b[15] = 1, b[16] = 10, b[19] = 2;
    store(b + 10, checksum_finish(checksum_add(b, 20)));
  } else {
    b[0] = 0x60;
    store(b + 4, htons(static_cast<uint16_t>(total - 40)));
    b[6] = protocol;
    b[7] = 64;
    b[8] = b[24] = 0xfd;
    b[23] = 1, b[39] = 2;
  }
  uint8_t* t = b + p.transport;
  store(t, htons(uint16_t{1000}));
  store(t + 2, htons(uint16_t{2000}));
  if (protocol == kTcp) {
    store(t + 4, htonl(0xfffffff0u));  // wraps as well
    store(t + 8, htonl(77u));
    t[12] = static_cast<uint8_t>((20 + tcp_options) / 4 << 4);
    t[13] = 0x18;  // ACK, PSH
    store(t + 14, htons(uint16_t{500}));
    p.header.gso_type = family == 4 ? kGsoTcp4 : kGsoTcp6;
    p.header.checksum_offset = 16;
  } else {
    store(t + 4, htons(static_cast<uint16_t>(8 + payload)));
    p.header.gso_type = kGsoUdp;
    p.header.checksum_offset = 6;
  }
  p.header.flags = kNeedsChecksum;
  p.header.gso_size = segment;
  p.header.header_length = static_cast<uint16_t>(p.headers);
  p.header.checksum_start = static_cast<uint16_t>(p.transport);
  return p;
}

bool checksums_verify(std::vector<uint8_t>& packet, uint8_t protocol) {
  const IpView ip = parse_ip(packet.data(), packet.size());
  if (ip.family == 0 || ip.length != packet.size()) return false;
  const size_t transport = ip.family == 4 ? 20 : 40;
  if (ip.family == 4 && checksum_finish(checksum_add(packet.data(), 20)) != 0) return false;
  const size_t size = packet.size() - transport;
  return checksum_finish(
             checksum_add(packet.data() + transport, size, pseudo_header_sum(ip, protocol, size))) == 0;
}

void the_checksum_agrees_with_rfc_1071_summing_for_every_length_and_alignment() {
  uint8_t data[400];
  uint8_t copy[400];
  randombytes_buf(data, sizeof data);
  for (size_t offset = 0; offset < 40; offset++)
    for (size_t size = 0; size + offset < sizeof data; size++) {
      uint32_t sum = 0;
      for (size_t i = 0; i < size; i++)
        sum += i % 2 == 0 ? data[offset + i] : static_cast<uint32_t>(data[offset + i]) << 8;
      while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
      CHECK(checksum_fold(checksum_add(data + offset, size)) == sum);
      CHECK(checksum_fold(checksum_payload(data + offset, size)) == sum);
      std::memset(copy, 0xa5, sizeof copy);
      CHECK(checksum_fold(checksum_copy(copy, data + offset, size)) == sum);
      CHECK(std::memcmp(copy, data + offset, size) == 0 && copy[size] == 0xa5);
    }
}

void a_sum_of_the_largest_words_does_not_lose_a_carry() {
  std::vector<uint8_t> data(65536, 0xff), copy(65536);
  for (const size_t size : {size_t{65536}, size_t{65535}, size_t{1420}, size_t{8}}) {
    // 0xffff is ones' complement for zero: the sum of any number of them.
    const uint16_t expected = size % 2 == 0 ? 0xffff : 0x00ff;
    CHECK(checksum_fold(checksum_add(data.data(), size)) == expected);
    CHECK(checksum_fold(checksum_payload(data.data(), size)) == expected);
    CHECK(checksum_fold(checksum_copy(copy.data(), data.data(), size)) == expected);
  }
}

void segments_are_whole_packets_with_good_checksums_and_the_payload_in_order() {
  for (const uint8_t family : {uint8_t{4}, uint8_t{6}})
    for (const uint8_t protocol : {kTcp, kUdp})
      for (size_t payload : {size_t{1}, size_t{1000}, size_t{1001}, size_t{30000}, size_t{64000}}) {
        SuperPacket p = make(family, protocol, payload, 1000);
        const Segmentation segments(p.header, p.bytes.data(), p.bytes.size());
        CHECK(segments.valid() && segments.count() == (payload + 999) / 1000);
        std::vector<uint8_t> joined;
        for (size_t i = 0; i < segments.count(); i++) {
          std::vector<uint8_t> packet(segments.size(i));
          segments.write(i, packet.data());
          CHECK(checksums_verify(packet, protocol));
          if (protocol == kTcp) {
            CHECK(ntohl(load<uint32_t>(packet.data() + p.transport + 4)) ==
                  0xfffffff0u + static_cast<uint32_t>(joined.size()));
            const bool last = i + 1 == segments.count();
            CHECK(((packet[p.transport + 13] & 0x08) != 0) == last);  // PSH on the last only
          }
          joined.insert(joined.end(), packet.begin() + static_cast<long>(p.headers), packet.end());
        }
        CHECK(joined == std::vector<uint8_t>(p.bytes.begin() + static_cast<long>(p.headers), p.bytes.end()));
      }
}

void a_packet_without_segmentation_gets_its_checksum_completed() {
  for (const uint8_t family : {uint8_t{4}, uint8_t{6}}) {
    SuperPacket p = make(family, kUdp, 333, 0);
    p.header.gso_type = kGsoNone;
    uint8_t* field = p.bytes.data() + p.transport + 6;
    const IpView ip = parse_ip(p.bytes.data(), p.bytes.size());
    store(field, checksum_fold(pseudo_header_sum(ip, kUdp, p.bytes.size() - p.transport)));
    const Segmentation segments(p.header, p.bytes.data(), p.bytes.size());
    CHECK(segments.count() == 1);
    std::vector<uint8_t> packet(segments.size(0));
    segments.write(0, packet.data());
    CHECK(checksums_verify(packet, kUdp));
  }
}

void headers_that_disagree_with_the_packet_are_refused() {
  SuperPacket p = make(4, kTcp, 3000, 1000);
  const auto valid = [&](VirtioNetHeader h, size_t size) {
    return Segmentation(h, p.bytes.data(), size).valid();
  };
  VirtioNetHeader h = p.header;
  CHECK(valid(h, p.bytes.size()));
  h.gso_size = 0;
  CHECK(!valid(h, p.bytes.size()));
  h = p.header;
  h.gso_type = kGsoTcp6;
  CHECK(!valid(h, p.bytes.size()));
  h.gso_type = 77;
  CHECK(!valid(h, p.bytes.size()));
  h = p.header;
  h.checksum_start = 65535;
  CHECK(!valid(h, p.bytes.size()));
  h.checksum_start = 4;
  CHECK(!valid(h, p.bytes.size()));
  CHECK(!valid(p.header, p.bytes.size() - 1));  // shorter than the IP header says
  for (size_t size = 0; size < 60; size++) CHECK(!valid(p.header, size));
  h = p.header;
  h.gso_type = kGsoNone;
  h.checksum_offset = 65535;
  CHECK(!valid(h, p.bytes.size()));
  p.bytes[0] = 0x4f;  // an IP header that reaches beyond where the transport header is said to start
  CHECK(!valid(p.header, p.bytes.size()));
}

void a_super_packet_with_endless_headers_is_refused() {
  // Sealing makes room for the headers in front of each segment.
  SuperPacket p = make(6, kUdp, 60000, 8);
  for (const size_t headers : {Segmentation::kMaxHeaders, Segmentation::kMaxHeaders + 1, size_t{50000}}) {
    p.header.checksum_start = static_cast<uint16_t>(headers - 8);
    CHECK(Segmentation(p.header, p.bytes.data(), p.bytes.size()).valid() ==
          (headers == Segmentation::kMaxHeaders));
  }
}

using Packets = std::vector<std::vector<uint8_t>>;

Packets segments_of(SuperPacket& p) {
  const Segmentation segments(p.header, p.bytes.data(), p.bytes.size());
  Packets packets;
  for (size_t i = 0; i < segments.count(); i++) {
    packets.emplace_back(segments.size(i));
    segments.write(i, packets.back().data());
  }
  return packets;
}

/// Hands packets of one flow to a port through coalescing.
struct Coalesced {
  explicit Coalesced(Packets packets) : Coalesced(packets, true, true) {}
  Coalesced(Packets packets, bool tcp, bool udp) {
    test::MemoryPort port;
    CounterRow counters;
    Coalescing coalescing(port, tcp, udp);
    for (auto& packet : packets)
      coalescing.add(packet.data(), parse_ip(packet.data(), packet.size()), counters);
    coalescing.flush(counters);
    CHECK(counters.get(Counter::drop_tun_write) == 0);
    writes = counters.get(Counter::tun_tx_writes);
    CHECK(port.sent.size() == writes);
    for (const auto& packet : port.sent) written.insert(written.end(), packet.begin(), packet.end());
  }
  /// Whether this packet was written byte for byte, and with nothing claimed of it.
  bool has_unchanged(const std::vector<uint8_t>& packet) const {
    std::vector<uint8_t> whole(sizeof(VirtioNetHeader));
    whole.insert(whole.end(), packet.begin(), packet.end());
    return std::search(written.begin(), written.end(), whole.begin(), whole.end()) != written.end();
  }
  uint64_t writes;
  std::vector<uint8_t> written;
};

void coalesced_segments_become_the_super_packet_they_were() {
  for (const uint8_t family : {uint8_t{4}, uint8_t{6}})
    for (const uint8_t protocol : {kTcp, kUdp}) {
      SuperPacket p = make(family, protocol, 20300, 1000);  // the last segment is shorter
      const Coalesced result(segments_of(p));
      CHECK(result.writes == 1);
      const std::vector<uint8_t>& written = result.written;
      CHECK(written.size() == sizeof(VirtioNetHeader) + p.bytes.size());
      if (written.size() != sizeof(VirtioNetHeader) + p.bytes.size()) continue;
      const auto header = load<VirtioNetHeader>(written.data());
      CHECK(header.gso_type == p.header.gso_type && header.gso_size == 1000 &&
            header.flags == kNeedsChecksum);
      CHECK(header.checksum_start == p.transport && header.header_length == p.headers);
      CHECK(header.checksum_offset == p.header.checksum_offset);
      // The kernel would make of it what was joined.
      SuperPacket again = p;
      again.bytes.assign(written.begin() + sizeof(VirtioNetHeader), written.end());
      again.header = header;
      CHECK(segments_of(again) == segments_of(p));
      const uint8_t* packet = again.bytes.data();
      const IpView ip = parse_ip(again.bytes.data(), again.bytes.size());
      if (family == 4) CHECK(checksum_finish(checksum_add(packet, 20)) == 0);
      CHECK(load<uint16_t>(packet + p.transport + header.checksum_offset) ==
            checksum_fold(pseudo_header_sum(ip, protocol, again.bytes.size() - p.transport)));
    }
}

/// How often segments of one flow are written after `change` touched them.
template <class Change>
uint64_t writes_after(uint8_t protocol, Change change) {
  SuperPacket p = make(4, protocol, 6000, 1000);
  Packets packets = segments_of(p);
  change(packets);
  return Coalesced(std::move(packets)).writes;
}

/// Makes the header checksum of an IPv4 packet right again.
void repair_ip(std::vector<uint8_t>& packet) {
  store<uint16_t>(packet.data() + 10, 0);
  store(packet.data() + 10, checksum_finish(checksum_add(packet.data(), 20)));
}

/// Makes both checksums of an IPv4 packet right again.
void repair(std::vector<uint8_t>& packet, uint8_t protocol) {
  repair_ip(packet);
  const IpView ip = parse_ip(packet.data(), packet.size());
  uint8_t* field = packet.data() + 20 + (protocol == kTcp ? 16 : 6);
  store<uint16_t>(field, 0);
  const size_t size = packet.size() - 20;
  store(field,
        checksum_finish(checksum_add(packet.data() + 20, size, pseudo_header_sum(ip, protocol, size))));
}

/// Gives IPv4 datagrams identifications that count up.
void number(Packets& packets) {
  uint16_t identification = 65530;
  for (auto& packet : packets) {
    store(packet.data() + 4, htons(identification++));
    repair_ip(packet);
  }
}

void what_differs_in_its_headers_is_not_joined() {
  const auto after = [](uint8_t protocol, size_t offset, uint8_t flip) {
    return writes_after(protocol, [=](Packets& p) {
      p[3][offset] ^= flip;
      repair(p[3], protocol);
    });
  };
  for (const uint8_t protocol : {kTcp, kUdp}) {
    CHECK(writes_after(protocol, [](Packets&) {}) == 1);
    CHECK(after(protocol, 1, 4) == 3);     // type of service
    CHECK(after(protocol, 1, 3) == 3);     // congestion experienced
    CHECK(after(protocol, 8, 1) == 3);     // time to live
    CHECK(after(protocol, 6, 0x20) >= 2);  // a fragment is left alone
    CHECK(after(protocol, 20, 1) == 3);    // another flow, a gap in this one
    CHECK(after(protocol, 6, 0x40) == 3);  // may be fragmented, unlike the others
    CHECK(after(protocol, 9, 0xff) >= 2);  // another protocol
  }
  CHECK(after(kTcp, 20 + 13, 1) == 3);  // FIN
  CHECK(after(kTcp, 20 + 11, 1) == 3);  // acknowledgement
  CHECK(after(kTcp, 20 + 25, 1) == 3);  // an option
  CHECK(after(kTcp, 20 + 13, 8) == 2);  // PSH closes
  CHECK(after(kUdp, 20 + 5, 1) == 3);   // a length that is not the packet's
  CHECK(writes_after(kTcp, [](Packets& p) { std::swap(p[2], p[3]); }) >= 3);
  // Datagrams have no order, but an identification each.
  CHECK(writes_after(kUdp, [](Packets& p) { std::swap(p[2], p[3]); }) >= 3);
  CHECK(writes_after(kUdp, [](Packets& p) {
          std::swap(p[2], p[3]);
          number(p);
        }) == 1);
}

void identifications_have_to_count_up() {
  for (const uint8_t protocol : {kTcp, kUdp})
    for (const bool dont_fragment : {true, false})
      for (const bool consecutive : {true, false}) {
        const uint64_t writes = writes_after(protocol, [=](Packets& packets) {
          for (auto& p : packets) {
            if (!dont_fragment) p[6] = 0;
            if (!consecutive) store<uint16_t>(p.data() + 4, 0);
            repair_ip(p);
          }
        });
        CHECK(writes == (consecutive ? 1 : 6));
      }
}

void a_packet_with_a_wrong_checksum_is_never_repaired() {
  for (const uint8_t family : {uint8_t{4}, uint8_t{6}})
    for (const uint8_t protocol : {kTcp, kUdp})
      for (const size_t bad : {size_t{0}, size_t{1}, size_t{3}, size_t{5}}) {
        SuperPacket p = make(family, protocol, 6000, 1000);
        Packets packets = segments_of(p);
        packets[bad].back() ^= 1;
        const Coalesced result(packets);
        CHECK(result.has_unchanged(packets[bad]));
        CHECK(result.writes == (bad == 0 || bad == 5 ? 2 : 3));
      }
}

void a_datagram_without_a_checksum_is_left_alone() {
  SuperPacket p = make(4, kUdp, 6000, 1000);
  Packets packets = segments_of(p);
  for (auto& packet : packets) store<uint16_t>(packet.data() + 26, 0);
  const Coalesced result(packets);
  CHECK(result.writes == 6);
  for (const auto& packet : packets) CHECK(result.has_unchanged(packet));
}

void datagrams_are_joined_while_their_size_is_one() {
  SuperPacket p = make(4, kUdp, 6000, 1000);
  Packets packets = segments_of(p);
  SuperPacket small = make(4, kUdp, 400, 0);
  small.header.gso_size = 1000;
  SuperPacket large = make(4, kUdp, 1200, 2000);
  const auto put = [&](SuperPacket& what, size_t at) {
    packets.insert(packets.begin() + static_cast<long>(at), segments_of(what)[0]);
  };
  put(small, 3);  // a shorter one is the last of its super-packet
  number(packets);
  CHECK(Coalesced(packets).writes == 2);
  put(large, 5);  // a longer one begins another, and what follows is shorter: its last
  number(packets);
  CHECK(Coalesced(packets).writes == 4);
  packets.assign(200, segments_of(small)[0]);
  number(packets);
  CHECK(Coalesced(packets).writes == 4);  // 64 at most
  SuperPacket empty = make(4, kUdp, 1, 1000);
  std::vector<uint8_t> nothing = segments_of(empty)[0];
  nothing.pop_back();
  nothing[3] = 28, nothing[25] = 8;
  repair(nothing, kUdp);
  CHECK(Coalesced(Packets(3, nothing)).writes == 3);  // no payload to join
}

void each_protocol_is_joined_only_when_it_may_be() {
  SuperPacket tcp = make(4, kTcp, 6000, 1000);
  SuperPacket udp = make(4, kUdp, 6000, 1000);
  CHECK(Coalesced(segments_of(tcp), true, false).writes == 1);
  CHECK(Coalesced(segments_of(tcp), false, true).writes == 6);
  CHECK(Coalesced(segments_of(udp), true, false).writes == 6);
  CHECK(Coalesced(segments_of(udp), false, true).writes == 1);
}

void a_refused_super_packet_goes_packet_by_packet_and_soon_none_is_made() {
  for (const uint8_t protocol : {kTcp, kUdp}) {
    SuperPacket p = make(4, protocol, 6000, 1000);
    const Packets packets = segments_of(p);
    test::MemoryPort port;
    CounterRow counters;
    Coalescing coalescing(port, true, true);
    port.refuses_super_packets = true;
    for (int round = 1; round <= 6; round++) {
      Packets copies = packets;
      for (auto& packet : copies)
        coalescing.add(packet.data(), parse_ip(packet.data(), packet.size()), counters);
      coalescing.flush(counters);
      Packets expected = packets;
      for (auto& packet : expected) packet.insert(packet.begin(), sizeof(VirtioNetHeader), 0);
      CHECK(port.sent == expected);
      port.sent.clear();
      CHECK((protocol == kTcp ? coalescing.tcp() : coalescing.udp()) == (round < 4));
    }
    CHECK((protocol == kTcp ? coalescing.udp() : coalescing.tcp()));
    CHECK(counters.get(Counter::drop_tun_write) == 0);
    CHECK(counters.get(Counter::tun_tx_writes) == 4 * 7 + 2 * 6);
  }
}

void what_a_full_port_does_not_take_is_dropped_and_counted_and_the_rest_goes_on() {
  test::MemoryPort port;
  CounterRow counters;
  Coalescing coalescing(port, true, true);
  SuperPacket tcp = make(4, kTcp, 6000, 1000);
  SuperPacket udp = make(6, kUdp, 3000, 1000);
  SuperPacket last = make(4, kUdp, 500, 0);
  last.header.gso_size = 1000;
  Packets packets;
  for (SuperPacket* p : {&tcp, &udp, &last})
    for (auto& packet : segments_of(*p)) packets.push_back(packet);
  port.room = 1;           // the first super-packet
  port.full_for_next = 1;  // is taken, and what comes after the second again
  for (auto& packet : packets)
    coalescing.add(packet.data(), parse_ip(packet.data(), packet.size()), counters);
  coalescing.flush(counters);
  CHECK(port.sent.size() == 2);
  CHECK(port.sent[0].size() == sizeof(VirtioNetHeader) + tcp.bytes.size());
  CHECK(port.sent[1].size() == sizeof(VirtioNetHeader) + last.bytes.size());
  CHECK(counters.get(Counter::drop_tun_write) == 3);  // datagrams of the one in between
  CHECK(counters.get(Counter::tun_tx_packets) == 10);
  CHECK(coalescing.tcp() && coalescing.udp());  // there was no room: nothing is wrong with super-packets
}

void an_unreachable_answer_quotes_the_packet_and_its_checksums_verify() {
  for (const uint8_t family : {uint8_t{4}, uint8_t{6}}) {
    SuperPacket p = make(family, kUdp, 3000, 0);
    const IpView ip = parse_ip(p.bytes.data(), p.bytes.size());
    std::vector<uint8_t> answer = icmp_unreachable(ip, p.bytes.data());
    CHECK(answer.size() == (family == 4 ? 576 : 1280));
    const IpView back = parse_ip(answer.data(), answer.size());
    CHECK(back.length == answer.size());
    CHECK(std::memcmp(back.source, ip.destination, ip.address_size) == 0);
    CHECK(std::memcmp(back.destination, ip.source, ip.address_size) == 0);
    if (family == 4) {
      CHECK(checksum_finish(checksum_add(answer.data(), 20)) == 0);
      CHECK(checksum_finish(checksum_add(answer.data() + 20, answer.size() - 20)) == 0);
      CHECK(answer[20] == 3 && answer[21] == 1);
      CHECK(std::memcmp(answer.data() + 28, p.bytes.data(), 548) == 0);
    } else {
      CHECK(checksums_verify(answer, 58));
      CHECK(answer[40] == 1 && answer[41] == 3);
    }
    // An error is never answered by an error.
    CHECK(icmp_unreachable(back, answer.data()).empty());
  }
}

void no_unreachable_answer_goes_to_multicast_broadcast_fragments_or_nobody() {
  const auto answered = [](auto change, uint8_t family) {
    SuperPacket p = make(family, kUdp, 100, 0);
    change(p.bytes.data());
    return !icmp_unreachable(parse_ip(p.bytes.data(), p.bytes.size()), p.bytes.data()).empty();
  };
  CHECK(answered([](uint8_t*) {}, 4) && answered([](uint8_t*) {}, 6));
  CHECK(!answered([](uint8_t* b) { b[16] = 224; }, 4));                  // to multicast
  CHECK(!answered([](uint8_t* b) { std::memset(b + 16, 255, 4); }, 4));  // to broadcast
  CHECK(!answered([](uint8_t* b) { std::memset(b + 12, 0, 4); }, 4));    // from nobody
  CHECK(!answered([](uint8_t* b) { b[7] = 1; }, 4));                     // a later fragment
  CHECK(!answered([](uint8_t* b) { b[24] = 0xff; }, 6));
  CHECK(!answered([](uint8_t* b) { std::memset(b + 8, 0, 16); }, 6));
  CHECK(answered([](uint8_t* b) { b[9] = 1, b[20] = 8; }, 4));    // an echo request is answered
  CHECK(!answered([](uint8_t* b) { b[9] = 1, b[20] = 11; }, 4));  // time exceeded is not
}

void a_too_big_answer_says_how_long_a_packet_may_be_and_verifies() {
  for (const uint8_t family : {uint8_t{4}, uint8_t{6}}) {
    SuperPacket p = make(family, kUdp, 1400, 0);
    const IpView ip = parse_ip(p.bytes.data(), p.bytes.size());
    std::vector<uint8_t> answer = icmp_too_big(ip, p.bytes.data(), 1320);
    const IpView back = parse_ip(answer.data(), answer.size());
    CHECK(back.length == answer.size());
    CHECK(std::memcmp(back.source, ip.destination, ip.address_size) == 0);
    if (family == 4) {
      CHECK(checksum_finish(checksum_add(answer.data() + 20, answer.size() - 20)) == 0);
      CHECK(answer[20] == 3 && answer[21] == 4);
    } else {
      CHECK(checksums_verify(answer, 58));
      CHECK(answer[40] == 2 && answer[41] == 0);
    }
    // RFC 1191 4 and RFC 4443 3.2: the last two bytes before what is quoted, zeros in front of them.
    CHECK(load<uint32_t>(answer.data() + (family == 4 ? 24 : 44)) == htonl(1320));
    CHECK(icmp_too_big(back, answer.data(), 1320).empty());
  }
  SuperPacket p = make(4, kUdp, 1400, 0);
  p.bytes[6] = 0;  // may be fragmented
  CHECK(icmp_too_big(parse_ip(p.bytes.data(), p.bytes.size()), p.bytes.data(), 1320).empty());
}

void a_tcp_super_packet_is_split_as_short_as_wanted_and_nothing_else_is() {
  for (const uint8_t family : {uint8_t{4}, uint8_t{6}})
    for (const size_t longest : {size_t{99}, size_t{500}, size_t{999}}) {
      SuperPacket p = make(family, kTcp, 30000, 1000);
      Segmentation segments(p.header, p.bytes.data(), p.bytes.size());
      CHECK(segments.limit(longest));
      std::vector<uint8_t> payload;
      for (size_t i = 0; i < segments.count(); i++) {
        std::vector<uint8_t> packet(segments.size(i));
        segments.write(i, packet.data());
        CHECK(packet.size() <= longest && checksums_verify(packet, kTcp));
        CHECK(ntohl(load<uint32_t>(packet.data() + p.transport + 4)) ==
              static_cast<uint32_t>(0xfffffff0u + payload.size()));
        payload.insert(payload.end(), packet.begin() + static_cast<ptrdiff_t>(p.headers), packet.end());
      }
      CHECK(std::equal(payload.begin(), payload.end(), p.bytes.begin() + static_cast<ptrdiff_t>(p.headers),
                       p.bytes.end()));
    }
  SuperPacket tcp = make(4, kTcp, 30000, 1000);
  Segmentation segments(tcp.header, tcp.bytes.data(), tcp.bytes.size());
  const size_t count = segments.count();
  CHECK(segments.limit(1052) && segments.count() == count);
  CHECK(!segments.limit(tcp.headers) && segments.count() == count);
  SuperPacket udp = make(4, kUdp, 30000, 1000);
  CHECK(!Segmentation(udp.header, udp.bytes.data(), udp.bytes.size()).limit(500));
  SuperPacket alone = make(4, kTcp, 900, 1000);
  alone.header.gso_type = kGsoNone;
  CHECK(!Segmentation(alone.header, alone.bytes.data(), alone.bytes.size()).limit(500));
}

/// The packet that fragments make, in whatever order they come.
std::vector<uint8_t> reassembled(const std::vector<std::vector<uint8_t>>& fragments, size_t header) {
  std::vector<uint8_t> whole(fragments.at(0).begin(), fragments[0].begin() + static_cast<ptrdiff_t>(header));
  for (const std::vector<uint8_t>& fragment : fragments) {
    const size_t at = header + static_cast<size_t>(ntohs(load<uint16_t>(fragment.data() + 6)) & 0x1fff) * 8;
    whole.resize(std::max(whole.size(), at + fragment.size() - header));
    std::memcpy(whole.data() + at, fragment.data() + header, fragment.size() - header);
  }
  return whole;
}

void fragments_are_whole_packets_no_longer_than_wanted_and_make_the_packet_again() {
  for (const size_t payload : {size_t{600}, size_t{1392}, size_t{5000}}) {
    SuperPacket p = make(4, kUdp, payload, 0);
    p.bytes[6] = 0;
    for (const size_t mtu : {size_t{68}, size_t{576}, size_t{1380}}) {
      const auto fragments = fragment4(parse_ip(p.bytes.data(), p.bytes.size()), p.bytes.data(), mtu);
      for (const std::vector<uint8_t>& fragment : fragments) {
        std::vector<uint8_t> copy = fragment;
        CHECK(parse_ip(copy.data(), copy.size()).length == fragment.size() && fragment.size() <= mtu);
        CHECK(checksum_finish(checksum_add(fragment.data(), 20)) == 0);
        CHECK(((fragment[6] & 0x20) != 0) == (&fragment != &fragments.back()));
      }
      const std::vector<uint8_t> whole = reassembled(fragments, 20);
      CHECK(std::equal(whole.begin() + 20, whole.end(), p.bytes.begin() + 20, p.bytes.end()));
      CHECK(load<uint16_t>(fragments[0].data() + 4) == load<uint16_t>(p.bytes.data() + 4));
    }
  }
  // One of them that is fragmented again goes on where it was.
  SuperPacket p = make(4, kUdp, 5000, 0);
  p.bytes[6] = 0;
  auto first = fragment4(parse_ip(p.bytes.data(), p.bytes.size()), p.bytes.data(), 1380);
  std::vector<std::vector<uint8_t>> all;
  for (auto& fragment : first)
    for (auto& piece : fragment4(parse_ip(fragment.data(), fragment.size()), fragment.data(), 600))
      all.push_back(piece);
  for (const auto& piece : all) CHECK(((piece[6] & 0x20) != 0) == (&piece != &all.back()));
  const std::vector<uint8_t> whole = reassembled(all, 20);
  CHECK(std::equal(whole.begin() + 20, whole.end(), p.bytes.begin() + 20, p.bytes.end()));
  CHECK(fragment4(parse_ip(p.bytes.data(), p.bytes.size()), p.bytes.data(), 27).empty());
}

/// The packet that IPv6 fragments make, without the header that each has.
std::vector<uint8_t> reassembled6(const std::vector<std::vector<uint8_t>>& fragments, size_t header) {
  std::vector<uint8_t> whole(fragments.at(0).begin(), fragments[0].begin() + static_cast<ptrdiff_t>(header));
  for (const std::vector<uint8_t>& fragment : fragments) {
    const size_t at = header + (ntohs(load<uint16_t>(fragment.data() + header + 2)) & 0xfff8);
    whole.resize(std::max(whole.size(), at + fragment.size() - header - 8));
    std::memcpy(whole.data() + at, fragment.data() + header + 8, fragment.size() - header - 8);
  }
  return whole;
}

void an_ipv6_packet_is_fragmented_behind_the_headers_that_are_looked_at_on_the_way() {
  SuperPacket p = make(6, kUdp, 1200, 0);
  for (const bool options : {false, true}) {
    std::vector<uint8_t> packet = p.bytes;
    if (options) {
      // A hop-by-hop header in front, options for the destination behind it.
      const uint8_t headers[24] = {60, 0, 1, 4, 0, 0, 0, 0, kUdp, 1, 1, 12};
      packet.insert(packet.begin() + 40, headers, headers + sizeof headers);
      packet[6] = 0;
      store(packet.data() + 4, htons(static_cast<uint16_t>(packet.size() - 40)));
    }
    const size_t header = options ? 48 : 40;
    const size_t link = options ? 40 : 6;
    for (const size_t mtu : {size_t{476}, size_t{1196}, size_t{1220}}) {
      const IpView ip = parse_ip(packet.data(), packet.size());
      const auto fragments = fragment6(ip, packet.data(), mtu, 0x01020304);
      CHECK(fragments.size() >= 2);
      for (const std::vector<uint8_t>& fragment : fragments) {
        std::vector<uint8_t> copy = fragment;
        CHECK(parse_ip(copy.data(), copy.size()).length == fragment.size() && fragment.size() <= mtu);
        CHECK(fragment[link] == 44 && fragment[header] == packet[link]);
        CHECK(load<uint32_t>(fragment.data() + header + 4) == 0x01020304);
        CHECK(((fragment[header + 3] & 1) != 0) == (&fragment != &fragments.back()));
      }
      const std::vector<uint8_t> whole = reassembled6(fragments, header);
      CHECK(std::equal(whole.begin() + static_cast<ptrdiff_t>(header), whole.end(),
                       packet.begin() + static_cast<ptrdiff_t>(header), packet.end()));
      // One of them that is fragmented again goes on where it was, as the same packet.
      std::vector<std::vector<uint8_t>> all;
      for (std::vector<uint8_t> fragment : fragments)
        for (auto& piece : fragment6(parse_ip(fragment.data(), fragment.size()), fragment.data(), 300, 9))
          all.push_back(piece);
      for (const auto& piece : all) CHECK(load<uint32_t>(piece.data() + header + 4) == 0x01020304);
      const std::vector<uint8_t> again = reassembled6(all, header);
      CHECK(std::equal(again.begin() + static_cast<ptrdiff_t>(header), again.end(),
                       packet.begin() + static_cast<ptrdiff_t>(header), packet.end()));
      CHECK(((all.back()[header + 3] & 1) == 0) && (all.front()[header + 3] & 1) == 1);
    }
  }
  // The last of a super-packet may be short enough: no fragment header is added then (RFC 8021).
  CHECK(fragment6(parse_ip(p.bytes.data(), p.bytes.size()), p.bytes.data(), p.bytes.size(), 1) ==
        std::vector<std::vector<uint8_t>>{p.bytes});
  CHECK(fragment6(parse_ip(p.bytes.data(), p.bytes.size()), p.bytes.data(), 55, 1).empty());
  p.bytes[6] = 0;
  p.bytes[41] = 255;  // a header longer than the packet
  CHECK(fragment6(parse_ip(p.bytes.data(), p.bytes.size()), p.bytes.data(), 1000, 1).empty());
}

void options_that_are_not_to_be_copied_are_in_the_first_fragment_alone() {
  std::vector<uint8_t> packet(32 + 400);
  packet[0] = 0x48;
  store(packet.data() + 2, htons(static_cast<uint16_t>(packet.size())));
  const uint8_t options[12] = {0x83, 3, 4, 0x44, 4, 5, 0, 1, 0x07, 3, 4, 0};  // copied, not, no option, not
  std::memcpy(packet.data() + 20, options, sizeof options);
  const auto fragments = fragment4(parse_ip(packet.data(), packet.size()), packet.data(), 200);
  CHECK(fragments.size() == 3);
  CHECK(std::memcmp(fragments[0].data() + 20, options, sizeof options) == 0);
  const uint8_t left[12] = {0x83, 3, 4, 1, 1, 1, 1, 1, 1, 1, 1, 0};
  for (size_t i = 1; i < fragments.size(); i++)
    CHECK(std::memcmp(fragments[i].data() + 20, left, sizeof left) == 0 &&
          checksum_finish(checksum_add(fragments[i].data(), 32)) == 0);
}

void interleaved_flows_are_each_joined() {
  for (const uint8_t protocol : {kTcp, kUdp})
    CHECK(writes_after(protocol, [protocol](Packets& packets) {
            Packets both;
            for (const auto& packet : packets) {
              both.push_back(packet);
              both.push_back(packet);
              both.back()[20] = 99;  // another source port
              repair(both.back(), protocol);
            }
            packets = both;
          }) == 2);
}

}  // namespace

int main() {
  if (sodium_init() < 0) return 1;
  RUN(the_checksum_agrees_with_rfc_1071_summing_for_every_length_and_alignment);
  RUN(a_sum_of_the_largest_words_does_not_lose_a_carry);
  RUN(segments_are_whole_packets_with_good_checksums_and_the_payload_in_order);
  RUN(a_packet_without_segmentation_gets_its_checksum_completed);
  RUN(headers_that_disagree_with_the_packet_are_refused);
  RUN(a_super_packet_with_endless_headers_is_refused);
  RUN(coalesced_segments_become_the_super_packet_they_were);
  RUN(what_differs_in_its_headers_is_not_joined);
  RUN(interleaved_flows_are_each_joined);
  RUN(identifications_have_to_count_up);
  RUN(a_packet_with_a_wrong_checksum_is_never_repaired);
  RUN(a_datagram_without_a_checksum_is_left_alone);
  RUN(datagrams_are_joined_while_their_size_is_one);
  RUN(each_protocol_is_joined_only_when_it_may_be);
  RUN(a_refused_super_packet_goes_packet_by_packet_and_soon_none_is_made);
  RUN(what_a_full_port_does_not_take_is_dropped_and_counted_and_the_rest_goes_on);
  RUN(an_unreachable_answer_quotes_the_packet_and_its_checksums_verify);
  RUN(no_unreachable_answer_goes_to_multicast_broadcast_fragments_or_nobody);
  RUN(a_too_big_answer_says_how_long_a_packet_may_be_and_verifies);
  RUN(a_tcp_super_packet_is_split_as_short_as_wanted_and_nothing_else_is);
  RUN(fragments_are_whole_packets_no_longer_than_wanted_and_make_the_packet_again);
  RUN(an_ipv6_packet_is_fragmented_behind_the_headers_that_are_looked_at_on_the_way);
  RUN(options_that_are_not_to_be_copied_are_in_the_first_fragment_alone);
  return omerta::check::finish();
}
