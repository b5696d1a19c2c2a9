// SPDX-License-Identifier: Apache-2.0
// What strangers get past the XDP relay to the socket: nothing that no engine would take, no WireGuard
// for sessions that are not ours, and of the rest no more than their budgets.
#include <omerta/blake2s.h>
#include <sys/mman.h>

#include "bpf_relay.h"
#include "crypto/blake2s.h"

using namespace omerta::xdp;
namespace golden = omerta::golden;
namespace crypto = omerta::crypto;
using golden::Bytes;
using omerta::Key32;
using omerta::Mac16;

namespace {

constexpr uint64_t kStart = 10'000'000'000;

Bytes message(uint8_t type, size_t size) {
  Bytes bytes(size);
  bytes[0] = type;
  return bytes;
}

Bytes stun() {
  Bytes bytes(20);
  const uint8_t head[] = {0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42};
  std::memcpy(bytes.data(), head, sizeof head);
  return bytes;
}

/// A leg that takes control frames from anybody, and a frame for it.
omerta_leg contact_leg() {
  omerta_leg leg{};
  leg.leg_id = OMERTA_CONTACT_LEG;
  leg.action = OMERTA_LEG_CONTROL;
  leg.flags = OMERTA_LEG_ANY_SOURCE;
  leg.key[0] = 5;
  return leg;
}

Bytes contact_frame() {
  Bytes frame(64);
  frame[0] = OMERTA_FRAME_MAGIC;
  frame[1] = OMERTA_KIND_ADMISSION_REQUEST;
  frame[2] = 1;
  const uint64_t tag = omerta_frame_tag(contact_leg().key, frame.data(), 64);
  std::memcpy(&frame[8], &tag, 8);
  return frame;
}

omerta_address stranger(unsigned prefix, unsigned host = 1) {
  omerta_address address = golden::address_of("100.64.0.1:4000");
  address.ip[13] = static_cast<uint8_t>(64 + (prefix >> 8));
  address.ip[14] = static_cast<uint8_t>(prefix);
  address.ip[15] = static_cast<uint8_t>(host);
  return address;
}

uint32_t send(BpfRelay& relay, const omerta_address& from, const Bytes& datagram, uint64_t now) {
  return relay.program().run(packet_of(arriving(from), datagram), now).action;
}

void limit(BpfRelay& relay, omerta_budget prefix, omerta_budget total) {
  for (size_t kind = 0; kind < OMERTA_STRANGER_KINDS; kind++) {
    relay.program().settings().prefix[kind] = prefix;
    relay.program().settings().total[kind] = total;
  }
}

struct Kind {
  const char* name;
  Bytes datagram;
  omerta_xdp_counter dropped;
};

const Kind kKinds[] = {
    {"handshake initiations", message(1, 148), OMERTA_XDP_DROP_HANDSHAKE_RATE},
    {"contact frames", contact_frame(), OMERTA_XDP_DROP_CONTROL_RATE},
    {"STUN requests", stun(), OMERTA_XDP_DROP_STUN_RATE},
};

constexpr omerta_budget kNoLimit = {0, UINT64_MAX / 2};

void a_prefix_is_held_to_its_budget() {
  for (const Kind& kind : kKinds) {
    const std::string title = std::string(kind.name) + " of a prefix are held to its budget";
    TEST(title.c_str());
    BpfRelay relay;
    relay.install(contact_leg());
    limit(relay, {1'000'000'000, 3'000'000'000}, kNoLimit);
    for (unsigned i = 0; i < 3; i++) CHECK(send(relay, stranger(1, i), kind.datagram, kStart) == XDP_PASS);
    CHECK(send(relay, stranger(1, 9), kind.datagram, kStart) == XDP_DROP);
    CHECK(relay.program().counters().others[kind.dropped] == 1);
    CHECK(send(relay, stranger(2), kind.datagram, kStart) == XDP_PASS);                  // another /24
    CHECK(send(relay, stranger(1), kind.datagram, kStart + 1'000'000'000) == XDP_PASS);  // a second later
    CHECK(send(relay, stranger(1), kind.datagram, kStart + 1'000'000'000) == XDP_DROP);
  }
}

void all_together_are_held_to_theirs() {
  for (const Kind& kind : kKinds) {
    const std::string title = std::string(kind.name) + " of many prefixes are held to one budget";
    TEST(title.c_str());
    BpfRelay relay;
    relay.install(contact_leg());
    limit(relay, kNoLimit, {1'000'000, 50'000'000});
    unsigned passed = 0;
    for (unsigned i = 0; i < 1000; i++) passed += send(relay, stranger(i), kind.datagram, kStart) == XDP_PASS;
    CHECK(passed == 50);
    CHECK(relay.program().counters().others[kind.dropped] == 950);
    // What one kind has used up is not taken from the others.
    for (const Kind& other : kKinds)
      if (&other != &kind) CHECK(send(relay, stranger(1), other.datagram, kStart) == XDP_PASS);
  }
}

Key32 key_of(uint8_t value) {
  Key32 key;
  key.fill(value);
  return key;
}

/// From now on `relay` is the node of this MAC1 key.
void be(BpfRelay& relay, const Key32& key) {
  omerta_mac1_begin(relay.door().mac1_state, key.data());
  relay.door().checks_mac1 = 1;
}

/// An initiation for the node of this MAC1 key, by the library's BLAKE2s.
Bytes initiation(const Key32& key, uint8_t content) {
  Bytes bytes = message(1, OMERTA_WIREGUARD_INITIATION_SIZE);
  for (size_t i = 4; i < OMERTA_MAC1_COVERS; i++) bytes[i] = static_cast<uint8_t>(content + i * i);
  const Mac16 mac1 = crypto::blake2s_mac(key, {std::span(bytes).first(OMERTA_MAC1_COVERS)});
  std::memcpy(&bytes[OMERTA_MAC1_COVERS], mac1.data(), mac1.size());
  return bytes;
}

uint64_t bad_mac1(BpfRelay& relay) { return relay.program().counters().others[OMERTA_XDP_DROP_BAD_MAC1]; }

void mac1_is_the_librarys() {
  TEST(
      "an initiation passes with the MAC1 that the library makes, and with no bit of it or of what it covers "
      "changed");
  BpfRelay relay;
  for (unsigned content = 0; content < 32; content++) {
    const Key32 key = key_of(static_cast<uint8_t>(content * 7 + 1));
    be(relay, key);
    const Bytes good = initiation(key, static_cast<uint8_t>(content));
    CHECK(send(relay, stranger(1), good, kStart) == XDP_PASS);
    CHECK(send(relay, stranger(1), initiation(key_of(0xee), 1), kStart) == XDP_DROP);
  }
  const Key32 key = key_of(3);
  be(relay, key);
  const Bytes good = initiation(key, 9);
  uint64_t dropped = bad_mac1(relay);
  for (size_t byte = 4; byte < OMERTA_WIREGUARD_INITIATION_SIZE; byte++) {
    Bytes changed = good;
    changed[byte] ^= static_cast<uint8_t>(1 << byte % 8);
    const bool matters = byte < OMERTA_MAC1_COVERS + OMERTA_MAC1_SIZE;  // MAC2 is the engine's
    CHECK(send(relay, stranger(1), changed, kStart) == (matters ? XDP_DROP : XDP_PASS));
    dropped += matters ? 1 : 0;
    CHECK(bad_mac1(relay) == dropped);
  }
}

void initiations_for_nobody_take_no_part_of_the_budget() {
  TEST("initiations that do not know this node's key take no part of the budget of those that do");
  BpfRelay relay;
  const Key32 key = key_of(5);
  be(relay, key);
  limit(relay, {1'000'000'000, 1'000'000'000}, {1'000'000'000, 1'000'000'000});
  for (unsigned i = 0; i < 1000; i++)
    CHECK(send(relay, stranger(i % 500), message(1, 148), kStart) == XDP_DROP);
  CHECK(bad_mac1(relay) == 1000);
  CHECK(send(relay, stranger(1), initiation(key, 1), kStart) == XDP_PASS);
  CHECK(send(relay, stranger(2), initiation(key, 2), kStart) == XDP_DROP);  // that was the budget
}

void initiations_for_relayed_servers_have_a_budget_of_their_own() {
  TEST("while stock clients are relayed, initiations for other keys pass within a budget of their own");
  BpfRelay relay;
  const Key32 key = key_of(5);
  be(relay, key);
  relay.door().relays_wireguard = 1;
  limit(relay, {1'000'000'000, 1'000'000'000}, {1'000'000'000, 1'000'000'000});
  CHECK(send(relay, stranger(1), message(1, 148), kStart) == XDP_PASS);
  CHECK(send(relay, stranger(2), message(1, 148), kStart) == XDP_DROP);
  CHECK(relay.program().counters().others[OMERTA_XDP_DROP_HANDSHAKE_RATE] == 1 && bad_mac1(relay) == 0);
  CHECK(send(relay, stranger(3), initiation(key, 1), kStart) == XDP_PASS);
}

void a_known_address_has_a_budget_of_its_own() {
  for (const Kind& kind : kKinds) {
    const std::string title =
        std::string(kind.name) + " of an address that has proven itself have a budget of its own";
    TEST(title.c_str());
    BpfRelay relay;
    relay.install(contact_leg());
    limit(relay, kNoLimit, {1'000'000'000, 1'000'000'000});
    for (omerta_budget& each : relay.program().settings().known) each = {1'000'000'000, 2'000'000'000};
    const omerta_address member = stranger(7, 1), neighbour = stranger(7, 2), another = stranger(9);
    omerta_know(&relay.door(), member.ip, kStart);
    omerta_know(&relay.door(), another.ip, kStart);
    CHECK(send(relay, stranger(1), kind.datagram, kStart) == XDP_PASS);
    CHECK(send(relay, stranger(2), kind.datagram, kStart) == XDP_DROP);  // strangers have used theirs up
    CHECK(send(relay, neighbour, kind.datagram, kStart) == XDP_DROP);
    for (int i = 0; i < 2; i++) CHECK(send(relay, member, kind.datagram, kStart) == XDP_PASS);
    CHECK(send(relay, member, kind.datagram, kStart) == XDP_DROP);  // and it has no more
    CHECK(send(relay, another, kind.datagram, kStart) == XDP_PASS);
    constexpr uint64_t kLater = kStart + 599'000'000'000, kTooLate = kStart + 602'000'000'000;
    CHECK(send(relay, stranger(3), kind.datagram, kLater) == XDP_PASS);
    CHECK(send(relay, member, kind.datagram, kLater) == XDP_PASS);
    CHECK(send(relay, stranger(3), kind.datagram, kTooLate) == XDP_PASS);
    CHECK(send(relay, member, kind.datagram, kTooLate) == XDP_DROP);  // a stranger again
  }
}

void a_known_ipv6_address_is_known_by_its_64() {
  TEST("an IPv6 address is known by its /64, an IPv4 address alone");
  BpfRelay relay;
  limit(relay, kNoLimit, {1'000'000'000, 0});  // strangers get nothing
  const auto from = [](const char* text) { return golden::address_of(text); };
  omerta_know(&relay.door(), from("[2001:db8:1:1::1]:1").ip, kStart);
  omerta_know(&relay.door(), from("198.51.100.7:1").ip, kStart);
  CHECK(send(relay, from("[2001:db8:1:1::9]:2"), stun(), kStart) == XDP_PASS);
  CHECK(send(relay, from("[2001:db8:1:2::1]:1"), stun(), kStart) == XDP_DROP);
  CHECK(send(relay, from("198.51.100.7:2"), stun(), kStart) == XDP_PASS);
  CHECK(send(relay, from("198.51.100.8:1"), stun(), kStart) == XDP_DROP);
}

void frames_on_unknown_legs_take_nothing_from_admission() {
  TEST("frames on legs the map does not hold take no part of the budget of those who ask for admission");
  BpfRelay relay;
  relay.install(contact_leg());
  relay.program().settings().complete = 0;
  limit(relay, kNoLimit, {1'000'000'000, 1'000'000'000});
  Bytes unknown = contact_frame();
  unknown[4] = 9;
  CHECK(send(relay, stranger(1), unknown, kStart) == XDP_PASS);
  CHECK(send(relay, stranger(2), unknown, kStart) == XDP_DROP);
  CHECK(send(relay, stranger(3), contact_frame(), kStart) == XDP_PASS);
}

/// Of a datagram, in this kernel; the best of several runs.
double nanoseconds(BpfRelay& relay, const Bytes& datagram, uint32_t action) {
  const Packet packet = packet_of(arriving(stranger(1)), datagram);
  double best = 1e9;
  for (int run = 0; run < 5; run++) {
    LIBBPF_OPTS(bpf_test_run_opts, options);
    options.data_in = packet.data();
    options.data_size_in = static_cast<uint32_t>(packet.size());
    options.repeat = 20'000;
    CHECK(bpf_prog_test_run_opts(relay.program().fd(), &options) == 0);
    CHECK(options.retval == action);
    best = std::min<double>(best, options.duration);
  }
  return best;
}

void checking_mac1_costs_less_than_passing_the_datagram_on() {
  TEST("seeing that an initiation is for nobody takes less than 3 us");
  BpfRelay relay;
  be(relay, key_of(5));
  const double garbage = nanoseconds(relay, Bytes(100, 0xee), XDP_DROP);
  const double without = nanoseconds(relay, message(1, 148), XDP_DROP);
  std::printf(
      "ns a datagram: %.0f of no protocol, %.0f of an initiation without MAC1; %u instructions verified\n",
      garbage, without, relay.program().verified_instructions());
  CHECK(without < 3000);
}

void ipv6_prefixes_are_48_bits() {
  TEST("an IPv6 /48 shares a budget, two of them do not");
  BpfRelay relay;
  limit(relay, {1'000'000'000, 1'000'000'000}, kNoLimit);
  const auto from = [](const char* text) { return golden::address_of(text); };
  CHECK(send(relay, from("[2001:db8:1:1::1]:1"), stun(), kStart) == XDP_PASS);
  CHECK(send(relay, from("[2001:db8:1:2::9]:2"), stun(), kStart) == XDP_DROP);
  CHECK(send(relay, from("[2001:db8:2:1::1]:1"), stun(), kStart) == XDP_PASS);
}

void only_sessions_of_ours_are_sent_to() {
  BpfRelay relay;
  constexpr uint32_t kIndex = 0x1234'5678;
  auto* words = static_cast<uint64_t*>(mmap(nullptr, 64 * sizeof(uint64_t), PROT_READ | PROT_WRITE,
                                            MAP_SHARED, relay.program().indices_fd(), 0));
  CHECK(words != MAP_FAILED);
  words[kIndex & 63] = kIndex;
  const struct {
    const char* name;
    Bytes datagram;
    size_t receiver;
  } messages[] = {{"a response", message(2, 92), 8},
                  {"a cookie reply", message(3, 64), 4},
                  {"a transport message", message(4, 96), 4}};
  limit(relay, {1'000'000'000, 0}, {1'000'000'000, 0});  // strangers get nothing
  for (const auto& each : messages) {
    Bytes ours = each.datagram, other = each.datagram, none = each.datagram;
    const uint32_t not_ours = kIndex ^ 0x100;  // of the same slot
    std::memcpy(&ours[each.receiver], &kIndex, 4);
    std::memcpy(&other[each.receiver], &not_ours, 4);
    relay.program().settings().indices_known = 0;
    TEST(each.name);
    CHECK(send(relay, stranger(1), other, kStart) == XDP_PASS);  // the node's indices are not known yet
    relay.program().settings().indices_known = 1;
    const uint64_t before = relay.program().counters().others[OMERTA_XDP_DROP_UNKNOWN_INDEX];
    CHECK(send(relay, stranger(1), ours, kStart) == XDP_PASS);
    CHECK(send(relay, stranger(1), other, kStart) == XDP_DROP);
    CHECK(send(relay, stranger(1), none, kStart) == XDP_DROP);  // no session has index 0
    CHECK(relay.program().counters().others[OMERTA_XDP_DROP_UNKNOWN_INDEX] == before + 2);
  }
  munmap(words, 64 * sizeof(uint64_t));
}

void garbage_ends_in_the_driver() {
  TEST("what no engine would take is dropped with its reason");
  BpfRelay relay;
  relay.install(contact_leg());
  Bytes wrong_tag = contact_frame(), unknown = contact_frame();
  wrong_tag[20] ^= 1;
  unknown[4] = 9;
  const std::pair<Bytes, omerta_drop_reason> garbage[] = {
      {Bytes{}, OMERTA_DROP_EMPTY},
      {Bytes(100, 0xee), OMERTA_DROP_UNKNOWN_PROTOCOL},
      {message(1, 147), OMERTA_DROP_MALFORMED_WIREGUARD},
      {message(4, 31), OMERTA_DROP_MALFORMED_WIREGUARD},
      {Bytes(3), OMERTA_DROP_MALFORMED_STUN},
      {Bytes(20, OMERTA_FRAME_MAGIC), OMERTA_DROP_FRAME_TOO_SHORT},
      {wrong_tag, OMERTA_DROP_BAD_TAG},
      {unknown, OMERTA_DROP_UNKNOWN_LEG},
  };
  for (const auto& [datagram, reason] : garbage) {
    const uint64_t before = relay.program().counters().drops[reason];
    CHECK(send(relay, stranger(1), datagram, kStart) == XDP_DROP);
    CHECK(relay.program().counters().drops[reason] == before + 1);
  }
}

}  // namespace

int main() {
  return run_bpf_test([] {
    a_prefix_is_held_to_its_budget();
    all_together_are_held_to_theirs();
    ipv6_prefixes_are_48_bits();
    mac1_is_the_librarys();
    initiations_for_nobody_take_no_part_of_the_budget();
    initiations_for_relayed_servers_have_a_budget_of_their_own();
    a_known_address_has_a_budget_of_its_own();
    a_known_ipv6_address_is_known_by_its_64();
    frames_on_unknown_legs_take_nothing_from_admission();
    checking_mac1_costs_less_than_passing_the_datagram_on();
    only_sessions_of_ours_are_sent_to();
    garbage_ends_in_the_driver();
  });
}
