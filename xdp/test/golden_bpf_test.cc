// SPDX-License-Identifier: Apache-2.0
// The golden packets through the XDP relay, in the kernel (BPF_PROG_TEST_RUN): each datagram is put
// into Ethernet, IP and UDP headers, and what comes out is checked down to its checksums.
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/bpf.h>

#include <cerrno>
#include <cstdio>
#include <map>
#include <memory>
#include <optional>

#include "relay.skel.h"
#include "test/check.h"
#include "test/golden.h"

using namespace omerta;
using golden::Bytes;

namespace {

constexpr int kSkipped = 77;
constexpr uint16_t kPort = 51820;
constexpr uint8_t kTtl = 64;
constexpr size_t kEthernet = 14, kIPv4 = 20, kIPv6 = 40, kUdp = 8;
/// What fits a test run's one page beside the room it keeps free.
constexpr size_t kLargestPacket = 3000;

const char* const kOwnV4 = "198.18.0.1:51820";
const char* const kOwnV6 = "[2001:db8:ffff::1]:51820";

bool is_v4(const omerta_address& address) {
  static const uint8_t prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  return std::memcmp(address.ip, prefix, sizeof prefix) == 0;
}

void put16(Bytes& bytes, size_t at, size_t value) {
  bytes[at] = static_cast<uint8_t>(value >> 8);
  bytes[at + 1] = static_cast<uint8_t>(value);
}

/// RFC 1071, from scratch: the referee of the program's incremental updates.
uint32_t sum_of(const uint8_t* data, size_t size, uint32_t sum = 0) {
  for (size_t i = 0; i < size; i++) sum += i % 2 ? data[i] : static_cast<uint32_t>(data[i]) << 8;
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return sum;
}

enum class Checksum { computed, absent };

/// A packet on the wire: the datagram from one address to another.
Bytes packet_on_wire(const omerta_address& from, const omerta_address& to, const Bytes& datagram,
                     bool forward_path, uint8_t ttl, Checksum checksum) {
  const bool v4 = is_v4(from);
  const size_t ip = kEthernet, udp = ip + (v4 ? kIPv4 : kIPv6), payload = udp + kUdp;
  const size_t udp_size = kUdp + datagram.size();
  Bytes packet(payload);
  static const uint8_t client[6] = {2, 0, 0, 0, 0, 1}, relay[6] = {2, 0, 0, 0, 0, 2};
  std::memcpy(&packet[0], forward_path ? relay : client, 6);
  std::memcpy(&packet[6], forward_path ? client : relay, 6);
  put16(packet, 12, v4 ? 0x0800 : 0x86DD);
  if (v4) {
    packet[ip] = 0x45;
    packet[ip + 1] = 0x88;
    put16(packet, ip + 2, kIPv4 + udp_size);
    put16(packet, ip + 4, 0x1234);
    put16(packet, ip + 6, 0x4000);
    packet[ip + 8] = ttl;
    packet[ip + 9] = 17;
    std::memcpy(&packet[ip + 12], from.ip + 12, 4);
    std::memcpy(&packet[ip + 16], to.ip + 12, 4);
    put16(packet, ip + 10, ~sum_of(&packet[ip], kIPv4) & 0xffff);
  } else {
    packet[ip] = 0x68;
    put16(packet, ip + 4, udp_size);
    packet[ip + 6] = 17;
    packet[ip + 7] = ttl;
    std::memcpy(&packet[ip + 8], from.ip, 16);
    std::memcpy(&packet[ip + 24], to.ip, 16);
  }
  std::memcpy(&packet[udp], &from.port, 2);
  std::memcpy(&packet[udp + 2], &to.port, 2);
  put16(packet, udp + 4, udp_size);
  packet.insert(packet.end(), datagram.begin(), datagram.end());
  if (checksum == Checksum::computed || !v4) {
    const size_t addresses = v4 ? ip + 12 : ip + 8;
    uint32_t sum = sum_of(&packet[addresses], udp - addresses);
    sum = sum_of(&packet[udp], udp_size, sum + 17 + static_cast<uint32_t>(udp_size));
    const uint32_t check = ~sum & 0xffff;
    put16(packet, udp + 6, check ? check : 0xffff);
  }
  return packet;
}

class Relay {
 public:
  /// @throws int: errno of the failed load.
  Relay() : skeleton_(relay_bpf__open()) {
    if (!skeleton_) throw errno;
    skeleton_->rodata->relay_port = htons(kPort);
    skeleton_->rodata->use_test_clock = true;
    const int error = relay_bpf__load(skeleton_.get());
    if (error) throw -error;
  }

  /// Replacing keeps the counters, as the program's preconditions say.
  void install(omerta_leg leg) {
    if (const auto present = find(leg.leg_id)) {
      leg.theoretical_arrival = present->theoretical_arrival;
      leg.packets = present->packets;
      leg.bytes = present->bytes;
      leg.last_used = present->last_used;
    }
    CHECK(bpf_map_update_elem(legs(), &leg.leg_id, &leg, BPF_ANY) == 0);
  }
  void remove(uint32_t id) { CHECK(bpf_map_delete_elem(legs(), &id) == 0); }
  std::optional<omerta_leg> find(uint32_t id) const {
    omerta_leg leg;
    if (bpf_map_lookup_elem(legs(), &id, &leg) != 0) return std::nullopt;
    return leg;
  }

  void apply(const golden::Setting& setting) {
    const auto index = static_cast<uint32_t>(setting.index);
    if (setting.set == "limits") {
      const omerta_limits limits = {setting.rate, 0, setting.byte_cap};
      CHECK(bpf_map_update_elem(bpf_map__fd(skeleton_->maps.limits), &index, &limits, BPF_ANY) == 0);
    } else if (setting.set == "reset") {
      edit<omerta_account>(accounts(setting.kind), index, [](omerta_account& account) {
        const omerta_rate rate = account.rate;
        account = {};
        account.rate = rate;
      });
    } else if (setting.set == "identity" || setting.set == "network") {
      edit<omerta_account>(accounts(setting.set), index,
                           [&](omerta_account& account) { account.rate = setting.rate; });
    } else {
      edit<omerta_policy>(bpf_map__fd(skeleton_->maps.policy), 0, [&](omerta_policy& policy) {
        policy.prefix_key = golden::kPrefixKey;
        if (setting.set == "host") {
          policy.host = setting.rate;
        } else if (setting.set == "prefix") {
          policy.prefix = setting.rate;
          policy.prefix_mask4 = htonl(static_cast<uint32_t>(~uint64_t{0} << (32 - setting.ipv4_bits)));
          policy.prefix_mask6 = setting.ipv6_bits == 64 ? ~uint64_t{0} : 0;
        } else {
          policy.fair_factor = setting.factor;
          policy.fair_burst = setting.rate.burst;
        }
      });
    }
  }
  omerta_account account(const std::string& kind, uint32_t index) const {
    omerta_account account{};
    CHECK(bpf_map_lookup_elem(accounts(kind), &index, &account) == 0);
    return account;
  }

  /// Runs the program on a packet, which becomes what it made of it; returns the XDP action.
  uint32_t run(Bytes& packet, uint64_t now) {
    Bytes out(packet.size() + 64);
    skeleton_->bss->test_clock = now;
    LIBBPF_OPTS(bpf_test_run_opts, options);
    options.data_in = packet.data();
    options.data_size_in = static_cast<uint32_t>(packet.size());
    options.data_out = out.data();
    options.data_size_out = static_cast<uint32_t>(out.size());
    options.repeat = 1;
    CHECK(bpf_prog_test_run_opts(bpf_program__fd(skeleton_->progs.omerta_relay), &options) == 0);
    out.resize(options.data_size_out);
    packet = out;
    return options.retval;
  }

  /// The decision counters, summed over the CPUs.
  std::vector<uint64_t> decisions() const {
    const auto cpus = static_cast<size_t>(libbpf_num_possible_cpus());
    std::vector<uint64_t> totals;
    for (uint32_t reason = 0; reason < OMERTA_DROP_REASON_COUNT; reason++) {
      std::vector<uint64_t> values(cpus);
      CHECK(bpf_map_lookup_elem(bpf_map__fd(skeleton_->maps.decisions), &reason, values.data()) == 0);
      uint64_t total = 0;
      for (const uint64_t value : values) total += value;
      totals.push_back(total);
    }
    return totals;
  }

 private:
  struct Destroy {
    void operator()(relay_bpf* skeleton) const { relay_bpf__destroy(skeleton); }
  };
  int legs() const { return bpf_map__fd(skeleton_->maps.legs); }
  int accounts(const std::string& kind) const {
    return bpf_map__fd(kind == "identity" ? skeleton_->maps.identities : skeleton_->maps.networks);
  }
  template <typename T, typename Edit>
  static void edit(int map, uint32_t index, const Edit& edit) {
    T value{};
    CHECK(bpf_map_lookup_elem(map, &index, &value) == 0);
    edit(value);
    CHECK(bpf_map_update_elem(map, &index, &value, BPF_ANY) == 0);
  }
  std::unique_ptr<relay_bpf, Destroy> skeleton_;
};

/// What the kernel is to do with a datagram, given what an engine with the whole table would.
struct Expectation {
  uint32_t action;
  /// The counter that goes up, none for a packet that passes.
  std::optional<uint32_t> counter;
};

Expectation expectation(const golden::Packet& packet, const Relay& relay) {
  const Bytes& datagram = packet.datagram;
  const bool claimed =
      datagram.size() >= 2 && datagram[0] == OMERTA_FRAME_MAGIC && datagram[1] == OMERTA_KIND_FORWARD;
  if (!claimed) return {XDP_PASS, std::nullopt};
  if (datagram.size() >= 32) {
    const auto leg = relay.find(omerta_load32(&datagram[4]));
    const bool well_formed = (datagram[3] & 0xf0) == 0;
    if (leg && well_formed) {
      omerta_address next{};
      std::memcpy(next.ip, leg->next_ip, 16);
      if (leg->action != OMERTA_LEG_FORWARD) return {XDP_PASS, std::nullopt};
      const bool judged_to_the_end =
          packet.verdict == OMERTA_FORWARD || packet.reason >= OMERTA_DROP_RATE_LIMITED;
      if (judged_to_the_end && is_v4(next) != is_v4(packet.from)) return {XDP_PASS, std::nullopt};
    }
  }
  if (packet.verdict == OMERTA_FORWARD) return {XDP_TX, OMERTA_DROP_NONE};
  return {XDP_DROP, packet.reason};
}

struct Tally {
  uint64_t packets = 0, bytes = 0;
};

/// How the golden datagrams are wrapped.
struct Wrapping {
  const char* name;
  Checksum checksum;
  size_t ethernet_padding;
};

int unsuitable = 0;

void run_sequence(const golden::Json& sequence, const Wrapping& wrapping) {
  Relay relay;
  std::map<uint32_t, Tally> tallies;
  for (const golden::Setting& setting : golden::settings_of(sequence)) relay.apply(setting);
  for (const golden::Json& leg : sequence.at("legs")) relay.install(golden::leg_of(leg));
  for (const golden::Json& json : sequence.at("packets")) {
    const golden::Packet packet = golden::packet_of(json);
    const std::string title =
        std::string(wrapping.name) + ", " + sequence.at("name").get<std::string>() + ": " + packet.shows;
    TEST(title.c_str());
    for (const golden::Setting& setting : packet.settings) relay.apply(setting);
    for (const uint32_t id : packet.remove) {
      relay.remove(id);
      tallies.erase(id);
    }
    for (const omerta_leg& leg : packet.install) relay.install(leg);
    if (packet.datagram.size() > kLargestPacket) {
      unsuitable++;
      continue;
    }
    const omerta_address own = golden::address_of(is_v4(packet.from) ? kOwnV4 : kOwnV6);
    const Expectation expected = expectation(packet, relay);
    Bytes wire = packet_on_wire(packet.from, own, packet.datagram, true, 57, wrapping.checksum);
    Bytes expected_wire = wire;
    if (expected.action == XDP_TX)
      expected_wire = packet_on_wire(own, packet.to, packet.out, false, kTtl, wrapping.checksum);
    for (Bytes* each : {&wire, &expected_wire}) each->resize(each->size() + wrapping.ethernet_padding, 0x77);

    std::vector<uint64_t> counters = relay.decisions();
    const uint32_t action = relay.run(wire, packet.now);
    CHECK(action == expected.action);
    CHECK(wire == expected_wire);
    if (expected.counter) counters[*expected.counter]++;
    CHECK(relay.decisions() == counters);
    if (expected.action == XDP_TX) {
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
    // packets and bytes are settled by whoever removes legs.
    const omerta_account account = relay.account(json.at("kind"), json.at("index"));
    CHECK(account.demand == json.at("demand").get<uint64_t>());
    CHECK(account.refused == json.at("refused").get<uint64_t>());
  }
}

/// A leg and a frame for it that is forwarded unless something keeps the program from claiming it.
struct Forwardable {
  omerta_leg leg{};
  Bytes frame = Bytes(64);
  omerta_address from, own, next;

  explicit Forwardable(bool v4)
      : from(golden::address_of(v4 ? "192.0.2.1:4000" : "[2001:db8:1::1]:4000")),
        own(golden::address_of(v4 ? kOwnV4 : kOwnV6)),
        next(golden::address_of(v4 ? "198.51.100.2:5000" : "[2001:db8:2::2]:5000")) {
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
    const uint64_t tag = omerta_frame_tag(leg.key, frame.data(), 64);
    std::memcpy(&frame[8], &tag, 8);
  }
  Bytes wire() const { return packet_on_wire(from, own, frame, true, 57, Checksum::computed); }
};

void passes(const char* sentence, Relay& relay, Bytes wire) {
  TEST(sentence);
  const std::vector<uint64_t> counters = relay.decisions();
  const Bytes before = wire;
  CHECK(relay.run(wire, 1000) == XDP_PASS);
  CHECK(wire == before);
  CHECK(relay.decisions() == counters);
  CHECK(relay.find(1)->packets == 0);
}

void foreign_packets_pass() {
  const Forwardable v4(true), v6(false);
  auto edited = [](const Forwardable& packet, auto edit) {
    Bytes wire = packet.wire();
    edit(wire);
    return wire;
  };
  constexpr size_t ip = kEthernet;
  Relay over_v4, over_v6;
  over_v4.install(v4.leg);
  over_v6.install(v6.leg);
  passes("a VLAN tag passes", over_v4, edited(v4, [](Bytes& b) {
           const uint8_t tag[4] = {0x81, 0x00, 0x00, 0x05};
           b.insert(b.begin() + 12, tag, tag + 4);
         }));
  passes("another EtherType passes", over_v4, edited(v4, [](Bytes& b) { put16(b, 12, 0x0806); }));
  passes("another IP version passes", over_v4, edited(v4, [](Bytes& b) { b[ip] = 0x65; }));
  passes("IPv4 options pass", over_v4, edited(v4, [](Bytes& b) {
           const uint8_t no_operation[4] = {1, 1, 1, 1};
           b.insert(b.begin() + ip + kIPv4, no_operation, no_operation + 4);
           b[ip] = 0x46;
           put16(b, ip + 2, b.size() - kEthernet);
         }));
  passes("a first fragment passes", over_v4, edited(v4, [](Bytes& b) { put16(b, ip + 6, 0x2000); }));
  passes("a later fragment passes", over_v4, edited(v4, [](Bytes& b) { put16(b, ip + 6, 0x0001); }));
  passes("another protocol over IPv4 passes", over_v4, edited(v4, [](Bytes& b) { b[ip + 9] = 6; }));
  passes("another protocol over IPv6 passes", over_v6, edited(v6, [](Bytes& b) { b[ip + 6] = 6; }));
  passes("an IPv6 extension header passes", over_v6, edited(v6, [](Bytes& b) { b[ip + 6] = 44; }));
  passes("another port passes", over_v4, edited(v4, [](Bytes& b) { put16(b, ip + kIPv4 + 2, kPort + 1); }));
  passes("another port over IPv6 passes", over_v6,
         edited(v6, [](Bytes& b) { put16(b, ip + kIPv6 + 2, kPort - 1); }));
  passes("UDP over IPv6 without a checksum passes", over_v6,
         edited(v6, [](Bytes& b) { put16(b, ip + kIPv6 + 6, 0); }));
  passes("a UDP length beyond IP's passes", over_v4,
         edited(v4, [](Bytes& b) { put16(b, ip + kIPv4 + 4, 73); }));
  passes("a UDP length short of IP's passes", over_v4,
         edited(v4, [](Bytes& b) { put16(b, ip + kIPv4 + 4, 71); }));
  passes("a UDP length below its header's passes", over_v4,
         edited(v4, [](Bytes& b) { put16(b, ip + kIPv4 + 4, 7); }));
  passes("an IP length beyond the packet passes", over_v4, edited(v4, [](Bytes& b) {
           put16(b, ip + 2, 20 + 73);
           put16(b, ip + kIPv4 + 4, 73);
         }));
  for (size_t cut = kEthernet; cut < v4.wire().size(); cut++)
    passes("a truncated IPv4 packet passes", over_v4, edited(v4, [cut](Bytes& b) { b.resize(cut); }));
  for (size_t cut = kEthernet; cut < v6.wire().size(); cut++)
    passes("a truncated IPv6 packet passes", over_v6, edited(v6, [cut](Bytes& b) { b.resize(cut); }));

  TEST("the packet all of these differ from is forwarded");
  Bytes wire_v4 = v4.wire(), wire_v6 = v6.wire();
  CHECK(over_v4.run(wire_v4, 1000) == XDP_TX);
  CHECK(over_v6.run(wire_v6, 1000) == XDP_TX);
}

void checksum_of_zero() {
  TEST("a UDP checksum that comes out as 0 is sent as 0xffff");
  for (const bool v4 : {true, false}) {
    Forwardable packet(v4);
    Relay relay;
    relay.install(packet.leg);
    const size_t check = kEthernet + (v4 ? kIPv4 : kIPv6) + 6;
    // A payload word the tag does not cover takes up the checksum that the output has without it.
    Bytes probe = packet.wire();
    CHECK(relay.run(probe, 1000) == XDP_TX);
    packet.frame[40] = probe[check];
    packet.frame[41] = probe[check + 1];
    Bytes wire = packet.wire();
    CHECK(relay.run(wire, 1000) == XDP_TX);
    CHECK(wire[check] == 0xff && wire[check + 1] == 0xff);
  }
}

}  // namespace

int main() {
  libbpf_set_print([](libbpf_print_level, const char*, va_list) { return 0; });
  try {
    Relay probe;
  } catch (const int error) {
    if (error == EPERM) {
      std::printf("SKIP: loading BPF programs needs root or CAP_BPF and CAP_NET_ADMIN\n");
      return kSkipped;
    }
    libbpf_set_print([](libbpf_print_level, const char* format, va_list arguments) {
      return std::vfprintf(stderr, format, arguments);
    });
    try {
      Relay again;
    } catch (int) {
    }
    std::fprintf(stderr, "FAILED: the XDP relay does not load: %s\n", std::strerror(error));
    return 1;
  }
  const Wrapping wrappings[] = {
      {"with checksums", Checksum::computed, 0},
      {"without UDP checksum over IPv4", Checksum::absent, 0},
      {"with Ethernet padding", Checksum::computed, 6},
  };
  const golden::Json sequences = golden::read();
  for (const Wrapping& wrapping : wrappings)
    for (const golden::Json& sequence : sequences) run_sequence(sequence, wrapping);
  foreign_packets_pass();
  checksum_of_zero();
  std::printf("%d packets larger than %zu bytes were not run: XDP sees one page\n", unsuitable,
              kLargestPacket);
  return check::finish();
}
