// SPDX-License-Identifier: Apache-2.0
// All of a worker but its loop, with an inside in memory in place of a TUN device; and two of them with a
// session.
#pragma once

#include <arpa/inet.h>
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

namespace omerta::check {

using namespace omerta::engine;
using Packet = std::vector<uint8_t>;

inline constexpr size_t kSegment = 1000;

/// @param suites whether it offers more than WireGuard's suite and window; else no offer comes between the
/// datagrams that are counted
inline EngineSettings settings(uint8_t seed, bool suites) {
  EngineSettings s;
  s.private_key.fill(seed);
  s.max_legs = s.max_peers = 16;
  s.aes_256_gcm = s.wide_window = suites;
  return s;
}

inline udp::SocketOptions on_loopback() {
  udp::SocketOptions o;
  o.bind = "127.0.0.1";
  return o;
}

/// All of a worker but its loop.
struct Node {
  explicit Node(uint8_t seed, bool suites = false)
      : shared(settings(seed, suites), 1),
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
  /// Handles everything that has arrived, and what the other node has sent and a moment may bring yet.
  void receive() {
    pollfd ready{socket.fd(), POLLIN, 0};
    const auto expects = [this] {
      return other == nullptr || counted(Counter::rx_datagrams) < other->counted(Counter::tx_datagrams);
    };
    while (poll(&ready, 1, expects() ? 50 : 0) > 0) {
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

  const Node* other = nullptr;  ///< all that it sends comes here
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

inline session::PeerSettings peer(uint8_t seed, const char* prefix) {
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
  Node a;
  Node b;

  explicit Pair(bool suites = false) : a(1, suites), b(2, suites) {
    a.other = &b;
    b.other = &a;
    session::PeerSettings to_b = peer(2, "10.0.0.2/32");
    to_b.endpoint.emplace();
    to_b.endpoint->remote = loopback(b.socket.port());
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
inline test::MemoryPort::Packet super_packet(size_t segments, uint8_t to = 2) {
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

/// What `a` may send to `b` by its only path, in datagrams of so many bytes.
inline void bound(Pair& pair, size_t plpmtu) {
  Key32 key;
  key.fill(2);
  session::PathSettings settings{.peer = session::public_key_of(key)};
  session::Endpoint ends;
  ends.remote = check::loopback(pair.b.socket.port());
  settings.paths.push_back({1, ends, plpmtu});
  pair.a.shared.sessions->set_paths({settings}, boot_clock(), pair.a.out);
}

/// The same packet as TCP, so that it may be split anywhere.
inline test::MemoryPort::Packet tcp_packet(size_t payload, uint16_t segment, bool dont_fragment = true) {
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
inline std::vector<Packet> passed(Pair& pair, const test::MemoryPort::Packet& packet) {
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

}  // namespace omerta::check
