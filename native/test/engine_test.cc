// SPDX-License-Identifier: Apache-2.0
// Whole engines over loopback and their sessions: messages, suites, budgets of peers, events, and the port.
// No TUN, no privilege. Built with address and thread sanitizers as well (docs/development.md).
#include <omerta/blake2s.h>
#include <sodium.h>
#include <sys/mman.h>
#include <unistd.h>

#include <optional>

#include "check.h"
#include "crypto/blake2s.h"
#include "engine_fixture.h"

namespace {

using namespace omerta;
using namespace omerta::engine;
using namespace omerta::check;

void control_messages_cross_a_session() {
  Engine a(settings(1));
  Engine b(settings(2));
  b.set_peers({peer(1, std::nullopt)});
  a.set_peers({peer(2, direct(b))});
  for (int i = 0; i < 100; i++) CHECK(a.send_control(public_key(2), kMessage));
  CHECK(wait_for([&] { return total(b, Counter::control_messages) == 100; }));
  CHECK(total(b, Counter::handshakes_completed) == 1);
  CHECK(!a.send_control(public_key(9), kMessage));
}

/// Both ends of a session tell the kernel path whom they know, and which MAC1 is theirs.
void the_door_is_told_of_peers_and_of_the_key() {
  Engine a(settings(1)), b(settings(2));
  struct Told {
    explicit Told(Engine& engine) : file(memfd_create("door", 0)) {
      CHECK(ftruncate(file, sizeof(omerta_door)) == 0);
      memory.emplace(file, sizeof(omerta_door), "door");
      engine.mirror_door(file);
    }
    ~Told() { ::close(file); }
    bool knows(const omerta_address& address) const {
      const auto* door = memory->as<omerta_door>();
      return omerta_is_known(door, omerta_known_hash(door, address.ip),
                             static_cast<uint64_t>(boot_clock())) != 0;
    }
    int file;
    std::optional<SharedMapping> memory;
  };
  const Told at_a(a), at_b(b);
  const omerta_address here = loopback(1);
  CHECK(!at_a.knows(here) && !at_b.knows(here));
  b.set_peers({peer(1, std::nullopt)});
  a.set_peers({peer(2, direct(b))});
  CHECK(a.send_control(public_key(2), kMessage));
  CHECK(wait_for([&] { return total(b, Counter::control_messages) == 1; }));
  CHECK(wait_for([&] { return at_a.knows(here) && at_b.knows(here); }));
  omerta_address other = here;
  other.ip[15] = 9;
  CHECK(!at_b.knows(other));
  const Key32 mac1 = crypto::blake2s({Bytes(reinterpret_cast<const uint8_t*>("mac1----"), 8), public_key(2)});
  uint32_t state[8];
  omerta_mac1_begin(state, mac1.data());
  const auto* door = at_b.memory->as<omerta_door>();
  CHECK(door->checks_mac1 == 1 && std::memcmp(door->mac1_state, state, sizeof state) == 0);
  CHECK(door->relays_wireguard == 0);
}

/// How many datagrams are let go before the receiver is waited for, so that no socket buffer overflows.
constexpr uint64_t kUnderWay = 64;

/// Numbered messages from a to b at full rate; whether every one arrived.
bool transfer(Engine& a, Engine& b, uint64_t count) {
  const uint64_t before = total(b, Counter::control_messages);
  for (uint64_t i = 1; i <= count; i++) {
    if (!a.send_control(public_key(2), kMessage)) return false;
    if (i % kUnderWay == 0 && !wait_for([&] { return total(b, Counter::control_messages) == before + i; }))
      return false;
  }
  return wait_for([&] { return total(b, Counter::control_messages) == before + count; });
}

std::string suite_of(Engine& engine) {
  std::string suite;
  engine.sessions().for_each([&](session::Peer& p) { suite = crypto::name_of(p.sending()->suite()); });
  return suite;
}

void a_transfer_loses_nothing_while_both_engines_switch_to_aes() {
  for (const bool ipsec_mb : {true, false}) {
    EngineSettings of_a = settings(1);
    of_a.ipsec_mb = ipsec_mb;  // the other end may do the same suite by another library
    Engine a(of_a);
    Engine b(settings(2, 2));
    b.set_peers({peer(1, std::nullopt)});
    a.set_peers({peer(2, direct(b))});
    CHECK(transfer(a, b, 20'000));
    const bool aes = a.aead().of(crypto::Suite::aes_256_gcm).available;
    for (Engine* engine : {&a, &b}) {
      CHECK(wait_for([&] { return total(*engine, Counter::suites_settled) == 1; }));
      CHECK(suite_of(*engine) == (aes ? "AES-256-GCM" : "ChaCha20-Poly1305"));
      CHECK(total(*engine, Counter::drop_decrypt_failed) + total(*engine, Counter::drop_replayed) +
                total(*engine, Counter::drop_unknown_index) + total(*engine, Counter::drop_inner_malformed) ==
            0);
    }
    CHECK(total(a, Counter::suite_offers_sent) >= 1 && total(b, Counter::suite_offers_received) >= 1);
  }
}

void an_engine_pinned_off_stays_in_chacha_and_loses_nothing() {
  EngineSettings pinned = settings(1);
  pinned.aes_256_gcm = false;
  pinned.wide_window = false;
  for (const bool sends : {true, false}) {
    Engine a(sends ? pinned : settings(1));
    EngineSettings of_b = sends ? settings(2) : pinned;
    of_b.private_key.fill(2);
    Engine b(of_b);
    b.set_peers({peer(1, std::nullopt)});
    a.set_peers({peer(2, direct(b))});
    CHECK(transfer(a, b, 2'000));
    for (Engine* engine : {&a, &b}) {
      CHECK(total(*engine, Counter::suites_settled) == 0);
      CHECK(suite_of(*engine) == "ChaCha20-Poly1305");
    }
    CHECK((total(a, Counter::suite_offers_sent) == 0) == sends);
    CHECK(total(b, Counter::suite_offers_sent) == 0);
    CHECK(total(b, Counter::control_messages) == 2'000);  // an offer is not passed on as one
  }
}

void a_peer_has_a_budget_of_control_frames_and_takes_none_of_anothers() {
  Engine a(settings(1)), c(settings(4));
  EngineSettings limited = settings(2);
  limited.peer_control_frames_per_second = EngineSettings{}.peer_control_frames_per_second;
  Engine b(limited);
  b.set_peers({peer(1, std::nullopt), peer(4, std::nullopt)});
  a.set_peers({peer(2, direct(b))});
  c.set_peers({peer(2, direct(b))});
  const auto begin = std::chrono::steady_clock::now();
  CHECK(transfer(a, b, 1));
  uint64_t sent = 1;
  for (; sent < 2000; sent++) {
    CHECK(a.send_control(public_key(2), kMessage));
    if (sent % kUnderWay == 0)
      CHECK(wait_for([&] {
        return total(b, Counter::control_messages) + total(b, Counter::drop_peer_control_rate) == sent + 1;
      }));
  }
  CHECK(wait_for([&] {
    return total(b, Counter::control_messages) + total(b, Counter::drop_peer_control_rate) == sent;
  }));
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - begin;
  const uint64_t taken = total(b, Counter::control_messages);
  CHECK(taken >= 400 && static_cast<double>(taken) <= 401 + 200 * elapsed.count());
  CHECK(transfer(c, b, 100));
}

void pings_are_answered_by_the_worker_within_the_peers_budget() {
  Engine a(settings(1));
  EngineSettings limited = settings(2);
  limited.peer_control_frames_per_second = EngineSettings{}.peer_control_frames_per_second;
  Engine b(limited);
  b.set_peers({peer(1, std::nullopt)});
  a.set_peers({peer(2, direct(b))});
  CHECK(transfer(a, b, 1));
  const std::vector<uint8_t> ping = {0xC0, 2, 8, 0, 1, 2, 3, 4, 5, 6, 7, 8};
  const auto begin = std::chrono::steady_clock::now();
  const auto heard = [&] {
    return total(b, Counter::pings_answered) + total(b, Counter::drop_peer_control_rate);
  };
  for (uint64_t sent = 1; sent <= 2048; sent++) {
    CHECK(a.send_control(public_key(2), ping));
    if (sent % kUnderWay == 0) CHECK(wait_for([&] { return heard() == sent; }));
  }
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - begin;
  const uint64_t answered = total(b, Counter::pings_answered);
  CHECK(answered >= 399 && static_cast<double>(answered) <= 401 + 200 * elapsed.count());
  CHECK(wait_for([&] { return total(a, Counter::control_messages) == answered; }));
  CHECK(total(b, Counter::control_messages) == 1);
}

void events_of_sessions_find_room_in_a_ring_that_others_have_filled() {
  EventRing ring;
  const std::vector<uint8_t> payload(1200);
  while (ring.write(EventType::control, {payload})) {
  }
  CHECK(!ring.write(EventType::frame, {payload}));
  for (int i = 0; i < 3000; i++) CHECK(ring.write(EventType::session, {Bytes(payload.data(), 56)}));
  while (ring.write(EventType::session, {payload})) {
  }
  CHECK(!ring.write(EventType::control, {Bytes(payload.data(), 8)}));
}

void a_full_event_ring_drops_and_counts() {
  Engine a(settings(1));
  Engine b(settings(2));
  b.set_peers({peer(1, std::nullopt)});
  a.set_peers({peer(2, direct(b))});
  std::vector<uint8_t> large(1200, 0);
  large[0] = 0xC0;
  a.send_control(public_key(2), large);
  CHECK(wait_for([&] { return total(b, Counter::control_messages) == 1; }));
  for (int i = 1; i < 1500; i++) {
    a.send_control(public_key(2), large);
    if (i % 16 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  CHECK(wait_for([&] { return total(b, Counter::control_messages) == 1500; }));
  CHECK(total(b, Counter::drop_event_ring_full) > 0);
}

void a_taken_port_is_an_error() {
  Engine a(settings(1));
  for (size_t workers : {size_t{1}, size_t{2}}) {
    EngineSettings taken = settings(2, workers);
    taken.port = a.port();
    bool thrown = false;
    try {
      Engine b(taken);
    } catch (const std::system_error& error) {
      thrown = error.code().value() == EADDRINUSE;
    }
    CHECK(thrown);
  }
}

void a_closed_engine_gives_its_port_back_and_may_be_closed_again() {
  Engine a(settings(1));
  a.close();
  a.close();
  EngineSettings again = settings(2);
  again.port = a.port();
  Engine b(again);
  CHECK(b.port() == a.port());
}

/// Another port, the old one, a port of the kernel's choice: sessions go on, and each old port is free.
void an_engine_changes_its_port_while_it_runs() {
  Engine a(settings(1, 2));
  Engine b(settings(2));
  b.set_peers({peer(1, std::nullopt)});
  a.set_peers({peer(2, direct(b))});
  uint64_t sent = 0;
  uint16_t before = 0;
  for (int round = 0; round < 6; round++) {
    for (int i = 0; i < 20; i++) CHECK(a.send_control(public_key(2), kMessage));
    sent += 20;
    CHECK(wait_for([&] { return total(b, Counter::control_messages) == sent; }));
    const uint16_t left = a.port();
    a.rebind(round % 2 == 0 ? 0 : before);
    CHECK(a.port() != left && (round % 2 == 0 || a.port() == before));
    udp::SocketOptions again;
    again.bind = "127.0.0.1";
    again.port = left;
    CHECK(udp::UdpSocket(again).port() == left);
    before = left;
  }
}

}  // namespace

int main() {
  if (sodium_init() < 0) return 1;
  with_each_io([] {
    RUN(control_messages_cross_a_session);
    RUN(the_door_is_told_of_peers_and_of_the_key);
    RUN(a_transfer_loses_nothing_while_both_engines_switch_to_aes);
    RUN(an_engine_pinned_off_stays_in_chacha_and_loses_nothing);
    RUN(a_peer_has_a_budget_of_control_frames_and_takes_none_of_anothers);
    RUN(pings_are_answered_by_the_worker_within_the_peers_budget);
    RUN(events_of_sessions_find_room_in_a_ring_that_others_have_filled);
    RUN(a_full_event_ring_drops_and_counts);
    RUN(a_taken_port_is_an_error);
    RUN(a_closed_engine_gives_its_port_back_and_may_be_closed_again);
    RUN(an_engine_changes_its_port_while_it_runs);
  });
  return omerta::check::finish();
}
