// SPDX-License-Identifier: Apache-2.0
// What strangers get past the XDP relay to the socket: nothing that no engine would take, no WireGuard
// for sessions that are not ours, and of the rest no more than their budgets.
#include <sys/mman.h>

#include "bpf_relay.h"

using namespace omerta;
using namespace omerta::xdp;
using golden::Bytes;

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
    only_sessions_of_ours_are_sent_to();
    garbage_ends_in_the_driver();
  });
}
