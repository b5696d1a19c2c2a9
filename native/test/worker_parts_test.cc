// SPDX-License-Identifier: Apache-2.0
// The parts of a worker by themselves: what the inside of one node sends arrives in that of another, sealed
// and opened, by paths of any size.
#include <tuple>

#include "worker_fixture.h"

namespace {

using namespace omerta;
using namespace omerta::engine;
using namespace omerta::check;

Packet with_header(const test::MemoryPort::Packet& packet) {
  Packet whole(sizeof packet.header + packet.bytes.size());
  store(whole.data(), packet.header);
  std::memcpy(whole.data() + sizeof packet.header, packet.bytes.data(), packet.bytes.size());
  return whole;
}

void a_super_packet_goes_from_one_inside_to_the_other_as_it_was() {
  Pair pair;
  const test::MemoryPort::Packet packet = super_packet(40);
  pair.a.port.waiting.push_back(packet);
  CHECK(!pair.a.sealer.receive(boot_clock()));
  CHECK(pair.a.counted(Counter::transport_sent) == 40);
  pair.b.receive();
  CHECK(pair.b.port.sent == std::vector<Packet>{with_header(packet)});
  CHECK(pair.b.counted(Counter::tun_tx_packets) == 40 && pair.b.counted(Counter::tun_tx_writes) == 1);
}

void a_busy_inside_gets_its_packets_taken_in_batches_and_loses_none() {
  Pair pair;
  for (int i = 0; i < 40; i++) pair.a.port.waiting.push_back(super_packet(1));
  int calls = 1;
  while (pair.a.sealer.receive(boot_clock())) calls++;
  CHECK(calls == 3);  // 16 each, and the rest
  pair.b.receive();
  CHECK(pair.b.counted(Counter::tun_tx_packets) == 40);
}

void a_full_inside_costs_its_packets_and_nobody_elses() {
  Pair pair;
  pair.b.port.room = 0;
  pair.b.port.full_for_next = 1;
  pair.a.port.waiting.push_back(super_packet(3));
  pair.a.sealer.receive(boot_clock());
  pair.b.receive();
  CHECK(pair.b.port.sent.empty() && pair.b.counted(Counter::drop_tun_write) == 3);
  const test::MemoryPort::Packet packet = super_packet(5);
  pair.a.port.waiting.push_back(packet);
  pair.a.sealer.receive(boot_clock());
  pair.b.receive();
  CHECK(pair.b.port.sent == std::vector<Packet>{with_header(packet)});
}

void its_own_datagrams_routed_into_the_tunnel_end_there() {
  Pair pair;
  test::MemoryPort::Packet packet = super_packet(2);
  uint8_t* ip = packet.bytes.data();
  ip[12] = 127;  // an address of this host
  for (const int other : {0, 1}) {
    store(ip + 20, htons(static_cast<uint16_t>(pair.a.socket.port() + other)));
    pair.a.port.waiting.push_back(packet);
    pair.a.sealer.receive(boot_clock());
    CHECK(pair.a.counted(Counter::drop_routing_loop) == 2);
    CHECK(pair.a.counted(Counter::transport_sent) == (other == 0 ? 0u : 2u));
  }
}

void a_packet_nobody_takes_is_answered_to_the_inside_it_came_from() {
  Pair pair;
  pair.a.port.waiting.push_back(super_packet(1, 9));
  pair.a.sealer.receive(boot_clock());
  CHECK(pair.a.counted(Counter::drop_no_route) == 1 && pair.a.counted(Counter::unreachable_sent) == 1);
  CHECK(pair.a.port.sent.size() == 1);
  if (pair.a.port.sent.size() != 1) return;
  const Packet& answer = pair.a.port.sent[0];
  CHECK(answer[sizeof(inner::VirtioNetHeader) + 9] == 1);  // ICMP
}

void a_packet_longer_than_the_path_takes_is_answered_and_not_sent() {
  Pair pair;
  bound(pair, 1000);
  const uint64_t before = pair.a.counted(Counter::transport_sent);
  CHECK(passed(pair, tcp_packet(969 - 40, 0)).empty());
  CHECK(pair.a.counted(Counter::transport_sent) == before && pair.a.counted(Counter::drop_too_big) == 1);
  CHECK(pair.a.counted(Counter::too_big_sent) == 1 && pair.a.port.sent.size() == 1);
  const uint8_t* answer = pair.a.port.sent.at(0).data() + sizeof(inner::VirtioNetHeader);
  CHECK(answer[20] == 3 && answer[21] == 4 && load<uint32_t>(answer + 24) == htonl(968));
  CHECK(answer[15] == 2 && answer[19] == 1);  // from the address it was for
  CHECK(passed(pair, tcp_packet(968 - 40, 0)).size() == 1);
  // A super-packet of datagrams is answered once, for all of them.
  CHECK(passed(pair, super_packet(4)).empty());
  CHECK(pair.a.port.sent.size() == 1 && pair.a.counted(Counter::drop_too_big) == 5);
  bound(pair, 0);
  CHECK(passed(pair, tcp_packet(2000, 0)).size() == 1);
}

void too_long_packets_without_end_are_answered_at_a_bounded_rate() {
  Pair pair;
  bound(pair, 1000);
  const Nanoseconds now = boot_clock();
  for (int i = 0; i < 500; i++) {
    pair.a.port.waiting.push_back(tcp_packet(1000, 0));
    pair.a.sealer.receive(now);
  }
  CHECK(pair.a.counted(Counter::drop_too_big) == 500 && pair.a.counted(Counter::too_big_sent) == 50);
}

void a_tcp_super_packet_is_split_into_segments_that_fit_the_path() {
  Pair pair;
  bound(pair, 1000);
  const uint64_t before = pair.a.counted(Counter::transport_sent);
  const std::vector<Packet> got = passed(pair, tcp_packet(20'000, 1360));
  CHECK(pair.a.counted(Counter::transport_sent) - before == 22);  // 928 bytes in each
  CHECK(pair.a.port.sent.empty() && pair.a.counted(Counter::drop_too_big) == 0);
  CHECK(got.size() == 1 && got.at(0).size() == 20'040);
}

void a_packet_that_may_be_fragmented_is() {
  Pair pair;
  bound(pair, 1000);
  const std::vector<Packet> got = passed(pair, tcp_packet(2000, 0, false));
  CHECK(got.size() == 3 && pair.a.counted(Counter::inner_packets_fragmented) == 1);
  for (const Packet& fragment : got) CHECK(fragment.size() <= 968);
  CHECK(pair.a.port.sent.empty());
}

void an_ipv6_packet_that_every_link_has_to_carry_goes_in_fragments() {
  Pair pair;
  bound(pair, 1232);
  const auto packet = [](size_t size) {
    test::MemoryPort::Packet made;
    made.bytes.resize(size);
    uint8_t* ip = made.bytes.data();
    ip[0] = 0x60;
    store(ip + 4, htons(static_cast<uint16_t>(size - 40)));
    ip[6] = inner::kUdp;
    ip[8] = ip[24] = 0xfd;
    ip[23] = 1, ip[39] = 2;
    randombytes_buf(ip + 40, size - 40);
    return made;
  };
  const test::MemoryPort::Packet longest = packet(1280);
  const std::vector<Packet> got = passed(pair, longest);
  CHECK(got.size() == 2 && pair.a.port.sent.empty());
  CHECK(pair.a.counted(Counter::inner_packets_fragmented) == 1);
  size_t payload = 0;
  for (const Packet& fragment : got) {
    CHECK(fragment.size() <= 1200 && fragment[6] == 44);
    CHECK(std::memcmp(fragment.data() + 48, longest.bytes.data() + 40 + payload, fragment.size() - 48) == 0);
    payload += fragment.size() - 48;
  }
  CHECK(payload == 1240);
  CHECK(passed(pair, packet(1200)).size() == 1);
  // A longer one its sender has to make shorter.
  CHECK(passed(pair, packet(1281)).empty());
  CHECK(pair.a.counted(Counter::drop_too_big) == 1 && pair.a.counted(Counter::too_big_sent) == 1);
  const uint8_t* answer = pair.a.port.sent.at(0).data() + sizeof(inner::VirtioNetHeader);
  CHECK(answer[40] == 2 && load<uint32_t>(answer + 44) == htonl(1280));
}

void an_inside_whose_headers_cannot_be_is_asked_for_no_more_super_packets() {
  Pair pair;
  Accelerators& accelerators = pair.a.shared.accelerators;
  for (const Accelerator each : {Accelerator::tun_checksum, Accelerator::tun_tcp, Accelerator::tun_udp})
    accelerators.set_on(each, {"self-test-passed", {}});
  for (int i = 0; i < 8; i++) {
    CHECK(pair.a.port.allowed.udp && accelerators.on(Accelerator::tun_udp));
    test::MemoryPort::Packet packet = super_packet(3);
    packet.header.checksum_start = 4;
    pair.a.port.waiting.push_back(packet);
    pair.a.sealer.receive(boot_clock());
  }
  CHECK(pair.a.counted(Counter::drop_inner_malformed) == 8);
  CHECK(accelerators.state(Accelerator::tun_udp) == AcceleratorState::demoted);
  CHECK(!pair.a.port.allowed.udp && pair.a.port.allowed.tcp && pair.a.port.allowed.checksum);
}

/// Packets of data that went by each of two paths of `a`, whose shares of the data are these.
std::pair<uint64_t, uint64_t> split(Pair& pair, uint32_t first, uint32_t second) {
  Key32 key;
  key.fill(2);
  const Key32 peer = session::public_key_of(key);
  static const udp::UdpSocket elsewhere(on_loopback());
  session::PathSettings settings{.peer = peer};
  session::Endpoint ends, other;
  ends.remote = check::loopback(pair.b.socket.port());
  other.remote = check::loopback(elsewhere.port());
  settings.paths = {{1, ends, 0, first}, {2, other, 1000, second}};
  pair.a.shared.sessions->set_paths({settings}, boot_clock(), pair.a.out);
  const auto before = pair.a.shared.sessions->path_counts(peer);
  for (int i = 0; i < 400; i++) pair.a.port.waiting.push_back(tcp_packet(500, 0));
  while (pair.a.sealer.receive(boot_clock())) {
  }
  const auto after = pair.a.shared.sessions->path_counts(peer);
  return {after.at(0).sent_packets - before.at(0).sent_packets,
          after.at(1).sent_packets - before.at(1).sent_packets};
}

void data_is_split_over_paths_by_their_shares_under_keys_with_a_wide_window() {
  Pair pair(true);
  // Under the keys of the handshake the window is WireGuard's, and nothing is split.
  CHECK(split(pair, 1, 1).second == 0);
  // The peers agree on more behind a burst.
  for (int i = 0; i < 10; i++) {
    passed(pair, tcp_packet(20'000, 900));
    pair.a.receive();
  }
  CHECK(pair.a.counted(Counter::suites_settled) == 1);
  auto [one, other] = split(pair, 3, 1);
  // What is read together stays together, sixteen packets here.
  CHECK(one + other == 400 && one >= 284 && one <= 316);
  // Shares that change count from then on.
  std::tie(one, other) = split(pair, 1, 1);
  CHECK(one + other == 400 && one >= 184 && one <= 216);
  // What is longer than one of them takes is answered.
  pair.b.receive();
  const uint64_t dropped = pair.a.counted(Counter::drop_too_big);
  CHECK(passed(pair, tcp_packet(1200, 0)).empty() && pair.a.counted(Counter::drop_too_big) == dropped + 1);
  std::tie(one, other) = split(pair, 0, 0);
  CHECK(one == 400 && other == 0);
}

}  // namespace

int main() {
  if (sodium_init() < 0) return 1;
  RUN(a_super_packet_goes_from_one_inside_to_the_other_as_it_was);
  RUN(a_busy_inside_gets_its_packets_taken_in_batches_and_loses_none);
  RUN(a_full_inside_costs_its_packets_and_nobody_elses);
  RUN(its_own_datagrams_routed_into_the_tunnel_end_there);
  RUN(a_packet_nobody_takes_is_answered_to_the_inside_it_came_from);
  RUN(a_packet_longer_than_the_path_takes_is_answered_and_not_sent);
  RUN(too_long_packets_without_end_are_answered_at_a_bounded_rate);
  RUN(a_tcp_super_packet_is_split_into_segments_that_fit_the_path);
  RUN(a_packet_that_may_be_fragmented_is);
  RUN(an_ipv6_packet_that_every_link_has_to_carry_goes_in_fragments);
  RUN(data_is_split_over_paths_by_their_shares_under_keys_with_a_wide_window);
  RUN(an_inside_whose_headers_cannot_be_is_asked_for_no_more_super_packets);
  return omerta::check::finish();
}
