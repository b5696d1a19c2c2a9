// SPDX-License-Identifier: Apache-2.0
// The golden packets through the XDP relay, in the kernel (BPF_PROG_TEST_RUN): each datagram is put
// into Ethernet, IP and UDP headers, and what comes out is checked down to its checksums.
#include <cstdio>
#include <fstream>
#include <map>

#include "bpf_relay.h"

using namespace omerta;
using namespace omerta::xdp;
using golden::Bytes;

namespace {

/// What fits a test run's one page beside the room it keeps free.
constexpr size_t kLargestPacket = 3000;

void put16(Packet& bytes, size_t at, size_t value) {
  bytes[at] = static_cast<uint8_t>(value >> 8);
  bytes[at + 1] = static_cast<uint8_t>(value);
}

/// The counters after a datagram with this verdict.
void count(omerta_xdp_counters& counters, uint32_t action, const golden::Packet& packet,
           omerta_xdp_counter passed) {
  if (action == XDP_DROP) counters.drops[packet.reason]++;
  if (action == XDP_PASS) counters.others[passed]++;
  if (action != XDP_TX) return;
  counters.others[OMERTA_XDP_FORWARDED_PACKETS]++;
  counters.others[OMERTA_XDP_FORWARDED_BYTES] += packet.datagram.size();
}

struct Tally {
  uint64_t packets = 0, bytes = 0;
};

/// How the golden datagrams are wrapped.
struct Wrapping {
  const char* name;
  UdpChecksum checksum;
  size_t ethernet_padding;
};

int unsuitable = 0;

void run_sequence(const golden::Json& sequence, const Wrapping& wrapping) {
  BpfRelay relay;
  std::map<uint32_t, Tally> tallies;
  for (const golden::Setting& setting : golden::settings_of(sequence))
    golden::apply(relay.accounts(), setting);
  for (const golden::Json& leg : sequence.at("legs")) relay.install(golden::leg_of(leg));
  for (const golden::Json& json : sequence.at("packets")) {
    const golden::Packet packet = golden::packet_of(json);
    const std::string title =
        std::string(wrapping.name) + ", " + sequence.at("name").get<std::string>() + ": " + packet.shows;
    TEST(title.c_str());
    for (const golden::Setting& setting : packet.settings) golden::apply(relay.accounts(), setting);
    for (const uint32_t id : packet.remove) {
      relay.remove(id);
      tallies.erase(id);
    }
    for (const omerta_leg& leg : packet.install) relay.install(leg);
    if (packet.datagram.size() > kLargestPacket) {
      unsuitable++;
      continue;
    }
    const bool from_v4 = is_v4(packet.from.ip);
    const std::optional<omerta_leg> leg =
        packet.datagram.size() >= 8 ? relay.find(omerta_load32(&packet.datagram[4])) : std::nullopt;
    const bool forwards = leg.has_value() && leg->action == OMERTA_LEG_FORWARD;
    if (forwards) relay.remember_way(*leg);

    // Limits of legs that end here are the socket engine's to hold.
    const bool limited_above = packet.reason >= OMERTA_DROP_RATE_LIMITED && !forwards;
    uint32_t action = packet.verdict == OMERTA_FORWARD                  ? XDP_TX
                      : packet.verdict == OMERTA_DROP && !limited_above ? XDP_DROP
                                                                        : XDP_PASS;
    omerta_xdp_counter passed = OMERTA_XDP_PASSED_OWN;
    const bool reaches_next_hop = action == XDP_TX || packet.reason >= OMERTA_DROP_RATE_LIMITED;
    if (forwards && reaches_next_hop && from_v4 && !is_v4(leg->next_ip) &&
        wrapping.checksum == UdpChecksum::absent) {
      action = XDP_PASS;
      passed = OMERTA_XDP_PASSED_NO_CHECKSUM;
    }
    const Headers headers = arriving(packet.from, wrapping.checksum);
    Packet wire = packet_of(headers, packet.datagram);
    Packet expected = action == XDP_TX ? packet_of(leaving(headers, packet.to), packet.out) : wire;
    // A rate limit found after the head moved: what is dropped may look like anything.
    const bool head_moved =
        packet.reason == OMERTA_DROP_RATE_LIMITED && action == XDP_DROP && is_v4(leg->next_ip) != from_v4;
    for (Packet* each : {&wire, &expected}) each->resize(each->size() + wrapping.ethernet_padding, 0x77);

    omerta_xdp_counters counters = relay.program().counters();
    const RunResult result = relay.program().run(wire, packet.now);
    CHECK(result.action == action);
    CHECK(head_moved || result.packet == expected);
    count(counters, action, packet, passed);
    CHECK(same_counters(relay.program().counters(), counters));
    if (action == XDP_TX) {
      Tally& tally = tallies[packet.leg];
      tally.packets++;
      tally.bytes += packet.datagram.size();
      CHECK(relay.find(packet.leg)->last_used == packet.now);
    }
    TEST("");
  }
  for (const auto& [id, tally] : tallies) {
    const auto leg = relay.find(id);
    CHECK(leg && leg->packets == tally.packets && leg->bytes == tally.bytes);
  }
  for (const golden::Json& json : sequence.at("accounts")) {
    // Packets and bytes are in the legs until they are settled.
    const omerta_account account = relay.accounts().read(golden::kind_of(json.at("kind")), json.at("index"));
    CHECK(account.demand == json.at("demand").get<uint64_t>());
    CHECK(account.refused == json.at("refused").get<uint64_t>());
  }
}

/// A leg and a frame for it that is forwarded unless something keeps the program from claiming it.
struct Forwardable {
  omerta_leg leg{};
  Bytes frame = Bytes(64);
  omerta_address from, next;

  explicit Forwardable(bool v4) : Forwardable(v4, v4) {}
  Forwardable(bool from_v4, bool to_v4)
      : from(golden::address_of(from_v4 ? "192.0.2.1:4000" : "[2001:db8:1::1]:4000")),
        next(golden::address_of(to_v4 ? "198.51.100.2:5000" : "[2001:db8:2::2]:5000")) {
    leg.leg_id = 1;
    leg.action = OMERTA_LEG_FORWARD;
    std::memcpy(leg.source_ip, from.ip, 16);
    leg.source_port = from.port;
    std::memcpy(leg.next_ip, next.ip, 16);
    leg.next_port = next.port;
    leg.next_leg_id = 2;
    leg.key[0] = 3;
    leg.next_key[0] = 4;
    frame[0] = OMERTA_FRAME_MAGIC;
    frame[1] = OMERTA_KIND_FORWARD;
    frame[2] = OMERTA_HOP_LIMIT_DEFAULT;
    std::memcpy(&frame[4], &leg.leg_id, 4);
    sign();
  }
  void sign() {
    const uint64_t tag = omerta_frame_tag(leg.key, frame.data(), static_cast<__u32>(frame.size()));
    std::memcpy(&frame[8], &tag, 8);
  }
  Packet wire(UdpChecksum checksum = UdpChecksum::computed) const {
    return packet_of(arriving(from, checksum), frame);
  }
  /// Puts the leg and the way into a relay.
  void teach(BpfRelay& relay) const {
    relay.install(leg);
    relay.remember_way(leg);
  }
};

/// Passes untouched, and is counted as `counter` if that is given.
void passes(const char* sentence, BpfRelay& relay, const Packet& wire,
            std::optional<omerta_xdp_counter> counter = std::nullopt) {
  TEST(sentence);
  omerta_xdp_counters counters = relay.program().counters();
  if (counter) counters.others[*counter]++;
  const RunResult result = relay.program().run(wire, 1000);
  CHECK(result.action == XDP_PASS);
  CHECK(result.packet == wire);
  CHECK(same_counters(relay.program().counters(), counters));
  const auto leg = relay.find(1);
  CHECK(!leg || leg->packets == 0);
}

void foreign_packets_pass() {
  const Forwardable v4(true), v6(false);
  auto edited = [](const Forwardable& packet, auto edit) {
    Packet wire = packet.wire();
    edit(wire);
    return wire;
  };
  constexpr size_t ip = kEthernetSize;
  BpfRelay over_v4, over_v6;
  v4.teach(over_v4);
  v6.teach(over_v6);
  passes("a VLAN tag passes", over_v4, edited(v4, [](Packet& b) {
           const uint8_t tag[4] = {0x81, 0x00, 0x00, 0x05};
           b.insert(b.begin() + 12, tag, tag + 4);
         }));
  passes("another EtherType passes", over_v4, edited(v4, [](Packet& b) { put16(b, 12, 0x0806); }));
  passes("a packet to everybody on the link passes", over_v4,
         edited(v4, [](Packet& b) { std::fill(b.begin(), b.begin() + 6, uint8_t{0xff}); }));
  passes("another IP version passes", over_v4, edited(v4, [](Packet& b) { b[ip] = 0x65; }));
  passes("IPv4 options pass", over_v4, edited(v4, [](Packet& b) {
           const uint8_t no_operation[4] = {1, 1, 1, 1};
           b.insert(b.begin() + ip + kIpv4Size, no_operation, no_operation + 4);
           b[ip] = 0x46;
           put16(b, ip + 2, b.size() - kEthernetSize);
         }));
  passes("a first fragment passes", over_v4, edited(v4, [](Packet& b) { put16(b, ip + 6, 0x2000); }));
  passes("a later fragment passes", over_v4, edited(v4, [](Packet& b) { put16(b, ip + 6, 0x0001); }));
  passes("another protocol over IPv4 passes", over_v4, edited(v4, [](Packet& b) { b[ip + 9] = 6; }));
  passes("another protocol over IPv6 passes", over_v6, edited(v6, [](Packet& b) { b[ip + 6] = 6; }));
  passes("an IPv6 extension header passes", over_v6, edited(v6, [](Packet& b) { b[ip + 6] = 44; }));
  passes("another port passes", over_v4,
         edited(v4, [](Packet& b) { put16(b, ip + kIpv4Size + 2, kPort + 1); }));
  passes("another port over IPv6 passes", over_v6,
         edited(v6, [](Packet& b) { put16(b, ip + kIpv6Size + 2, kPort - 1); }));
  passes("a datagram for another machine passes", over_v4, edited(v4, [](Packet& b) { b[ip + 19] ^= 1; }));
  passes("a datagram for another machine passes over IPv6", over_v6,
         edited(v6, [](Packet& b) { b[ip + 39] ^= 1; }));
  passes("UDP over IPv6 without a checksum passes", over_v6,
         edited(v6, [](Packet& b) { put16(b, ip + kIpv6Size + 6, 0); }));
  passes("a UDP length beyond IP's passes", over_v4,
         edited(v4, [](Packet& b) { put16(b, ip + kIpv4Size + 4, 73); }));
  passes("a UDP length short of IP's passes", over_v4,
         edited(v4, [](Packet& b) { put16(b, ip + kIpv4Size + 4, 71); }));
  passes("a UDP length below its header's passes", over_v4,
         edited(v4, [](Packet& b) { put16(b, ip + kIpv4Size + 4, 7); }));
  passes("an IP length beyond the packet passes", over_v4, edited(v4, [](Packet& b) {
           put16(b, ip + 2, 20 + 73);
           put16(b, ip + kIpv4Size + 4, 73);
         }));
  for (size_t cut = kEthernetSize; cut < v4.wire().size(); cut++)
    passes("a truncated IPv4 packet passes", over_v4, edited(v4, [cut](Packet& b) { b.resize(cut); }));
  for (size_t cut = kEthernetSize; cut < v6.wire().size(); cut++)
    passes("a truncated IPv6 packet passes", over_v6, edited(v6, [cut](Packet& b) { b.resize(cut); }));

  TEST("the packet all of these differ from is forwarded");
  CHECK(over_v4.program().run(v4.wire(), 1000).action == XDP_TX);
  CHECK(over_v6.program().run(v6.wire(), 1000).action == XDP_TX);
}

void what_cannot_be_sent_passes() {
  const Forwardable packet(true), crossing(true, false);
  {
    BpfRelay relay;
    packet.teach(relay);
    relay.remember_way(packet.leg, static_cast<uint32_t>(packet.wire().size() - kEthernetSize - 1));
    passes("a packet too big for its way passes", relay, packet.wire(), OMERTA_XDP_PASSED_TOO_BIG);
    relay.remember_way(packet.leg, static_cast<uint32_t>(packet.wire().size() - kEthernetSize));
    TEST("a packet as big as its way allows is forwarded");
    CHECK(relay.program().run(packet.wire(), 1000).action == XDP_TX);
  }
  {
    BpfRelay relay;
    crossing.teach(relay);
    const auto size = static_cast<uint32_t>(crossing.wire().size() - kEthernetSize);
    relay.remember_way(crossing.leg, size + 19);
    passes("the IPv6 header's 20 bytes more count", relay, crossing.wire(), OMERTA_XDP_PASSED_TOO_BIG);
    relay.remember_way(crossing.leg, size + 20);
    passes("IPv4 without a checksum cannot go on over IPv6", relay, crossing.wire(UdpChecksum::absent),
           OMERTA_XDP_PASSED_NO_CHECKSUM);
    TEST("it goes on over IPv6 where it fits");
    CHECK(relay.program().run(crossing.wire(), 1000).action == XDP_TX);
  }
  {
    BpfRelay relay;
    relay.install(packet.leg);
    relay.program().settings().complete = 0;
    relay.remove(1);
    passes("a frame on an unknown leg passes while the map is not complete", relay, packet.wire(),
           OMERTA_XDP_PASSED_UNKNOWN_LEG);
  }
}

void checksum_of_zero() {
  TEST("a UDP checksum that comes out as 0 is sent as 0xffff");
  for (const bool from_v4 : {true, false})
    for (const bool to_v4 : {true, false}) {
      Forwardable packet(from_v4, to_v4);
      BpfRelay relay;
      packet.teach(relay);
      const size_t check = kEthernetSize + (to_v4 ? kIpv4Size : kIpv6Size) + 6;
      // A payload word the tag does not cover takes up the checksum that the output has without it.
      const RunResult probe = relay.program().run(packet.wire(), 1000);
      CHECK(probe.action == XDP_TX);
      packet.frame[40] = probe.packet[check];
      packet.frame[41] = probe.packet[check + 1];
      const RunResult result = relay.program().run(packet.wire(), 1000);
      CHECK(result.action == XDP_TX);
      CHECK(result.packet[check] == 0xff && result.packet[check + 1] == 0xff);
    }
}

/// The verifier walks every way through a program: what it takes grows by leaps, and 1,000,000 is the end.
void verifier_complexity() {
  TEST("the verifier's effort is no more than recorded");
  const golden::Json recorded = golden::Json::parse(std::ifstream("xdp/verifier-complexity.json"));
  const golden::Json& ours = recorded.at("omerta_relay");
  BpfRelay relay;
  const uint32_t instructions = relay.program().verified_instructions();
  const auto at_most = ours.at("atMost").get<uint32_t>();
  std::printf("the verifier goes through %u instructions of omerta_relay; recorded %u, at most %u\n",
              instructions, ours.at("instructions").get<uint32_t>(), at_most);
  CHECK(instructions > 0 && instructions <= at_most && at_most <= 1'000'000 / 2);
}

}  // namespace

int main() {
  return run_bpf_test([] {
    const Wrapping wrappings[] = {
        {"with checksums", UdpChecksum::computed, 0},
        {"without UDP checksum over IPv4", UdpChecksum::absent, 0},
        {"with Ethernet padding", UdpChecksum::computed, 6},
    };
    const golden::Json sequences = golden::read();
    for (const Wrapping& wrapping : wrappings)
      for (const golden::Json& sequence : sequences) run_sequence(sequence, wrapping);
    foreign_packets_pass();
    what_cannot_be_sent_passes();
    checksum_of_zero();
    verifier_complexity();
    std::printf("%d packets larger than %zu bytes were not run: XDP sees one page\n", unsuitable,
                kLargestPacket);
  });
}
