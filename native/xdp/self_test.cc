// SPDX-License-Identifier: Apache-2.0
#include "xdp/self_test.h"

#include <arpa/inet.h>
#include <linux/bpf.h>

#include <cstring>
#include <string>

#include <omerta/xdp_maps.h>
#include "xdp/leg_map.h"
#include "xdp/packet.h"
#include "xdp/relay_program.h"

namespace omerta::xdp {
namespace {

constexpr uint16_t kPort = 51820;
constexpr uint64_t kNow = 1'000'000'000;
constexpr Mac kSender = {2, 0, 0, 0, 0, 1}, kRelay = {2, 0, 0, 0, 0, 2}, kNextHop = {2, 0, 0, 0, 0, 3};

/// TEST-NET and documentation addresses (RFC 5737, RFC 3849).
omerta_address address(bool v4, const char* v4_text, const char* v6_text, uint16_t port) {
  omerta_address out{};
  out.port = htons(port);
  out.ip[10] = out.ip[11] = 0xff;
  inet_pton(v4 ? AF_INET : AF_INET6, v4 ? v4_text : v6_text, v4 ? out.ip + 12 : out.ip);
  return out;
}

omerta_address own(bool v4) { return address(v4, "192.0.2.1", "2001:db8::1", kPort); }

/// A leg from a sender of one family to a receiver of the same or the other.
omerta_leg make_leg(uint32_t id, bool from_v4, bool to_v4) {
  omerta_leg leg{};
  const omerta_address source = address(from_v4, "198.51.100.7", "2001:db8:7::7", 40000);
  const omerta_address next = address(to_v4, "203.0.113.9", "2001:db8:9::9", 50000);
  leg.leg_id = id;
  leg.action = OMERTA_LEG_FORWARD;
  leg.key_epoch = 3;
  leg.next_key_epoch = 5;
  std::memcpy(leg.source_ip, source.ip, 16);
  leg.source_port = source.port;
  std::memcpy(leg.next_ip, next.ip, 16);
  leg.next_port = next.port;
  leg.next_leg_id = id + 1000;
  for (int i = 0; i < 2; i++) {
    leg.key[i] = 0x0123456789abcdef * (id + 1) + i;
    leg.next_key[i] = 0xfedcba9876543210 * (id + 2) + i;
  }
  return leg;
}

std::vector<uint8_t> make_frame(const omerta_leg& leg, size_t size) {
  std::vector<uint8_t> frame(size);
  for (size_t i = 0; i < size; i++) frame[i] = static_cast<uint8_t>(i * 37 + size);
  frame[0] = OMERTA_FRAME_MAGIC;
  frame[1] = OMERTA_KIND_FORWARD;
  frame[2] = OMERTA_HOP_LIMIT_DEFAULT;
  frame[3] = leg.key_epoch;
  std::memcpy(&frame[4], &leg.leg_id, 4);
  const uint64_t tag = omerta_frame_tag(leg.key, frame.data(), static_cast<__u32>(size));
  std::memcpy(&frame[8], &tag, 8);
  return frame;
}

Headers arriving(const omerta_leg& leg, bool from_v4, UdpChecksum checksum) {
  Headers headers;
  headers.source_mac = kSender;
  headers.destination_mac = kRelay;
  std::memcpy(headers.from.ip, leg.source_ip, 16);
  headers.from.port = leg.source_port;
  headers.to = own(from_v4);
  headers.ttl = 57;
  headers.service = 0xb9;
  headers.id = 0x1234;
  headers.checksum = checksum;
  return headers;
}

class SelfTest {
 public:
  explicit SelfTest(const std::function<void(omerta_xdp_settings&)>& spoil)
      : program_({.port = kPort, .max_legs = 64, .test_clock = true}) {
    omerta_xdp_settings& settings = program_.settings();
    settings.complete = 1;
    settings.own_count = 2;
    std::memcpy(settings.own[0].ip, own(true).ip, 16);
    std::memcpy(settings.own[1].ip, own(false).ip, 16);
    settings.only4 = settings.own[0];
    settings.only6 = settings.own[1];
    if (spoil) spoil(settings);
  }

  int run() {
    LegMap legs(program_);
    uint32_t id = 1;
    for (const bool from_v4 : {true, false})
      for (const bool to_v4 : {true, false}) {
        const omerta_leg leg = make_leg(id++, from_v4, to_v4);
        legs.install({&leg, 1});
        remember_way(leg, to_v4);
        for (const size_t size : {32u, 33u, 64u, 95u, 148u, 1300u, 1420u})
          forwards(leg, from_v4, to_v4, size, UdpChecksum::computed);
        if (from_v4 && to_v4) forwards(leg, from_v4, to_v4, 64, UdpChecksum::absent);
        drops(leg, from_v4);
        passes(leg, from_v4);
      }
    return packets_;
  }

 private:
  void remember_way(const omerta_leg& leg, bool to_v4) {
    omerta_next_hop hop{};
    std::memcpy(hop.to, leg.next_ip, 16);
    std::memcpy(hop.from, own(to_v4).ip, 16);
    std::memcpy(hop.destination_mac, kNextHop.data(), 6);
    std::memcpy(hop.source_mac, kRelay.data(), 6);
    hop.interface = 1;
    hop.mtu = 1500;
    hop.valid_until = UINT64_MAX;
    program_.remember(hop);
  }

  void expect(const std::string& what, const Packet& packet, uint32_t action, const Packet& out) {
    packets_++;
    const RunResult result = program_.run(packet, kNow);
    if (result.action != action)
      throw XdpError(XdpError::Code::self_test, what + ": XDP action " + std::to_string(result.action) +
                                                    " instead of " + std::to_string(action));
    if (result.packet == out) return;
    size_t at = 0;
    while (at < out.size() && at < result.packet.size() && out[at] == result.packet[at]) at++;
    throw XdpError(XdpError::Code::self_test, what + ": byte " + std::to_string(at) + " of " +
                                                  std::to_string(result.packet.size()) + " is wrong");
  }

  void forwards(const omerta_leg& leg, bool from_v4, bool to_v4, size_t size, UdpChecksum checksum) {
    std::vector<uint8_t> frame = make_frame(leg, size);
    const Headers before = arriving(leg, from_v4, checksum);
    const Packet packet = packet_of(before, frame);
    omerta_leg_rewrite(&leg, frame.data(), static_cast<__u32>(size));
    Headers after = before;
    after.source_mac = kRelay;
    after.destination_mac = kNextHop;
    after.from = own(to_v4);
    std::memcpy(after.to.ip, leg.next_ip, 16);
    after.to.port = leg.next_port;
    after.ttl = 64;
    after.service &= 3;  // ECN alone is told on
    if (!from_v4) after.id = 0;
    expect("a frame of " + std::to_string(size) + " bytes from IPv" + (from_v4 ? "4" : "6") + " to IPv" +
               (to_v4 ? "4" : "6"),
           packet, XDP_TX, packet_of(after, frame));
  }

  void drops(const omerta_leg& leg, bool from_v4) {
    Headers headers = arriving(leg, from_v4, UdpChecksum::computed);
    std::vector<uint8_t> frame = make_frame(leg, 64);
    const auto dropped = [&](const std::string& what) {
      const Packet packet = packet_of(headers, frame);
      expect(what, packet, XDP_DROP, packet);
    };
    frame[20] ^= 1;
    dropped("a frame whose tag is wrong");
    frame[20] ^= 1;
    frame[7] ^= 0x40;
    dropped("a frame on an unknown leg");
    frame[7] ^= 0x40;
    headers.from.port ^= 1;
    dropped("a frame from another address");
    headers.from.port ^= 1;
    frame.assign(40, 0xee);
    dropped("a datagram of no known protocol");
  }

  void passes(const omerta_leg& leg, bool from_v4) {
    const Headers headers = arriving(leg, from_v4, UdpChecksum::computed);
    const std::vector<uint8_t> frame = make_frame(leg, 64);
    Headers elsewhere = headers;
    elsewhere.to.port = htons(kPort + 1);
    Packet packet = packet_of(elsewhere, frame);
    expect("another port", packet, XDP_PASS, packet);
    elsewhere = headers;
    elsewhere.to.ip[15] ^= 1;
    packet = packet_of(elsewhere, frame);
    expect("another machine's address", packet, XDP_PASS, packet);
    packet = packet_of(headers, frame);
    const uint8_t tag[4] = {0x81, 0x00, 0x00, 0x05};
    packet.insert(packet.begin() + 12, tag, tag + 4);
    expect("a VLAN tag", packet, XDP_PASS, packet);
    packet = packet_of(headers, frame);
    packet.pop_back();
    expect("a truncated packet", packet, XDP_PASS, packet);
  }

  RelayProgram program_;
  int packets_ = 0;
};

}  // namespace

int self_test(const std::function<void(omerta_xdp_settings&)>& spoil) { return SelfTest(spoil).run(); }

}  // namespace omerta::xdp
