// SPDX-License-Identifier: Apache-2.0
// Single steps, counted in instructions for callgrind (counted.h): what a handshake takes at each end, and
// what splitting a super-packet and joining its segments again takes, and what the gateway of a virtual
// machine.
//
//   steps TIMES
#include <sodium.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "counted.h"
#include "crypto/blake2s.h"
#include "guest/frame_reader.h"
#include "guest/gateway.h"
#include "inner/coalescing.h"
#include "inner/segmentation.h"
#include "session/noise.h"

using namespace omerta;
using namespace omerta::bench;

namespace {

/// Counts what `work` takes, once.
template <class Work>
void counted(const char* name, uint64_t units, Work&& work) {
  start_counting();
  const bool ok = work();
  stop_counting();
  if (!ok) {
    std::fprintf(stderr, "steps: %s failed\n", name);
    std::exit(1);
  }
  report(name, units);
}

Key32 key(uint8_t seed) {
  Key32 k;
  k.fill(seed);
  return k;
}

/// One whole handshake, as initiator and responder; messages carry their mac1.
void handshake(uint8_t time) {
  const session::LocalIdentity a(key(1)), b(key(2));
  const session::RemoteIdentity to_b(a, b.public_key), to_a(b, a.public_key);
  session::HandshakeState initiator, responder;
  session::Initiation initiation;
  session::Response response;
  session::Timestamp timestamp{};
  timestamp[11] = time;
  counted("handshake, initiation made", 1, [&] {
    const bool made = session::create_initiation(a, to_b, key(3), timestamp, 7, initiator, initiation);
    initiation.mac1 = crypto::blake2s_mac(to_b.mac1_key, {session::before_mac1(initiation)});
    return made;
  });
  counted("handshake, initiation answered", 1, [&] {
    if (crypto::blake2s_mac(b.mac1_key, {session::before_mac1(initiation)}) != initiation.mac1) return false;
    auto received = session::open_initiation_static(b, initiation);
    if (!received || !session::open_initiation_timestamp(to_a, *received, initiation)) return false;
    responder = received->state;
    const bool made = session::create_response(b, to_a, key(4), 8, responder, response);
    response.mac1 = crypto::blake2s_mac(to_a.mac1_key, {session::before_mac1(response)});
    session::derive_transport_keys(responder, false);
    return made;
  });
  counted("handshake, answer taken", 1, [&] {
    if (crypto::blake2s_mac(a.mac1_key, {session::before_mac1(response)}) != response.mac1) return false;
    const bool consumed = session::consume_response(a, to_b, response, initiator);
    session::derive_transport_keys(initiator, true);
    return consumed;
  });
}

/// Takes everything and remembers how many super-packets and packets that were.
class Nowhere final : public inner::Port {
 public:
  int descriptor() const override { return -1; }
  std::span<const inner::Received> receive() override { return {}; }
  Taken send(std::span<const inner::Gathered> packets) override {
    taken += packets.size();
    return {packets.size(), Stop::none};
  }
  void set_offloads(const inner::Offloads&) override {}

  size_t taken = 0;
};

/// A TCP super-packet of 46 segments into its segments, and those into a super-packet again.
void split_and_join(size_t segment, const char* split, const char* joined) {
  constexpr size_t kHeaders = 20 + 20, kSegments = 46;
  const size_t size = kHeaders + segment;
  std::vector<uint8_t> packet(kHeaders + segment * kSegments, 0x5a), out(size * kSegments);
  const std::array<uint8_t, 20> ip = {0x45, 0, 0,  0, 0, 0, 0x40, 0, 64, inner::kTcp,
                                      0,    0, 10, 9, 0, 1, 10,   9, 0,  2};
  std::memcpy(packet.data(), ip.data(), ip.size());
  store(packet.data() + 2, __builtin_bswap16(static_cast<uint16_t>(packet.size())));
  packet[32] = 5 << 4;
  packet[33] = 0x10;
  inner::VirtioNetHeader header{};
  header.flags = inner::kNeedsChecksum;
  header.gso_type = inner::kGsoTcp4;
  header.header_length = kHeaders;
  header.gso_size = static_cast<uint16_t>(segment);
  header.checksum_start = 20;
  header.checksum_offset = 16;
  counted(split, kSegments, [&] {
    const inner::Segmentation segments(header, packet.data(), packet.size());
    if (segments.count() != kSegments) return false;
    for (size_t i = 0; i < segments.count(); i++) segments.write(i, out.data() + i * size);
    return true;
  });
  Nowhere nowhere;
  inner::Coalescing coalescing(nowhere, true, true);
  CounterRow counters;
  counted(joined, kSegments, [&] {
    for (size_t i = 0; i < kSegments; i++) {
      uint8_t* const one = out.data() + i * size;
      coalescing.add(one, inner::parse_ip(one, size), counters);
    }
    coalescing.flush(counters);
    return nowhere.taken == 1;
  });
}

/// Frames of a virtual machine out of a stream, and what they are.
void judge_frames(const char* name) {
  constexpr size_t kFrames = 64, size = 1420;
  const guest::Ipv4 own{100, 64, 1, 2};
  guest::Link link;
  link.guest = {0x52, 0x54, 0, 0x12, 0x34, 0x56};
  link.ipv4 = {own};
  link.ipv6 = {guest::Ipv6{}};
  link.mtu = 1420;
  guest::Gateway gateway(link);
  std::vector<uint8_t> frame(guest::kLengthSize + guest::kEthernetHeader + size);
  store(frame.data(), __builtin_bswap32(static_cast<uint32_t>(guest::kEthernetHeader + size)));
  uint8_t* const ethernet = frame.data() + guest::kLengthSize;
  std::copy(guest::kGatewayMac.begin(), guest::kGatewayMac.end(), ethernet);
  std::copy(link.guest.begin(), link.guest.end(), ethernet + 6);
  ethernet[12] = 8;
  uint8_t* const ip = ethernet + guest::kEthernetHeader;
  const std::array<uint8_t, 20> header = {0x45, 0, 0,   0,  0, 0, 0x40, 0,  64, inner::kTcp,
                                          0,    0, 100, 64, 1, 2, 100,  70, 0,  9};
  std::memcpy(ip, header.data(), header.size());
  store(ip + 2, __builtin_bswap16(static_cast<uint16_t>(size)));
  store(ip + 10, inner::checksum_finish(inner::checksum_add(ip, 20)));
  guest::FrameReader reader;
  for (size_t i = 0; i < kFrames; i++) {
    std::memcpy(reader.room().data(), frame.data(), frame.size());
    reader.filled(frame.size());
  }
  counted(name, kFrames, [&] {
    size_t passed = 0;
    for (std::span<uint8_t> one = reader.next(); !one.empty(); one = reader.next())
      passed += gateway.judge(one).packet.size() == size;
    return passed == kFrames;
  });
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2 || sodium_init() < 0) {
    std::fputs("steps TIMES\n", stderr);
    return 2;
  }
  const long times = std::atol(argv[1]);
  for (long i = 0; i < times; i++) {
    handshake(static_cast<uint8_t>(i + 1));
    split_and_join(1380, "split, 1,420 B", "join, 1,420 B");
    split_and_join(24, "split, 64 B", "join, 64 B");
    judge_frames("frame of a virtual machine, judged");
  }
}
