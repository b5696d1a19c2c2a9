// SPDX-License-Identifier: Apache-2.0
// What workers read without a lock while somebody else changes it: endpoints, routes, indices, counters.
// The thread sanitizer build is the judge of half of it.
#include <sodium.h>

#include <functional>
#include <random>
#include <thread>

#include "check.h"
#include "session/index_table.h"
#include "session/peer.h"

namespace {

using namespace omerta;
using namespace omerta::session;

constexpr size_t kReaders = 3;

const LocalIdentity& local() {
  static const LocalIdentity identity = [] {
    Key32 key;
    key.fill(1);
    return LocalIdentity(key);
  }();
  return identity;
}

std::unique_ptr<Peer> new_peer(uint8_t seed) {
  Key32 key;
  key.fill(seed);
  return std::make_unique<Peer>(local(), public_key_of(key));
}

/// Readers that pass a quiescent state between any two rounds, as workers do, while `write` runs.
void against_readers(Qsbr& qsbr, const std::function<void(std::mt19937_64&)>& read,
                     const std::function<void()>& write) {
  std::atomic<bool> stop{false};
  std::atomic<size_t> started{0};
  std::vector<std::thread> readers;
  for (size_t r = 0; r < kReaders; r++)
    readers.emplace_back([&, r] {
      std::mt19937_64 random(r);
      while (!stop.load(std::memory_order_relaxed)) {
        qsbr.quiescent(r);
        for (int i = 0; i < 16; i++) read(random);
        qsbr.offline(r);
        started.fetch_add(1, std::memory_order_relaxed);
      }
    });
  while (started.load() < kReaders) std::this_thread::yield();
  write();
  stop.store(true);
  for (std::thread& reader : readers) reader.join();
}

/// An endpoint all of whose parts say the same number.
Endpoint uniform(uint8_t value) {
  Endpoint e;
  std::memset(static_cast<void*>(&e), value, sizeof e);
  return e;
}

void a_racing_endpoint_is_never_read_torn() {
  Qsbr qsbr(kReaders);
  const std::unique_ptr<Peer> peer = new_peer(2);
  peer->set_endpoint(uniform(1));
  std::atomic<uint64_t> torn{0};
  against_readers(
      qsbr,
      [&](std::mt19937_64&) {
        const Endpoint seen = peer->endpoint();
        const auto* bytes = reinterpret_cast<const uint8_t*>(&seen);
        for (size_t i = 1; i < sizeof seen; i++)
          if (bytes[i] != bytes[0]) torn.fetch_add(1);
      },
      [&] {
        std::thread other([&] {
          for (int i = 0; i < 20'000; i++) peer->set_endpoint(uniform(static_cast<uint8_t>(i % 100 + 100)));
        });
        for (int i = 0; i < 20'000; i++) peer->set_endpoint(uniform(static_cast<uint8_t>(i % 100)));
        other.join();
      });
  CHECK(torn.load() == 0);
}

void routes_are_looked_up_while_they_change() {
  Qsbr qsbr(kReaders);
  std::vector<std::unique_ptr<Peer>> peers;
  for (uint8_t i = 0; i < 8; i++) peers.push_back(new_peer(static_cast<uint8_t>(i + 2)));
  AllowedIps routes(qsbr);
  // Everything is somebody's; 10.0.0.0/8 never changes.
  routes.insert(*Prefix::parse("0.0.0.0/0"), peers[0]->allowed_ips);
  routes.insert(*Prefix::parse("10.0.0.0/8"), peers[1]->allowed_ips);
  std::atomic<uint64_t> wrong{0};
  against_readers(
      qsbr,
      [&](std::mt19937_64& random) {
        const uint8_t inside[4] = {10, 255, static_cast<uint8_t>(random()), 1};
        const uint8_t anywhere[4] = {static_cast<uint8_t>(random() % 8), 1, 0, 1};
        if (routes.lookup(4, inside) != peers[1].get()) wrong.fetch_add(1);
        if (routes.lookup(4, anywhere) == nullptr) wrong.fetch_add(1);
      },
      [&] {
        std::mt19937_64 random(99);
        for (int i = 0; i < 60'000; i++) {
          uint8_t address[4] = {static_cast<uint8_t>(random() % 8), static_cast<uint8_t>(random() % 4), 0, 0};
          const Prefix prefix = *Prefix::make(4, address, 8 + static_cast<unsigned>(random() % 9));
          Peer& peer = *peers[2 + random() % 6];
          if (i % 500 == 0) {  // what a peer keeps is there all the time
            routes.begin_replacement();
            routes.insert(*Prefix::parse("10.0.0.0/8"), peers[1]->allowed_ips);
            routes.end_replacement(peers[1]->allowed_ips);
          }
          random() % 2 == 0 ? routes.insert(prefix, peer.allowed_ips)
                            : routes.remove(prefix, peer.allowed_ips);
          if (i % 64 == 0) qsbr.reclaim();
        }
        for (size_t i = 2; i < peers.size(); i++) routes.clear(peers[i]->allowed_ips);
      });
  CHECK(wrong.load() == 0);
  const uint8_t left[4] = {1, 1, 1, 1};
  CHECK(routes.lookup(4, left) == peers[0].get());
}

void sessions_are_found_while_the_index_table_grows() {
  Qsbr qsbr(kReaders);
  IndexTable indices(qsbr);
  const std::unique_ptr<Peer> peer = new_peer(2);
  const auto random_bytes = [](std::span<uint8_t> out) { randombytes_buf(out.data(), out.size()); };
  constexpr size_t kSessions = 20'000;
  std::vector<std::unique_ptr<Keypair>> keypairs(kSessions);
  std::atomic<size_t> ready{0};
  std::atomic<uint64_t> wrong{0};
  const auto session = [&](size_t i) {
    const uint32_t index = indices.allocate(*peer, random_bytes);
    CHECK(indices.handshake(index) == peer.get());
    CHECK(indices.find(index) == nullptr);
    keypairs[i] = std::make_unique<Keypair>(*peer, crypto::Suite::chacha20_poly1305, TransportKeys{},
                                            Keypair::Origin{i, index, 0, 0, true, kStandardWindow});
    indices.promote(*keypairs[i]);
    ready.store(i + 1, std::memory_order_release);
  };
  against_readers(
      qsbr,
      [&](std::mt19937_64& random) {
        const size_t count = ready.load(std::memory_order_acquire);
        if (count == 0) return;
        const Keypair* keypair = keypairs[random() % count].get();
        if (indices.find(keypair->local_index) != keypair) wrong.fetch_add(1);
        const auto stranger = static_cast<uint32_t>(random());
        const Keypair* found = indices.find(stranger);
        if (found != nullptr && found->local_index != stranger) wrong.fetch_add(1);
      },
      [&] {
        for (size_t i = 0; i < kSessions; i++) {
          session(i);
          if (i % 64 == 0) qsbr.reclaim();
        }
      });
  CHECK(wrong.load() == 0);
  for (const auto& keypair : keypairs) CHECK(indices.find(keypair->local_index) == keypair.get());
  for (const auto& keypair : keypairs) indices.remove(*keypair);
  for (const auto& keypair : keypairs) CHECK(indices.find(keypair->local_index) == nullptr);
}

void indices_are_random_and_no_two_live_ones_share_a_slot() {
  Qsbr qsbr(1);
  IndexTable indices(qsbr);
  const std::unique_ptr<Peer> peer = new_peer(2);
  std::mt19937_64 words(1);
  std::vector<uint32_t> taken;
  size_t asked = 0;
  // Whatever the source gives becomes the index: nothing is counted or derived.
  uint32_t last = 0;
  const auto random_bytes = [&](std::span<uint8_t> out) {
    last = static_cast<uint32_t>(words());
    if (asked++ % 5 == 0) last = taken.empty() ? 0 : taken[words() % taken.size()];  // 0, or one in use
    std::memcpy(out.data(), &last, out.size());
  };
  for (int i = 0; i < 5000; i++) {
    const uint32_t index = indices.allocate(*peer, random_bytes);
    CHECK(index == last && index != 0);
    CHECK(std::ranges::find(taken, index) == taken.end());
    taken.push_back(index);
  }
  for (const uint32_t index : taken) CHECK(indices.handshake(index) == peer.get());
  for (const uint32_t index : taken) indices.release(index);
  for (const uint32_t index : taken) CHECK(indices.handshake(index) == nullptr);
}

void senders_that_race_get_counters_of_their_own() {
  const std::unique_ptr<Peer> peer = new_peer(2);
  Keypair keypair(*peer, crypto::Suite::chacha20_poly1305, TransportKeys{},
                  {1, 0, 0, 0, true, kStandardWindow});
  constexpr size_t kTakes = 20'000;
  std::vector<CounterRange> taken[kReaders];
  std::vector<std::thread> senders;
  for (size_t t = 0; t < kReaders; t++)
    senders.emplace_back([&, t] {
      for (size_t i = 0; i < kTakes; i++) taken[t].push_back(keypair.take_counters(1 + i % 64, 0));
    });
  for (std::thread& sender : senders) sender.join();
  std::vector<CounterRange> all;
  for (const auto& ranges : taken) all.insert(all.end(), ranges.begin(), ranges.end());
  std::ranges::sort(all, {}, &CounterRange::first);
  uint64_t next = 0;
  bool seamless = true;
  for (const CounterRange& range : all) {
    seamless &= range.first == next && range.count != 0;
    next = range.first + range.count;
  }
  CHECK(seamless && next == keypair.sent());
}

}  // namespace

int main() {
  if (sodium_init() < 0) return 1;
  RUN(a_racing_endpoint_is_never_read_torn);
  RUN(routes_are_looked_up_while_they_change);
  RUN(sessions_are_found_while_the_index_table_grows);
  RUN(indices_are_random_and_no_two_live_ones_share_a_slot);
  RUN(senders_that_race_get_counters_of_their_own);
  return omerta::check::finish();
}
