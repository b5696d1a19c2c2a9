// SPDX-License-Identifier: Apache-2.0
// Ceilings and slots: what may leave when, by a clock of the test's own.
#include <map>
#include <thread>

#include "check.h"
#include "engine/egress.h"

namespace {

using namespace omerta;
using namespace omerta::engine;

constexpr size_t kSize = 1000;
constexpr Nanoseconds kStart = 1000 * kSecond;

Key32 key(uint8_t of) {
  Key32 k{};
  k[0] = of;
  return k;
}

session::Endpoint at(uint8_t host) {
  session::Endpoint to;
  to.remote.ip[10] = to.remote.ip[11] = 0xff;
  to.remote.ip[12] = 192;
  to.remote.ip[15] = host;
  to.remote.port = 1;
  return to;
}

/// Hosts up to 99 are reached by "slow", others by "fast".
struct World {
  Nanoseconds woken = UINT64_MAX;
  size_t asked = 0;
  Egress egress{[this](Nanoseconds moment) { woken = moment; },
                [this](const session::Endpoint& to) {
                  asked++;
                  return to.remote.ip[15] < 100 ? std::string("slow") : std::string("fast");
                }};

  size_t push(uint8_t peer, size_t count, Nanoseconds now, uint8_t host = 1) {
    std::vector<Waiting> packets;
    for (size_t i = 0; i < count; i++) packets.push_back({std::vector<uint8_t>(20, peer), kSize, now});
    return egress.push(key(peer), at(host), std::move(packets), now);
  }
  /// Bytes that each sends until `end`, woken when it asked to be; covers count as sent by 0.
  std::map<uint8_t, size_t> run(Nanoseconds end) {
    std::map<uint8_t, size_t> sent;
    std::vector<Egress::Due> due;
    QueueCounts all;
    for (size_t turns = 0; woken < end && turns < 1'000'000; turns++) {
      const Nanoseconds now = std::max(woken, last);
      last = now;
      woken = UINT64_MAX;  // an alarm goes off once
      egress.take(due, now, all);
      for (const Egress::Due& each : due) sent[each.packet.empty() ? 0 : each.packet[0]] += kSize;
      egress.taken(now);
    }
    lost = all;
    return sent;
  }
  Nanoseconds last = 0;
  QueueCounts lost;
};

void a_link_lets_its_ceiling_through_and_no_more() {
  World world;
  world.egress.set_ceilings({{"slow", 1'000'000}}, kStart);
  CHECK(world.egress.limits());
  world.egress.set_flow({.peer = key(1)}, kStart);
  // A little goes at once, as if there were no ceiling.
  CHECK(world.egress.pass(key(1), at(1), 2 * kSize, kStart));
  CHECK(!world.egress.pass(key(1), at(1), 64 * kSize, kStart));
  CHECK(world.push(1, 1500, kStart) == 0);
  CHECK(world.woken < kStart + 20 * kMillisecond);
  CHECK(!world.egress.pass(key(1), at(1), 1, kStart));  // nothing overtakes
  auto sent = world.run(kStart + 500 * kMillisecond);
  CHECK(sent[1] >= 490 * kSize && sent[1] <= 520 * kSize);
  CHECK(world.egress.links().at(0).sent_bytes == sent[1] + 2 * kSize);
  // What leaves by another interface is nobody's business.
  CHECK(world.egress.pass(key(2), at(200), 1'000'000, kStart));
  CHECK(world.asked <= 3);
}

void what_the_engine_says_itself_does_not_wait_and_data_makes_room() {
  World world;
  world.egress.set_ceilings({{"slow", 1'000'000}}, kStart);
  world.egress.set_flow({.peer = key(1)}, kStart);
  for (int i = 0; i < 100; i++) world.egress.charge(at(1), kSize - 28, kStart);
  world.push(1, 500, kStart);
  auto sent = world.run(kStart + 300 * kMillisecond);
  CHECK(sent[1] >= 195 * kSize && sent[1] <= 225 * kSize);
  // But not for ever.
  for (int i = 0; i < 100'000; i++) world.egress.charge(at(1), kSize, kStart + 300 * kMillisecond);
  world.push(1, 300, kStart + 1200 * kMillisecond);
  sent = world.run(kStart + 1500 * kMillisecond);
  CHECK(sent[1] >= 150 * kSize && sent[1] <= 210 * kSize);
}

void peers_and_networks_share_a_link_by_weight_and_have_each_their_own() {
  World world;
  world.egress.set_ceilings({{"slow", 1'000'000}, {"fast", 2'000'000}}, kStart);
  world.egress.set_flow({.peer = key(1), .share = {.network = 1, .network_weight = 3}}, kStart);
  world.egress.set_flow({.peer = key(2), .share = {.network = 2, .network_weight = 1}}, kStart);
  world.egress.set_flow({.peer = key(3), .share = {.network = 2, .network_weight = 1}}, kStart);
  world.push(1, 900, kStart);
  world.push(2, 900, kStart);
  world.push(3, 900, kStart, 200);
  auto sent = world.run(kStart + 400 * kMillisecond);
  CHECK(sent[1] > sent[2] * 28 / 10 && sent[1] < sent[2] * 32 / 10);
  CHECK(sent[1] + sent[2] >= 390 * kSize && sent[1] + sent[2] <= 420 * kSize);
  CHECK(sent[3] >= 780 * kSize && sent[3] <= 830 * kSize);
}

void a_ceiling_that_is_taken_away_holds_nothing_back() {
  World world;
  world.egress.set_ceilings({{"slow", 10'000}}, kStart);
  world.egress.set_flow({.peer = key(1)}, kStart);
  world.egress.set_flow({.peer = key(2)}, kStart);
  world.push(1, 100, kStart);
  world.push(2, 100, kStart);
  world.egress.release_flow(key(2), kStart);
  CHECK(world.run(kStart + 1)[2] == 100 * kSize);
  world.egress.set_ceilings({}, kStart);
  CHECK(!world.egress.limits() && world.run(kStart + 2)[1] >= 97 * kSize);
  CHECK(world.egress.pass(key(1), at(1), 1'000'000, kStart + 2));
}

void a_path_by_another_interface_takes_what_waits_along() {
  World world;
  world.egress.set_ceilings({{"slow", 10'000}, {"fast", 10'000'000}}, kStart);
  world.egress.set_flow({.peer = key(1)}, kStart);
  world.push(1, 100, kStart, 1);
  world.push(1, 1, kStart, 200);
  CHECK(world.run(kStart + 20 * kMillisecond)[1] == 101 * kSize);
}

void a_slot_holds_one_packet_or_a_cover() {
  World world;
  world.egress.set_flow({.peer = key(1), .slot = 10 * kMillisecond}, kStart);
  auto sent = world.run(kStart + 105 * kMillisecond);
  CHECK(sent[0] == 10 * kSize && sent[1] == 0);
  CHECK(!world.egress.pass(key(1), at(1), 1, kStart));
  world.push(1, 4, kStart + 105 * kMillisecond);
  sent = world.run(kStart + 205 * kMillisecond);
  CHECK(sent[0] == 6 * kSize && sent[1] == 4 * kSize);
  // More than the rate waits, and none of it changes the rate.
  world.push(1, 30, kStart + 205 * kMillisecond);
  sent = world.run(kStart + 305 * kMillisecond);
  CHECK(sent[0] + sent[1] == 10 * kSize && sent[1] > 0);
  // Whoever comes late leaves slots out.
  std::vector<Egress::Due> due;
  QueueCounts all;
  const Nanoseconds late = kStart + 355 * kMillisecond;
  world.woken = UINT64_MAX;
  world.egress.take(due, late, all);
  world.egress.taken(late);
  CHECK(due.size() == 1 && world.woken == kStart + 360 * kMillisecond);
  // Without slots what waits goes as the links let it, and there are no covers.
  world.last = late;
  world.egress.set_flow({.peer = key(1)}, late);
  sent = world.run(kStart + kSecond);
  CHECK(sent[0] == 0 && world.egress.status(key(1))->waiting_bytes == 0 && world.woken == UINT64_MAX);
}

void a_peer_that_is_gone_leaves_nothing() {
  World world;
  world.egress.set_ceilings({{"slow", 10'000}}, kStart);
  world.egress.set_flow({.peer = key(1)}, kStart);
  world.egress.set_flow({.peer = key(2), .slot = kMillisecond}, kStart);
  world.push(1, 100, kStart);
  world.push(2, 100, kStart);
  world.egress.remove_flow(key(1));
  world.egress.remove_flow(key(2));
  CHECK(world.run(kStart + 100 * kSecond).empty());
  CHECK(!world.egress.status(key(1)).has_value() && world.egress.links().at(0).waiting_bytes == 0);
  CHECK(world.push(1, 3, kStart) == 3);
}

/// For the thread sanitizer, and that each packet leaves once.
void workers_put_in_while_another_takes_out() {
  constexpr size_t kPushers = 3, kPackets = 3000;
  std::atomic<Nanoseconds> now{kStart};
  std::atomic<bool> running{true};
  Egress egress([](Nanoseconds) {}, [](const session::Endpoint&) { return std::string("slow"); });
  egress.set_ceilings({{"slow", 100'000'000'000}}, kStart);
  for (uint8_t i = 0; i < kPushers; i++) egress.set_flow({.peer = key(i)}, kStart);
  std::atomic<size_t> passed{0}, dropped{0};
  size_t taken = 0;
  std::vector<std::thread> threads;
  for (uint8_t i = 0; i < kPushers; i++)
    threads.emplace_back([&, i] {
      for (size_t n = 0; n < kPackets; n++) {
        if (egress.pass(key(i), at(1), kSize, now)) {
          passed++;
          continue;
        }
        std::vector<Waiting> packets;
        packets.push_back({std::vector<uint8_t>(20, i), kSize, now});
        dropped += egress.push(key(i), at(1), std::move(packets), now);
        egress.charge(at(1), kSize, now);
      }
    });
  std::thread changing([&] {
    for (uint64_t n = 0; running; n++) {
      egress.set_ceilings({{"slow", 100'000'000'000 + n % 2}}, now);
      egress.links();
      egress.status(key(0));
    }
  });
  std::vector<Egress::Due> due;
  QueueCounts all;
  const auto take = [&] {
    egress.take(due, now, all);
    taken += due.size();
    egress.taken(now += 10'000);
  };
  while (passed + dropped + taken + all.dropped_late < kPushers * kPackets) take();
  running = false;
  for (std::thread& thread : threads) thread.join();
  changing.join();
  CHECK(passed + dropped + taken + all.dropped_late == kPushers * kPackets);
}

}  // namespace

int main() {
  RUN(a_link_lets_its_ceiling_through_and_no_more);
  RUN(what_the_engine_says_itself_does_not_wait_and_data_makes_room);
  RUN(peers_and_networks_share_a_link_by_weight_and_have_each_their_own);
  RUN(a_ceiling_that_is_taken_away_holds_nothing_back);
  RUN(a_path_by_another_interface_takes_what_waits_along);
  RUN(a_slot_holds_one_packet_or_a_cover);
  RUN(a_peer_that_is_gone_leaves_nothing);
  RUN(workers_put_in_while_another_takes_out);
  return check::finish();
}
