// SPDX-License-Identifier: Apache-2.0
// Whole engines over loopback: sessions direct and relayed, garbage, and tables changing under load.
// No TUN, no privilege. Built with address and thread sanitizers as well (docs/development.md).
#include "engine/engine.h"
#include "loopback.h"

#include <sodium.h>

#include <chrono>
#include <thread>

#include "check.h"
#include "udp/socket_io.h"

namespace {

using namespace omerta;
using namespace omerta::engine;
using omerta::check::loopback;

/// The socket engine under test.
udp::IoWanted wanted_io = udp::IoWanted::mmsg;

EngineSettings settings(uint8_t seed, size_t workers = 1) {
  EngineSettings s;
  s.private_key.fill(seed);
  s.bind = "127.0.0.1";
  s.max_legs = 1024;
  s.max_peers = 256;
  s.control_frames_per_second = 100;
  s.workers = workers;
  s.io = wanted_io;
  return s;
}

Key32 public_key(uint8_t seed) {
  Key32 k;
  k.fill(seed);
  return session::public_key_of(k);
}

uint64_t total(Engine& engine, Counter counter) {
  uint64_t sum = 0;
  for (size_t i = 0; i <= engine.workers(); i++) sum += engine.counters()[i].get(counter);
  return sum;
}
uint64_t dropped(Engine& engine, omerta_drop_reason reason) {
  return total(engine, static_cast<Counter>(static_cast<size_t>(Counter::kDropReasons) + reason));
}

template <class Condition>
bool wait_for(Condition condition) {
  for (int i = 0; i < 500; i++) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return false;
}

session::PeerSettings peer(uint8_t seed, std::optional<session::Endpoint> endpoint) {
  session::PeerSettings p;
  p.public_key = public_key(seed);
  p.endpoint = endpoint;
  return p;
}

session::Endpoint direct(const Engine& engine) {
  session::Endpoint e;
  e.remote = loopback(engine.port());
  return e;
}

const std::vector<uint8_t> kMessage = {0xC0, 2, 8, 0, 1, 2, 3, 4, 5, 6, 7, 8};

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

omerta_leg leg(uint32_t id, uint8_t action, uint8_t key, const omerta_address& source,
               const omerta_address& next, uint32_t next_id, uint8_t next_key) {
  omerta_leg l{};
  l.leg_id = id;
  l.action = action;
  std::memcpy(l.source_ip, source.ip, 16);
  l.source_port = source.port;
  std::memcpy(l.next_ip, next.ip, 16);
  l.next_port = next.port;
  l.next_leg_id = next_id;
  std::memset(l.key, key, 16);
  std::memset(l.next_key, next_key, 16);
  return l;
}

void a_circuit_carries_a_session_while_its_table_changes() {
  Engine a(settings(1));
  Engine b(settings(2));
  Engine r(settings(3, 2));
  const auto at = [](const Engine& e) { return loopback(e.port()); };
  CHECK(r.install_legs({leg(11, OMERTA_LEG_FORWARD, 1, at(a), at(b), 22, 2),
                        leg(33, OMERTA_LEG_FORWARD, 3, at(b), at(a), 44, 4)}));
  CHECK(a.install_legs({leg(44, OMERTA_LEG_DELIVER, 4, at(r), at(r), 11, 1)}));
  CHECK(b.install_legs({leg(22, OMERTA_LEG_DELIVER, 2, at(r), at(r), 33, 3)}));
  b.set_peers({peer(1, std::nullopt)});
  a.set_peers({peer(2, a.endpoint_of_leg(44))});
  CHECK(!a.endpoint_of_leg(45).has_value());
  for (uint32_t i = 0; i < 2000; i++) {
    a.send_control(public_key(2), kMessage);
    r.install_legs({leg(1000 + i % 300, OMERTA_LEG_FORWARD, 9, at(a), at(b), 5, 5)});
    if (i % 3 == 0) {
      const uint32_t id = 1000 + i % 300;
      r.remove_legs(std::span(&id, 1));
    }
    if (i % 50 == 0) {
      b.set_peers({peer(50, std::nullopt)});
      b.remove_peers({public_key(50)});
      // Never more on the way than is staged while the handshake runs.
      CHECK(wait_for([&] { return total(b, Counter::control_messages) > i; }));
    }
  }
  CHECK(wait_for([&] { return total(b, Counter::control_messages) == 2000; }));
  CHECK(total(r, Counter::forwarded_packets) >= 2000);
  CHECK(b.sessions().size() == 1);
}

void a_relay_tells_on_the_congestion_it_was_told_of() {
  Engine r(settings(3));
  udp::SocketOptions options;
  options.bind = "127.0.0.1";
  udp::UdpSocket a(options), b(options);
  const auto at = [](const auto& e) { return loopback(e.port()); };
  CHECK(r.install_legs({leg(11, OMERTA_LEG_FORWARD, 1, at(a), at(b), 22, 2)}));
  uint8_t frame[64] = {OMERTA_FRAME_MAGIC, OMERTA_KIND_FORWARD, 8, 0, 11};
  __u64 key[2];
  std::memset(key, 1, sizeof key);
  const __u64 tag = omerta_frame_tag(key, frame, sizeof frame);
  std::memcpy(frame + 8, &tag, 8);
  const auto io = udp::make_mmsg_io(b);
  CounterRow counters;
  // One after the other, then as fast as they can be sent: DSCP AF41 with every ECN.
  for (uint8_t i = 0; i < 8; i++) {
    a.send_one(at(r), {}, frame, sizeof frame, static_cast<uint8_t>(0x88 | i % 4));
    CHECK(wait_for([&] {
      const auto messages = io->receive(counters);
      return messages.size() == 1 && messages[0].size == sizeof frame && messages[0].ecn == i % 4;
    }));
  }
  for (int i = 0; i < 400; i++)
    a.send_one(at(r), {}, frame, sizeof frame, static_cast<uint8_t>(0x88 | i / 10 % 4));
  size_t seen[4] = {};
  CHECK(wait_for([&] {
    for (const udp::Message& message : io->receive(counters))
      seen[message.ecn] += message.size / sizeof frame;
    return seen[0] + seen[1] + seen[2] + seen[3] == 400;
  }));
  for (const size_t count : seen) CHECK(count == 100);
}

void garbage_is_counted_and_answered_with_silence() {
  Engine engine(settings(1));
  Engine other(settings(2));
  uint8_t bytes[2000];
  const omerta_address to = loopback(engine.port());
  constexpr int kCount = 5000;
  for (int i = 0; i < kCount; i++) {
    const size_t size = randombytes_uniform(1500);
    randombytes_buf(bytes, size);
    // Half of it looks like something.
    if (size > 8 && i % 2 == 0) bytes[0] = static_cast<uint8_t>("\x6f\x01\x02\x03\x04\x00"[i / 2 % 6]);
    if (size > 8 && i % 4 == 0) bytes[1] = bytes[2] = bytes[3] = 0;
    other.send_frame(to, Bytes(bytes, size));
    if (i % 64 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  CHECK(wait_for([&] { return total(engine, Counter::rx_datagrams) >= kCount; }));
  CHECK(total(engine, Counter::tx_datagrams) == 0);
  uint64_t reasons = 0;
  for (size_t i = 0; i < OMERTA_DROP_REASON_COUNT; i++)
    reasons += dropped(engine, static_cast<omerta_drop_reason>(i));
  reasons += total(engine, Counter::drop_bad_mac1) + total(engine, Counter::drop_unknown_index);
  CHECK(wait_for([&] {
    reasons = total(engine, Counter::drop_bad_mac1) + total(engine, Counter::drop_unknown_index);
    for (size_t i = 0; i < OMERTA_DROP_REASON_COUNT; i++)
      reasons += dropped(engine, static_cast<omerta_drop_reason>(i));
    return reasons == total(engine, Counter::rx_datagrams);
  }));
  CHECK(engine.sessions().size() == 0);
}

void a_stun_request_is_answered_within_its_budget() {
  Engine engine(settings(1));
  Engine client(settings(2));
  uint8_t request[20] = {0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9};
  for (int i = 0; i < 200; i++) client.send_frame(loopback(engine.port()), request);
  CHECK(wait_for(
      [&] { return total(engine, Counter::stun_answered) + total(engine, Counter::drop_stun_rate) == 200; }));
  CHECK(total(engine, Counter::stun_answered) >= 20 && total(engine, Counter::stun_answered) < 60);
}

void stun_can_be_switched_off() {
  EngineSettings silent = settings(1);
  silent.stun_per_second = 0;
  Engine engine(silent);
  Engine client(settings(2));
  const uint8_t request[20] = {0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42};
  client.send_frame(loopback(engine.port()), request);
  CHECK(wait_for([&] { return total(engine, Counter::drop_stun_rate) == 1; }));
  CHECK(total(engine, Counter::tx_datagrams) == 0);
}

void control_frames_of_strangers_are_budgeted() {
  Engine engine(settings(1));
  Engine client(settings(2));
  omerta_leg contact{};
  contact.leg_id = OMERTA_CONTACT_LEG;
  contact.action = OMERTA_LEG_CONTROL;
  contact.flags = OMERTA_LEG_ANY_SOURCE;
  CHECK(engine.install_legs({contact}));
  uint8_t frame[128] = {OMERTA_FRAME_MAGIC, OMERTA_KIND_RESERVATION_REQUEST, 1};
  const __u64 key[2] = {0, 0};
  const __u64 tag = omerta_frame_tag(key, frame, sizeof frame);
  std::memcpy(frame + 8, &tag, 8);
  for (int i = 0; i < 300; i++) client.send_frame(loopback(engine.port()), frame);
  CHECK(wait_for([&] {
    return total(engine, Counter::control_frames) + total(engine, Counter::drop_control_rate) == 300;
  }));
  CHECK(total(engine, Counter::control_frames) >= 25 && total(engine, Counter::control_frames) < 120);
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
  const udp::IoChoice ring = udp::choose_io(udp::IoWanted::io_uring);
  if (ring.refused) std::printf("SKIP: io_uring: %s\n", ring.reason.c_str());
  for (const udp::IoWanted each : {udp::IoWanted::mmsg, udp::IoWanted::io_uring}) {
    if (each == udp::IoWanted::io_uring && ring.refused) continue;
    wanted_io = each;
    RUN(control_messages_cross_a_session);
    RUN(a_circuit_carries_a_session_while_its_table_changes);
    RUN(a_relay_tells_on_the_congestion_it_was_told_of);
    RUN(garbage_is_counted_and_answered_with_silence);
    RUN(a_stun_request_is_answered_within_its_budget);
    RUN(stun_can_be_switched_off);
    RUN(control_frames_of_strangers_are_budgeted);
    RUN(a_full_event_ring_drops_and_counts);
    RUN(a_taken_port_is_an_error);
    RUN(a_closed_engine_gives_its_port_back_and_may_be_closed_again);
    RUN(an_engine_changes_its_port_while_it_runs);
  }
  return omerta::check::finish();
}
