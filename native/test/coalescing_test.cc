// SPDX-License-Identifier: Apache-2.0
// Packets are joined where segmentation makes the same of them again, and nothing else is.
#include "inner/coalescing.h"

#include <algorithm>

#include "check.h"
#include "memory_port.h"
#include "super_packets.h"

namespace {

using namespace omerta;
using namespace omerta::inner;
using namespace omerta::test;

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
  return omerta::check::finish();
}
