// SPDX-License-Identifier: Apache-2.0
// Whole engines on loopback, and what tests ask of them.
#pragma once

#include <chrono>
#include <cstdio>
#include <functional>
#include <thread>

#include "engine/engine.h"
#include "loopback.h"

namespace omerta::check {

using namespace omerta::engine;

/// The socket engine under test.
inline udp::IoWanted wanted_io = udp::IoWanted::mmsg;

/// Runs tests with each socket engine that can be had here.
inline void with_each_io(const std::function<void()>& tests) {
  const udp::IoChoice ring = udp::choose_io(udp::IoWanted::io_uring);
  if (ring.refused) std::printf("SKIP: io_uring: %s\n", std::string(ring.reason.code).c_str());
  for (const udp::IoWanted each : {udp::IoWanted::mmsg, udp::IoWanted::io_uring}) {
    if (each == udp::IoWanted::io_uring && ring.refused) continue;
    wanted_io = each;
    tests();
  }
}

inline EngineSettings settings(uint8_t seed, size_t workers = 1) {
  EngineSettings s;
  s.private_key.fill(seed);
  s.bind = "127.0.0.1";
  s.max_legs = 1024;
  s.max_peers = 256;
  s.control_frames_per_second = 100;
  s.peer_control_frames_per_second = 1'000'000;  // tests carry much by them
  s.workers = workers;
  s.io = wanted_io;
  return s;
}

inline Key32 public_key(uint8_t seed) {
  Key32 k;
  k.fill(seed);
  return session::public_key_of(k);
}

inline uint64_t total(Engine& engine, Counter counter) {
  uint64_t sum = 0;
  for (size_t i = 0; i <= engine.workers(); i++) sum += engine.counters()[i].get(counter);
  return sum;
}
inline uint64_t dropped(Engine& engine, omerta_drop_reason reason) {
  return total(engine, static_cast<Counter>(static_cast<size_t>(Counter::kDropReasons) + reason));
}

template <class Condition>
bool wait_for(Condition condition) {
  for (int i = 0; i < 2000; i++) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return false;
}

inline session::PeerSettings peer(uint8_t seed, std::optional<session::Endpoint> endpoint) {
  session::PeerSettings p;
  p.public_key = public_key(seed);
  p.endpoint = endpoint;
  return p;
}

inline session::Endpoint direct(const Engine& engine) {
  session::Endpoint e;
  e.remote = loopback(engine.port());
  return e;
}

inline const std::vector<uint8_t> kMessage = {0xC0, 1, 8, 0, 1, 2, 3, 4, 5, 6, 7, 8};

inline omerta_leg leg(uint32_t id, uint8_t action, uint8_t key, const omerta_address& source,
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

}  // namespace omerta::check
