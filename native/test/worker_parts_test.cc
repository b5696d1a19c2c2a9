// SPDX-License-Identifier: Apache-2.0
// The parts of a worker by themselves, with an inside in memory in place of a TUN device: what the inside of
// one node sends arrives in that of another, sealed and opened.
#include <poll.h>
#include <sodium.h>

#include <algorithm>
#include <vector>

#include "check.h"
#include "engine/handshake_receiver.h"
#include "engine/inner_sealer.h"
#include "engine/transport_opener.h"
#include "inner/checksum.h"
#include "loopback.h"
#include "memory_port.h"

namespace {

using namespace omerta;
using namespace omerta::engine;
using Packet = std::vector<uint8_t>;

constexpr size_t kSegment = 1000;

EngineSettings settings(uint8_t seed) {
  EngineSettings s;
  s.private_key.fill(seed);
  s.max_legs = s.max_peers = 16;
  return s;
}

udp::SocketOptions on_loopback() {
  udp::SocketOptions o;
  o.bind = "127.0.0.1";
  return o;
}

/// All of a worker but its loop.
struct Node {
  explicit Node(uint8_t seed)
      : shared(settings(seed), 1),
        socket(on_loopback()),
        io(udp::make_mmsg_io(socket)),
        aead(shared.aead),
        out(shared, shared.counters[0], socket.gso()),
        coalescing(port, true, true),
        watch(out, socket, aead, &coalescing, &port),
        opener(out, aead, watch, &coalescing),
        sealer(out, aead, watch, port, socket.port()),
        relay(out),
        handshakes(out, relay) {
    out.use(*io);
    io->start();
  }
  ~Node() { io->stop(); }

  uint64_t counted(Counter counter) const { return shared.counters[0].get(counter); }
  /// Handles everything that arrives within a moment.
  void receive() {
    pollfd ready{socket.fd(), POLLIN, 0};
    while (poll(&ready, 1, 50) > 0) {
      opener.begin(boot_clock());
      for (const udp::Message& message : io->receive(out.counters())) {
        for (size_t at = 0; at < message.size; at += message.segment) {
          uint8_t* data = message.data + at;
          const size_t size = std::min(message.segment, message.size - at);
          const session::Endpoint& from = opener.source(message);
          if (data[0] != session::kTransportType)
            handshakes.receive(data, size, from, message.ecn, boot_clock());
          else
            CHECK(opener.open(data, size, from, message));
        }
      }
      opener.finish();
      coalescing.flush(out.counters());
      out.flush();
      io->release();
    }
  }

  Shared shared;
  udp::UdpSocket socket;
  std::unique_ptr<udp::SocketIo> io;
  crypto::Aead aead;
  test::MemoryPort port;
  Sender out;
  inner::Coalescing coalescing;
  AcceleratorWatch watch;
  TransportOpener opener;
  InnerSealer sealer;
  WireguardRelay relay;
  HandshakeReceiver handshakes;
};

session::PeerSettings peer(uint8_t seed, const char* prefix) {
  session::PeerSettings p;
  Key32 key;
  key.fill(seed);
  p.public_key = session::public_key_of(key);
  p.allowed_ips = {*session::Prefix::parse(prefix),
                   *session::Prefix::parse(seed == 1 ? "fd00::1/128" : "fd00::2/128")};
  return p;
}

/// Two nodes, 10.0.0.1 and 10.0.0.2, fd00::1 and fd00::2, with a session between them.
struct Pair {
  Node a{1};
  Node b{2};

  Pair() {
    session::PeerSettings to_b = peer(2, "10.0.0.2/32");
    to_b.endpoint.emplace();
    to_b.endpoint->remote = check::loopback(b.socket.port());
    a.shared.sessions->set_peers({to_b}, boot_clock(), a.out);
    b.shared.sessions->set_peers({peer(1, "10.0.0.1/32")}, boot_clock(), b.out);
    a.shared.sessions->start_handshake(to_b.public_key, boot_clock(), a.out);
    a.out.flush();
    for (Node* node : {&b, &a, &b}) node->receive();
    CHECK(a.counted(Counter::handshakes_completed) == 1 && b.counted(Counter::handshakes_completed) == 1);
    CHECK(a.counted(Counter::handshake_initiations_sent) == 1 && a.counted(Counter::keepalives_sent) == 1);
    CHECK(b.counted(Counter::handshake_initiations_sent) == 0 && b.counted(Counter::keepalives_sent) == 0);
  }
};

/// A UDP super-packet from 10.0.0.1 to 10.0.0.`to`, its checksum left to be made.
test::MemoryPort::Packet super_packet(size_t segments, uint8_t to = 2) {
  constexpr size_t kHeaders = 28;
  const size_t payload = segments * kSegment - 300;  // the last segment is shorter
  test::MemoryPort::Packet packet;
  packet.bytes.resize(kHeaders + payload);
  uint8_t* ip = packet.bytes.data();
  randombytes_buf(ip + kHeaders, payload);
  const uint8_t fixed[20] = {0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, to};
  std::memcpy(ip, fixed, sizeof fixed);
  store(ip + 2, htons(static_cast<uint16_t>(packet.bytes.size())));
  store(ip + 10, inner::checksum_finish(inner::checksum_add(ip, 20)));
  store(ip + 20, htons(uint16_t{1000}));
  store(ip + 22, htons(uint16_t{2000}));
  store(ip + 24, htons(static_cast<uint16_t>(8 + payload)));
  const inner::IpView view = inner::parse_ip(ip, packet.bytes.size());
  store(ip + 26, inner::checksum_fold(inner::pseudo_header_sum(view, inner::kUdp, 8 + payload)));
  packet.header.flags = inner::kNeedsChecksum;
  packet.header.gso_type = inner::kGsoUdp;
  packet.header.gso_size = kSegment;
  packet.header.header_length = kHeaders;
  packet.header.checksum_start = 20;
  packet.header.checksum_offset = 6;
  return packet;
}

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

/// What `a` may send to `b` by its only path, in datagrams of so many bytes.
void bound(Pair& pair, size_t plpmtu) {
  Key32 key;
  key.fill(2);
  session::PathSettings settings{.peer = session::public_key_of(key)};
  session::Endpoint ends;
  ends.remote = check::loopback(pair.b.socket.port());
  settings.paths.push_back({1, ends, plpmtu});
  pair.a.shared.sessions->set_paths({settings}, boot_clock(), pair.a.out);
}

/// The same packet as TCP, so that it may be split anywhere.
test::MemoryPort::Packet tcp_packet(size_t payload, uint16_t segment, bool dont_fragment = true) {
  constexpr size_t kHeaders = 40;
  test::MemoryPort::Packet packet;
  packet.bytes.resize(kHeaders + payload);
  uint8_t* ip = packet.bytes.data();
  randombytes_buf(ip + kHeaders, payload);
  const uint8_t fixed[20] = {0x45, 0, 0, 0, 0, 9, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2};
  std::memcpy(ip, fixed, sizeof fixed);
  ip[6] = dont_fragment ? 0x40 : 0;
  store(ip + 2, htons(static_cast<uint16_t>(packet.bytes.size())));
  store(ip + 10, inner::checksum_finish(inner::checksum_add(ip, 20)));
  ip[32] = 5 << 4;
  ip[33] = 0x10;  // ACK
  const inner::IpView view = inner::parse_ip(ip, packet.bytes.size());
  store(ip + 36, inner::checksum_fold(inner::pseudo_header_sum(view, inner::kTcp, 20 + payload)));
  packet.header.flags = inner::kNeedsChecksum;
  packet.header.gso_type = segment == 0 ? inner::kGsoNone : inner::kGsoTcp4;
  packet.header.gso_size = segment;
  packet.header.header_length = kHeaders;
  packet.header.checksum_start = 20;
  packet.header.checksum_offset = 16;
  return packet;
}

/// Sends it and returns what the other inside has got, all of it without its VirtioNetHeader.
std::vector<Packet> passed(Pair& pair, const test::MemoryPort::Packet& packet) {
  pair.a.port.sent.clear();
  pair.b.port.sent.clear();
  pair.a.port.waiting.push_back(packet);
  pair.a.sealer.receive(boot_clock());
  pair.b.receive();
  std::vector<Packet> got;
  for (const Packet& whole : pair.b.port.sent)
    got.emplace_back(whole.begin() + sizeof(inner::VirtioNetHeader), whole.end());
  return got;
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

/// What `a` sends to `b` is padded to these.
void pad(Pair& pair, std::initializer_list<uint16_t> sizes, uint32_t budget = 0) {
  Key32 key;
  key.fill(2);
  session::ShapingSettings settings{.peer = session::public_key_of(key), .padding_budget = budget};
  std::ranges::copy(sizes, settings.padded_sizes.begin());
  settings.padded_size_count = sizes.size();
  pair.a.shared.inner_mtu = 1400;
  pair.a.shared.sessions->set_shaping({settings});
}

/// Bytes of UDP payload of each datagram a packet becomes, all alike; it arrives as it was.
size_t datagram_size(Pair& pair, const test::MemoryPort::Packet& packet) {
  const uint64_t datagrams = pair.a.counted(Counter::tx_datagrams), bytes = pair.a.counted(Counter::tx_bytes);
  const std::vector<Packet> got = passed(pair, packet);
  size_t size = 0;
  for (const Packet& each : got) size += each.size();
  CHECK(size == packet.bytes.size());
  const uint64_t sent = pair.a.counted(Counter::tx_datagrams) - datagrams;
  CHECK(sent != 0 && (pair.a.counted(Counter::tx_bytes) - bytes) % sent == 0);
  return (pair.a.counted(Counter::tx_bytes) - bytes) / std::max<uint64_t>(sent, 1);
}

void packets_are_padded_to_sizes_and_arrive_as_they_were() {
  Pair pair;
  CHECK(datagram_size(pair, tcp_packet(60, 0)) == 112 + 32);
  pad(pair, {128, 512, 65535});
  CHECK(datagram_size(pair, tcp_packet(60, 0)) == 128 + 32);
  CHECK(datagram_size(pair, tcp_packet(88, 0)) == 128 + 32);
  CHECK(datagram_size(pair, tcp_packet(89, 0)) == 512 + 32);
  CHECK(datagram_size(pair, tcp_packet(700, 0)) == 1400 + 32);
  CHECK(datagram_size(pair, tcp_packet(1360, 0)) == 1400 + 32);
  // All segments of a super-packet, the shorter last one too, have one size.
  CHECK(datagram_size(pair, super_packet(64)) == 1400 + 32);
  // Padding makes no datagram too long for its way.
  bound(pair, 1000);
  CHECK(datagram_size(pair, tcp_packet(600, 0)) == 1000);
  pad(pair, {});
  CHECK(datagram_size(pair, tcp_packet(60, 0)) == 112 + 32);
}

void what_is_longer_than_is_padded_goes_as_it_is() {
  Pair pair;
  pad(pair, {65535});
  pair.a.shared.inner_mtu = 9000;
  CHECK(datagram_size(pair, tcp_packet(60, 0)) == session::kMaxPaddedSize + 32);
  CHECK(datagram_size(pair, tcp_packet(5000, 0)) == 5040 + 32);
  CHECK(datagram_size(pair, super_packet(64)) == session::kMaxPaddedSize + 32);
}

void padding_is_bounded_by_its_budget() {
  Pair pair;
  pad(pair, {65535}, 50);
  for (int i = 0; i < 400; i++) passed(pair, tcp_packet(60, 0));
  Key32 key;
  key.fill(2);
  const auto counts = pair.a.shared.sessions->shaping_counts(session::public_key_of(key));
  CHECK(counts.has_value());
  if (!counts.has_value()) return;
  CHECK(counts->data_bytes == 400 * 112);
  CHECK(counts->padding_bytes <= counts->data_bytes / 2 + session::kFirstPaddingCredit);
  CHECK(counts->padding_bytes > session::kFirstPaddingCredit - 1400);
  CHECK(counts->unpadded_packets > 200 && counts->unpadded_packets < 400);
  CHECK(pair.a.counted(Counter::padding_over_budget) == counts->unpadded_packets);
  // What is not afforded goes out all the same.
  CHECK(datagram_size(pair, tcp_packet(60, 0)) == 112 + 32);
}

void what_waited_for_a_session_is_padded_too() {
  Pair pair;
  pad(pair, {65535});
  const uint64_t before = pair.a.counted(Counter::tx_bytes);
  const std::vector<uint8_t> packet = tcp_packet(60, 0).bytes;
  Key32 key;
  key.fill(2);
  CHECK(pair.a.shared.sessions->send_inside(session::public_key_of(key), packet, boot_clock(), pair.a.out));
  pair.a.out.flush();
  CHECK(pair.a.counted(Counter::tx_bytes) - before == 1400 + 32);
}

/// Bytes of UDP payload of the datagram of a packet that waited for a session; it arrives as it was.
size_t late_datagram_size(Pair& pair, const test::MemoryPort::Packet& packet) {
  pair.b.receive();
  pair.b.port.sent.clear();
  const uint64_t before = pair.a.counted(Counter::tx_bytes);
  Key32 key;
  key.fill(2);
  const Key32 peer = session::public_key_of(key);
  CHECK(pair.a.shared.sessions->send_inside(peer, packet.bytes, boot_clock(), pair.a.out));
  pair.a.out.flush();
  pair.b.receive();
  CHECK(pair.b.port.sent.size() == 1);
  for (const Packet& whole : pair.b.port.sent)
    CHECK(std::equal(whole.begin() + sizeof(inner::VirtioNetHeader), whole.end(), packet.bytes.begin(),
                     packet.bytes.end()));
  return pair.a.counted(Counter::tx_bytes) - before;
}

void what_waited_for_a_session_has_the_padding_its_path_has_room_for() {
  Pair pair;
  bound(pair, 1000);
  pad(pair, {128, 65535});
  // Each is as long as a multiple of 16 would be longer than the path, or the message, has room for.
  CHECK(late_datagram_size(pair, tcp_packet(962 - 40, 0)) == 1000);
  CHECK(late_datagram_size(pair, tcp_packet(968 - 40, 0)) == 1000);
  // Who sent this one did not know of the path.
  CHECK(late_datagram_size(pair, tcp_packet(970 - 40, 0)) == 970 + 32);
  pad(pair, {});
  CHECK(late_datagram_size(pair, tcp_packet(962 - 40, 0)) == 1000);
}

void padding_without_budget_is_counted_of_what_waited_too() {
  Pair pair;
  pad(pair, {65535}, 1);
  for (int i = 0; i < 150; i++) late_datagram_size(pair, tcp_packet(60, 0));
  Key32 key;
  key.fill(2);
  const auto counts = pair.a.shared.sessions->shaping_counts(session::public_key_of(key));
  CHECK(counts.has_value() && counts->unpadded_packets > 0);
  CHECK(pair.a.counted(Counter::padding_over_budget) == counts->unpadded_packets);
}

/// What `a` sends to `b` waits for its turn: under a ceiling of `lo`, or in slots.
void queue(Pair& pair, uint64_t bytes_per_second, Nanoseconds slot = 0) {
  Key32 key;
  key.fill(2);
  const Key32 peer = session::public_key_of(key);
  session::ShapingSettings settings{.peer = peer, .queued = true, .covered = slot != 0};
  if (settings.covered) settings.padded_sizes[settings.padded_size_count++] = 65535;
  pair.a.shared.inner_mtu = 1400;
  if (bytes_per_second != 0) pair.a.shared.egress.set_ceilings({{"lo", bytes_per_second}}, boot_clock());
  pair.a.shared.egress.set_flow({.peer = peer, .slot = slot}, boot_clock());
  pair.a.shared.sessions->set_shaping({settings});
}

/// What worker 0 does when it is woken, as if it were this moment. How many packets left.
size_t serve(Node& node, Nanoseconds now) {
  std::vector<Egress::Due> due;
  QueueCounts lost;
  node.shared.egress.take(due, now, lost);
  for (Egress::Due& each : due)
    if (!each.packet.empty())
      node.sealer.release(each.packet, now);
    else
      CHECK(node.shared.sessions->send_cover(each.peer, now, node.out));
  node.out.flush();
  node.shared.egress.taken(now);
  return due.size();
}

void what_waits_for_its_turn_leaves_one_by_one_and_arrives_as_it_was() {
  Pair pair;
  queue(pair, 1'000'000);
  const test::MemoryPort::Packet packet = super_packet(40);
  pair.a.port.waiting.push_back(packet);
  pair.a.sealer.receive(boot_clock());
  CHECK(pair.a.counted(Counter::transport_sent) == 0 && pair.a.counted(Counter::queued_packets) == 40);
  size_t left = 0;
  const Nanoseconds now = boot_clock();
  for (Nanoseconds later = 0; left < 40 && later < 100 * kMillisecond; later += kMillisecond)
    left += serve(pair.a, now + later);
  CHECK(left == 40 && pair.a.counted(Counter::transport_sent) == 40);
  pair.b.receive();
  size_t bytes = 0;
  for (const Packet& whole : pair.b.port.sent) bytes += whole.size() - sizeof(inner::VirtioNetHeader) - 28;
  CHECK(bytes == packet.bytes.size() - 28);
  // A packet the link has room for does not wait.
  CHECK(passed(pair, tcp_packet(100, 0)).size() == 1 && pair.a.counted(Counter::queued_packets) == 40);
}

void control_goes_ahead_of_data_that_waits() {
  Pair pair;
  queue(pair, 100'000);
  pair.a.port.waiting.push_back(super_packet(40));
  pair.a.sealer.receive(boot_clock());
  const uint64_t sent = pair.a.counted(Counter::tx_datagrams);
  const std::vector<uint8_t> message = {0xC0, 1, 8, 0, 1, 2, 3, 4, 5, 6, 7, 8};
  Key32 key;
  key.fill(2);
  const uint64_t before = pair.a.shared.egress.links().at(0).sent_bytes;
  CHECK(pair.a.shared.sessions->send_inside(session::public_key_of(key), message, boot_clock(), pair.a.out));
  pair.a.out.flush();
  CHECK(pair.a.counted(Counter::tx_datagrams) == sent + 1);
  CHECK(pair.a.shared.egress.links().at(0).sent_bytes - before == 16 + 32 + 28);
  pair.b.receive();
  CHECK(pair.b.counted(Counter::control_messages) == 1 && pair.b.port.sent.empty());
}

void a_slot_is_filled_by_a_packet_or_by_a_cover_of_the_same_size() {
  Pair pair;
  queue(pair, 0, 10 * kMillisecond);
  const Nanoseconds now = boot_clock();
  const auto slot = [&](Nanoseconds at) {
    const uint64_t bytes = pair.a.counted(Counter::tx_bytes);
    CHECK(serve(pair.a, at) == 1);
    return pair.a.counted(Counter::tx_bytes) - bytes;
  };
  CHECK(slot(now + 20 * kMillisecond) == 1400 + 32);
  pair.b.receive();
  CHECK(pair.b.counted(Counter::covers_received) == 1 && pair.b.counted(Counter::control_messages) == 0);
  CHECK(pair.b.port.sent.empty());
  const test::MemoryPort::Packet packet = tcp_packet(60, 0);
  pair.a.port.waiting.push_back(packet);
  pair.a.sealer.receive(now + 20 * kMillisecond);
  CHECK(slot(now + 30 * kMillisecond) == 1400 + 32);
  pair.b.receive();
  CHECK(pair.b.counted(Counter::covers_received) == 1 && pair.b.port.sent.size() == 1);
  CHECK(slot(now + 40 * kMillisecond) == 1400 + 32);
  Key32 key;
  key.fill(2);
  const auto counts = pair.a.shared.sessions->shaping_counts(session::public_key_of(key));
  CHECK(counts.has_value() && counts->covers == 2 && counts->data_bytes == 112);
  CHECK(counts.has_value() && counts->padding_bytes == 2 * 1400 + 1400 - 112);
}

void a_copy_by_the_standby_is_padded_to_what_both_paths_take() {
  Pair pair;
  bound(pair, 1400);
  Key32 key;
  key.fill(2);
  session::PathSettings settings{.peer = session::public_key_of(key)};
  session::Endpoint ends;
  ends.remote = check::loopback(pair.b.socket.port());
  settings.paths = {{1, ends, 1400}, {2, ends, 1000}};
  pair.a.shared.sessions->set_paths({settings}, boot_clock(), pair.a.out);
  pad(pair, {65535});
  CHECK(datagram_size(pair, tcp_packet(60, 0)) == 1400);
  pair.a.shared.sessions->for_each(
      [](session::Peer& each) { each.paths.load()->state().silent.store(true); });
  CHECK(datagram_size(pair, tcp_packet(60, 0)) == 1000);
  CHECK(late_datagram_size(pair, tcp_packet(60, 0)) == 2 * 1000);
}

void messages_are_padded_as_packets_are() {
  Pair pair;
  pad(pair, {128, 512});
  Key32 key;
  key.fill(2);
  const auto size_of = [&](const std::vector<uint8_t>& frame) {
    const uint64_t before = pair.a.counted(Counter::tx_bytes);
    pair.a.shared.sessions->send_inside(session::public_key_of(key), frame, boot_clock(), pair.a.out);
    pair.a.out.flush();
    return pair.a.counted(Counter::tx_bytes) - before;
  };
  CHECK(size_of({0xC0, 1, 8, 0, 1, 2, 3, 4, 5, 6, 7, 8}) == 128 + 32);
  CHECK(size_of({0xC0, 2, 8, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0}) == 16 + 32);
}

/// Both a and b may send everything to each other; b is 10.0.0.2 and lets a do as `transit` says.
struct ExitPair : Pair {
  explicit ExitPair(session::Transit transit) {
    const std::vector<session::Prefix> own = {*session::Prefix::parse("10.0.0.2/32")};
    const std::vector<session::ExitRule> rules = {{*session::Prefix::parse("10.0.0.64/26"), true},
                                                  {*session::Prefix::parse("10.0.0.70/32"), false}};
    const std::vector<session::ExitRule> lan = {{*session::Prefix::parse("10.0.0.72/32"), false}};
    b.shared.sessions->set_exit_rules(std::make_unique<session::ExitRules>(own, rules, lan));
    a.shared.sessions->set_peers({peer(2, "0.0.0.0/0")}, boot_clock(), a.out);
    session::PeerSettings held;
    held.public_key = peer(1, "0.0.0.0/0").public_key;
    held.transit = transit;
    b.shared.sessions->set_peers({held}, boot_clock(), b.out);
  }
  /// Sends one packet from a to 10.0.0.`to`. Returns whether the inside of b got it.
  bool arrives(uint8_t to) {
    b.port.sent.clear();
    a.port.waiting.push_back(super_packet(1, to));
    a.sealer.receive(boot_clock());
    b.receive();
    return !b.port.sent.empty();
  }
};

void a_peer_without_the_right_to_an_exit_reaches_this_node_alone() {
  ExitPair pair(session::Transit::none);
  CHECK(pair.arrives(2));
  CHECK(!pair.arrives(3) && !pair.arrives(70));
  CHECK(pair.b.counted(Counter::drop_no_exit_right) == 2 && pair.b.counted(Counter::drop_exit_denied) == 0);
}

void a_peer_with_the_right_reaches_what_the_rules_permit() {
  ExitPair pair(session::Transit::exit);
  CHECK(pair.arrives(2) && pair.arrives(3) && pair.arrives(70));
  CHECK(!pair.arrives(71));
  CHECK(pair.b.counted(Counter::drop_exit_denied) == 1 && pair.b.counted(Counter::drop_no_exit_right) == 0);
  pair.b.shared.sessions->set_exit_rules(
      std::make_unique<session::ExitRules>(std::vector<session::Prefix>{}));
  CHECK(pair.arrives(71));
}

void a_peer_with_the_right_to_a_lan_reaches_that_and_no_more() {
  ExitPair pair(session::Transit::lan);
  CHECK(pair.arrives(2) && pair.arrives(72));
  CHECK(!pair.arrives(3) && !pair.arrives(70) && !pair.arrives(71));
  CHECK(pair.b.counted(Counter::drop_exit_denied) == 3);
  ExitPair exit(session::Transit::exit);
  CHECK(!exit.arrives(72));
  ExitPair both(session::Transit::exit_and_lan);
  CHECK(both.arrives(72) && both.arrives(3) && !both.arrives(71));
}

void the_right_ends_with_the_next_packet() {
  ExitPair pair(session::Transit::exit);
  CHECK(pair.arrives(3));
  session::PeerSettings held;
  held.public_key = peer(1, "0.0.0.0/0").public_key;
  held.transit = session::Transit::none;
  pair.b.shared.sessions->set_peers({held}, boot_clock(), pair.b.out);
  CHECK(!pair.arrives(3) && pair.b.counted(Counter::drop_no_exit_right) == 1);
}

void a_peer_that_is_held_to_nothing_reaches_everything() {
  ExitPair pair(session::Transit::any);
  CHECK(pair.arrives(3) && pair.arrives(71));
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
  RUN(packets_are_padded_to_sizes_and_arrive_as_they_were);
  RUN(what_is_longer_than_is_padded_goes_as_it_is);
  RUN(padding_is_bounded_by_its_budget);
  RUN(what_waited_for_a_session_is_padded_too);
  RUN(what_waited_for_a_session_has_the_padding_its_path_has_room_for);
  RUN(padding_without_budget_is_counted_of_what_waited_too);
  RUN(what_waits_for_its_turn_leaves_one_by_one_and_arrives_as_it_was);
  RUN(control_goes_ahead_of_data_that_waits);
  RUN(a_slot_is_filled_by_a_packet_or_by_a_cover_of_the_same_size);
  RUN(a_copy_by_the_standby_is_padded_to_what_both_paths_take);
  RUN(messages_are_padded_as_packets_are);
  RUN(an_inside_whose_headers_cannot_be_is_asked_for_no_more_super_packets);
  RUN(a_peer_without_the_right_to_an_exit_reaches_this_node_alone);
  RUN(a_peer_with_the_right_reaches_what_the_rules_permit);
  RUN(a_peer_with_the_right_to_a_lan_reaches_that_and_no_more);
  RUN(the_right_ends_with_the_next_packet);
  RUN(a_peer_that_is_held_to_nothing_reaches_everything);
  return omerta::check::finish();
}
